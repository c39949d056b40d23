"""The worker: takes what has come, decides, saves; and lets deadlines fire when both sides are read far enough.

`step` is the way of the data. One worker owns the same partition number of all input topics, and does one thing at a
time, so nothing here races with itself; against other workers the epochs stand (`ports.Store`).
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from aiokafka.errors import KafkaError
from msgspec import Struct

from schemas import topics
from schemas.dead_letters import DeadLetter
from schemas.envelope import Envelope
from services.plumbing import telemetry
from services.plumbing.clock import Clock
from services.plumbing.lifecycle import describe
from services.reconciler.brake import Brake
from services.reconciler.core.events import DeadlineReached, Event
from services.reconciler.core.frontier import Contact, Reach, applied, contacted, known_until, proved
from services.reconciler.core.policy import Policy
from services.reconciler.decode import Ignored, Undecodable, decode
from services.reconciler.desk import Desk, keys_of, records_of
from services.reconciler.ports import (
    Changes,
    Claim,
    DeadRow,
    Due,
    Ends,
    EventRow,
    Fenced,
    Key,
    Policies,
    Position,
    Progress,
    Source,
    Store,
    Unstorable,
)

#: A deadline that is held is looked at again after this time.
HELD_RETRY_SECONDS: Final = 0.1
#: Deadlines of one transaction.
DUE_MAX: Final = 500
#: Longer than the broker takes to notice that a member of the group is gone.
RECLAIM_SECONDS: Final = 15.0
#: How often progress is written down for people.
REPORT_SECONDS: Final = 2.0


class Limits(Struct, frozen=True, kw_only=True):
    """The worker's figures; see the settings of the same names."""

    batch_max_records: int = 1000
    probe_interval_seconds: float = 2.0
    stall_after_seconds: float = 5.0
    stall_grace_seconds: float = 30.0
    brake_run: int = 100
    brake_share: float = 0.5
    brake_of: int = 500


class Admitted(Struct, frozen=True):
    """An envelope that was understood, of a company that is known."""

    envelope: Envelope
    event: Event
    policy: Policy
    keys: list[Key]


class Sorted(Struct):
    """A batch, sorted into what can be folded and what cannot."""

    batch: list[Envelope]
    admitted: list[Admitted]
    ignored: list[EventRow]
    dead: list[DeadRow]
    next_offsets: dict[int, dict[str, int]]
    appended_at: dict[Position, datetime]
    tripped: dict[int, str]

    @property
    def count(self) -> int:
        """Say how many envelopes it has."""
        return len(self.batch)


class Worker:
    """Owns partitions, folds what comes on them, fires deadlines."""

    def __init__(
        self,
        source: Source,
        ends: Ends,
        store: Store,
        policies: Policies,
        clock: Clock,
        *,
        owner: str,
        log_id: str,
        home_of: Callable[[str], int],
        limits: Limits,
        contact: Contact,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        """`home_of` gives a company's partition; `told` is called when the outbox has got something.

        `contact` is when the broker last answered, or the start: a start that had to wait for it is a stall, too.
        """
        self._source, self._ends, self._store, self._policies = source, ends, store, policies
        self._clock, self._owner, self._log_id, self._home_of = clock, owner, log_id, home_of
        self._limits, self._told = limits, told
        self._contact = contact
        self._generation = -1
        self._epochs: dict[int, int] = {}
        self._reaches: dict[Position, Reach] = {}
        self._next_due: dict[int, datetime] = {}
        self._brakes: dict[int, Brake] = {}
        self._stopped: dict[int, str] = {}
        self._held: dict[int, int] = {}
        self._reclaim_at: datetime | None = None
        self._ahead: Sorted | None = None  # read and decoded, not folded yet
        self._probed_at = self._reported_at = contact.last_at - timedelta(days=1)

    @property
    def owned(self) -> frozenset[int]:
        """Give the partition numbers that are ours and claimed."""
        return frozenset(self._epochs)

    @property
    def stopped(self) -> Mapping[int, str]:
        """Give the partitions that the brake stopped, with the reasons."""
        return self._stopped

    async def turn(self) -> int:
        """Do one round: take over what is newly ours, fold what has come, fire what is due. Gives the envelopes folded.

        An error of the store goes up; after it call `doubt` before the next turn.
        """
        if self._source.assigned[0] != self._generation or self._may_reclaim():
            try:
                await self._take_over()
            except Fenced:
                self._let_go()
        found = self._ahead or await self._next(self._patience())
        self._ahead = None
        try:
            if found and self._source.assigned[0] == self._generation:
                await self.step(found)
            await self.tick()
        except Fenced:
            self._let_go()
            return 0
        return found.count if found else 0

    def doubt(self) -> None:
        """Forget what we think is stored: the next turn claims anew and reads on from what PostgreSQL has."""
        self._generation, self._ahead = -1, None

    @property
    def contact(self) -> Contact:
        """Say when the broker last answered; a worker that comes after this one begins with it."""
        return self._contact

    def _expects(self, envelope: Envelope) -> bool:
        """Pass over what was read under an earlier assignment, or is already applied."""
        reach = self._reaches.get((envelope.topic, envelope.partition))
        return (
            envelope.partition in self._epochs
            and reach is not None
            and reach.position is not None
            and envelope.offset >= reach.position
        )

    def _let_go(self) -> None:
        """Another worker claimed what we took for ours: do nothing until the broker has said whose it is.

        If we lost it, the broker assigns anew. If the other was a sleeper that woke up, claimed, and learnt only then
        that it had lost its place, nothing is assigned anew: after a while we claim again what is still ours.
        """
        telemetry.log().warning(telemetry.RECONCILER_FENCED, partitions=sorted(self._epochs), owner=self._owner)
        self._epochs, self._reaches, self._next_due, self._held = {}, {}, {}, {}
        self._ahead = None
        self._generation = self._source.assigned[0]
        self._reclaim_at = self._clock.now() + timedelta(seconds=RECLAIM_SECONDS)

    def _may_reclaim(self) -> bool:
        return self._reclaim_at is not None and self._clock.now() >= self._reclaim_at

    # --- envelopes ----------------------------------------------------------------------------------------------

    async def step(self, found: "Sorted") -> None:
        """Take a batch the rest of the way; if the store refuses what is in it, halve it until the culprit is alone."""
        try:
            await self._step(found)
        except Unstorable as error:
            if found.count == 1:
                await self._step(_set_aside(found, error))
                return
            middle = found.count // 2
            for half in (found.batch[:middle], found.batch[middle:]):
                await self.step(self._sort(half))

    async def _step(self, found: "Sorted") -> None:
        """Load, fold, save, in one transaction with the next offsets.

        While PostgreSQL writes, the next batch is read and decoded. It is folded only when this one is stored.
        """
        started_at = self._clock.now()
        keys = {key for admitted in found.admitted for key in admitted.keys}
        named = {ref for a in found.admitted for ref in records_of(_company(a.envelope), a.event)}
        loaded = await self._store.load(keys, named)
        desk = Desk(loaded, self._sheet(found.next_offsets))
        for admitted in found.admitted:
            desk.fold_envelope(admitted.envelope, admitted.event, admitted.policy, admitted.keys)
        changes = desk.changes
        changes.events.extend(found.ignored)
        changes.dead.extend(found.dead)
        changes.at = self._clock.now()
        saving = asyncio.ensure_future(self._store.save(changes))
        try:
            self._ahead = self._ahead or await self._next(0)
        finally:
            await saving
        self._applied(found, changes)
        _note_batch(changes, found, (self._clock.now() - started_at).total_seconds())

    async def _next(self, timeout_seconds: float) -> "Sorted | None":
        """Read and decode what has come; None: nothing that is ours to fold."""
        polled = await self._source.poll(max_records=self._limits.batch_max_records, timeout_seconds=timeout_seconds)
        batch = [envelope for envelope in polled if self._expects(envelope)]
        if not batch:
            return None
        await self._know({envelope.company_id for envelope in batch})
        return self._sort(batch)

    async def _know(self, companies: Iterable[str | None]) -> None:
        """Look a company up anew before calling it unknown: it may have been added a moment ago."""
        if any(company and self._policies.get(company) is None for company in companies):
            await self._policies.refresh()

    def _sort(self, batch: list[Envelope]) -> Sorted:
        """Decode and admit; what cannot be understood is set aside with its reason, and counted by the brake.

        Folded in the order of receipt: the two topics of a partition come in turns, not in order.
        """
        found = Sorted(batch, [], [], [], {}, {}, {})
        for envelope in batch:
            if envelope.partition in self._stopped:
                continue
            dead = self._take(envelope, found)
            found.next_offsets.setdefault(envelope.partition, {})[envelope.topic] = envelope.offset + 1
            found.appended_at[(envelope.topic, envelope.partition)] = envelope.appended_at
            reason = self._brake(envelope.partition).saw(dead=dead)
            if reason is not None:
                found.tripped[envelope.partition] = self._stopped[envelope.partition] = reason
                self._source.halt(envelope.partition)
        found.admitted.sort(key=lambda a: a.envelope.received_at)
        return found

    def _take(self, envelope: Envelope, found: Sorted) -> bool:
        """Put one envelope where it belongs; True: with the dead letters."""
        try:
            decoded = decode(envelope)
            policy = self._admit(envelope)
        except Undecodable as error:
            found.dead.append(_dead(envelope, error))
            return True
        if isinstance(decoded, Ignored):
            found.ignored.append(_ignored(envelope, decoded))
        else:
            keys = keys_of(_company(envelope), decoded)
            found.admitted.append(Admitted(envelope, decoded, policy, keys))
        return False

    def _admit(self, envelope: Envelope) -> Policy:
        company_id = _company(envelope)
        policy = self._policies.get(company_id)
        if policy is None:
            raise Undecodable("unknown_company", f"There is no company {company_id!r}.")
        home = self._home_of(company_id)
        if home != envelope.partition:
            raise Undecodable(
                "wrong_partition",
                f"The key belongs on partition {home}: set the producer's partitioner to murmur2_random.",
            )
        return policy

    def _brake(self, number: int) -> Brake:
        limits = self._limits
        return self._brakes.setdefault(number, Brake(limits.brake_run, limits.brake_share, limits.brake_of))

    def _sheet(self, next_offsets: dict[int, dict[str, int]]) -> Changes:
        changes = Changes.begin(self._clock.now(), {n: self._epochs[n] for n in next_offsets})
        changes.next_offsets = next_offsets
        return changes

    def _applied(self, found: Sorted, changes: Changes) -> None:
        """Remember what is committed: positions, the earliest deadline of each partition, brakes that tripped."""
        for (topic, number), appended_at in found.appended_at.items():
            position = found.next_offsets[number][topic]
            reach = self._reaches.get((topic, number), Reach())
            self._reaches[(topic, number)] = applied(reach, position=position, appended_at=appended_at)
        self._saved(changes)
        for number, reason in found.tripped.items():
            telemetry.log().error(telemetry.RECONCILER_BRAKE, partition=number, reason=reason)
        telemetry.partitions_stopped.set(len(self._stopped))

    def _saved(self, changes: Changes) -> None:
        for record, number, _ in changes.records.values():
            if record.deadline_at is not None:
                self._next_due[number] = min(record.deadline_at, self._next_due.get(number, record.deadline_at))
        if changes.flags or changes.dead:
            self._told()

    # --- ownership ----------------------------------------------------------------------------------------------

    async def _take_over(self) -> None:
        """Claim what is newly ours and read on from the offsets that PostgreSQL has."""
        generation, numbers = self._source.assigned
        self._reclaim_at = self._ahead = None
        self._epochs, self._reaches, self._next_due, self._held = {}, {}, {}, {}
        self._brakes, self._stopped = {}, {}
        if numbers:
            claims = await self._store.claim(numbers, owner=self._owner, at=self._clock.now())
            epochs = {number: claim.epoch for number, claim in claims.items()}
            begin = await self._begin(claims)
            await self._store.adopt(epochs, self._log_id, begin)
            self._next_due = await self._store.next_deadlines(numbers)
            self._epochs = epochs
            self._source.begin({(topic, n): at for n, by in begin.items() for topic, at in by.items()})
            for n, by in begin.items():
                for topic, at in by.items():
                    self._reaches[(topic, n)] = Reach(position=at)
        self._generation = generation
        telemetry.log().info(telemetry.RECONCILER_ASSIGNED, partitions=sorted(numbers), owner=self._owner)

    async def _begin(self, claims: Mapping[int, Claim]) -> dict[int, dict[str, int]]:
        """Say where to read on. Offsets of another log, or outside of this one, mean nothing: begin at its start."""
        starts = await self._ends.starts(topics.INPUTS, claims)
        ends = await self._ends.ends(topics.INPUTS, claims)
        begin: dict[int, dict[str, int]] = {}
        for number, claim in claims.items():
            known = claim.next_offsets if claim.log_id in (None, self._log_id) else {}
            begin[number] = {
                topic: _within(known.get(topic), starts[(topic, number)], ends[(topic, number)])
                for topic in topics.INPUTS
            }
        return begin

    # --- deadlines ----------------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Fire the deadlines that both sides' frontiers have passed; count those that have to wait."""
        now = self._clock.now()
        due = [n for n, at in self._next_due.items() if at < now and n not in self._stopped]
        if self._must_probe(now, due):
            await self._try_probe()
        until = {n: u for n in due if (u := self._known_until(n)) is not None and self._next_due[n] < u}
        if until:
            await self._fire(until)
        if due or self._held:
            await self._count_held(due, now)
        if (now - self._reported_at).total_seconds() >= REPORT_SECONDS and self._epochs:
            await self._report(now)

    def _must_probe(self, now: datetime, due: list[int]) -> bool:
        if not self._epochs:
            return False
        since = (now - self._probed_at).total_seconds()
        waiting = any(
            (self._known_until(n) or datetime.min.replace(tzinfo=now.tzinfo)) <= self._next_due[n] for n in due
        )
        return since >= (HELD_RETRY_SECONDS if waiting else self._limits.probe_interval_seconds)

    async def _try_probe(self) -> None:
        """Probe; while the broker does not answer the frontiers stand still and decisions are held."""
        try:
            await self._probe()
        except (KafkaError, TimeoutError, OSError) as error:
            telemetry.loop_failures.labels("probe").inc()
            telemetry.log().warning(telemetry.PROBE_FAILED, error=describe(error))

    async def _probe(self) -> None:
        """Ask for the log's ends. Only what was asked after a deadline can prove that nothing came before it."""
        asked_at = self._probed_at = self._clock.now()
        ends = await self._ends.ends(topics.SIDES, self._epochs)
        self._contact = contacted(
            self._contact,
            at=asked_at,
            stall_seconds=self._limits.stall_after_seconds,
            grace_seconds=self._limits.stall_grace_seconds,
        )
        # What was read ahead is not applied: then only what was applied counts.
        positions = await self._source.positions(self._epochs) if self._ahead is None else {}
        for place, end in ends.items():
            reach = self._reaches.get(place, Reach())
            if reach.position is not None and positions.get(place, 0) > reach.position:
                reach = Reach(positions[place], reach.applied_until, reach.proved_until)
            self._reaches[place] = proved(reach, end_offset=end, asked_at=asked_at, contact=self._contact)

    def _known_until(self, number: int) -> datetime | None:
        return known_until(self._reaches.get((topic, number), Reach()) for topic in topics.SIDES)

    async def _fire(self, until: Mapping[int, datetime]) -> None:
        """Turn due findings into flags, in one transaction."""
        due = await self._store.due(until, limit=DUE_MAX)
        while due:
            loaded = await self._store.load((), [(d.company_id, d.record_id) for d in due])
            changes = Changes.begin(self._clock.now(), {n: self._epochs[n] for n in {d.partition for d in due}})
            desk = Desk(loaded, changes)
            for entry in due:
                desk.fold(entry.company_id, self._reached(entry, until), Policy(), entry.partition, changes.at)
            await self._store.save(changes)
            self._saved(changes)
            _note_fired(due, changes, self._clock.now())
            due = await self._store.due(until, limit=DUE_MAX) if len(due) == DUE_MAX else []
        self._next_due = {n: at for n, at in self._next_due.items() if n not in until}
        self._next_due |= await self._store.next_deadlines(until)

    def _reached(self, due: Due, until: Mapping[int, datetime]) -> DeadlineReached:
        reaches = {topic: self._reaches.get((topic, due.partition), Reach()) for topic in topics.SIDES}
        return DeadlineReached(
            record_id=due.record_id,
            at=self._clock.now(),
            known_until=until[due.partition],
            frontiers={topic: reach.frontier for topic, reach in reaches.items() if reach.frontier is not None},
            offsets={topic: reach.position for topic, reach in reaches.items() if reach.position is not None},
        )

    async def _count_held(self, due: list[int], now: datetime) -> None:
        held = await self._store.count_due(due, at=now - timedelta(seconds=1)) if due else {}
        for number in self._epochs:
            telemetry.held_decisions.labels(number).set(held.get(number, 0))
        if held != self._held and held:
            telemetry.log().warning(telemetry.RECONCILER_DEADLINES, held=held)
        self._held = held

    async def _report(self, now: datetime) -> None:
        self._reported_at = now
        progress = {}
        for number in self._epochs:
            reaches = {topic: self._reaches.get((topic, number), Reach()).frontier for topic in topics.SIDES}
            frontiers = {topic: at for topic, at in reaches.items() if at is not None}
            for topic, at in frontiers.items():
                telemetry.frontier_age_seconds.labels(topic, number).set((now - at).total_seconds())
            progress[number] = Progress(
                frontiers=frontiers, held=self._held.get(number, 0), stopped_reason=self._stopped.get(number)
            )
        await self._store.report(self._epochs, progress, at=now)
        await self._source.commit(
            {place: reach.position for place, reach in self._reaches.items() if reach.position is not None}
        )

    def _patience(self) -> float:
        """Say how long a poll may wait: until the next deadline, but look up now and then."""
        if not self._next_due:
            return 1.0
        seconds = (min(self._next_due.values()) - self._clock.now()).total_seconds()
        return min(1.0, seconds + 0.002) if seconds > 0 else HELD_RETRY_SECONDS


def _company(envelope: Envelope) -> str:
    return envelope.company_id or ""


def _within(offset: int | None, start: int, end: int) -> int:
    return offset if offset is not None and start <= offset <= end else start


def _dead(envelope: Envelope, error: Undecodable) -> DeadRow:
    letter = DeadLetter(
        company_id=_company(envelope),
        topic=envelope.topic,
        partition=envelope.partition,
        offset=envelope.offset,
        reason=error.reason,
        detail=error.detail,
        received_at=envelope.received_at,
    )
    headers = {
        "ce_id": envelope.ce_id,
        "ce_source": envelope.ce_source,
        "ce_type": envelope.ce_type,
        "content-type": envelope.content_type,
        "traceparent": envelope.traceparent,
    }
    return DeadRow(letter, envelope.body, headers)


def _set_aside(found: Sorted, error: Unstorable) -> Sorted:
    """Make a dead letter of a batch's only envelope, which was understood and cannot be kept."""
    (envelope,) = found.batch
    letter = _dead(envelope, Undecodable("unstorable", str(error)))
    return Sorted(found.batch, [], [], [letter], found.next_offsets, found.appended_at, found.tripped)


def _ignored(envelope: Envelope, decoded: Ignored) -> EventRow:
    return EventRow(
        company_id=_company(envelope),
        received_at=envelope.received_at,
        topic=envelope.topic,
        partition=envelope.partition,
        offset=envelope.offset,
        record_id=None,
        event_id=decoded.event_id,
        kind=decoded.kind,
        occurred_at=decoded.occurred_at,
        disposition="ignored",
    )


def _note_batch(changes: Changes, found: Sorted, seconds: float) -> None:
    telemetry.batches.inc()
    telemetry.batch_seconds.observe(seconds)
    counts: dict[tuple[str, str], int] = {}
    for event in changes.events:
        counts[(event.topic, event.disposition)] = counts.get((event.topic, event.disposition), 0) + 1
    for (topic, disposition), count in counts.items():
        telemetry.envelopes.labels(topic, disposition).inc(count)
    for dead in found.dead:
        telemetry.dead_letters.labels(dead.letter.topic, dead.letter.reason).inc()
    for flag, _ in changes.flags:
        telemetry.flags_raised.labels(flag.type.value).inc()
    telemetry.log().info(
        telemetry.RECONCILER_BATCH,
        envelopes=found.count,
        records=len(changes.records),
        flags=len(changes.flags),
        dead=len(found.dead),
        ignored=len(found.ignored),
        seconds=round(seconds, 4),
    )


def _note_fired(due: list[Due], changes: Changes, now: datetime) -> None:
    for entry in due:
        telemetry.deadline_seconds.observe((now - entry.deadline_at).total_seconds())
    for flag, _ in changes.flags:
        telemetry.flags_raised.labels(flag.type.value).inc()
    telemetry.log().info(telemetry.RECONCILER_DEADLINES, due=len(due), flags=len(changes.flags))
