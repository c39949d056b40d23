"""How things lie in PostgreSQL. A record: two JSON documents that are the truth, and the columns that people ask by."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from schemas import topics
from schemas.envelope import Delivery, Envelope
from schemas.flags import Kind, SyncStatus
from schemas.verification import Verdict
from services.reconciler.core.answers import Answer
from services.reconciler.core.matching import Chain, Rule
from services.reconciler.core.record import Finding, OpenFlag, Record, Resolution, Round
from services.reconciler.core.sides import AppointmentSide, booking_facts


class Facts(Struct, frozen=True, omit_defaults=True):
    """`records.facts`: what both sides said."""

    appointment: AppointmentSide | None = None
    chain: Chain = ()


class Decided(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`records.decision`: what was made of it."""

    record_id: UUID
    cluster_id: UUID
    anchor: str
    first_received_at: datetime
    status: SyncStatus
    version: int
    rule: Rule | None = None
    candidates: tuple[str, ...] = ()
    finding: Finding | None = None
    deadline_at: datetime | None = None
    flag: OpenFlag | None = None
    flags_raised: int = 0
    resolution: Resolution | None = None
    retired: dict[str, int] = {}
    answers: tuple[Answer, ...] = ()
    round: Round | None = None
    asked: int = 0
    asked_since: datetime | None = None


_facts: Final = msgspec.json.Decoder(Facts)
_decided: Final = msgspec.json.Decoder(Decided)
_encoder: Final = msgspec.json.Encoder()

#: Columns of an upsert, in the order of `columns`.
COLUMNS: Final = (
    ("company_id", "text"),
    ("record_id", "uuid"),
    ("cluster_id", "uuid"),
    ("kafka_partition", "int"),
    ("anchor", "text"),
    ("appointment_id", "text"),
    ("booking_uid", "text"),
    ("starts_at", "timestamptz"),
    ("calcom_sync_status", "text"),
    ("last_sync_attempt_at", "timestamptz"),
    ("sync_attempt_count", "int"),
    ("sync_verified_at", "timestamptz"),
    ("sync_error_message", "text"),
    ("sync_error_code", "text"),
    ("requires_manual_review", "bool"),
    ("manual_review_flagged_at", "timestamptz"),
    ("match_rule", "text"),
    ("deadline_at", "timestamptz"),
    ("version", "bigint"),
    ("first_received_at", "timestamptz"),
    ("changed_at", "timestamptz"),
    ("facts", "json"),
    ("decision", "json"),
)

#: `ce_source` of what is ours, or nobody's.
SOURCE: Final = "reconcal/reconciler"
#: What an envelope that is sent on is called where its producer did not say.
_TYPES: Final = {
    topics.APP_APPOINTMENTS: topics.TYPE_APPOINTMENT,
    topics.CALCOM_BOOKINGS: topics.TYPE_CALCOM_WEBHOOK,
    topics.SYNC_COMMANDS: topics.TYPE_COMMAND,
}
#: A header that is longer is left out of what is sent on: nobody has checked it.
_HEADER_MAX_CHARS: Final = 1000


def sent_on(envelope: Envelope) -> Delivery:
    """Give an envelope of an input topic as it goes to its own partition: under its own id, or that of its place."""
    place = f"{envelope.topic}/{envelope.partition}/{envelope.offset}"
    return Delivery(
        topic=envelope.topic,
        company_id=envelope.company_id or "",
        ce_id=_short(envelope.ce_id) or f"reroute:{place}",
        ce_source=_short(envelope.ce_source) or SOURCE,
        ce_type=_short(envelope.ce_type) or _TYPES[envelope.topic],
        received_at=envelope.received_at,
        body=envelope.body,
        content_type=_short(envelope.content_type) or "application/json",
        traceparent=_short(envelope.traceparent),
        webhook_version=_short(envelope.webhook_version),
    )


def _short(header: str | None) -> str | None:
    return header if header is None or len(header) <= _HEADER_MAX_CHARS else None


def read(company_id: str, facts: str, decision: str) -> Record:
    """Make a record from its two documents."""
    sides, made = _facts.decode(facts), _decided.decode(decision)
    return Record(
        company_id=company_id,
        record_id=made.record_id,
        cluster_id=made.cluster_id,
        anchor=made.anchor,
        first_received_at=made.first_received_at,
        appointment=sides.appointment,
        chain=sides.chain,
        rule=made.rule,
        candidates=made.candidates,
        status=made.status,
        finding=made.finding,
        deadline_at=made.deadline_at,
        flag=made.flag,
        flags_raised=made.flags_raised,
        resolution=made.resolution,
        retired=made.retired,
        answers=made.answers,
        round=made.round,
        asked=made.asked,
        asked_since=made.asked_since,
        version=made.version,
    )


def columns(record: Record, partition: int, changed_at: datetime) -> tuple[object, ...]:
    """Give a record's row, in the order of COLUMNS."""
    head = record.chain[-1] if record.chain else None
    newest = record.appointment.heard[-1].event.appointment if record.appointment else None
    attempts = record.attempts
    believed = [one for one in record.answers if one.verdict is not Verdict.UNKNOWN] if record.answers else ()
    kind = shown_kind(record)
    return (
        record.company_id,
        record.record_id,
        record.cluster_id,
        partition,
        record.anchor,
        record.appointment.appointment_id if record.appointment else None,
        head.uid if head else None,
        newest.starts_at if newest else head.heard[-1].event.starts_at if head else None,
        record.status.value,
        record.answers[-1].observed_at if record.answers else None,
        len(attempts),
        believed[-1].observed_at if believed else None,
        error_message(record, kind),
        kind.value if kind else None,
        record.flag is not None,
        record.flag.flagged_at if record.flag else None,
        record.rule.value if record.rule else None,
        record.deadline_at,
        record.version,
        record.first_received_at,
        changed_at,
        _encoder.encode(Facts(record.appointment, record.chain)).decode(),
        _encoder.encode(_made(record)).decode(),
    )


def _made(record: Record) -> Decided:
    return Decided(
        record_id=record.record_id,
        cluster_id=record.cluster_id,
        anchor=record.anchor,
        first_received_at=record.first_received_at,
        status=record.status,
        version=record.version,
        rule=record.rule,
        candidates=record.candidates,
        finding=record.finding,
        deadline_at=record.deadline_at,
        flag=record.flag,
        flags_raised=record.flags_raised,
        resolution=record.resolution,
        retired=record.retired,
        answers=record.answers,
        round=record.round,
        asked=record.asked,
        asked_since=record.asked_since,
    )


def shown_kind(record: Record) -> Kind | None:
    """Give `sync_error_code`: it holds while the status says so; a difference within its window is none yet."""
    if record.finding is None or record.status is SyncStatus.PENDING:
        return None
    if record.flag is not None:
        return record.flag.kind
    if record.resolution is not None and record.status is not SyncStatus.VERIFICATION_PENDING:
        return record.resolution.kind
    return None


def error_message(record: Record, kind: Kind | None) -> str | None:
    """Give `sync_error_message`: a document, as the specification of the columns has it."""
    finding = record.finding
    if kind is None:
        waits = finding is not None and finding.indeterminate
        return _encoder.encode({"type": "indeterminate"}).decode() if waits else None
    body: dict[str, object] = {"type": kind.value.lower(), "since": finding.since if finding else None}
    if kind is Kind.DATA_MISMATCH and finding is not None:
        body = {"type": "data_inconsistency", "inconsistencies": finding.inconsistencies}
    elif kind is Kind.VERIFICATION_ERROR and record.answers:
        newest = record.answers[-1]
        body |= {"reason": newest.reason, "observed_at": newest.observed_at}
    return _encoder.encode(body).decode()


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give a row of `records` for programs to read: design section 3, `reconcal records --json`."""
    sides = _facts.decode(row["facts"])
    newest = sides.appointment.heard[-1].event if sides.appointment else None
    appointment = msgspec.to_builtins(newest.appointment) if newest else None
    if appointment is not None and newest is not None and newest.__struct_config__.tag == "appointment.deleted":
        appointment["deleted"] = True
    booking = None
    if sides.chain:
        facts = booking_facts(sides.chain)
        booking = {
            "uid": facts.uid,
            "chain": list(facts.chain),
            "starts_at": facts.starts_at,
            "ends_at": facts.ends_at,
            "status": facts.status,
            "attendees": msgspec.to_builtins(facts.attendees),
        }
    names = (
        "record_id",
        "company_id",
        "calcom_sync_status",
        "last_sync_attempt_at",
        "sync_attempt_count",
        "sync_error_message",
        "sync_error_code",
        "sync_verified_at",
        "requires_manual_review",
        "manual_review_flagged_at",
        "match_rule",
    )
    plain = {name: row[name] for name in names}
    return plain | {"appointment": appointment, "booking": booking, "version": row["version"]}
