"""What a decision says to the outside: flags, transitions, and the words for them. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from schemas.commands import CommandOutcome
from schemas.flags import NOT_VERIFIED, Flag, FlagType, Kind, SyncStatus, Why
from schemas.verification import Question
from services.reconciler.core.answers import Judgement
from services.reconciler.core.decision import Cluster, Decision, Transition
from services.reconciler.core.events import Commanded
from services.reconciler.core.matching import Rule, name_of
from services.reconciler.core.record import Finding, OpenFlag, Record, flag_id
from services.reconciler.core.sides import appointment_facts, booking_facts

#: The cause of what changes because the company's rules did.
POLICY: Final = "policy"
#: The note on what an answer of the API mended.
WEBHOOK_LOST: Final = "webhook_lost"

#: What Cal.com is to be asked about a record; None: nothing any more.
Questions = list[tuple[UUID, Question | None]]

STATUS_OF: Final = {
    Kind.ORPHANED_LOCAL: SyncStatus.ORPHANED_LOCAL,
    Kind.ORPHANED_CALCOM: SyncStatus.ORPHANED_CALCOM,
    Kind.DATA_MISMATCH: SyncStatus.FAILED,
    Kind.VERIFICATION_ERROR: SyncStatus.FAILED,
    Kind.AMBIGUOUS_MATCH: SyncStatus.FAILED,
}
FLAG_OF: Final = {
    Kind.ORPHANED_LOCAL: FlagType.ORPHANED_LOCAL,
    Kind.ORPHANED_CALCOM: FlagType.ORPHANED_CALCOM,
    Kind.DATA_MISMATCH: FlagType.DATA_MISMATCH,
    Kind.VERIFICATION_ERROR: FlagType.VERIFICATION_ERROR,
    Kind.AMBIGUOUS_MATCH: FlagType.AMBIGUOUS,
}
REASONS: Final = {
    Kind.ORPHANED_LOCAL: "The appointment is in the booking app, and no Cal.com booking of it is known.",
    Kind.ORPHANED_CALCOM: "The booking is at Cal.com, and the booking app has no living appointment for it.",
    Kind.DATA_MISMATCH: "The booking app and Cal.com say different things about this appointment.",
    Kind.VERIFICATION_ERROR: "Cal.com could not be asked.",
    Kind.AMBIGUOUS_MATCH: "More than one appointment or booking fits; a human has to say which.",
}


def still(kind: Kind, finding: Finding, judged: Judgement | None) -> bool:
    """Tell whether what was flagged, or decided about, is still what is the matter."""
    return kind is finding.kind or kind is kind_of(finding, judged)


def kind_of(finding: Finding, judged: Judgement | None) -> Kind:
    """Give the kind of flag that a finding comes to by Cal.com's answers."""
    return Kind.VERIFICATION_ERROR if judged is not None and judged.unknown else finding.kind


def record_of(cluster: Cluster, wanted: UUID) -> Record | None:
    """Give a record of a cluster by its id."""
    return next((record for record in cluster.records if record.record_id == wanted), None)


def changed(
    cluster: Cluster,
    before: Record,
    after: Record,
    at: datetime,
    why: Why,
    *,
    flags: tuple[Flag, ...] = (),
    outcome: CommandOutcome | None = None,
    questions: Iterable[tuple[UUID, Question | None]] = (),
) -> Decision:
    """Make the decision that changes one record of a cluster."""
    records = tuple(after if record is before else record for record in cluster.records)
    transition = Transition(
        record_id=after.record_id,
        version=after.version,
        at=at,
        from_status=before.status,
        to_status=after.status,
        kind=after.flag.kind if after.flag else after.finding.kind if after.finding else None,
        cause=why.cause or "",
        note=why.note,
        why=why,
    )
    return Decision(
        cluster=Cluster(cluster.company_id, cluster.ids, records),
        changed=(after,),
        transitions=(transition,),
        flags=flags,
        outcome=outcome,
        questions=tuple(questions),
    )


def transitions_of(before: Record | None, after: Record, at: datetime, cause: str) -> list[Transition]:
    """Note a change of status, finding or partner; an event that only adds to a side's history is none."""
    kind = after.finding.kind if after.finding else None
    if before is not None:
        kind_before = before.finding.kind if before.finding else None
        if (before.status, kind_before, before.rule) == (after.status, kind, after.rule) and not _corrected(
            before, after
        ):
            return []
    note = None
    if before is not None and _corrected(before, after):
        note = "corrected"
    elif cause == POLICY:
        note = POLICY
    elif after.resolution is not None:
        note = "after a human decision" if kind in (None, after.resolution.kind) else "conflict"
    elif before is not None and before.flag is not None and after.flag is None:
        note = "late"
    transition = Transition(
        record_id=after.record_id,
        version=after.version,
        at=at,
        from_status=before.status if before else None,
        to_status=after.status,
        kind=kind,
        cause=cause,
        note=note,
        why=Why(
            rule=after.rule,
            cause=cause,
            note=note,
            candidates=after.candidates,
            since=after.finding.since if after.finding else None,
            window_seconds=after.finding.window_seconds if after.finding else None,
        ),
    )
    return [transition]


def _corrected(before: Record, after: Record) -> bool:
    """Tell whether a stronger key took apart what only person and time had brought together."""
    if before.rule is not Rule.ATTENDEE or before.appointment is None:
        return False
    partners = {name_of(side) for side in before.chain} & {name_of(side) for side in after.chain}
    return not partners or after.appointment is None


def resolved(record: Record, flag: OpenFlag, at: datetime, by: str, why: Why) -> Flag:
    """End a flag; `by`: "auto", "merged" or the actor."""
    return Flag(
        id=flag_id(record.record_id, record.company_id, f"resolved:{flag.kind}", flag.generation),
        type=FlagType.RESOLVED,
        company_id=record.company_id,
        record_id=record.record_id,
        kind=flag.kind,
        generation=flag.generation,
        decided_at=at,
        reason="The sides agree now." if by == "auto" and record.finding is None else f"Ended: {by}.",
        verdict=NOT_VERIFIED,
        resolves=flag.id,
        resolved_by=by,
        appointment=appointment_facts(record.appointment) if record.appointment else None,
        booking=booking_facts(record.chain) if record.chain else None,
        why=why,
    )


def applied(record: Record, event: Commanded) -> CommandOutcome:
    """Say that a command was applied, and what the record's version is now."""
    return CommandOutcome(
        command_id=event.command.id,
        record_id=record.record_id,
        applied=True,
        reason="applied",
        version=record.version,
        decided_at=event.received_at,
    )
