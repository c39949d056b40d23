"""What the worker needs from the outside: small enough that memory and the real thing pass the same tests."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from msgspec import Struct

from schemas.commands import CommandOutcome
from schemas.dead_letters import DeadLetter
from schemas.envelope import Envelope
from schemas.flags import Flag
from schemas.verification import Question
from services.plumbing.clock import Clock
from services.reconciler.core.decision import Gone, Transition
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Record

#: The incident that a company's producer raises whose partitioner is not the one that Kafka's own clients have.
WRONG_PARTITION: Final = "wrong_partition"

Position = tuple[str, int]  # topic, partition number
Key = tuple[str, str]  # company, identity key
ClusterRef = tuple[str, UUID]  # company, cluster
RecordRef = tuple[str, UUID]  # company, record


class Fenced(Exception):  # noqa: N818 - the field's own word
    """Another worker owns one of these partitions now: nothing was written."""


class Unstorable(Exception):  # noqa: N818 - it is about an envelope, not about the store
    """The store refuses something for what it is, and always will: nothing was written. One line says what."""


class Claim(Struct, frozen=True, kw_only=True):
    """A partition number is ours under this epoch; next offset by topic, as far as known."""

    epoch: int
    log_id: str | None
    next_offsets: dict[str, int]


class Due(Struct, frozen=True):
    """A record whose window is over."""

    company_id: str
    record_id: UUID
    partition: int
    deadline_at: datetime


class EventRow(Struct, frozen=True, kw_only=True):
    """One event of an envelope that was understood, for the append-only table."""

    company_id: str
    received_at: datetime
    topic: str
    partition: int
    offset: int
    record_id: UUID | None
    event_id: str
    kind: str
    occurred_at: datetime | None
    disposition: str  # "applied", "repeat", "ignored", "refused"
    note: str | None = None  # "clock_ahead", "clock_behind", "late"


class DeadRow(Struct, frozen=True):
    """A dead letter with its bytes."""

    letter: DeadLetter
    body: bytes
    headers: dict[str, str | None]


class Incident(Struct, frozen=True):
    """What an admin of a company has to mend outside of Reconcal; `seen` times in this batch."""

    company_id: str
    kind: str
    detail: str
    seen: int


class Applied(Struct, frozen=True):
    """The rules that a company's records were last decided by; None: they cannot be read any more.

    `after_record_id` is how far a change of them has come; None: through all records.
    """

    company_id: str
    policy: Policy | None
    after_record_id: UUID | None


class Page(Struct, frozen=True):
    """Some of a company's records, by id; `last` is where the next page begins behind, None: there is none."""

    record_ids: list[UUID]
    last: UUID | None


class Astray(Struct, frozen=True):
    """Companies whose producer writes on partitions that are not theirs: what it wrote may lie unread on any of them.

    `read_until`: before this moment everything on the other partitions was read; None: of one it is not known.
    """

    companies: frozenset[str] = frozenset()
    read_until: datetime | None = None


class Loaded(Struct, frozen=True):
    """What the store knows of some keys or records: clusters by key, records by cluster, clusters by record."""

    clusters: dict[Key, UUID]
    records: dict[ClusterRef, tuple[Record, ...]]
    of_record: dict[RecordRef, UUID]


class Changes(Struct, kw_only=True):
    """All that one transaction writes. Nothing of it without the epochs being ours."""

    at: datetime
    epochs: dict[int, int]
    next_offsets: dict[int, dict[str, int]]
    records: dict[RecordRef, tuple[Record, int, datetime]]  # with partition number and moment of change
    gone: list[tuple[str, Gone, datetime]]
    keys: dict[Key, UUID]
    merged: list[tuple[str, UUID, UUID]]  # company, cluster, the cluster that it became part of
    events: list[EventRow]
    transitions: list[tuple[str, Transition]]
    flags: list[tuple[Flag, int]]  # with partition number
    outcomes: list[tuple[str, CommandOutcome]]
    dead: list[DeadRow]
    reroutes: list[Envelope]  # found on a partition that is not their company's
    incidents: list[Incident]  # one a company and kind
    applied: list[Applied]
    questions: dict[RecordRef, Question | None]  # what Cal.com is to be asked; None: nothing any more

    @classmethod
    def begin(cls, at: datetime, epochs: dict[int, int]) -> "Changes":
        """Give an empty sheet."""
        return cls(
            at=at,
            epochs=epochs,
            next_offsets={},
            records={},
            gone=[],
            keys={},
            merged=[],
            events=[],
            transitions=[],
            flags=[],
            outcomes=[],
            dead=[],
            reroutes=[],
            incidents=[],
            applied=[],
            questions={},
        )


NOBODY: Final = Astray()


class Store(Protocol):
    """Keeps what was decided. Every write carries the epochs under which it is allowed."""

    async def claim(self, numbers: Collection[int], *, owner: str, at: datetime) -> dict[int, Claim]:
        """Make partitions ours: their epochs rise, and whoever held them can write no more."""
        ...

    async def adopt(self, epochs: Mapping[int, int], log_id: str, next_offsets: Mapping[int, dict[str, int]]) -> None:
        """Note which log the offsets belong to and where reading begins. Raises Fenced."""
        ...

    async def load(self, keys: Collection[Key], records: Collection[RecordRef] = ()) -> Loaded:
        """Give the clusters that these keys and records belong to, whole."""
        ...

    async def save(self, changes: Changes) -> None:
        """Write all of it, or nothing. Raises Fenced, or Unstorable for what no retry mends."""
        ...

    async def astray(self, numbers: Collection[int], *, since: datetime) -> Astray:
        """Say whose envelopes were found on wrong partitions since a moment, and how far all but `numbers` are read."""
        ...

    async def due(self, until: Mapping[int, datetime], *, limit: int, astray: Astray = NOBODY) -> list[Due]:
        """Give records whose deadline lies before the moment given for their partition, oldest first.

        Of companies that are astray only those whose deadline lies before `astray.read_until`, too.
        """
        ...

    async def next_deadlines(self, numbers: Collection[int]) -> dict[int, datetime]:
        """Give the earliest deadline of each partition that has one."""
        ...

    async def count_due(self, numbers: Collection[int], *, at: datetime) -> dict[int, int]:
        """Count the records of each partition whose deadline has passed at that moment."""
        ...

    async def applied(self, companies: Collection[str]) -> dict[str, Applied]:
        """Say by which rules these companies' records were decided, as far as known."""
        ...

    async def having_records(self, companies: Collection[str]) -> set[str]:
        """Say which of these companies have any record."""
        ...

    async def page(self, company_id: str, *, after: UUID, limit: int, open_only: bool) -> Page:
        """Give the ids of some records behind `after`. `open_only`: of those of which something is wrong."""
        ...

    async def report(self, epochs: Mapping[int, int], progress: Mapping[int, "Progress"], *, at: datetime) -> None:
        """Note how far a partition is, for people to see. Written only while the epoch is ours."""
        ...


class Progress(Struct, frozen=True, kw_only=True):
    """How far a partition is: for status, console and metrics."""

    frontiers: dict[str, datetime]
    held: int
    stopped_reason: str | None = None


class Source(Protocol):
    """Gives envelopes from positions that the worker keeps."""

    @property
    def assigned(self) -> tuple[int, frozenset[int]]:
        """Give the number of the assignment and the partition numbers that are ours in it."""
        ...

    def begin(self, positions: Mapping[Position, int]) -> None:
        """Read from these offsets on."""
        ...

    def halt(self, number: int) -> None:
        """Read no more of one partition number."""
        ...

    async def poll(self, *, max_records: int, timeout_seconds: float) -> list[Envelope]:
        """Give what has come."""
        ...

    async def positions(self, numbers: Iterable[int]) -> dict[Position, int]:
        """Give the next offset to be read, past what holds no records (gaps, markers of transactions)."""
        ...

    async def commit(self, positions: Mapping[Position, int]) -> None:
        """Tell the broker how far we are, for lag tools."""
        ...


class Ends(Protocol):
    """Says how far the log goes."""

    async def ends(self, names: Iterable[str], numbers: Iterable[int]) -> dict[Position, int]:
        """Give end offsets."""
        ...

    async def starts(self, names: Iterable[str], numbers: Iterable[int]) -> dict[Position, int]:
        """Give the offsets of the oldest records."""
        ...


class Horizon(Struct, frozen=True):
    """What the doors say: everything that was received before `until` is in Kafka; None: everything is.

    `silent` names the doors that were not heard of for so long that nobody waits for them any more.
    """

    until: datetime | None
    silent: tuple[str, ...] = ()


class Doors(Protocol):
    """Knows what was received and is not in Kafka on its partition yet: in spools, on the wire, in the outbox."""

    async def horizon(self, now: datetime) -> Horizon:
        """Ask every door; whoever asks the broker afterwards finds there all that came before `until`."""
        ...


class Policies(Protocol):
    """Knows the companies and their rules."""

    @property
    def generation(self) -> int:
        """Give a number that is another one whenever the rules of any company may be others."""
        ...

    def companies(self) -> Collection[str]:
        """Give the companies that are known."""
        ...

    def get(self, company_id: str) -> Policy | None:
        """Give a company's rules; None: no such company."""
        ...

    async def refresh(self) -> None:
        """Look again: a company may have been added a moment ago."""
        ...


class Ports(Struct, frozen=True):
    """What a worker stands among."""

    source: Source
    ends: Ends
    store: Store
    policies: Policies
    clock: Clock
    doors: Doors
