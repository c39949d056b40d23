"""What must hold after anything that may happen: one function, for memory and for the real thing.

I1 every accepted envelope is in exactly one place, event by event; one that lies on a partition that is not its
company's is not folded there but sent on, once at least, and folded at home. I2 at most one flag is open for a record
and kind; I3 no mail without a committed flag, none twice; I5 the state is what the log makes of it, folded anew. (I4,
that no row is seen across companies, belongs to what shows rows.)
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct

from schemas import topics
from schemas.envelope import Envelope
from schemas.flags import RECORD_KINDS, Flag
from services.reconciler.core.effects import STATUS_OF
from services.reconciler.core.events import DeadlineReached
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Record
from services.reconciler.decode import BODY_MAX_BYTES, Decoded, Ignored, Undecodable, decode
from services.reconciler.desk import Desk
from services.reconciler.ports import Changes, Loaded, Position
from tests.support.memory import MemoryBroker, MemoryStore

Place = tuple[str, int, int]


class View(Struct, kw_only=True):
    """What there is to see: the input log and everything that was made of it."""

    envelopes: Sequence[Envelope]
    event_places: Sequence[Place]
    dead_places: Sequence[Place]
    records: Sequence[Record]
    raised: Mapping[UUID, Flag]
    resolved: Mapping[UUID, Flag]  # by the id of the flag that was ended
    told: Sequence[Flag]  # what reached sync.flags.v1, in order, repeats included
    mails: Sequence[tuple[str, UUID]] = ()  # Message-ID and flag id of every mail that a server accepted
    policies: Mapping[str, Policy]
    home_of: Callable[[str], int]  # a company's partition
    until: datetime  # every deadline before this moment has fired

    @property
    def of_records(self) -> dict[UUID, Flag]:
        """Give the flags about records that were raised: others are about a company, and come when it has many."""
        return {flag_id: flag for flag_id, flag in self.raised.items() if flag.kind in RECORD_KINDS}


def check(view: View) -> None:
    """Check all of them; the first that does not hold raises with what is wrong."""
    said = [_said(envelope, view) for envelope in view.envelopes]
    _conserved(view, said)
    _flags_once(view)
    _mails_follow_flags(view)
    _state_is_what_the_log_makes_of_it(view, said)


class _Said(Struct, frozen=True):
    """What an envelope says, and where it stands."""

    envelope: Envelope
    events: tuple[Decoded, ...]
    undecodable: bool
    astray: bool  # on a partition that is not its company's

    @property
    def place(self) -> Place:
        return (self.envelope.topic, self.envelope.partition, self.envelope.offset)


def _said(envelope: Envelope, view: View) -> _Said:
    company_id = envelope.company_id or ""
    known = company_id in view.policies and len(envelope.body) <= BODY_MAX_BYTES
    astray = known and view.home_of(company_id) != envelope.partition
    try:
        return _Said(envelope, decode(envelope), undecodable=False, astray=astray)
    except Undecodable as error:
        return _Said(envelope, error.salvaged, undecodable=True, astray=astray)


def _conserved(view: View, said: Sequence[_Said]) -> None:
    events, dead = Counter(view.event_places), Counter(view.dead_places)
    sent_on = {_address(one) for one in said if not one.astray}
    for one in said:
        found = (dead.pop(one.place, 0), events.pop(one.place, 0))
        if one.astray:
            assert found == (0, 0), f"I1: {one.place} is not at home, and has {found} dead letters and events"
            assert _address(one) in sent_on, f"I1: {one.place} is not at home, and was not sent on"
        else:
            wanted = {(1, 0), (int(one.undecodable), len(one.events))}
            assert found in wanted, f"I1: {one.place} has {found} dead letters and events, not {wanted}"
    assert not events, f"I1: of nothing {events}"
    assert not dead, f"I1: of nothing {dead}"


def _address(said: _Said) -> tuple[object, ...]:
    """Give what an envelope and the one that it was sent on as have in common."""
    envelope = said.envelope
    return (envelope.topic, envelope.company_id, envelope.body)


def _flags_once(view: View) -> None:
    unended = [flag for flag in view.raised.values() if flag.id not in view.resolved]
    doubled = [k for k, n in Counter((f.company_id, f.record_id, f.kind) for f in unended).items() if n > 1]
    assert not doubled, f"I2: {doubled}"
    of_records = {flag.id for flag in unended if flag.kind in RECORD_KINDS}  # others are of the company
    on_records = {record.flag.id for record in view.records if record.flag}
    assert on_records == of_records, "I2: open flags and flagged records differ"
    assert all(flag_id in view.raised for flag_id in view.resolved), "a resolution without its flag"
    told = Counter((flag.id, flag.type) for flag in view.told)
    expected = {(f.id, f.type) for f in view.raised.values()} | {(f.id, f.type) for f in view.resolved.values()}
    assert set(told) == expected, f"I2: not told {expected - set(told)}, told of nothing {set(told) - expected}"


def _mails_follow_flags(view: View) -> None:
    twice = [message for message, n in Counter(message for message, _ in view.mails).items() if n > 1]
    assert not twice, f"I3: mailed twice {twice}"
    known = set(view.raised) | {flag.id for flag in view.resolved.values()}
    assert all(flag_id in known for _, flag_id in view.mails), "I3: a mail without a flag"


def _state_is_what_the_log_makes_of_it(view: View, said: Sequence[_Said]) -> None:
    folded = set(view.event_places)
    heard = [one for one in said if one.place in folded]
    made = {outline(record) for record in _rebuild(heard, view.policies, view.until)}
    there = {outline(record) for record in view.records}
    assert there == made, f"I5: only live {_short(there - made)}, only rebuilt {_short(made - there)}"


def _short(outlines: set[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Leave out what would not fit on a screen: the two sides, and what comes after the first ten."""
    return [(line[0], str(line[1]), *line[4:]) for line in sorted(outlines, key=str)[:10]]


def outline(record: Record) -> tuple[object, ...]:
    """Give what of a record is a function of the log alone. What a human decided is told by other tests."""
    flagged = record.deadline_at is None and record.finding is not None and record.resolution is None
    return (
        record.company_id,
        record.record_id,
        record.appointment,
        record.chain,
        record.rule,
        record.finding,
        record.status,
        STATUS_OF[record.finding.kind] if flagged and record.finding else None,
        record.flag.kind if record.flag else None,
    )


def _rebuild(said: Sequence[_Said], policies: Mapping[str, Policy], until: datetime) -> list[Record]:
    """Fold a log from nothing, in its own order, then let every deadline fire. The log has Cal.com's answers, too."""
    desk = Desk(Loaded({}, {}, {}), Changes.begin(until, {}))
    for one in said:
        envelope, company_id = one.envelope, one.envelope.company_id or ""
        for event in one.events:
            if not isinstance(event, Ignored):
                desk.fold(company_id, event, policies[company_id], envelope.partition, envelope.received_at)
    while due := [r for r in desk.records() if r.deadline_at is not None and r.deadline_at < until]:
        for record in due:
            # In the time of the log: what waits for Cal.com waits from the end of its window on.
            at = (record.deadline_at or until) + timedelta(microseconds=1)
            reached = DeadlineReached(record_id=record.record_id, at=at, known_until=until)
            desk.fold(record.company_id, reached, policies[record.company_id], 0, at)
    return desk.records()


def places(log: Mapping[Position, Sequence[Envelope]], names: Sequence[str]) -> list[Envelope]:
    """Give the envelopes of some topics of a log."""
    return [envelope for (topic, _), kept in log.items() if topic in names for envelope in kept]


def of_memory(broker: MemoryBroker, store: MemoryStore, policies: Mapping[str, Policy], until: datetime) -> View:
    """Look at what lies in memory."""
    return View(
        envelopes=places(broker.log, topics.INPUTS),
        event_places=[(e.topic, e.partition, e.offset) for e in store.events],
        dead_places=list(store.dead),
        records=[record for record, _ in store.records.values()],
        raised={flag_id: flag for (_, flag_id), flag in store.flags.items()},
        resolved={flag_id: flag for (_, flag_id), flag in store.resolved.items()},
        told=store.outbox,
        policies=policies,
        home_of=broker.home_of,
        until=until,
    )
