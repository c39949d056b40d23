"""What a decision is made of: the cluster that is decided upon, and what comes of it. Pure data."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from schemas.commands import CommandOutcome
from schemas.flags import Flag, Kind, SyncStatus, Why
from schemas.verification import Question
from services.reconciler.core.record import Record


class Cluster(Struct, frozen=True):
    """The records whose sides share identity keys, decided together; nearly always one.

    `ids` has more than one entry when a new event brought clusters together that had been apart.
    """

    company_id: str
    ids: tuple[UUID, ...] = ()
    records: tuple[Record, ...] = ()


class Transition(Struct, frozen=True, kw_only=True):
    """One change of a record and why it came about."""

    record_id: UUID
    version: int
    at: datetime
    from_status: SyncStatus | None
    to_status: SyncStatus
    kind: Kind | None
    cause: str
    note: str | None = None
    why: Why = Why()


class Gone(Struct, frozen=True):
    """A record that became part of another."""

    record_id: UUID
    merged_into: UUID


class Decision(Struct, frozen=True, kw_only=True):
    """What an event comes to: the cluster as it is now, and what has to be stored and told."""

    cluster: Cluster
    changed: tuple[Record, ...] = ()
    gone: tuple[Gone, ...] = ()
    transitions: tuple[Transition, ...] = ()
    flags: tuple[Flag, ...] = ()
    outcome: CommandOutcome | None = None
    #: What Cal.com is to be asked; None: nothing any more about that record.
    questions: tuple[tuple[UUID, Question | None], ...] = ()
    repeat: bool = False
