"""What is wrong with a pair: a pure look at its two sides."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from schemas.appointments import AppointmentCreated
from schemas.flags import AppointmentFacts, BookingFacts, Inconsistency, Kind
from schemas.rules import Waiting
from services.reconciler.core.answers import Answer, is_gone
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
    life_of,
    link_since,
    paid_at,
    run_since,
    states,
)


def find(
    pair: Pair, policy: Policy, stirred_at: datetime | None = None, answers: Sequence[Answer] = ()
) -> Finding | None:
    """Say what is wrong with a pair, and since when; None: both sides agree, or nobody is coming.

    `since` is a moment of receipt: the window counts from it. `stirred_at` is when the cluster last learnt who might
    belong to whom, where it has more than one record: a side that has just lost its partner to another gets the
    window, too, for the news that makes sense of it may be on its way. `answers` are those of Cal.com's API.
    """
    calcom = _life(pair.chain, answers) if pair.chain else None
    finding = _find(pair, calcom, policy)
    if finding is None:
        return None
    if policy.history_began_at is not None and _is_older(pair, policy.history_began_at):
        finding = replace(finding, indeterminate=True)
    if stirred_at is not None and stirred_at > finding.since:
        return replace(finding, since=stirred_at)
    return finding


def _life(chain: Chain, answers: Sequence[Answer]) -> Life:
    """Say what a booking amounts to; one that Cal.com does not know any more is deleted, whatever a webhook said."""
    if answers:
        told = states(chain[-1])
        names = [name for name in (chain[-1].uid, told[-1].event.next_uid) if name is not None]
        if is_gone(answers, names, max(one.received_at for one in told)):
            return Life.DELETED
    return life_of(chain)


def _is_older(pair: Pair, began_at: datetime) -> bool:
    """Tell whether a side that stands alone was there before the record began: its partner may have been, too."""
    if pair.appointment and pair.chain:
        return False
    if pair.appointment:
        made = [one.event.occurred_at for one in pair.appointment.heard if type(one.event) is AppointmentCreated]
        return min(made, default=began_at) < began_at or not made
    made = [one.event.made_at for side in pair.chain for one in side.heard if one.event.made_at is not None]
    return bool(made) and min(made) < began_at


def stirred(appointments: Iterable[AppointmentSide], chains: Iterable[Chain], policy: Policy) -> datetime:
    """Give the latest receipt that could have changed who belongs to whom."""
    moments = [link_since(side) for side in appointments]
    moments.extend(first_received(side) for chain in chains for side in chain)
    if policy.match_by_attendee:
        moments.extend(run_since(side.heard, _recognised_appointment) for side in appointments)
        moments.extend(run_since(states(chain[-1]), _recognised_booking) for chain in chains)
    return max(moments)


def _find(pair: Pair, calcom: Life | None, policy: Policy) -> Finding | None:
    appointment, chain = pair.appointment, pair.chain
    if pair.candidates:
        return _ambiguous(pair, calcom, policy)
    if appointment and calcom is not None:
        return _two_sided(appointment, chain, calcom, policy)
    if appointment:
        if not appointment_life(appointment.heard[-1]).alive:
            return None  # a cancelled side that stands alone is no orphan
        since = run_since(appointment.heard, _alive_appointment)
        return Finding(Kind.ORPHANED_LOCAL, since, policy.window_seconds)
    if calcom is None or not calcom.alive or _ignored(calcom, policy):
        return None
    return Finding(Kind.ORPHANED_CALCOM, _chain_alive_since(chain), _window(calcom, policy, policy.window_seconds))


def _ignored(calcom: Life, policy: Policy) -> bool:
    """Tell whether a booking that waits for somebody is nobody's business meanwhile."""
    if calcom is Life.PENDING:
        return policy.unconfirmed is Waiting.IGNORE
    return calcom is Life.UNPAID and policy.unpaid is Waiting.IGNORE


def _ambiguous(pair: Pair, calcom: Life | None, policy: Policy) -> Finding | None:
    local = appointment_life(pair.appointment.heard[-1]) if pair.appointment else None
    if not any(life is not None and life.alive for life in (local, calcom)):
        return None
    since = max(first_received(side) for side in sides_of(pair))
    return Finding(Kind.AMBIGUOUS_MATCH, since, policy.window_seconds)


def _two_sided(appointment: AppointmentSide, chain: Chain, calcom: Life, policy: Policy) -> Finding | None:
    local = appointment_life(appointment.heard[-1])
    if not local.alive and (not calcom.alive or _ignored(calcom, policy)):
        return None
    if local is Life.PENDING and calcom is Life.RECALLED:
        return None  # both wait for another time
    differences = differ(appointment_facts(appointment), booking_facts(chain), local, calcom, policy)
    if calcom is Life.DELETED:
        kind, differences = Kind.ORPHANED_LOCAL, ()
    elif local is Life.DELETED:
        kind = Kind.ORPHANED_CALCOM  # whether it is there at all always counts
    elif differences:
        kind = Kind.DATA_MISMATCH
    else:
        return None
    told = states(chain[-1])
    moments = [run_since(appointment.heard, _compared_of_appointment), run_since(told, _compared_of_booking)]
    if told[-1].event.unpaid and (paid := paid_at(chain[-1])) is not None:
        moments.append(paid)
    settling = policy.window_seconds if policy.settling_window_seconds is None else policy.settling_window_seconds
    window_seconds = _window(calcom, policy, settling) if local.alive else settling
    return Finding(kind, max(moments), window_seconds, differences)


def differ(
    appointment: AppointmentFacts, booking: BookingFacts, local: Life, calcom: Life, policy: Policy
) -> tuple[Inconsistency, ...]:
    """List the fields in which two sides differ: as instants, never as text; only those that count."""
    found: list[Inconsistency] = []
    compared = policy.compared
    if "starts_at" in compared and not _same_instant(appointment.starts_at, booking.starts_at, policy):
        found.append(Inconsistency("starts_at", _text(appointment.starts_at), _text(booking.starts_at)))
    if "ends_at" in compared and not _same_instant(appointment.ends_at, booking.ends_at, policy):
        found.append(Inconsistency("ends_at", _text(appointment.ends_at), _text(booking.ends_at)))
    if "status" in compared and not _agree(local, calcom):
        found.append(Inconsistency("status", appointment.status, booking.status))
    if (
        appointment.event_type_id is not None
        and booking.event_type_id is not None
        and appointment.event_type_id != booking.event_type_id
        and "event_type_id" in compared
    ):
        found.append(Inconsistency("event_type_id", str(appointment.event_type_id), str(booking.event_type_id)))
    return tuple(found)


def _agree(local: Life, calcom: Life) -> bool:
    """Compare what the sides amount to.

    | app, Cal.com | live | pending | unpaid | recalled | cancelled | untold |
    |---|---|---|---|---|---|---|
    | live | yes | no | no | no | no | yes |
    | pending | no | yes | yes | yes | no | yes |
    | cancelled, deleted | no | no | no | yes | yes | yes |
    """
    if calcom is Life.UNTOLD:
        return True
    if local is Life.LIVE:
        return calcom is Life.LIVE
    if local is Life.PENDING:
        return calcom in (Life.PENDING, Life.UNPAID, Life.RECALLED)
    return not calcom.alive


def _same_instant(local: datetime | None, calcom: datetime | None, policy: Policy) -> bool:
    """Compare two instants; one that is not known differs from nothing."""
    if local is None or calcom is None:
        return True
    return abs(local - calcom) <= timedelta(seconds=policy.tolerance_seconds)


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _window(calcom: Life, policy: Policy, usual_seconds: float) -> float:
    """Give the window of a booking: people take their time to confirm, to pay, to choose another time."""
    if calcom is Life.PENDING or calcom is Life.RECALLED:
        return max(policy.unconfirmed_window_seconds, usual_seconds)
    return max(policy.unpaid_window_seconds, usual_seconds) if calcom is Life.UNPAID else usual_seconds


def _alive_appointment(heard: HeardAppointment) -> bool:
    return appointment_life(heard).alive


def _alive_booking(heard: HeardBooking) -> bool:
    return booking_life(heard).alive


def _chain_alive_since(chain: Chain) -> datetime:
    """A reschedule does not start a lone booking's window anew: the first sight of the chain counts.

    One that was waiting and is not any more does: its own, longer window is over, and the usual one begins.
    """
    head = chain[-1]
    told = states(head)
    waiting = booking_life(told[-1]) in (Life.PENDING, Life.UNPAID)
    if not waiting and any(booking_life(heard) in (Life.PENDING, Life.UNPAID) for heard in told):
        return run_since(told, booking_life)
    since = run_since(told, _alive_booking)
    if all(_alive_booking(heard) for heard in told):
        since = min([since, *(first_received(side) for side in chain[:-1])])
    paid = paid_at(head) if told[-1].event.unpaid else None
    return since if paid is None else max(since, paid)


def _compared_of_appointment(heard: HeardAppointment) -> object:
    appointment = heard.event.appointment
    return (appointment_life(heard), appointment.starts_at, appointment.ends_at, appointment.event_type_id)


def _compared_of_booking(heard: HeardBooking) -> object:
    booking = heard.event
    return (booking_life(heard), booking.starts_at, booking.ends_at, booking.event_type_id)


def _recognised_appointment(heard: HeardAppointment) -> object:
    appointment = heard.event.appointment
    return (appointment_life(heard), appointment.starts_at, appointment.customer)


def _recognised_booking(heard: HeardBooking) -> object:
    return (booking_life(heard), heard.event.starts_at, heard.event.attendees)
