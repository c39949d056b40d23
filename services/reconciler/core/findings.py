"""What is wrong with a pair: a pure look at its two sides."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec.structs import replace

from schemas.flags import AppointmentFacts, BookingFacts, Inconsistency, Kind
from services.reconciler.core.events import HeardAppointment, HeardBooking
from services.reconciler.core.matching import Chain, Pair, sides_of
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Finding
from services.reconciler.core.sides import (
    AppointmentSide,
    Life,
    appointment_facts,
    appointment_life,
    booking_facts,
    booking_life,
    first_received,
    link_since,
    run_since,
)


def find(pair: Pair, policy: Policy, stirred_at: datetime | None = None) -> Finding | None:
    """Say what is wrong with a pair, and since when; None: both sides agree, or nobody is coming.

    `since` is a moment of receipt: the window counts from it. `stirred_at` is when the cluster last learnt who might
    belong to whom, where it has more than one record: a side that has just lost its partner to another gets the
    window, too, for the news that makes sense of it may be on its way.
    """
    finding = _find(pair, policy)
    if finding is not None and stirred_at is not None and stirred_at > finding.since:
        return replace(finding, since=stirred_at)
    return finding


def stirred(appointments: Iterable[AppointmentSide], chains: Iterable[Chain]) -> datetime:
    """Give the latest receipt that could have changed who belongs to whom."""
    moments = [link_since(side) for side in appointments]
    moments.extend(first_received(side) for chain in chains for side in chain)
    return max(moments)


def _find(pair: Pair, policy: Policy) -> Finding | None:
    appointment, chain = pair.appointment, pair.chain
    local = appointment_life(appointment.heard[-1]) if appointment else None
    calcom = booking_life(chain[-1].heard[-1]) if chain else None
    if pair.candidates:
        return _ambiguous(pair, local, calcom, policy)
    if appointment and chain:
        return _two_sided(appointment, chain, policy)
    if appointment and local is not None and local.alive:
        since = run_since(appointment.heard, _alive_appointment)
        return Finding(Kind.ORPHANED_LOCAL, since, policy.window_seconds)
    if chain and calcom is not None and calcom.alive:
        return Finding(Kind.ORPHANED_CALCOM, _chain_alive_since(chain), _window(calcom, policy))
    return None  # a cancelled side that stands alone is no orphan


def _ambiguous(pair: Pair, local: Life | None, calcom: Life | None, policy: Policy) -> Finding | None:
    if not any(life is not None and life.alive for life in (local, calcom)):
        return None
    since = max(first_received(side) for side in sides_of(pair))
    return Finding(Kind.AMBIGUOUS_MATCH, since, policy.window_seconds)


def _two_sided(appointment: AppointmentSide, chain: Chain, policy: Policy) -> Finding | None:
    local, calcom = appointment_life(appointment.heard[-1]), booking_life(chain[-1].heard[-1])
    if not local.alive and not calcom.alive:
        return None
    differences = differ(appointment_facts(appointment), booking_facts(chain), local, calcom, policy)
    if not differences:
        return None
    kind = Kind.ORPHANED_CALCOM if local is Life.DELETED else Kind.DATA_MISMATCH
    since = max(
        run_since(appointment.heard, _compared_of_appointment),
        run_since(chain[-1].heard, _compared_of_booking),
    )
    window_seconds = _window(calcom, policy) if local.alive else policy.window_seconds
    return Finding(kind, since, window_seconds, differences)


def differ(
    appointment: AppointmentFacts, booking: BookingFacts, local: Life, calcom: Life, policy: Policy
) -> tuple[Inconsistency, ...]:
    """List the fields in which two sides differ: as instants, never as text."""
    found: list[Inconsistency] = []
    if not _same_instant(appointment.starts_at, booking.starts_at, policy):
        found.append(Inconsistency("starts_at", _text(appointment.starts_at), _text(booking.starts_at)))
    if not _same_instant(appointment.ends_at, booking.ends_at, policy):
        found.append(Inconsistency("ends_at", _text(appointment.ends_at), _text(booking.ends_at)))
    if local is not calcom:
        found.append(Inconsistency("status", appointment.status, booking.status))
    if (
        appointment.event_type_id is not None
        and booking.event_type_id is not None
        and appointment.event_type_id != booking.event_type_id
    ):
        found.append(Inconsistency("event_type_id", str(appointment.event_type_id), str(booking.event_type_id)))
    return tuple(found)


def _same_instant(local: datetime | None, calcom: datetime | None, policy: Policy) -> bool:
    """Compare two instants; one that is not known differs from nothing."""
    if local is None or calcom is None:
        return True
    return abs(local - calcom) <= timedelta(seconds=policy.tolerance_seconds)


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _window(calcom: Life, policy: Policy) -> float:
    return policy.unconfirmed_window_seconds if calcom is Life.PENDING else policy.window_seconds


def _alive_appointment(heard: HeardAppointment) -> bool:
    return appointment_life(heard).alive


def _alive_booking(heard: HeardBooking) -> bool:
    return booking_life(heard).alive


def _chain_alive_since(chain: Chain) -> datetime:
    """A reschedule does not start a lone booking's window anew: the first sight of the chain counts."""
    head = chain[-1]
    since = run_since(head.heard, _alive_booking)
    if all(_alive_booking(heard) for heard in head.heard):
        since = min([since, *(first_received(side) for side in chain[:-1])])
    return since


def _compared_of_appointment(heard: HeardAppointment) -> object:
    appointment = heard.event.appointment
    return (appointment_life(heard), appointment.starts_at, appointment.ends_at, appointment.event_type_id)


def _compared_of_booking(heard: HeardBooking) -> object:
    booking = heard.event
    return (booking_life(heard), booking.starts_at, booking.ends_at, booking.event_type_id)
