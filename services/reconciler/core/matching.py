"""Which appointment is which booking: keys that bring sides together, and the ladder that pairs them.

Sides that share a key form a cluster; membership only grows, so a cluster is the same whatever came first.
Within it, `pair` looks at everything at once and is a function of the set: nobody keeps a place by having come early.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from msgspec import Struct

from schemas.appointments import Appointment
from services.reconciler.core.events import HeardAppointment, HeardBooking, order
from services.reconciler.core.sides import (
    AppointmentSide,
    BookingSide,
    appointment_life,
    booking_life,
    first_received,
    links,
    named_appointment,
)

Chain = tuple[BookingSide, ...]

_SAME_START: Final = timedelta(seconds=60)


class Rule(StrEnum):
    """The rung of the ladder that paired two sides; a stronger one corrects a weaker one."""

    BOOKING = "booking"  # (1) the app names the booking's uid or id
    METADATA = "metadata"  # (2) the booking names the appointment's id


class HasSides(Protocol):
    """A pair, or the record that was made of it."""

    @property
    def appointment(self) -> AppointmentSide | None: ...  # noqa: D102 - see Pair

    @property
    def chain(self) -> Chain: ...  # noqa: D102 - see Pair


class Pair(Struct, frozen=True):
    """One record to be: an appointment, a chain, or both.

    `candidates` has more than one entry when the ladder could not choose: entity names, sorted.
    """

    appointment: AppointmentSide | None
    chain: Chain
    rule: Rule | None = None
    candidates: tuple[str, ...] = ()


def sides_of(held: HasSides) -> tuple[AppointmentSide | BookingSide, ...]:
    """Give every side of a pair or a record."""
    return held.chain if held.appointment is None else (held.appointment, *held.chain)


def keys_of_appointment(event: HeardAppointment) -> tuple[str, ...]:
    """Give the identity keys that an event of the app touches."""
    appointment: Appointment = event.event.appointment
    keys = [f"a:{appointment.id}"]
    if appointment.calcom_booking_uid:
        keys.append(f"u:{appointment.calcom_booking_uid}")
    if appointment.calcom_booking_id is not None:
        keys.append(f"i:{appointment.calcom_booking_id}")
    return tuple(keys)


def keys_of_booking(event: HeardBooking) -> tuple[str, ...]:
    """Give the identity keys that an event of Cal.com touches."""
    booking = event.event
    keys = [f"u:{booking.uid}"]
    if booking.parent_uid:
        keys.append(f"u:{booking.parent_uid}")
    if booking.booking_id is not None:
        keys.append(f"i:{booking.booking_id}")
    if booking.parent_id is not None:
        keys.append(f"i:{booking.parent_id}")
    if booking.appointment_id:
        keys.append(f"a:{booking.appointment_id}")
    return tuple(keys)


def name_of(side: AppointmentSide | BookingSide) -> str:
    """Give a side's name within its company: what a record's id is made from."""
    if type(side) is AppointmentSide:
        return f"a:{side.appointment_id}"
    return f"b:{side.uid}" if side.seat is None else f"b:{side.uid}#{side.seat}"


def age(side: AppointmentSide | BookingSide) -> tuple[datetime, str]:
    """Sort sides by when they were first heard of; the name breaks ties."""
    return (first_received(side), name_of(side))


def pair(appointments: Sequence[AppointmentSide], bookings: Sequence[BookingSide]) -> list[Pair]:
    """Pair the sides of a cluster by the ladder; whatever finds no partner stands alone."""
    chains = link(bookings)
    if not chains:
        return [Pair(appointment, ()) for appointment in appointments]
    if not appointments:
        return [Pair(None, chain) for chain in chains]
    if len(appointments) == 1 and len(chains) == 1:
        rule = _rule(appointments[0], chains[0])
        if rule is not None:
            return [Pair(appointments[0], chains[0], rule)]
        return [Pair(appointments[0], ()), Pair(None, chains[0])]
    return _ladder(sorted(appointments, key=age), sorted(chains, key=lambda chain: age(chain[0])))


def link(bookings: Sequence[BookingSide]) -> list[Chain]:
    """Bring uids together into chains, each sorted oldest first; its last uid is the one in force."""
    if len(bookings) == 1:
        return [(bookings[0],)]
    groups: dict[str, list[BookingSide]] = {}
    for side in bookings:
        names = {_seated(side, f"u:{side.uid}")}
        for heard in side.heard:
            event = heard.event
            names.update(
                _seated(side, name)
                for name, given in (
                    (f"u:{event.parent_uid}", event.parent_uid),
                    (f"i:{event.booking_id}", event.booking_id is not None),
                    (f"i:{event.parent_id}", event.parent_id is not None),
                )
                if given
            )
        members = [side]
        for group in {id(group): group for name in names if (group := groups.get(name))}.values():
            members = group + members
        for name in [known for known, group in groups.items() if group[0] in members] + sorted(names):
            groups[name] = members
    return [_in_order(group) for group in {id(group): group for group in groups.values()}.values()]


def _seated(side: BookingSide, name: str) -> str:
    return name if side.seat is None else f"{name}#{side.seat}"


def _in_order(group: list[BookingSide]) -> Chain:
    """Sort a chain: a uid comes after the one that it took the place of; where links do not say, time does."""
    left = sorted(group, key=lambda side: (order(side.heard[0]), side.uid))
    placed: list[BookingSide] = []
    while left:
        waiting = {side.uid for side in left} | {f"i:{side.heard[-1].event.booking_id}" for side in left}
        ready = [side for side in left if not _parents(side) & waiting]
        first = (ready or left)[0]  # a cycle of links: time decides
        placed.append(first)
        left.remove(first)
    return tuple(placed)


def _parents(side: BookingSide) -> set[str]:
    parents: set[str] = set()
    for heard in side.heard:
        if heard.event.parent_uid and heard.event.parent_uid != side.uid:
            parents.add(heard.event.parent_uid)
        if heard.event.parent_id is not None and heard.event.parent_id != heard.event.booking_id:
            parents.add(f"i:{heard.event.parent_id}")
    return parents


def _rule(appointment: AppointmentSide, chain: Chain) -> Rule | None:
    for rule, holds in _RULES:
        if holds(appointment, chain):
            return rule
    return None


def _booking_rule(appointment: AppointmentSide, chain: Chain) -> bool:
    uid, booking_id = links(appointment)
    named = any(
        (uid is not None and uid in (side.uid, heard.event.parent_uid))
        or (booking_id is not None and booking_id in (heard.event.booking_id, heard.event.parent_id))
        for side in chain
        for heard in side.heard
    )
    return named and _fits_seat(appointment, chain)


def _fits_seat(appointment: AppointmentSide, chain: Chain) -> bool:
    """A uid with seats is shared by several people: the seat must be this one's, as far as one can tell."""
    seat = chain[-1].seat
    if seat is None or _metadata_rule(appointment, chain):
        return True
    customer = appointment.heard[-1].event.appointment.customer
    if customer is None or customer.email is None:
        return True
    return customer.email.strip().lower() == seat


def _metadata_rule(appointment: AppointmentSide, chain: Chain) -> bool:
    return any(named_appointment(side) == appointment.appointment_id for side in chain)


_RULES: Final[tuple[tuple[Rule, Callable[[AppointmentSide, Chain], bool]], ...]] = (
    (Rule.BOOKING, _booking_rule),
    (Rule.METADATA, _metadata_rule),
)


def _ladder(appointments: list[AppointmentSide], chains: list[Chain]) -> list[Pair]:
    """Go down the ladder; on each rung pair what has exactly one partner, and never pick between equals."""
    pairs: list[Pair] = []
    free_appointments, free_chains = list(appointments), list(chains)
    for rule, holds in _RULES:
        claims = [(a, c) for a in free_appointments for c in free_chains if holds(a, c)]
        for group in _groups(claims):
            chosen = _choose(group)
            if chosen is None:
                names = _names(group)
                for a in {id(a): a for a, _ in group}.values():
                    pairs.append(Pair(a, (), None, names))
                    free_appointments.remove(a)
                for c in {id(c): c for _, c in group}.values():
                    pairs.append(Pair(None, c, None, names))
                    free_chains.remove(c)
                continue
            for a, c in chosen:
                pairs.append(Pair(a, c, rule))
                free_appointments.remove(a)
                free_chains.remove(c)
    pairs.extend(Pair(a, ()) for a in free_appointments)
    pairs.extend(Pair(None, c) for c in free_chains)
    return pairs


Claim = tuple[AppointmentSide, Chain]


def _groups(claims: list[Claim]) -> list[list[Claim]]:
    """Split claims into groups that have no side in common."""
    groups: list[list[Claim]] = []
    for claim in claims:
        touching = [g for g in groups if any(claim[0] is a or claim[1] is c for a, c in g)]
        merged = [member for g in touching for member in g] + [claim]
        groups = [g for g in groups if g not in touching] + [merged]
    return groups


def _choose(group: list[Claim]) -> list[Claim] | None:
    """Pick the claims that stand out; None where two are equally good.

    The living come before the cancelled (an appointment that was booked anew), the same start before another.
    """
    chosen: list[Claim] = []
    left = group
    while left:
        best = min(_merit(claim) for claim in left)
        top = [claim for claim in left if _merit(claim) == best]
        if any(_overlap(one, other) for i, one in enumerate(top) for other in top[i + 1 :]):
            return None
        chosen.extend(top)
        left = [claim for claim in left if not any(_overlap(claim, taken) for taken in top)]
    return chosen


def _overlap(one: Claim, other: Claim) -> bool:
    return one[0] is other[0] or one[1] is other[1]


def _merit(claim: Claim) -> tuple[bool, bool, bool]:
    """Rank a claim, best first: equally alive, metadata agrees too, same start."""
    appointment, chain = claim
    alive = appointment_life(appointment.heard[-1]).alive
    starts_at = appointment.heard[-1].event.appointment.starts_at
    booked = chain[-1].heard[-1]
    same_start = booked.event.starts_at is not None and abs(booked.event.starts_at - starts_at) <= _SAME_START
    both_alive = alive and booking_life(booked).alive
    return (not both_alive, not _metadata_rule(appointment, chain), not same_start)


def _names(group: Iterable[Claim]) -> tuple[str, ...]:
    return tuple(sorted({name_of(a) for a, _ in group} | {name_of(c[-1]) for _, c in group}))
