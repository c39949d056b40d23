"""What must hold after anything that may happen: one function, for memory and for the real thing.

I1 every accepted envelope is in exactly one place; I2 at most one flag is open for a record and kind; I3 no mail
without a committed flag, none twice; I5 the state is what the log makes of it, folded anew. (I4, that no row is seen
across companies, belongs to what shows rows.)
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from schemas import topics
from schemas.envelope import Envelope
from schemas.flags import Flag
from services.reconciler.core.correlate import STATUS_OF
from services.reconciler.core.events import DeadlineReached
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Record
from services.reconciler.decode import Decoded, Ignored, Undecodable, decode
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
    until: datetime  # every deadline before this moment has fired


def check(view: View) -> None:
    """Check all of them; the first that does not hold raises with what is wrong."""
    _conserved(view)
    _flags_once(view)
    _mails_follow_flags(view)
    _state_is_what_the_log_makes_of_it(view)


def _conserved(view: View) -> None:
    places = Counter((e.topic, e.partition, e.offset) for e in view.envelopes)
    kept = Counter([*view.event_places, *view.dead_places])
    assert kept == places, f"I1: lost {places - kept}, twice {kept - places}"


def _flags_once(view: View) -> None:
    unended = [flag for flag in view.raised.values() if flag.id not in view.resolved]
    doubled = [k for k, n in Counter((f.company_id, f.record_id, f.kind) for f in unended).items() if n > 1]
    assert not doubled, f"I2: {doubled}"
    on_records = {record.flag.id for record in view.records if record.flag}
    assert on_records == {flag.id for flag in unended}, "I2: open flags and flagged records differ"
    assert all(flag_id in view.raised for flag_id in view.resolved), "a resolution without its flag"
    told = Counter((flag.id, flag.type) for flag in view.told)
    expected = {(f.id, f.type) for f in view.raised.values()} | {(f.id, f.type) for f in view.resolved.values()}
    assert set(told) == expected, f"I2: not told {expected - set(told)}, told of nothing {set(told) - expected}"


def _mails_follow_flags(view: View) -> None:
    twice = [message for message, n in Counter(message for message, _ in view.mails).items() if n > 1]
    assert not twice, f"I3: mailed twice {twice}"
    known = set(view.raised) | {flag.id for flag in view.resolved.values()}
    assert all(flag_id in known for _, flag_id in view.mails), "I3: a mail without a flag"


def _state_is_what_the_log_makes_of_it(view: View) -> None:
    dead = set(view.dead_places)
    folded = [e for e in view.envelopes if (e.topic, e.partition, e.offset) not in dead]
    made = {outline(record) for record in rebuild(folded, view.policies, view.until)}
    there = {outline(record) for record in view.records}
    assert there == made, f"I5: only live {_short(there - made)}, only rebuilt {_short(made - there)}"


def _short(outlines: set[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Leave out what would not fit on a screen: the two sides."""
    return [(line[0], str(line[1]), *line[4:]) for line in outlines]


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


def rebuild(envelopes: Sequence[Envelope], policies: Mapping[str, Policy], until: datetime) -> list[Record]:
    """Fold a log from nothing, in its own order, then let every deadline fire."""
    desk = Desk(Loaded({}, {}, {}), Changes.begin(until, {}))
    for envelope in envelopes:
        policy = policies.get(envelope.company_id or "")
        told: tuple[Decoded, ...]
        try:
            told = decode(envelope)
        except Undecodable as error:
            told = error.salvaged
        for event in told:
            if policy is not None and not isinstance(event, Ignored):
                desk.fold(envelope.company_id or "", event, policy, envelope.partition, envelope.received_at)
    while due := [r for r in desk.records() if r.deadline_at is not None and r.deadline_at < until]:
        for record in due:
            reached = DeadlineReached(record_id=record.record_id, at=until, known_until=until)
            desk.fold(record.company_id, reached, Policy(), 0, until)
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
        until=until,
    )
