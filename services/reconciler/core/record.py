"""The record: both sides of one appointment/booking pair and what was decided about it."""

from datetime import datetime, timedelta
from uuid import UUID, uuid5

from msgspec import Struct

from schemas.flags import IDS, Inconsistency, Kind, SyncStatus
from schemas.verification import Priority
from services.reconciler.core.answers import Answer
from services.reconciler.core.matching import Chain, Rule
from services.reconciler.core.sides import AppointmentSide


class Finding(Struct, frozen=True, omit_defaults=True):
    """What is wrong with a record as its sides stand now, whether or not it has been flagged."""

    kind: Kind
    since: datetime
    window_seconds: float
    inconsistencies: tuple[Inconsistency, ...] = ()
    #: It is older than the record, and not both sides' past is loaded yet: nothing can be said.
    indeterminate: bool = False

    @property
    def deadline_at(self) -> datetime:
        """Give the moment that ends the window."""
        return self.since + timedelta(seconds=self.window_seconds)


class OpenFlag(Struct, frozen=True):
    """The flag that is open on a record; at most one."""

    id: UUID
    kind: Kind
    generation: int
    flagged_at: datetime


class Resolution(Struct, frozen=True):
    """What a human decided; it holds as long as the finding is of the kind that the human saw."""

    kind: Kind
    reason: str
    actor: str
    command_id: str
    resolved_at: datetime


class Round(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Cal.com is being asked: from when on, for whom, until when at most; `number` is that of the open question."""

    started_at: datetime
    gives_up_at: datetime
    priority: Priority
    number: int = 0


class Record(Struct, frozen=True, kw_only=True):
    """All that is known about one pair.

    `record_id` is made from the name of the side that was heard of first (`anchor`), so that it is the same in every
    order of arrival and in every replay. `cluster_id` is shared by the records whose sides share keys.
    """

    company_id: str
    record_id: UUID
    cluster_id: UUID
    anchor: str
    first_received_at: datetime
    appointment: AppointmentSide | None = None
    chain: Chain = ()
    rule: Rule | None = None
    candidates: tuple[str, ...] = ()
    status: SyncStatus = SyncStatus.PENDING
    finding: Finding | None = None
    deadline_at: datetime | None = None
    flag: OpenFlag | None = None
    flags_raised: int = 0
    resolution: Resolution | None = None
    #: How often records were flagged that are part of this one now, by their anchors.
    retired: dict[str, int] = {}
    #: What Cal.com answered, in the order of the answers; and the round of questions that is under way.
    answers: tuple[Answer, ...] = ()
    round: Round | None = None
    #: Questions that were ever asked about it: each has a number of its own. From when on attempts are counted.
    asked: int = 0
    asked_since: datetime | None = None
    version: int = 0

    @property
    def attempts(self) -> list[Answer]:
        """Give the answers of the present round of questions, or of the last one."""
        return [] if self.asked_since is None else [one for one in self.answers if one.observed_at >= self.asked_since]


def record_id(company_id: str, anchor: str) -> UUID:
    """Make a record's id from the name of the side that was heard of first."""
    return uuid5(IDS, f"record\0{company_id}\0{anchor}")


def flag_id(record: UUID, company_id: str, kind: str, generation: int) -> UUID:
    """Make a flag's id: a flag can never exist twice under two ids."""
    return uuid5(IDS, f"flag\0{company_id}\0{record}\0{kind}\0{generation}")
