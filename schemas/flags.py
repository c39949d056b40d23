"""What the reconciler decided: `sync.flags.v1`."""

from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from msgspec import Struct

from schemas.bookings import Attendee


class SyncStatus(StrEnum):
    """`calcom_sync_status`, to the letter of the document that specified it."""

    SYNCED = "synced"
    PENDING = "pending"
    FAILED = "failed"
    ORPHANED_LOCAL = "orphaned_local"
    ORPHANED_CALCOM = "orphaned_calcom"
    VERIFICATION_PENDING = "verification_pending"


class Kind(StrEnum):
    """Why a record needs a human: `sync_error_code`."""

    ORPHANED_LOCAL = "ORPHANED_LOCAL"
    ORPHANED_CALCOM = "ORPHANED_CALCOM"
    DATA_MISMATCH = "DATA_MISMATCH"
    VERIFICATION_ERROR = "VERIFICATION_ERROR"
    AMBIGUOUS_MATCH = "AMBIGUOUS_MATCH"
    # of a company as a whole, never of a record
    WEBHOOK_SILENT = "WEBHOOK_SILENT"
    CALCOM_INCIDENT = "CALCOM_INCIDENT"  # its API cannot be asked; `why.note` is the incident's kind
    ORPHANS_A_DAY = "ORPHANS_A_DAY"  # a threshold, like the next three; `measured` has the figures
    FAILED_CHECKS_AN_HOUR = "FAILED_CHECKS_AN_HOUR"
    WAITING_FOR_REVIEW = "WAITING_FOR_REVIEW"
    SYNC_SUCCESS = "SYNC_SUCCESS"
    ENDPOINT_OFF = "ENDPOINT_OFF"  # the notifier's own, on no topic: a webhook of the company's was switched off


#: Kinds that are about records.
RECORD_KINDS: Final = (
    Kind.ORPHANED_LOCAL,
    Kind.ORPHANED_CALCOM,
    Kind.DATA_MISMATCH,
    Kind.VERIFICATION_ERROR,
    Kind.AMBIGUOUS_MATCH,
)
#: Kinds that are thresholds crossed.
THRESHOLDS: Final = (
    Kind.ORPHANS_A_DAY,
    Kind.FAILED_CHECKS_AN_HOUR,
    Kind.WAITING_FOR_REVIEW,
    Kind.SYNC_SUCCESS,
)


class FlagType(StrEnum):
    """The `type` of a record on `sync.flags.v1`."""

    ORPHANED_LOCAL = "sync.orphaned_local"
    ORPHANED_CALCOM = "sync.orphaned_calcom"
    DATA_MISMATCH = "sync.data_mismatch"
    VERIFICATION_ERROR = "sync.verification_error"
    AMBIGUOUS = "sync.ambiguous"
    RESOLVED = "sync.resolved"
    WEBHOOK_SILENT = "sync.webhook_silent"
    THRESHOLD = "sync.threshold"
    CALCOM_INCIDENT = "sync.calcom_incident"
    ENDPOINT_OFF = "sync.endpoint_off"  # on no topic


class Inconsistency(Struct, frozen=True):
    """One field in which the sides differ, with both values as text (instants in UTC)."""

    field: str  # "starts_at", "ends_at", "status", "event_type_id"
    local: str | None
    calcom: str | None


class AppointmentFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The app's side as last told."""

    appointment_id: str
    status: str  # the app's word, or "deleted"
    starts_at: datetime
    ends_at: datetime | None = None
    time_zone: str | None = None
    calcom_booking_uid: str | None = None
    calcom_booking_id: int | None = None
    event_type_id: int | None = None
    origin: str | None = None
    customer_name: str | None = None
    customer_email: str | None = None
    customer_phone: str | None = None


class BookingFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Cal.com's side as last told; `chain` has every uid that the booking ever had, oldest first."""

    uid: str
    chain: tuple[str, ...]
    status: str  # Cal.com's word
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    booking_id: int | None = None
    event_type_id: int | None = None
    seat: str | None = None
    title: str | None = None
    time_zone: str | None = None
    attendee_name: str | None = None
    attendee_email: str | None = None
    attendee_phone: str | None = None
    attendees: tuple[Attendee, ...] = ()


class Why(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The grounds of a decision: what could be checked again by hand."""

    rule: str | None = None  # the matching rule, when both sides are known
    window_seconds: float | None = None
    since: datetime | None = None  # from when the window counted
    frontiers: dict[str, datetime] = {}
    offsets: dict[str, int] = {}  # next offset per topic of the record's partition
    cause: str | None = None  # id of the event that brought it about
    candidates: tuple[str, ...] = ()
    note: str | None = None  # "late", "conflict", "merged", "corrected", "policy", "by hand"
    observed_at: datetime | None = None  # when Cal.com answered what the verdict rests on
    answer: str | None = None  # its reason in a word: "not_found", "timeout"
    attempts: int | None = None  # how often it was asked
    silent_doors: tuple[str, ...] = ()  # of doors that had fallen silent nobody could say what they still held


class Measured(Struct, frozen=True, kw_only=True):
    """What crossed a threshold: per cent for SYNC_SUCCESS, else a count; over the last `window_seconds`, if given."""

    value: float
    limit: float
    window_seconds: float | None = None


#: The verdict where Cal.com was not asked, or did not answer in time.
NOT_VERIFIED: Final = "not_verified"


class Flag(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One decision for people. `id` is uuid5 of (company, record, kind, generation): it cannot exist twice.

    A `sync.resolved` carries the id of the flag that it ends in `resolves`; its own id is
    uuid5 of (company, record, "resolved:" + kind, generation).
    """

    id: UUID
    type: FlagType
    company_id: str
    record_id: UUID
    kind: Kind
    generation: int
    decided_at: datetime
    reason: str  # one sentence, English; pages and mails have their own words for `kind`
    verdict: str  # a `Verdict`, or NOT_VERIFIED
    deadline_at: datetime | None = None
    resolves: UUID | None = None
    resolved_by: str | None = None  # "auto", "merged" or the actor
    appointment: AppointmentFacts | None = None
    booking: BookingFacts | None = None
    inconsistencies: tuple[Inconsistency, ...] = ()
    why: Why = Why()
    measured: Measured | None = None  # of a threshold


#: The namespace of all ids that are made of names.
IDS: Final = uuid5(NAMESPACE_URL, "https://reconcal.example/ids")


def company_record_id(company_id: str) -> UUID:
    """Give what stands for the record in flags about a company as a whole."""
    return uuid5(IDS, f"company\0{company_id}")


def company_flag_id(company_id: str, kind: str, generation: int) -> UUID:
    """Make the id of a flag about a company, as those about records are made; "resolved:" + kind ends it."""
    return uuid5(IDS, f"flag\0{company_id}\0{company_record_id(company_id)}\0{kind}\0{generation}")


def company_flag(
    company_id: str,
    kind: Kind,
    generation: int,
    type_: FlagType,
    at: datetime,
    *,
    reason: str,
    why: Why = Why(),
    measured: Measured | None = None,
) -> Flag:
    """Make a flag about a company as a whole; of type RESOLVED the end of the one of the same kind and generation.

    `why.cause` tells those apart of which a company may have several.
    """
    known = kind.value if why.cause is None else f"{kind.value}:{why.cause}"
    raised = company_flag_id(company_id, known, generation)
    over = type_ is FlagType.RESOLVED
    return Flag(
        id=company_flag_id(company_id, f"resolved:{known}", generation) if over else raised,
        type=type_,
        company_id=company_id,
        record_id=company_record_id(company_id),
        kind=kind,
        generation=generation,
        decided_at=at,
        reason=reason,
        verdict=NOT_VERIFIED,
        resolves=raised if over else None,
        resolved_by="auto" if over else None,
        why=why,
        measured=measured,
    )
