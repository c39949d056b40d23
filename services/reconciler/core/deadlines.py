"""A deadline: the window is over. Cal.com is asked, or people are told. Pure."""

from msgspec.structs import replace

from schemas.flags import NOT_VERIFIED, Flag, Why
from schemas.verification import Priority
from services.reconciler.core.answers import Judgement
from services.reconciler.core.decision import Cluster, Decision
from services.reconciler.core.effects import (
    FLAG_OF,
    REASONS,
    STATUS_OF,
    Questions,
    changed,
    kind_of,
    record_of,
    still,
)
from services.reconciler.core.events import DeadlineReached, event_id
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Finding, OpenFlag, Record, flag_id
from services.reconciler.core.rounds import begin, can_ask, concluded
from services.reconciler.core.settling import open_round, settle_all, sides_by_name
from services.reconciler.core.sides import appointment_facts, booking_facts


def reach(cluster: Cluster, event: DeadlineReached, policy: Policy) -> Decision:
    """Turn a finding into a flag, or ask Cal.com first: the window is over and every frontier has passed its end.

    What Cal.com answered comes to a flag the same way: when everything is read that came before the answer. Rules that
    have changed since the deadline was set come first.
    """
    anew = settle_all(cluster, *sides_by_name(cluster), policy, event.at, event_id(event))
    if not anew.repeat:
        return anew
    record = record_of(cluster, event.record_id)
    finding = record.finding if record else None
    if record is None or finding is None or record.deadline_at is None or record.deadline_at >= event.known_until:
        return Decision(cluster=cluster, repeat=True)
    judged = concluded(record.answers, finding)
    if record.flag is not None or (record.resolution and still(record.resolution.kind, finding, judged)):
        return _leave(cluster, record, event)
    if judged is None and record.round is None and can_ask(finding, policy):
        return _begin(cluster, record, event, policy)
    return _flag(cluster, record, finding, judged, event)


def _begin(cluster: Cluster, record: Record, event: DeadlineReached, policy: Policy) -> Decision:
    """Ask Cal.com before accusing."""
    under_way = begin(event.at, Priority.DEADLINE, policy)
    why = Why(rule=record.rule, cause=event_id(event), frontiers=event.frontiers, offsets=event.offsets)
    return open_round(cluster, record, under_way, event.at, why, policy)


def _leave(cluster: Cluster, record: Record, event: DeadlineReached) -> Decision:
    """End a round that nobody answered in time; what was flagged, or decided by hand, stays so."""
    kind = record.flag.kind if record.flag else record.resolution.kind if record.resolution else None
    status = STATUS_OF[kind] if kind else record.status
    left = replace(record, status=status, deadline_at=None, round=None, version=record.version + 1)
    why = Why(rule=record.rule, cause=event_id(event), note="unanswered", attempts=len(record.attempts))
    return changed(cluster, record, left, event.at, why, questions=[(record.record_id, None)])


def _flag(
    cluster: Cluster, record: Record, finding: Finding, judged: Judgement | None, event: DeadlineReached
) -> Decision:
    kind = kind_of(finding, judged)
    generation = record.flags_raised + 1
    flag = OpenFlag(flag_id(record.record_id, record.company_id, kind, generation), kind, generation, event.at)
    why = Why(
        rule=record.rule,
        window_seconds=finding.window_seconds,
        since=finding.since,
        frontiers=event.frontiers,
        offsets=event.offsets,
        cause=event_id(event),
        candidates=record.candidates,
        note="conflict" if record.resolution is not None else None,
        observed_at=judged.answer.observed_at if judged else None,
        answer=judged.answer.reason if judged else None,
        attempts=len(record.attempts) or None,
        silent_doors=event.silent_doors,
    )
    flagged = replace(
        record,
        status=STATUS_OF[kind],
        flag=flag,
        flags_raised=generation,
        deadline_at=None,
        round=None,
        version=record.version + 1,
    )
    told = Flag(
        id=flag.id,
        type=FLAG_OF[kind],
        company_id=record.company_id,
        record_id=record.record_id,
        kind=kind,
        generation=generation,
        decided_at=event.at,
        reason=REASONS[kind],
        verdict=judged.verdict.value if judged else NOT_VERIFIED,
        deadline_at=finding.deadline_at,
        appointment=appointment_facts(record.appointment) if record.appointment else None,
        booking=booking_facts(record.chain) if record.chain else None,
        inconsistencies=finding.inconsistencies,
        why=why,
    )
    questions: Questions = [(record.record_id, None)] if record.round else []
    return changed(cluster, record, flagged, event.at, why, flags=(told,), questions=questions)
