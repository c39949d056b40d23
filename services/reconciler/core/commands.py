"""What an operator asked for: a human's decision is laid beside the finding, and never overwritten in silence. Pure."""

from msgspec.structs import replace

from schemas.commands import CommandOutcome, Reopen, Resolve, Retry
from schemas.flags import SyncStatus, Why
from schemas.verification import Priority
from services.reconciler.core.decision import Cluster, Decision
from services.reconciler.core.effects import STATUS_OF, Questions, applied, changed, record_of, resolved
from services.reconciler.core.events import Commanded
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Record, Resolution
from services.reconciler.core.rounds import VERIFIABLE, begin
from services.reconciler.core.settling import open_round


def obey(cluster: Cluster, event: Commanded, policy: Policy) -> Decision:
    """Apply what an operator asked for, or say why not; what the operator did not see is never overwritten."""
    command = event.command
    record = record_of(cluster, command.record_id)
    if record is None:
        return _refuse(cluster, None, event, "unknown_record")
    if command.version != record.version:
        return _refuse(cluster, record, event, "newer_version")
    if isinstance(command, Resolve):
        return _resolve(cluster, record, event, command)
    if isinstance(command, Retry):
        return _retry(cluster, record, event, command, policy)
    return _reopen(cluster, record, event, command)


def _retry(cluster: Cluster, record: Record, event: Commanded, command: Retry, policy: Policy) -> Decision:
    """Ask Cal.com again: the attempts count anew. A flag stays open until the answer says otherwise."""
    finding = record.finding
    if finding is None or finding.indeterminate or finding.kind not in VERIFIABLE:
        return _refuse(cluster, record, event, "nothing_to_check")
    if not policy.verify:
        return _refuse(cluster, record, event, "no_api_key")
    if command.sweep and record.round is not None:
        return _refuse(cluster, record, event, "already_asking")
    if command.sweep and record.resolution is not None:
        return _refuse(cluster, record, event, "resolved_by_hand")
    under_way = begin(event.received_at, Priority.SWEEP if command.sweep else Priority.HUMAN, policy)
    why = Why(rule=record.rule, cause=command.id, note="asked again" if command.sweep else f"retry: {command.actor}")
    return open_round(cluster, record, under_way, event.received_at, why, policy, event)


def _resolve(cluster: Cluster, record: Record, event: Commanded, command: Resolve) -> Decision:
    if record.finding is None:
        return _refuse(cluster, record, event, "nothing_to_resolve")
    kind = record.flag.kind if record.flag else record.finding.kind
    resolution = Resolution(kind, command.reason, command.actor, command.id, event.received_at)
    settled = replace(
        record,
        status=STATUS_OF[kind],
        flag=None,
        deadline_at=None,
        round=None,
        resolution=resolution,
        version=record.version + 1,
    )
    questions: Questions = [(record.record_id, None)] if record.round else []
    why = Why(cause=command.id, note=f"by hand: {command.reason}")
    flags = (resolved(settled, record.flag, event.received_at, command.actor, why),) if record.flag else ()
    outcome = applied(settled, event)
    return changed(cluster, record, settled, event.received_at, why, flags=flags, outcome=outcome, questions=questions)


def _reopen(cluster: Cluster, record: Record, event: Commanded, command: Reopen) -> Decision:
    if record.resolution is None:
        return _refuse(cluster, record, event, "nothing_to_reopen")
    reopened = replace(record, resolution=None, version=record.version + 1)
    finding = record.finding
    if finding is not None and record.flag is None and record.round is None:
        deadline_at = None if finding.indeterminate else finding.deadline_at
        reopened = replace(reopened, status=SyncStatus.PENDING, deadline_at=deadline_at)
    why = Why(cause=command.id, note=f"reopened by hand: {command.reason}".rstrip(": "))
    return changed(cluster, record, reopened, event.received_at, why, outcome=applied(reopened, event))


def _refuse(cluster: Cluster, record: Record | None, event: Commanded, reason: str) -> Decision:
    outcome = CommandOutcome(
        command_id=event.command.id,
        record_id=event.command.record_id,
        applied=False,
        reason=reason,
        version=record.version if record else None,
        decided_at=event.received_at,
    )
    return Decision(cluster=cluster, outcome=outcome)
