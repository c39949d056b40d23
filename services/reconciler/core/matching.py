"""Which appointment is which booking: chains of uids, and the ladder that pairs them with appointments.

Sides that share a key (`keys`) form a cluster. Within it, `pair` looks at everything at once and is a function of the
set: nobody keeps a place by having come early.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from schemas.bookings import Attendee, BookingEvent
from services.reconciler.core.events import order
from services.reconciler.core.keys import (
    SAME_START_SECONDS,
    chain_root,
    keys_of_appointment,
    keys_of_booking,
    uids_named,
)
from services.reconciler.core.people import of_attendees, of_customer, somebody_else
from services.reconciler.core.policy import Policy
from services.reconciler.core.sides import (
    AppointmentSide,
    BookingSide,
    Life,
    appointment_life,
    booking_facts,
    booking_life,
    first_received,
    life_of,
    links,
    named_appointment,
    named_last,
    states,
)

Chain = tuple[BookingSide, ...]


class Rule(StrEnum):
    """The rung of the ladder that paired two sides; a stronger one corrects a weaker one."""

    BOOKING = "booking"  # (1) the app names the booking's uid or id
    METADATA = "metadata"  # (2) the booking names the appointment's id
    ATTENDEE = "attendee"  # (3) the same person at the same time, and nobody else who could be meant


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


def name_of(side: AppointmentSide | BookingSide) -> str:
    """Give a side's name within its company: what a record's id is made from."""
    if type(side) is AppointmentSide:
        return f"a:{side.appointment_id}"
    return f"b:{side.uid}" if side.seat is None else f"b:{side.uid}#{side.seat}"


def age(side: AppointmentSide | BookingSide) -> tuple[datetime, str]:
    """Sort sides by when they were first heard of; the name breaks ties."""
    return (first_received(side), name_of(side))


def pair(appointments: Sequence[AppointmentSide], bookings: Sequence[BookingSide], policy: Policy) -> list[Pair]:
    """Pair the sides of a cluster by the ladder; whatever finds no partner stands alone."""
    chains = link(bookings, policy)
    if not chains:
        return [Pair(appointment, ()) for appointment in appointments]
    if not appointments:
        return [Pair(None, chain) for chain in chains]
    if len(appointments) == 1 and len(chains) == 1:
        rule = _rule(appointments[0], chains[0], policy)
        if rule is not None:
            return [Pair(appointments[0], chains[0], rule)]
        return [Pair(appointments[0], ()), Pair(None, chains[0])]
    return _ladder(sorted(appointments, key=age), sorted(chains, key=lambda chain: age(chain[0])), policy)


# --- chains -----------------------------------------------------------------------------------------------------


def link(bookings: Sequence[BookingSide], policy: Policy) -> list[Chain]:
    """Bring uids together into chains, each sorted oldest first; its last uid is the one in force."""
    if len(bookings) == 1:
        return [(bookings[0],)]
    groups: dict[str, list[BookingSide]] = {}
    seat_ids = {heard.event.seat_id for side in bookings if side.seat for heard in side.heard}
    for side in bookings:
        names = _names_of_side(side, seat_ids)
        members = [side]
        for group in {id(group): group for name in names if (group := groups.get(name))}.values():
            members = group + members
        if len(members) > 1:
            ours = {id(member) for member in members}
            names.update([name for name, group in groups.items() if id(group[0]) in ours])
        groups |= dict.fromkeys(names, members)
    chains = [_in_order(group) for group in {id(group): group for group in groups.values()}.values()]
    return _succeeded(_with_seats(chains), policy)


def _with_seats(chains: list[Chain]) -> list[Chain]:
    """Lay what was said of a booking as a whole beside its seats: to the one that was heard of first.

    It is no appointment of anybody; what it says of the seats they have heard (`hearsay`).
    """
    seated = [chain for chain in chains if chain[-1].seat is not None]
    if not seated or len(seated) == len(chains):
        return chains
    whole: dict[int, list[BookingSide]] = {}
    for chain in sorted(chains, key=lambda chain: age(chain[0])):
        uids = {side.uid for side in chain if side.seat is None}
        if hosts := [other for other in seated if any(side.uid in uids for side in other)]:
            whole.setdefault(id(min(hosts, key=lambda other: age(other[0]))), []).extend(chain)
    laid = {id(side) for sides in whole.values() for side in sides}
    return [(*whole.get(id(chain), ()), *chain) for chain in chains if id(chain[0]) not in laid]


def _names_of_side(side: BookingSide, seat_ids: set[str | None]) -> set[str]:
    """Give every name by which a side is chained to others. Of a uid with seats each seat has a chain of its own."""
    names: set[str] = set()
    for heard in side.heard:
        event = heard.event
        names.update([_seated(side, f"u:{uid}") for uid in _chained(side, event) if uid != event.seat_id])
        names.update(
            [_seated(side, f"i:{number}") for number in (event.booking_id, event.parent_id) if number is not None]
        )
        if event.seat_id:
            names.add(f"u:{event.seat_id}")
        if event.parent_uid and event.parent_uid in seat_ids:  # Cal.com may name the seat as what was rescheduled
            names.add(f"u:{event.parent_uid}")
    return names


def _seated(side: BookingSide, name: str) -> str:
    return name if side.seat is None else f"{name}#{side.seat}"


def _in_order(group: list[BookingSide]) -> Chain:
    """Sort a chain: a uid comes after the one that it took the place of; where links do not say, time does."""
    if len(group) == 1:
        return (group[0],)
    left = sorted(group, key=lambda side: (order(side.heard[0]), side.uid, side.seat or ""))
    replaced = {heard.event.next_uid: _own_names(side) for side in left for heard in side.heard if heard.event.next_uid}
    placed: list[BookingSide] = []
    while left:
        ready = [
            side
            for side in left
            if not any(
                _own_names(other) & _parents(side) or _own_names(other) == replaced.get(side.uid)
                for other in left
                if other is not side
            )
        ]
        first = (ready or left)[0]  # a cycle of links: time decides
        placed.append(first)
        left.remove(first)
    return tuple(placed)


def _own_names(side: BookingSide) -> set[str]:
    names = {side.uid}
    for heard in side.heard:
        if heard.event.booking_id is not None:
            names.add(f"i:{heard.event.booking_id}")
        if heard.event.seat_id:
            names.add(heard.event.seat_id)
    return names


def _parents(side: BookingSide) -> set[str]:
    parents: set[str] = set()
    for heard in side.heard:
        event = heard.event
        if event.parent_uid and event.parent_uid != side.uid:
            parents.add(event.parent_uid)
        if event.parent_id is not None and event.parent_id != event.booking_id:
            parents.add(f"i:{event.parent_id}")
        root = chain_root(event)
        if root is not None and not _recurs((side,)):
            parents.add(root)
    return parents


def _chained(side: BookingSide, event: BookingEvent) -> list[str]:
    """Give the uids that an event chains its own to. All of a series may lie in one entry of a calendar."""
    names = uids_named(event)
    root = chain_root(event)
    if root is not None and root in names and _recurs((side,)) and root not in (event.parent_uid, event.next_uid):
        names.remove(root)
    return names


def _succeeded(chains: list[Chain], policy: Policy) -> list[Chain]:
    """Put behind a booking that the host called off to be made anew the one that was made in its place.

    Nothing links them where Cal.com made the second as a new booking (cal.diy #28543): the same person and event type,
    made later, and nobody else who could be meant.
    """
    recalled = [chain for chain in chains if life_of(chain) is Life.RECALLED]
    if not recalled:
        return chains
    claims = [(old, new) for old in recalled for new in chains if new is not old and _could_succeed(old, new, policy)]
    olds, news = [id(old) for old, _ in claims], [id(new) for _, new in claims]
    joined = [(old, new) for old, new in claims if olds.count(id(old)) == 1 and news.count(id(new)) == 1]
    taken = {id(chain) for both in joined for chain in both}
    return [chain for chain in chains if id(chain) not in taken] + [(*old, *new) for old, new in joined]


def _could_succeed(old: Chain, new: Chain, policy: Policy) -> bool:
    left, came = states(old[-1])[-1], new[0].heard[0]
    types = {left.event.event_type_id, came.event.event_type_id} - {None}
    return (
        old[-1].seat == new[0].seat
        and len(types) < 2  # noqa: PLR2004 - the same, or one of them not told
        and order(came) > order(left)
        and bool(set(_people_of(old, policy)) & set(_people_of(new, policy)))
    )


def _people_of(chain: Chain, policy: Policy) -> tuple[str, ...]:
    return of_attendees(booking_facts(chain).attendees, policy.country)


# --- the rungs --------------------------------------------------------------------------------------------------


def _rule(appointment: AppointmentSide, chain: Chain, policy: Policy) -> Rule | None:
    for rule, holds in _RULES:
        if holds(appointment, chain, policy):
            return rule
    return None


def _booking_rule(appointment: AppointmentSide, chain: Chain, policy: Policy) -> bool:
    return _names(links(appointment), chain) and _fits_seat(appointment, chain, policy)


def _names(named: tuple[str | None, int | None], chain: Chain) -> bool:
    uid, booking_id = named
    if uid is None and booking_id is None:
        return False
    for side in chain:
        for heard in side.heard:
            event = heard.event
            if uid is not None and (uid == event.uid or uid in _chained(side, event)):
                return True
            if booking_id is not None and booking_id in (event.booking_id, event.parent_id):
                return True
    return False


def _fits_seat(appointment: AppointmentSide, chain: Chain, policy: Policy) -> bool:
    """A uid with seats is shared by several people: the seat must be this one's, as far as one can tell."""
    seat = chain[-1].seat
    return seat is None or _metadata_rule(appointment, chain, policy) or _may_be_theirs(appointment, chain, policy)


def _may_be_theirs(appointment: AppointmentSide, chain: Chain, policy: Policy) -> bool:
    """Tell whether nothing says that somebody else sits on this seat."""
    people = _customer(appointment, policy)
    attendees = _people_of(chain, policy) or of_attendees((Attendee(email=chain[-1].seat),), policy.country)
    return not somebody_else(people, attendees)


def _customer(appointment: AppointmentSide, policy: Policy) -> tuple[str, ...]:
    for heard in reversed(appointment.heard):
        people = of_customer(heard.event.appointment.customer, policy.country)
        if people:
            return people
    return ()


def _metadata_rule(appointment: AppointmentSide, chain: Chain, policy: Policy) -> bool:  # noqa: ARG001 - a rung
    return any(named_appointment(side) == appointment.appointment_id for side in chain)


def _attendee_rule(appointment: AppointmentSide, chain: Chain, policy: Policy) -> bool:
    """Same person, same start, at the same time: what both sides once agreed on, one of them may have moved since.

    A side that names another partner is none of these: what it names is to be waited for.
    """
    if not policy.match_by_attendee or links(appointment) != (None, None) or _names_another(appointment, chain):
        return False
    return any(_same_person(here, there) for here, there in _meetings(appointment, chain, policy))


def _names_another(appointment: AppointmentSide, chain: Chain) -> bool:
    """Tell whether it names another appointment. All of a series have the same metadata, and seats inherit it."""
    names = {named_appointment(side) for side in chain} - {None, appointment.appointment_id}
    return bool(names) and chain[-1].seat is None and not _recurs(chain)


def _recurs(chain: Chain) -> bool:
    return any(heard.event.recurring for side in chain for heard in side.heard)


def _same_time(appointment: AppointmentSide, chain: Chain, policy: Policy) -> bool:
    """Tell whether both were ever at the same time: what names a series names no occurrence of it."""
    return any(True for _ in _meetings(appointment, chain, policy))


def _meetings(appointment: AppointmentSide, chain: Chain, policy: Policy) -> "Iterator[tuple[_Seen, _Seen]]":
    """Give what both sides said of the same time, at the same time."""
    booked = [seen for side in chain for seen in _seen_of_booking(side, policy)]
    for here in _seen_of_appointment(appointment, policy):
        yield from ((here, there) for there in booked if _meet(here, there))


#: Clocks differ, and a move reaches the sides one after the other. No rule of a company's: who belongs to whom must not
#: depend on how long one waits.
_SLACK: Final = timedelta(minutes=5)


class _Seen(Struct, frozen=True):
    """Who was to come when, and from when until when a side said so: by its own clock, and by the door's."""

    starts_at: datetime | None  # None: called off
    people: tuple[str, ...]
    since: tuple[datetime, datetime]
    until: tuple[datetime, datetime] | None = None


def _same_person(one: _Seen, other: _Seen) -> bool:
    return any(person in other.people for person in one.people)


def _meet(one: _Seen, other: _Seen) -> bool:
    if one.starts_at is None or other.starts_at is None:
        return False
    if abs((one.starts_at - other.starts_at).total_seconds()) > SAME_START_SECONDS:
        return False
    return any(
        (one.until is None or other.since[clock] <= one.until[clock] + _SLACK)
        and (other.until is None or one.since[clock] <= other.until[clock] + _SLACK)
        for clock in (0, 1)
    )


def _seen_of_appointment(side: AppointmentSide, policy: Policy) -> list[_Seen]:
    found: list[_Seen] = []
    people: tuple[str, ...] = ()
    for heard in side.heard:
        appointment = heard.event.appointment
        people = of_customer(appointment.customer, policy.country) or people
        starts_at = appointment.starts_at if appointment_life(heard).alive else None
        found.append(_Seen(starts_at, people, (order(heard)[0], heard.received_at)))
    return _runs(found)


def _seen_of_booking(side: BookingSide, policy: Policy) -> list[_Seen]:
    found: list[_Seen] = []
    people: tuple[str, ...] = ()
    for heard in states(side):
        event = heard.event
        if event.attendees:
            people = of_attendees(event.attendees, policy.country)
        over = booking_life(heard) is Life.CANCELLED
        if event.starts_at is not None or over:
            found.append(_Seen(None if over else event.starts_at, people, (order(heard)[0], heard.received_at)))
    return _runs(found)


def _runs(found: list[_Seen]) -> list[_Seen]:
    """Say until when each held: until the next that is another; the last holds still."""
    runs: list[_Seen] = []
    for seen in found:
        if runs and (runs[-1].starts_at, runs[-1].people) == (seen.starts_at, seen.people):
            continue
        if runs:
            runs[-1] = replace(runs[-1], until=seen.since)
        runs.append(seen)
    return runs


_RULES: Final[tuple[tuple[Rule, Callable[[AppointmentSide, Chain, Policy], bool]], ...]] = (
    (Rule.BOOKING, _booking_rule),
    (Rule.METADATA, _metadata_rule),
    (Rule.ATTENDEE, _attendee_rule),
)


def _ladder(appointments: list[AppointmentSide], chains: list[Chain], policy: Policy) -> list[Pair]:
    """Go down the ladder; on each rung pair what has exactly one partner, and never pick between equals."""
    pairs: list[Pair] = []
    free_appointments, free_chains = list(appointments), list(chains)
    for rule, holds in _RULES:
        claims = [(a, c) for a, c in _near(free_appointments, free_chains, policy) if holds(a, c, policy)]
        if rule is Rule.METADATA:
            claims = [(a, c) for a, c in claims if not _recurs(c) or _same_time(a, c, policy)]
        for group in _groups(claims):
            chosen = _choose(group, policy)
            if chosen is None:
                names = _entities(group)
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

#: More combinations than this are not all looked at: a long series has thousands, and nearly none share a key.
_ALL_MAX: Final = 16


def _near(appointments: list[AppointmentSide], chains: list[Chain], policy: Policy) -> Iterable[Claim]:
    """Give the combinations that a rung could hold for: those that share a key."""
    if len(appointments) * len(chains) <= _ALL_MAX:
        return [(a, c) for a in appointments for c in chains]
    by_key: dict[str, dict[int, Chain]] = {}
    for chain in chains:
        for key in {key for side in chain for heard in side.heard for key in keys_of_booking(heard, policy)}:
            by_key.setdefault(key, {})[id(chain)] = chain
    found: list[Claim] = []
    for appointment in appointments:
        keys = {key for heard in appointment.heard for key in keys_of_appointment(heard, policy)}
        sharing = {at: chain for key in sorted(keys) for at, chain in by_key.get(key, {}).items()}
        found.extend([(appointment, chain) for chain in chains if id(chain) in sharing])
    return found


def _groups(claims: list[Claim]) -> list[list[Claim]]:
    """Split claims into groups that have no side in common."""
    group_of: dict[int, list[Claim]] = {}
    for claim in claims:
        group = [claim]
        for known in {id(g): g for side in claim if (g := group_of.get(id(side)))}.values():
            group = known + group
        group_of |= {id(side): group for member in group for side in member}
    return list({id(group): group for group in group_of.values()}.values())


def _choose(group: list[Claim], policy: Policy) -> list[Claim] | None:
    """Pick the claims that stand out; None where two are equally good.

    The living come before the cancelled (an appointment that was booked anew), the same start before another.
    """
    chosen: list[Claim] = []
    left = [(_merit(claim, policy), claim) for claim in group] if len(group) > 1 else [((), group[0])]
    while left:
        best = min([merit for merit, _ in left])
        top = [claim for merit, claim in left if merit == best]
        if any(_overlap(one, other) for i, one in enumerate(top) for other in top[i + 1 :]):
            return None
        chosen.extend(top)
        left = [(merit, claim) for merit, claim in left if not any(_overlap(claim, taken) for taken in top)]
    return chosen


def _overlap(one: Claim, other: Claim) -> bool:
    return one[0] is other[0] or one[1] is other[1]


def _merit(claim: Claim, policy: Policy) -> tuple[bool, ...]:
    """Rank a claim, best first: equally alive, not waiting for a payment, named last, their seat, metadata, same start.

    A seat inherits the metadata of the first, so that the person comes before it.
    """
    appointment, chain = claim
    starts_at, booked = appointment.heard[-1].event.appointment.starts_at, booking_facts(chain).starts_at
    life = life_of(chain)
    both_alive = appointment_life(appointment.heard[-1]).alive and life.alive
    same_start = booked is not None and abs((booked - starts_at).total_seconds()) <= SAME_START_SECONDS
    theirs = chain[-1].seat is None or _may_be_theirs(appointment, chain, policy)
    last = named_last(appointment)
    return (
        not both_alive,
        life is Life.UNPAID,
        last != (None, None) and not _names(last, chain),
        not theirs,
        not _metadata_rule(appointment, chain, policy),
        not same_start,
    )


def _entities(group: Iterable[Claim]) -> tuple[str, ...]:
    return tuple(sorted({name_of(a) for a, _ in group} | {name_of(c[-1]) for _, c in group}))
