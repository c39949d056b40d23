"""The worker's ports in memory. They pass the same contract suite as Kafka and PostgreSQL do."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from uuid import UUID

from msgspec.structs import replace

from schemas import topics
from schemas.envelope import Delivery, Envelope
from schemas.flags import Flag, FlagType, SyncStatus
from schemas.verification import Question
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Record
from services.reconciler.doors import Door, horizon_of
from services.reconciler.ports import (
    NOBODY,
    WRONG_PARTITION,
    Applied,
    Astray,
    Changes,
    Claim,
    ClusterRef,
    DeadRow,
    Due,
    EventRow,
    Fenced,
    Horizon,
    Incident,
    Key,
    Loaded,
    Page,
    Position,
    Progress,
    RecordRef,
    Unstorable,
)
from services.reconciler.rows import sent_on

Hazard = Callable[[str], Awaitable[None]]


async def calm(_: str) -> None:
    """Nothing happens."""


class MemoryBroker:
    """Topics as lists. The broker stamps: append times never go back."""

    def __init__(self, partitions: int, home_of: Callable[[str], int]) -> None:
        """Every topic is there, empty."""
        self.partitions = partitions
        self.home_of = home_of
        self.log: dict[Position, list[Envelope]] = {(t, n): [] for t in topics.ALL for n in range(partitions)}

    def append(self, delivery: Delivery, *, at: datetime) -> Envelope:
        """Store a message; it is read back as Kafka would give it."""
        place = (delivery.topic, self.home_of(delivery.company_id))
        kept = self.log[place]
        appended_at = max(at, kept[-1].appended_at) if kept else at
        envelope = Envelope(
            topic=place[0],
            partition=place[1],
            offset=len(kept),
            company_id=delivery.company_id,
            body=delivery.body,
            appended_at=appended_at,
            received_at=min(delivery.received_at, appended_at),
            ce_id=delivery.ce_id,
            ce_source=delivery.ce_source,
            ce_type=delivery.ce_type,
            content_type=delivery.content_type,
            traceparent=delivery.traceparent,
            webhook_version=delivery.webhook_version,
        )
        kept.append(envelope)
        return envelope


class MemorySource:
    """Reads a MemoryBroker from positions that the worker keeps."""

    def __init__(self, broker: MemoryBroker, numbers: Iterable[int], hazard: Hazard = calm) -> None:
        """`numbers` are assigned at once."""
        self._broker, self._hazard = broker, hazard
        self._assigned = (1, frozenset(numbers))
        self._at: dict[Position, int] = {}
        self._halted: set[int] = set()
        self.behind: set[Position] = set()  # places that give nothing for now: a lagging topic

    @property
    def assigned(self) -> tuple[int, frozenset[int]]:
        """See `ports.Source`."""
        return self._assigned

    def assign(self, numbers: Iterable[int]) -> None:
        """Rebalance."""
        self._assigned = (self._assigned[0] + 1, frozenset(numbers))
        self._at = {}

    def begin(self, positions: Mapping[Position, int]) -> None:
        """See `ports.Source`."""
        self._at |= positions
        self._halted -= {number for _, number in positions}

    def halt(self, number: int) -> None:
        """See `ports.Source`."""
        self._halted.add(number)

    async def poll(self, *, max_records: int, timeout_seconds: float) -> list[Envelope]:
        """See `ports.Source`; never waits."""
        await self._hazard("poll")
        found: list[Envelope] = []
        for place, at in self._at.items():
            if place in self.behind or place[1] in self._halted:
                continue
            new = self._broker.log[place][at : at + max_records - len(found)]
            found.extend(new)
            self._at[place] = at + len(new)
        return found

    async def positions(self, numbers: Iterable[int]) -> dict[Position, int]:
        """See `ports.Source`."""
        await self._hazard("positions")
        wanted = set(numbers)
        return {place: at for place, at in self._at.items() if place[1] in wanted}

    async def commit(self, positions: Mapping[Position, int]) -> None:
        """See `ports.Source`."""
        await self._hazard("commit")


class MemoryEnds:
    """Says how far a MemoryBroker's log goes."""

    def __init__(self, broker: MemoryBroker, hazard: Hazard = calm) -> None:
        """`hazard` may raise for a broker that is away."""
        self._broker, self._hazard = broker, hazard

    async def ends(self, names: Iterable[str], numbers: Iterable[int]) -> dict[Position, int]:
        """See `ports.Ends`."""
        await self._hazard("ends")
        wanted = list(numbers)
        return {(name, n): len(self._broker.log[(name, n)]) for name in names for n in wanted}

    async def starts(self, names: Iterable[str], numbers: Iterable[int]) -> dict[Position, int]:
        """See `ports.Ends`."""
        await self._hazard("starts")
        wanted = list(numbers)
        return {(name, n): 0 for name in names for n in wanted}


class MemoryPolicies:
    """Companies and their rules, which a test may change."""

    def __init__(self, policies: Mapping[str, Policy]) -> None:
        """Give their rules."""
        self._policies = dict(policies)
        self._seen = dict(policies)
        self._generation = 0

    def __setitem__(self, company_id: str, policy: Policy) -> None:
        """Change a company's rules."""
        self._policies[company_id] = policy

    @property
    def generation(self) -> int:
        """See `ports.Policies`."""
        if self._policies != self._seen:
            self._seen = dict(self._policies)
            self._generation += 1
        return self._generation

    def companies(self) -> Collection[str]:
        """See `ports.Policies`."""
        return self._policies.keys()

    def get(self, company_id: str) -> Policy | None:
        """See `ports.Policies`."""
        return self._policies.get(company_id)

    async def refresh(self) -> None:
        """See `ports.Policies`; there is nothing to look up."""


class MemoryDoors:
    """Doors that report by hand; those in `living` answer by themselves when they are asked."""

    def __init__(self, store: "MemoryStore", *, silence_seconds: float = 600.0, hazard: Hazard = calm) -> None:
        """What is to be sent on lies in the store."""
        self._store, self._silence_seconds, self._hazard = store, silence_seconds, hazard
        self.doors: dict[str, Door] = {}
        self.living: dict[str, Callable[[], datetime | None]] = {}  # each says since when something waits there

    def report(self, door_id: str, *, at: datetime, oldest_unsent_at: datetime | None = None) -> None:
        """Let a door say how far it is."""
        self.doors[door_id] = Door(door_id, at, oldest_unsent_at)

    def close(self, door_id: str) -> None:
        """Let a door say goodbye; it holds nothing."""
        self.doors.pop(door_id, None)

    async def horizon(self, now: datetime) -> Horizon:
        """See `ports.Doors`."""
        await self._hazard("horizon")
        for door_id, oldest_unsent_at in self.living.items():
            self.report(door_id, at=now, oldest_unsent_at=oldest_unsent_at())
        rerouted = min((envelope.received_at for envelope in self._store.reroutes), default=None)
        return horizon_of(self.doors.values(), rerouted, now, self._silence_seconds)


class MemoryStore:
    """Keeps what was decided in dictionaries; a save happens whole or not at all."""

    def __init__(self, hazard: Hazard = calm) -> None:
        """Empty."""
        self.hazard = hazard
        self.records: dict[RecordRef, tuple[Record, int]] = {}
        self.keys: dict[Key, UUID] = {}
        self.aliases: dict[RecordRef, UUID] = {}
        self.events: list[EventRow] = []
        self.transitions: list[tuple[str, object]] = []
        self.flags: dict[tuple[str, UUID], Flag] = {}
        self.resolved: dict[tuple[str, UUID], Flag] = {}
        self.outbox: list[Flag] = []
        self.outcomes: dict[tuple[str, str], object] = {}
        self.dead: dict[tuple[str, int, int], DeadRow] = {}
        self.claims: dict[int, Claim] = {}
        self.reroutes: list[Envelope] = []
        self.incidents: dict[tuple[str, str], Incident] = {}
        self.rules: dict[str, Applied] = {}
        self.progress: dict[int, Progress] = {}
        self.questions: dict[RecordRef, Question] = {}

    def send_on(self, broker: MemoryBroker, *, at: datetime) -> None:
        """Send what was found on the wrong partition to its own, as the relay does."""
        envelopes, self.reroutes = self.reroutes, []
        for envelope in envelopes:
            broker.append(sent_on(envelope), at=at)

    async def claim(self, numbers: Collection[int], *, owner: str, at: datetime) -> dict[int, Claim]:
        """See `ports.Store`."""
        await self.hazard("claim")
        for number in numbers:
            old = self.claims.get(number) or Claim(epoch=0, log_id=None, next_offsets={})
            self.claims[number] = Claim(epoch=old.epoch + 1, log_id=old.log_id, next_offsets=old.next_offsets)
        return {number: self.claims[number] for number in numbers}

    async def adopt(self, epochs: Mapping[int, int], log_id: str, next_offsets: Mapping[int, dict[str, int]]) -> None:
        """See `ports.Store`."""
        await self.hazard("adopt")
        self._fence(epochs)
        for number, epoch in epochs.items():
            self.claims[number] = Claim(epoch=epoch, log_id=log_id, next_offsets=dict(next_offsets[number]))

    async def load(self, keys: Collection[Key], records: Collection[RecordRef] = ()) -> Loaded:
        """See `ports.Store`."""
        await self.hazard("load")
        by_key = {key: self.keys[key] for key in keys if key in self.keys}
        wanted: set[ClusterRef] = {(key[0], cluster) for key, cluster in by_key.items()}
        wanted |= {(ref[0], self.records[ref][0].cluster_id) for ref in records if ref in self.records}
        laid: dict[ClusterRef, list[Record]] = {}
        of_record: dict[RecordRef, UUID] = {}
        for (company_id, record_id), (record, _) in self.records.items():
            if (company_id, record.cluster_id) in wanted:
                laid.setdefault((company_id, record.cluster_id), []).append(record)
                of_record[(company_id, record_id)] = record.cluster_id
        return Loaded(by_key, {ref: tuple(found) for ref, found in laid.items()}, of_record)

    async def save(self, changes: Changes) -> None:
        """See `ports.Store`."""
        await self.hazard("save")
        self._fence(changes.epochs)
        self._flags_fit(changes.flags)
        for number, offsets in changes.next_offsets.items():
            claim = self.claims[number]
            merged = claim.next_offsets | offsets
            self.claims[number] = Claim(epoch=claim.epoch, log_id=claim.log_id, next_offsets=merged)
        self._save_records(changes)
        self.events.extend(changes.events)
        self.transitions.extend(changes.transitions)
        for flag, _ in changes.flags:
            self._save_flag(flag)
        for company_id, outcome in changes.outcomes:
            self.outcomes.setdefault((company_id, outcome.command_id), outcome)
        for row in changes.dead:
            self.dead[(row.letter.topic, row.letter.partition, row.letter.offset)] = row
        self.reroutes.extend(changes.reroutes)
        for found in changes.incidents:
            before = self.incidents.get((found.company_id, found.kind))
            seen = found.seen + (before.seen if before else 0)
            self.incidents[(found.company_id, found.kind)] = replace(found, seen=seen)
        self.rules |= {applied.company_id: applied for applied in changes.applied}
        for ref, question in changes.questions.items():
            self.questions.pop(ref, None)
            if question is not None:
                self.questions[ref] = question
        await self.hazard("saved")

    def _save_records(self, changes: Changes) -> None:
        for company_id, gone, _ in changes.gone:
            ref = (company_id, gone.record_id)
            if ref not in changes.records and self.records.pop(ref, None) is not None:
                self.aliases[ref] = gone.merged_into
        for company_id, old, new in changes.merged:
            for key, cluster in self.keys.items():
                if key[0] == company_id and cluster == old:
                    self.keys[key] = new
        for ref, (record, number, _) in changes.records.items():
            self.records[ref] = (record, number)
            self.aliases.pop(ref, None)
        self.keys |= changes.keys

    def _flags_fit(self, flags: Iterable[tuple[Flag, int]]) -> None:
        """Refuse, before anything is written, a flag that was raised before and a second open one of its kind."""
        known, ended = set(self.flags), {flag.resolves for flag in self.resolved.values()}
        kinds = {(f.company_id, f.record_id, f.kind): f.id for f in self.flags.values() if f.id not in ended}
        for flag, _ in flags:
            place = (flag.company_id, flag.record_id, flag.kind)
            if flag.type is FlagType.RESOLVED:
                kinds = {kind: open_id for kind, open_id in kinds.items() if open_id != flag.resolves}
                continue
            if (flag.company_id, flag.id) in known or place in kinds:
                raise Unstorable(f"flag {flag.id} was raised before, or one of its kind is open")
            known.add((flag.company_id, flag.id))
            kinds[place] = flag.id

    def _save_flag(self, flag: Flag) -> None:
        self.outbox.append(flag)
        if flag.type is FlagType.RESOLVED:
            assert flag.resolves is not None
            self.resolved[(flag.company_id, flag.resolves)] = flag
            return
        self.flags[(flag.company_id, flag.id)] = flag

    async def astray(self, numbers: Collection[int], *, since: datetime) -> Astray:
        """See `ports.Store`; an incident is never too old."""
        await self.hazard("astray")
        companies = frozenset(company_id for company_id, kind in self.incidents if kind == WRONG_PARTITION)
        others = [self.progress.get(number) for number in self.claims if number not in numbers]
        moments = [reported.frontiers.get(topic) if reported else None for reported in others for topic in topics.SIDES]
        known = [moment for moment in moments if moment is not None]
        until = min(known, default=datetime.max.replace(tzinfo=UTC)) if len(known) == len(moments) else None
        return Astray(companies, until) if companies else NOBODY

    async def due(self, until: Mapping[int, datetime], *, limit: int, astray: Astray = NOBODY) -> list[Due]:
        """See `ports.Store`."""
        await self.hazard("due")
        found = [
            Due(company_id, record_id, number, record.deadline_at)
            for (company_id, record_id), (record, number) in self.records.items()
            if number in until and record.deadline_at is not None and record.deadline_at < until[number]
            if company_id not in astray.companies or (astray.read_until and record.deadline_at < astray.read_until)
        ]
        return sorted(found, key=lambda due: due.deadline_at)[:limit]

    async def next_deadlines(self, numbers: Collection[int]) -> dict[int, datetime]:
        """See `ports.Store`."""
        await self.hazard("next_deadlines")
        found: dict[int, datetime] = {}
        for record, number in self.records.values():
            if number in numbers and record.deadline_at is not None:
                found[number] = min(record.deadline_at, found.get(number, record.deadline_at))
        return found

    async def count_due(self, numbers: Collection[int], *, at: datetime) -> dict[int, int]:
        """See `ports.Store`."""
        await self.hazard("count_due")
        found: dict[int, int] = {}
        for record, number in self.records.values():
            if number in numbers and record.deadline_at is not None and record.deadline_at <= at:
                found[number] = found.get(number, 0) + 1
        return found

    async def applied(self, companies: Collection[str]) -> dict[str, Applied]:
        """See `ports.Store`."""
        await self.hazard("applied")
        return {company_id: self.rules[company_id] for company_id in companies if company_id in self.rules}

    async def having_records(self, companies: Collection[str]) -> set[str]:
        """See `ports.Store`."""
        await self.hazard("having_records")
        return {company_id for company_id, _ in self.records} & set(companies)

    async def page(self, company_id: str, *, after: UUID, limit: int, open_only: bool) -> Page:
        """See `ports.Store`."""
        await self.hazard("page")
        mine = (record for (company, _), (record, _) in self.records.items() if company == company_id)
        behind = sorted(r.record_id for r in mine if r.record_id > after and (not open_only or _is_open(r)))
        return Page(behind[:limit], behind[limit - 1] if len(behind) >= limit else None)

    async def report(self, epochs: Mapping[int, int], progress: Mapping[int, Progress], *, at: datetime) -> None:
        """See `ports.Store`."""
        await self.hazard("report")
        for number, reported in progress.items():
            if number in self.claims and self.claims[number].epoch == epochs[number]:
                self.progress[number] = reported

    def _fence(self, epochs: Mapping[int, int]) -> None:
        for number, epoch in epochs.items():
            if number not in self.claims or self.claims[number].epoch != epoch:
                raise Fenced


def _is_open(record: Record) -> bool:
    return record.deadline_at is not None or (record.finding is not None and record.status is not SyncStatus.PENDING)
