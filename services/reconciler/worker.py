"""The worker: takes what has come, decides, saves; and lets deadlines fire when both sides are read far enough.

`step` is the way of the data. One worker owns the same partition number of all input topics. While PostgreSQL writes
one batch the next is read, decoded, loaded and folded upon what the first came to; it is saved only when the first is
stored, and folded again where the first was not. Against other workers the epochs stand (`ports.Store`).
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from aiokafka.errors import KafkaError
from msgspec import Struct

from schemas import topics
from schemas.envelope import Envelope
from services.plumbing import telemetry
from services.plumbing.lifecycle import describe
from services.reconciler.core.effects import WEBHOOK_LOST
from services.reconciler.core.events import DeadlineReached
from services.reconciler.core.frontier import Contact
from services.reconciler.core.policy import Policy
from services.reconciler.desk import Desk, records_of
from services.reconciler.frontiers import Frontiers
from services.reconciler.intake import Intake, Sorted, company_of, set_aside
from services.reconciler.limits import Limits
from services.reconciler.ports import (
    NOBODY,
    WRONG_PARTITION,
    Astray,
    Changes,
    Claim,
    Due,
    Fenced,
    Incident,
    Loaded,
    Ports,
    Progress,
    Unstorable,
)
from services.reconciler.sweep import Sweep

#: A deadline that is held is looked at again after this time.
HELD_RETRY_SECONDS: Final = 0.1
#: Deadlines of one transaction.
DUE_MAX: Final = 500
#: Longer than the broker takes to notice that a member of the group is gone.
RECLAIM_SECONDS: Final = 15.0
#: How often progress is written down for people.
REPORT_SECONDS: Final = 2.0
#: A save that is under way when we begin anew is waited for, so that it does not speak into what comes after.
SETTLE_SECONDS: Final = 35.0
#: Whose producer was found writing on wrong partitions is taken to do so still, for so long.
ASTRAY_FOR: Final = timedelta(days=7)


class Saving(Struct, frozen=True):
    """A batch that PostgreSQL is writing, and the desk that it was decided on."""

    task: "asyncio.Task[None]"
    found: Sorted
    desk: Desk
    started_at: datetime


class Worker:
    """Owns partitions, folds what comes on them, fires deadlines."""

    def __init__(
        self,
        ports: Ports,
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
        self._source, self._ends, self._store = ports.source, ports.ends, ports.store
        self._policies, self._clock, self._doors = ports.policies, ports.clock, ports.doors
        self._owner, self._log_id, self._limits, self._told = owner, log_id, limits, told
        self._intake = Intake(ports.policies, home_of, limits)
        self._frontiers = Frontiers(ports.ends, limits, contact)
        self._sweep = Sweep(ports.store, ports.policies, home_of)
        self._generation = -1
        self._epochs: dict[int, int] = {}
        self._next_due: dict[int, datetime] = {}
        self._held: dict[int, int] = {}
        self._astray = NOBODY
        self._reclaim_at: datetime | None = None
        self._ahead: Sorted | None = None  # read and decoded, not folded yet
        self._saving: Saving | None = None  # folded, not known to be stored yet
        self._reported_at = contact.last_at - timedelta(days=1)
        self._looked_at = self._clock.now()

    @property
    def owned(self) -> frozenset[int]:
        """Give the partition numbers that are ours and claimed."""
        return frozenset(self._epochs)

    @property
    def stopped(self) -> Mapping[int, str]:
        """Give the partitions that the brake stopped, with the reasons."""
        return self._intake.stopped

    @property
    def contact(self) -> Contact:
        """Say when the broker last answered; a worker that comes after this one begins with it."""
        return self._frontiers.contact

    async def turn(self) -> int:
        """Do one round: take over what is newly ours, fold what has come, fire what is due. Gives the envelopes folded.

        When nothing more is there to be read, all of it is stored on return. An error of the store goes up; after it
        call `doubt` before the next turn.
        """
        try:
            if self._source.assigned[0] != self._generation or self._may_reclaim():
                await self._take_over()
            found = self._ahead or await self._next(self._patience())
            self._ahead = None
            if found and self._source.assigned[0] == self._generation:
                await self.step(found)
            if self._saving:
                self._ahead = await self._next(0)
                if self._ahead is None:
                    await self._settle()
            await self.tick()
            await self._apply_rules()
        except Fenced:
            await self._let_go()
            return 0
        return found.count if found else 0

    def doubt(self) -> None:
        """Forget what we think is stored: the next turn claims anew and reads on from what PostgreSQL has."""
        self._generation, self._ahead = -1, None

    async def rest(self) -> None:
        """Wait for what PostgreSQL is writing; what becomes of it is read from there by whoever comes next."""
        saving, self._saving, self._ahead = self._saving, None, None
        if saving is not None:
            await asyncio.wait({saving.task}, timeout=SETTLE_SECONDS)

    # --- envelopes ----------------------------------------------------------------------------------------------

    async def _next(self, timeout_seconds: float) -> Sorted | None:
        """Read and decode what has come; None: nothing that is ours to fold."""
        polled = await self._source.poll(max_records=self._limits.batch_max_records, timeout_seconds=timeout_seconds)
        batch = [envelope for envelope in polled if self._expects(envelope)]
        if not batch:
            return None
        await self._know({envelope.company_id for envelope in batch})
        found = self._intake.sort(batch)
        for number, reason in found.tripped.items():
            self._source.halt(number)
            telemetry.log().error(telemetry.RECONCILER_BRAKE, partition=number, reason=reason)
        return found

    def _expects(self, envelope: Envelope) -> bool:
        """Pass over what was read under an earlier assignment, or is already applied."""
        position = self._frontiers.of((envelope.topic, envelope.partition)).position
        return envelope.partition in self._epochs and position is not None and envelope.offset >= position

    async def _know(self, companies: Iterable[str | None]) -> None:
        """Look a company up anew before calling it unknown: it may have been added a moment ago."""
        if any(company and self._policies.get(company) is None for company in companies):
            await self._policies.refresh()

    async def step(self, found: Sorted) -> None:
        """Take a batch the rest of the way: load, fold, save, in one transaction with the next offsets."""
        started_at = self._clock.now()
        found = self._intake.renew(found)
        desk = await self._fold(found)
        if not await self._settle():
            desk = await self._fold(found)  # what it was folded upon was not stored as it was
        task = asyncio.ensure_future(self._store.save(desk.changes))
        task.add_done_callback(_heard)
        self._saving = Saving(task, found, desk, started_at)

    async def _fold(self, found: Sorted) -> Desk:
        """Load what a batch touches, and decide. Between load and save nothing awaits but the batch before."""
        keys = {key for admitted in found.admitted for key in admitted.keys}
        named = {ref for a in found.admitted for ref in records_of(company_of(a.envelope), a.event)}
        loaded = await self._store.load(keys, named)
        if self._saving:
            loaded = self._saving.desk.over(loaded, keys, named)
        return self._decide(found, loaded)

    def _decide(self, found: Sorted, loaded: Loaded) -> Desk:
        changes = Changes.begin(self._clock.now(), {number: self._epochs[number] for number in found.next_offsets})
        changes.next_offsets = found.next_offsets
        desk = Desk(loaded, changes)
        for admitted in found.admitted:
            desk.fold_envelope(admitted.envelope, admitted.event, admitted.policy, admitted.keys)
        changes.events.extend(found.ignored)
        changes.dead.extend(found.dead)
        if found.reroutes:
            changes.reroutes.extend(found.reroutes)
            changes.incidents.extend(_strays(found.reroutes))
        return desk

    async def _settle(self) -> bool:
        """Wait until the batch under way is stored; False: it was not stored as it was decided."""
        saving, self._saving = self._saving, None
        if saving is None:
            return True
        try:
            await saving.task
        except Unstorable as error:
            await self._isolate(saving.found, error)
            return False
        self._stored(saving.found, saving.desk.changes)
        seconds = (self._clock.now() - saving.started_at).total_seconds()
        _note_batch(saving.desk.changes, saving.found, seconds)
        return True

    async def _isolate(self, found: Sorted, error: Unstorable) -> None:
        """Halve what the store refuses for its content until the culprit is alone, and set that aside."""
        if found.count == 1:
            await self._at_once(set_aside(found, error))
            return
        middle = found.count // 2
        for half in (found.batch[:middle], found.batch[middle:]):
            part = self._intake.sort(half)
            try:
                await self._at_once(part)
            except Unstorable as culprit:
                await self._isolate(part, culprit)

    async def _at_once(self, found: Sorted) -> None:
        desk = await self._fold(found)
        await self._store.save(desk.changes)
        self._stored(found, desk.changes)

    def _stored(self, found: Sorted, changes: Changes) -> None:
        """Remember what is committed: positions, and the earliest deadline of each partition."""
        for (topic, number), appended_at in found.appended_at.items():
            position = found.next_offsets[number][topic]
            self._frontiers.applied((topic, number), position=position, appended_at=appended_at)
        self._saved(changes)
        telemetry.partitions_stopped.set(len(self.stopped))

    def _saved(self, changes: Changes) -> None:
        for record, number, _ in changes.records.values():
            if record.deadline_at is not None:
                self._next_due[number] = min(record.deadline_at, self._next_due.get(number, record.deadline_at))
        if changes.flags or changes.dead or changes.reroutes:
            self._told()

    # --- ownership ----------------------------------------------------------------------------------------------

    async def _take_over(self) -> None:
        """Claim what is newly ours and read on from the offsets that PostgreSQL has."""
        await self.rest()
        generation, numbers = self._source.assigned
        self._forget()
        if numbers:
            await self._read_on(await self._store.claim(numbers, owner=self._owner, at=self._clock.now()))
        self._generation = generation
        telemetry.log().info(telemetry.RECONCILER_ASSIGNED, partitions=sorted(numbers), owner=self._owner)

    async def _read_on(self, claims: Mapping[int, Claim]) -> None:
        epochs = {number: claim.epoch for number, claim in claims.items()}
        begin = await self._begin(claims)
        await self._store.adopt(epochs, self._log_id, begin)
        self._next_due = await self._store.next_deadlines(claims)
        self._epochs = epochs
        positions = {(topic, number): at for number, by in begin.items() for topic, at in by.items()}
        self._frontiers.begin(positions)
        self._source.begin(positions)

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
            if any(begin[number][topic] != offset for topic, offset in claim.next_offsets.items()):
                telemetry.log().warning(
                    telemetry.RECONCILER_NEW_LOG, partition=number, stored=claim.next_offsets, begin=begin[number]
                )
        return begin

    async def _let_go(self) -> None:
        """Another worker claimed what we took for ours: do nothing until the broker has said whose it is.

        If we lost it, the broker assigns anew. If the other was a sleeper that woke up, claimed, and learnt only then
        that it had lost its place, nothing is assigned anew: after a while we claim again what is still ours.
        """
        telemetry.log().warning(telemetry.RECONCILER_FENCED, partitions=sorted(self._epochs), owner=self._owner)
        self._forget()
        await self.rest()
        self._generation = self._source.assigned[0]
        self._reclaim_at = self._clock.now() + timedelta(seconds=RECLAIM_SECONDS)

    def _forget(self) -> None:
        self._epochs, self._next_due, self._held = {}, {}, {}
        self._reclaim_at = None
        self._frontiers.begin({})
        self._intake.begin()
        self._sweep.forget()

    def _may_reclaim(self) -> bool:
        return self._reclaim_at is not None and self._clock.now() >= self._reclaim_at

    # --- deadlines ----------------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Fire the deadlines that both sides' frontiers have passed; count those that have to wait."""
        now = self._clock.now()
        if now < self._looked_at:
            self._frontiers.unprove(now)
            self._reported_at = now - timedelta(days=1)
        self._looked_at = now
        due = [n for n, at in self._next_due.items() if at < now and n not in self.stopped]
        if due:
            self._frontiers.advance()
        if self._must_probe(now, due):
            await self._probe(now)
        until = {n: u for n in due if (u := self._frontiers.known_until(n)) is not None and self._next_due[n] < u}
        if until:
            await self._settle()
            await self._fire(until)
        if due or self._held:
            await self._count_held(due, now)
        if (now - self._reported_at).total_seconds() >= REPORT_SECONDS and self._epochs:
            await self._report(now)

    def _must_probe(self, now: datetime, due: list[int]) -> bool:
        if not self._epochs:
            return False
        since = (now - self._frontiers.probed_at).total_seconds()
        known = [(self._frontiers.known_until(n), self._next_due[n]) for n in due]
        waiting = any(until is None or until <= deadline_at for until, deadline_at in known)
        return since >= (HELD_RETRY_SECONDS if waiting else self._limits.probe_interval_seconds)

    async def _probe(self, now: datetime) -> None:
        """Ask how far the doors are, then how far the logs go; without an answer the frontiers stand still."""
        self._astray = await self._read_elsewhere(now)
        self._frontiers.hear(await self._doors.horizon(now), now)
        try:
            ends = await self._frontiers.ask(self._epochs, now)
            # What was read and is not stored is not applied: then only what was applied counts.
            all_stored = self._ahead is None and self._saving is None
            positions = await self._source.positions(self._epochs) if all_stored else {}
        except (KafkaError, TimeoutError, OSError) as error:
            telemetry.loop_failures.labels("probe").inc()
            telemetry.log().warning(telemetry.PROBE_FAILED, error=describe(error))
            return
        if self._source.assigned[0] == self._generation:  # else what was read is dropped, and proves nothing
            self._frontiers.prove(ends, positions)

    async def _fire(self, until: Mapping[int, datetime]) -> None:
        """Turn due findings into flags, in one transaction."""
        due = await self._store.due(until, limit=DUE_MAX, astray=self._astray)
        while due:
            loaded = await self._store.load((), [(d.company_id, d.record_id) for d in due])
            changes = Changes.begin(self._clock.now(), {n: self._epochs[n] for n in {d.partition for d in due}})
            desk = Desk(loaded, changes)
            for entry in due:
                policy = self._policies.get(entry.company_id) or Policy()  # a company that was removed has none
                desk.fold(entry.company_id, self._reached(entry, until), policy, entry.partition, changes.at)
            await self._store.save(changes)
            self._saved(changes)
            _note_fired(due, changes, self._clock.now())
            more = len(due) == DUE_MAX
            due = await self._store.due(until, limit=DUE_MAX, astray=self._astray) if more else []
        self._next_due = {n: at for n, at in self._next_due.items() if n not in until}
        self._next_due |= await self._store.next_deadlines(until)

    async def _read_elsewhere(self, now: datetime) -> Astray:
        """Say whose envelopes may lie unread on partitions that are not theirs, and how far all partitions are read.

        What was read there by then is in the outbox or at home by then: to be asked before the doors are.
        """
        astray = await self._store.astray(self._epochs, since=now - ASTRAY_FOR)
        if not astray.companies:
            return astray
        moments = [astray.read_until, *(self._frontiers.known_until(number) for number in self._epochs)]
        known = [moment for moment in moments if moment is not None]
        return Astray(astray.companies, min(known) if len(known) == len(moments) else None)

    def _reached(self, due: Due, until: Mapping[int, datetime]) -> DeadlineReached:
        reaches = {topic: self._frontiers.of((topic, due.partition)) for topic in topics.SIDES}
        return DeadlineReached(
            record_id=due.record_id,
            at=self._clock.now(),
            known_until=until[due.partition],
            frontiers={topic: reach.frontier for topic, reach in reaches.items() if reach.frontier is not None},
            offsets={topic: reach.position for topic, reach in reaches.items() if reach.position is not None},
            silent_doors=self._frontiers.silent,
        )

    # --- rules --------------------------------------------------------------------------------------------------

    async def _apply_rules(self) -> None:
        """Decide some records anew whose company's rules have changed; live work goes on in between."""
        if not self._epochs or not self._sweep.must_work():
            return
        await self._settle()
        changes = await self._sweep.work(self._epochs, self._clock.now())
        if changes is not None:
            await self._store.save(changes)
            self._saved(changes)
            _note_rules(changes)

    # --- what is seen -------------------------------------------------------------------------------------------

    async def _count_held(self, due: list[int], now: datetime) -> None:
        held = await self._store.count_due(due, at=now - timedelta(seconds=1)) if due else {}
        for number in self._epochs:
            telemetry.held_decisions.labels(number).set(held.get(number, 0))
        if held != self._held and held:
            telemetry.log().warning(telemetry.RECONCILER_DEADLINES, held=held)
        self._held = held

    async def _report(self, now: datetime) -> None:
        """Write down how far we are, for people; and tell the broker, for lag tools."""
        self._reported_at = now
        progress = {number: self._progress(number, now) for number in self._epochs}
        await self._store.report(self._epochs, progress, at=now)
        await self._source.commit(self._frontiers.positions())

    def _progress(self, number: int, now: datetime) -> Progress:
        known = {topic: self._frontiers.of((topic, number)).frontier for topic in topics.SIDES}
        frontiers = {topic: at for topic, at in known.items() if at is not None}
        for topic, at in frontiers.items():
            telemetry.frontier_age_seconds.labels(topic, number).set((now - at).total_seconds())
        return Progress(frontiers=frontiers, held=self._held.get(number, 0), stopped_reason=self.stopped.get(number))

    def _patience(self) -> float:
        """Say how long a poll may wait: until the next deadline, but look up now and then."""
        if self._saving or (self._epochs and self._sweep.must_work()):
            return 0
        if not self._next_due:
            return 1.0
        seconds = (min(self._next_due.values()) - self._clock.now()).total_seconds()
        return min(1.0, seconds + 0.002) if seconds > 0 else HELD_RETRY_SECONDS


def _heard(task: "asyncio.Task[None]") -> None:
    """Take note of how a save ended that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


def _within(offset: int | None, start: int, end: int) -> int:
    return offset if offset is not None and start <= offset <= end else start


def _strays(reroutes: Iterable[Envelope]) -> list[Incident]:
    """Make one incident a company of what was found astray."""
    topics_of: dict[str, list[str]] = {}
    for envelope in reroutes:
        topics_of.setdefault(company_of(envelope), []).append(envelope.topic)
    return [
        Incident(
            company_id,
            WRONG_PARTITION,
            f"Records of {', '.join(sorted(set(names)))} lie on a partition that is not their key's:"
            " set the producer to partitioner=murmur2_random.",
            len(names),
        )
        for company_id, names in topics_of.items()
    ]


def _note_batch(changes: Changes, found: Sorted, seconds: float) -> None:
    telemetry.batches.inc()
    telemetry.batch_seconds.observe(seconds)
    counts: dict[tuple[str, str], int] = {}
    for event in changes.events:
        counts[(event.topic, event.disposition)] = counts.get((event.topic, event.disposition), 0) + 1
        if event.note is not None:
            telemetry.event_notes.labels(event.note).inc()
    for (topic, disposition), count in counts.items():
        telemetry.envelopes.labels(topic, disposition).inc(count)
    _note_checks(changes)
    for dead in found.dead:
        telemetry.dead_letters.labels(dead.letter.topic, dead.letter.reason).inc()
    for flag, _ in changes.flags:
        telemetry.flags_raised.labels(flag.type.value).inc()
    if changes.reroutes:
        _note_reroutes(changes)
    telemetry.log().info(
        telemetry.RECONCILER_BATCH,
        envelopes=found.count,
        events=len(changes.events),
        records=len(changes.records),
        flags=len(changes.flags),
        dead=len(found.dead),
        ignored=len(found.ignored),
        seconds=round(seconds, 4),
    )


def _note_checks(changes: Changes) -> None:
    """Count what Cal.com's API mended, and what it is asked."""
    lost = sum(transition.note == WEBHOOK_LOST for _, transition in changes.transitions)
    if lost:
        telemetry.webhooks_lost.inc(lost)
    for question in changes.questions.values():
        if question is not None:
            telemetry.questions_asked.labels(question.priority.value).inc()


def _note_reroutes(changes: Changes) -> None:
    for envelope in changes.reroutes:
        telemetry.rerouted.labels(envelope.topic).inc()
    telemetry.log().warning(
        telemetry.RECONCILER_REROUTED,
        envelopes=len(changes.reroutes),
        companies=sorted(incident.company_id for incident in changes.incidents)[:10],
        mend="the producer's partitioner must be murmur2_random",
    )


def _note_rules(changes: Changes) -> None:
    for flag, _ in changes.flags:
        telemetry.flags_raised.labels(flag.type.value).inc()
    if changes.transitions:
        companies = sorted({company_id for company_id, _ in changes.transitions})
        telemetry.log().info(telemetry.RECONCILER_RULES, companies=companies, records=len(changes.records))


def _note_fired(due: list[Due], changes: Changes, now: datetime) -> None:
    _note_checks(changes)
    for entry in due:
        telemetry.deadline_seconds.observe((now - entry.deadline_at).total_seconds())
    for flag, _ in changes.flags:
        telemetry.flags_raised.labels(flag.type.value).inc()
    telemetry.log().info(telemetry.RECONCILER_DEADLINES, due=len(due), flags=len(changes.flags))
