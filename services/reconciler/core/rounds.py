"""A round of questions: Cal.com is asked about a record until its answers amount to something, or for long enough.

A round begins at a deadline, or because a human or a sweep asks for it. What it comes to is computed from the answers
(`answers.judge`), so that a replay of the log, which asks nobody, comes to the same.
"""

from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from schemas.flags import Kind
from schemas.verification import Priority, Question, check_id
from services.reconciler.core.answers import Answer, Judgement, ask_again_at, judge, missed_since, since
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Finding, Record, Round
from services.reconciler.core.sides import BY_NUMBER, appointment_facts, booking_facts

#: Findings that Cal.com can say something about. Who is meant of two, only a human knows.
VERIFIABLE: Final = frozenset({Kind.ORPHANED_LOCAL, Kind.ORPHANED_CALCOM, Kind.DATA_MISMATCH})


def can_ask(finding: Finding, policy: Policy) -> bool:
    """Tell whether Cal.com can be asked about a finding."""
    return policy.verify and finding.kind in VERIFIABLE and not finding.indeterminate


def begin(at: datetime, priority: Priority, policy: Policy) -> Round:
    """Begin a round."""
    gives_up_at = at + timedelta(seconds=policy.verification_wait_seconds)
    return Round(started_at=at, gives_up_at=gives_up_at, priority=priority)


def concluded(answers: tuple[Answer, ...], finding: Finding) -> Judgement | None:
    """Say what Cal.com's answers amount to since the window was over."""
    return judge(answers, finding.deadline_at) if answers else None


def is_over(answers: tuple[Answer, ...], open_round: Round, finding: Finding) -> bool:
    """Tell whether a round has come to something.

    One that began within the window ends with its first answer: what that did not mend is asked again at the deadline.
    """
    given = since(answers, open_round.started_at)
    if given and given[-1].observed_at < finding.deadline_at:
        return True
    return judge(given, open_round.started_at) is not None


def next_question(record: Record, finding: Finding, policy: Policy) -> tuple[Record, Question] | None:
    """Ask, in the round that is under way; None: an answer is still awaited."""
    under_way = record.round
    if under_way is None:
        return None
    awaited = check_id(record.record_id, under_way.number)
    if under_way.number and all(one.id != awaited for one in record.answers):
        return None
    # A record that was part of another for a while has forgotten how often it was asked about; its answers have not.
    number = max([record.asked, *(one.number for one in record.answers)]) + 1
    asking = replace(record, asked=number, round=replace(under_way, number=number))
    return asking, _question(asking, number, under_way, finding, policy)


def _question(record: Record, number: int, under_way: Round, finding: Finding, policy: Policy) -> Question:
    appointment = appointment_facts(record.appointment) if record.appointment else None
    booking = booking_facts(record.chain) if record.chain else None
    uid = booking.uid if booking else appointment.calcom_booking_uid if appointment else None
    booking_id = booking.booking_id if booking else appointment.calcom_booking_id if appointment else None
    starts_at = appointment.starts_at if appointment else booking.starts_at if booking else None
    not_before = ask_again_at(record.answers, under_way.started_at)
    return Question(
        company_id=record.company_id,
        record_id=record.record_id,
        subject=record.anchor,
        number=number,
        priority=under_way.priority,
        not_before=not_before,
        not_older_than=not_before,
        uid=None if uid is None or uid.startswith(BY_NUMBER) else uid,
        booking_id=booking_id,
        seat=booking.seat if booking else None,
        starts_at=starts_at,
        absent_at=missed_since(record.answers, max(under_way.started_at, finding.deadline_at)),
        match_by_attendee=policy.match_by_attendee,
        tolerance_seconds=policy.tolerance_seconds,
        appointment=appointment,
        booking=booking,
    )
