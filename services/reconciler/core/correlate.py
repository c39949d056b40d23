"""All that moves a record, on one page.

    correlate(cluster, event, policy) -> Decision

An event of a side is added to what that side said; then every record of the cluster is settled anew from what its
sides amount to (`findings.find`), the flag that is open and the decision that a human took. A deadline turns a finding
into a flag, or has Cal.com asked first (`rounds`); what Cal.com answered is added to the record's answers. A command
lays a human's decision beside the finding. Nothing else moves a record.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from schemas.commands import CommandOutcome, Reopen, Resolve, Retry
from schemas.flags import Flag, FlagType, Kind, SyncStatus, Why
from schemas.verification import Priority, Question
from services.reconciler.core.answers import Answer, Judgement, add
from services.reconciler.core.decision import Cluster, Decision, Gone, Transition
from services.reconciler.core.events import (
    OBSERVED,
    Checked,
    Commanded,
    DeadlineReached,
    Event,
    Heard,
    HeardAppointment,
    HeardBooking,
    PolicyChanged,
    event_id,
)
from services.reconciler.core.findings import find, stirred
from services.reconciler.core.hearsay import by_seat, hand_on, own
from services.reconciler.core.matching import Pair, Rule, age, name_of, pair, sides_of
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Finding, OpenFlag, Record, Resolution, Round, flag_id, record_id
from services.reconciler.core.rounds import VERIFIABLE, begin, can_ask, concluded, is_over, next_question
from services.reconciler.core.sides import AppointmentSide, BookingSide, appointment_facts, booking_facts, hear

NOT_VERIFIED: Final = "not_verified"
#: The cause of what changes because the company's rules did.
POLICY: Final = "policy"
#: The note on what an answer of the API mended.
WEBHOOK_LOST: Final = "webhook_lost"

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


def correlate(cluster: Cluster, event: Event, policy: Policy) -> Decision:
    """Decide what an event makes of a cluster. Pure: same arguments, same decision."""
    if type(event) is DeadlineReached:
        return _deadline(cluster, event, policy)
    if type(event) is Commanded:
        return _command(cluster, event, policy)
    if type(event) is Checked:
        return _check(cluster, event, policy)
    if type(event) is PolicyChanged:
        return _settle_all(cluster, *_sides(cluster), policy, event.at, event_id(event))
    return _hear(cluster, event, policy)


# --- an event of a side -----------------------------------------------------------------------------------------


def _hear(cluster: Cluster, heard: Heard, policy: Policy) -> Decision:
    appointments, bookings = _sides(cluster)
    news = False
    if type(heard) is HeardBooking:
        for one in by_seat(heard):
            news = _hear_booking(bookings, one) or news
    else:
        news = _hear_appointment(appointments, heard)
    if not news and len(cluster.ids) <= 1:
        return Decision(cluster=cluster, repeat=True)
    decision = _settle_all(cluster, appointments, bookings, policy, heard.received_at, event_id(heard))
    if type(heard) is HeardBooking and heard.event.trigger == OBSERVED:
        decision = _healed(decision, cluster)
    return decision if news else replace(decision, repeat=True)


_Appointments = dict[str, AppointmentSide]
_Bookings = dict[tuple[str, str | None], BookingSide]


def _sides(cluster: Cluster) -> tuple[_Appointments, _Bookings]:
    """Give the cluster's sides, each with what was said of itself."""
    records = cluster.records
    appointments = {r.appointment.appointment_id: r.appointment for r in records if r.appointment}
    if len(records) == 1 and len(records[0].chain) <= 1:
        bookings = {(side.uid, side.seat): side for side in records[0].chain}
    else:
        bookings = {(side.uid, side.seat): own(side) for record in records for side in record.chain}
    return appointments, bookings


def _hear_appointment(appointments: _Appointments, heard: HeardAppointment) -> bool:
    """Add an event to its side; tells whether it said anything new."""
    name = heard.event.appointment.id
    known = appointments.get(name)
    said = hear(known.heard if known else (), heard)
    if known is not None and said is known.heard:
        return False
    appointments[name] = AppointmentSide(name, said)
    return True


def _hear_booking(bookings: _Bookings, heard: HeardBooking) -> bool:
    key = (heard.event.uid, heard.event.seat)
    known = bookings.get(key)
    said = hear(known.heard if known else (), heard)
    if known is not None and said is known.heard:
        return False
    bookings[key] = BookingSide(*key, said)
    return True


def _check(cluster: Cluster, event: Checked, policy: Policy) -> Decision:
    """Add an answer of Cal.com to the record that holds the side which was asked about."""
    return _settle_all(cluster, *_sides(cluster), policy, event.received_at, event_id(event), event.answer)


def _healed(decision: Decision, before: Cluster) -> Decision:
    """Say so where the API told what a webhook should have told."""
    wrong = {record.record_id for record in before.records if record.finding is not None}
    well = {record.record_id for record in decision.changed if record.finding is None} & wrong
    if not well:
        return decision
    transitions = [
        replace(t, note=WEBHOOK_LOST, why=replace(t.why, note=WEBHOOK_LOST)) if t.record_id in well else t
        for t in decision.transitions
    ]
    return replace(decision, transitions=tuple(transitions))


def _settle_all(
    cluster: Cluster,
    by_id: _Appointments,
    by_uid: _Bookings,
    policy: Policy,
    at: datetime,
    cause: str,
    answer: Answer | None = None,
) -> Decision:
    """Pair the sides anew, and settle every record that comes of it."""
    if not by_id and not by_uid:
        return Decision(cluster=cluster, repeat=True)
    appointments, bookings = list(by_id.values()), list(by_uid.values())
    if len(bookings) > 1:
        bookings = hand_on(bookings, policy)
    before = {record.record_id: record for record in cluster.records}
    pairs = pair(appointments, bookings, policy)
    stirred_at = stirred(appointments, [p.chain for p in pairs if p.chain], policy) if len(pairs) > 1 else None
    answers = _answers(cluster, answer)
    places = [_place(cluster, found, stirred_at, answers) for found in pairs]
    kept = {place.record_id for place in places}
    leaving = [record for record in cluster.records if record.record_id not in kept]
    after: list[Record] = []
    transitions: list[Transition] = []
    flags: list[Flag] = []
    questions: _Questions = []
    for place in places:
        known = before.get(place.record_id)
        settled, told = settle(_inherit(cluster, known, place, leaving), place, policy, at, cause)
        settled, question = _ask(settled, known, policy)
        questions.extend(question)
        after.append(settled)
        flags.extend(told)
        if settled is not known:
            transitions.extend(_transition(known, settled, at, cause))
    cluster_id = min(cluster.ids) if cluster.ids else after[0].record_id
    after = [r if r.cluster_id == cluster_id else replace(r, cluster_id=cluster_id) for r in after]
    merged = Why(cause=cause, note="merged")
    flags.extend(_resolved(record, record.flag, at, "merged", merged) for record in leaving if record.flag is not None)
    changed = tuple([record for record in after if before.get(record.record_id) is not record])
    if not changed and not leaving and cluster.ids == (cluster_id,):
        return Decision(cluster=cluster, repeat=True)
    return Decision(
        cluster=Cluster(cluster.company_id, (cluster_id,), tuple(after)),
        changed=changed,
        gone=tuple(_merge(record, after) for record in leaving),
        transitions=tuple(transitions),
        flags=tuple(flags),
        questions=tuple(questions + [(record.record_id, None) for record in leaving if record.round]),
    )


_Answers = dict[str, tuple[Answer, ...]]


def _answers(cluster: Cluster, new: Answer | None) -> _Answers:
    """Give the cluster's answers by the side that was asked about."""
    by_subject: _Answers = {}
    for record in cluster.records:
        for answer in record.answers:
            by_subject[answer.subject] = add(by_subject.get(answer.subject, ()), answer)
    if new is not None:
        by_subject[new.subject] = add(by_subject.get(new.subject, ()), new)
    return by_subject


_Questions = list[tuple[UUID, Question | None]]


def _ask(settled: Record, known: Record | None, policy: Policy) -> tuple[Record, _Questions]:
    """Ask Cal.com the next question about a record, or take back the one that is open."""
    if settled.round is None or settled.finding is None:
        return settled, [(settled.record_id, None)] if known is not None and known.round is not None else []
    if concluded(settled.answers, settled.finding) is not None and settled.deadline_at != settled.round.gives_up_at:
        return settled, []  # what was asked is answered: it waits for the frontiers
    asked = next_question(settled, settled.finding, policy)
    return (settled, []) if asked is None else (asked[0], [(settled.record_id, asked[1])])


class _Place(Struct, frozen=True):
    """Where a pair of sides belongs: the record that is named after the side that was heard of first."""

    pair: Pair
    record_id: UUID
    anchor: str
    first_received_at: datetime
    stirred_at: datetime | None
    answers: tuple[Answer, ...] = ()

    @property
    def names(self) -> set[str]:
        return {name_of(side) for side in sides_of(self.pair)}


def _place(cluster: Cluster, found: Pair, stirred_at: datetime | None, by_subject: _Answers) -> _Place:
    first_received_at, anchor = min([age(side) for side in sides_of(found)])
    known = next((r.record_id for r in cluster.records if r.anchor == anchor), None)
    answers: tuple[Answer, ...] = ()
    if by_subject:
        for side in sides_of(found):
            for answer in by_subject.get(name_of(side), ()):
                answers = add(answers, answer)
    return _Place(found, known or record_id(cluster.company_id, anchor), anchor, first_received_at, stirred_at, answers)


def _inherit(cluster: Cluster, known: Record | None, place: _Place, leaving: list[Record]) -> Record:
    """Give the record that a place had before, or a blank one.

    What a human decided goes along into the record that takes one in. How often a record was flagged is remembered
    even while it is part of another: its flags must never be numbered twice.
    """
    record = known or Record(
        company_id=cluster.company_id,
        record_id=place.record_id,
        cluster_id=place.record_id,
        anchor=place.anchor,
        first_received_at=place.first_received_at,
        flags_raised=max((r.retired.get(place.anchor, 0) for r in cluster.records), default=0),
    )
    if leaving:
        heirs_of = [old for old in leaving if old.anchor in place.names]
        retired = record.retired.copy()
        for old in heirs_of:
            retired |= old.retired
            if old.flags_raised:
                retired[old.anchor] = old.flags_raised
        decided = next((old.resolution for old in heirs_of if old.resolution), None)
        if retired != record.retired or (decided and not record.resolution):
            record = replace(record, retired=retired, resolution=record.resolution or decided)
    return record


def settle(known: Record, place: _Place, policy: Policy, at: datetime, cause: str) -> tuple[Record, list[Flag]]:
    """Give a record as its sides, flag, human decision and Cal.com's answers make it now, and the flags that end by it.

    | finding        | open flag     | human decision | becomes                                                    |
    |----------------|---------------|----------------|------------------------------------------------------------|
    | none           | any           | any            | synced; the flag is resolved                               |
    | kind K         | of kind K     | -              | stays flagged; verification_pending while Cal.com is asked |
    | kind K         | any           | about K        | K's status, no flag: the human knows                       |
    | kind K         | none or other | none or other  | pending until K's deadline, then verification_pending      |
    |                |               |                | where Cal.com can be asked; the other flag is resolved     |

    Where Cal.com's answers say nothing in the end, VERIFICATION_ERROR stands in the place of K.
    """
    found, flag, resolution = place.pair, known.flag, known.resolution
    finding = find(found, policy, place.stirred_at, place.answers)
    judged = concluded(place.answers, finding) if finding else None
    ended = flag if flag and (finding is None or not _still(flag.kind, finding, judged)) else None
    shown = flag.kind if flag and not ended else None
    if shown is None and resolution and finding and _still(resolution.kind, finding, judged):
        shown = resolution.kind
    status, deadline_at, under_way = _standing(known.round, place.answers, finding, judged, shown, policy)
    flags: list[Flag] = []
    settled = replace(
        known,
        first_received_at=place.first_received_at,
        appointment=found.appointment,
        chain=found.chain,
        rule=found.rule,
        candidates=found.candidates,
        status=status,
        finding=finding,
        deadline_at=deadline_at,
        flag=None if ended else flag,
        answers=place.answers,
        round=under_way,
        version=known.version + 1,
    )
    if found.appointment is known.appointment and replace(settled, version=known.version) == known:
        return known, flags  # another record of the cluster was spoken of
    if ended:
        why = Why(rule=found.rule, cause=cause, note="late", candidates=found.candidates)
        flags.append(_resolved(settled, ended, at, "auto", why))
    return settled, flags


def _standing(
    under_way: Round | None,
    answers: tuple[Answer, ...],
    finding: Finding | None,
    judged: Judgement | None,
    shown: Kind | None,
    policy: Policy,
) -> tuple[SyncStatus, datetime | None, Round | None]:
    """Say how a record stands: its status, its next deadline, and the round of questions that goes on.

    `shown` is the kind of its flag, or the one that a human decided about.
    """
    if finding is None:
        return SyncStatus.SYNCED, None, None
    if under_way is not None and (not can_ask(finding, policy) or under_way.started_at < finding.since):
        under_way = None  # nobody can be asked any more, or something else is the matter by now
    if under_way is not None:
        if shown is None and judged is not None:
            return SyncStatus.VERIFICATION_PENDING, max(judged.answer.received_at, finding.deadline_at), under_way
        if not is_over(answers, under_way, finding):
            return SyncStatus.VERIFICATION_PENDING, under_way.gives_up_at, under_way
    if shown is not None:
        return STATUS_OF[shown], None, None
    return SyncStatus.PENDING, None if finding.indeterminate else finding.deadline_at, None


def _still(kind: Kind, finding: Finding, judged: Judgement | None) -> bool:
    """Tell whether what was flagged, or decided about, is still what is the matter."""
    return kind is finding.kind or kind is _kind(finding, judged)


def _kind(finding: Finding, judged: Judgement | None) -> Kind:
    return Kind.VERIFICATION_ERROR if judged is not None and judged.unknown else finding.kind


def _merge(record: Record, after: list[Record]) -> Gone:
    """Say where a record went that is none of its own any more: to the one that holds its first side."""
    for other in after:
        if any(name_of(side) == record.anchor for side in sides_of(other)):
            return Gone(record.record_id, other.record_id)
    raise AssertionError(f"no record holds {record.anchor!r} any more")


# --- a deadline -------------------------------------------------------------------------------------------------


def _deadline(cluster: Cluster, event: DeadlineReached, policy: Policy) -> Decision:
    """Turn a finding into a flag, or ask Cal.com first: the window is over and every frontier has passed its end.

    What Cal.com answered comes to a flag the same way: when everything is read that came before the answer. Rules that
    have changed since the deadline was set come first.
    """
    anew = _settle_all(cluster, *_sides(cluster), policy, event.at, event_id(event))
    if not anew.repeat:
        return anew
    record = _of(cluster, event.record_id)
    finding = record.finding if record else None
    if record is None or finding is None or record.deadline_at is None or record.deadline_at >= event.known_until:
        return Decision(cluster=cluster, repeat=True)
    judged = concluded(record.answers, finding)
    if record.flag is not None or (record.resolution and _still(record.resolution.kind, finding, judged)):
        return _leave(cluster, record, event)
    if judged is None and record.round is None and can_ask(finding, policy):
        return _begin(cluster, record, event, policy)
    return _flag(cluster, record, finding, judged, event)


def _begin(cluster: Cluster, record: Record, event: DeadlineReached, policy: Policy) -> Decision:
    """Ask Cal.com before accusing."""
    under_way = begin(event.at, Priority.DEADLINE, policy)
    why = Why(rule=record.rule, cause=event_id(event), frontiers=event.frontiers, offsets=event.offsets)
    return _asking(cluster, record, under_way, event.at, why, policy)


def _asking(
    cluster: Cluster,
    record: Record,
    under_way: Round,
    at: datetime,
    why: Why,
    policy: Policy,
    command: Commanded | None = None,
) -> Decision:
    asking = replace(
        record,
        status=SyncStatus.VERIFICATION_PENDING,
        deadline_at=under_way.gives_up_at,
        round=under_way,
        asked_since=under_way.started_at,
        version=record.version + 1,
    )
    asking, questions = _ask(asking, record, policy)
    outcome = _applied(asking, command) if command else None
    return _changed(cluster, record, asking, at, why, outcome=outcome, questions=questions)


def _leave(cluster: Cluster, record: Record, event: DeadlineReached) -> Decision:
    """End a round that nobody answered in time; what was flagged, or decided by hand, stays so."""
    kind = record.flag.kind if record.flag else record.resolution.kind if record.resolution else None
    status = STATUS_OF[kind] if kind else record.status
    left = replace(record, status=status, deadline_at=None, round=None, version=record.version + 1)
    why = Why(rule=record.rule, cause=event_id(event), note="unanswered", attempts=len(record.attempts))
    return _changed(cluster, record, left, event.at, why, questions=[(record.record_id, None)])


def _flag(
    cluster: Cluster, record: Record, finding: Finding, judged: Judgement | None, event: DeadlineReached
) -> Decision:
    kind = _kind(finding, judged)
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
    questions: _Questions = [(record.record_id, None)] if record.round else []
    return _changed(cluster, record, flagged, event.at, why, flags=(told,), questions=questions)


# --- a command --------------------------------------------------------------------------------------------------


def _command(cluster: Cluster, event: Commanded, policy: Policy) -> Decision:
    """Apply what an operator asked for, or say why not; what the operator did not see is never overwritten."""
    command = event.command
    record = _of(cluster, command.record_id)
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
    return _asking(cluster, record, under_way, event.received_at, why, policy, event)


def _resolve(cluster: Cluster, record: Record, event: Commanded, command: Resolve) -> Decision:
    if record.finding is None:
        return _refuse(cluster, record, event, "nothing_to_resolve")
    kind = record.flag.kind if record.flag else record.finding.kind
    resolution = Resolution(kind, command.reason, command.actor, command.id, event.received_at)
    resolved = replace(
        record,
        status=STATUS_OF[kind],
        flag=None,
        deadline_at=None,
        round=None,
        resolution=resolution,
        version=record.version + 1,
    )
    questions: _Questions = [(record.record_id, None)] if record.round else []
    why = Why(cause=command.id, note=f"by hand: {command.reason}")
    flags = (_resolved(resolved, record.flag, event.received_at, command.actor, why),) if record.flag else ()
    outcome = _applied(resolved, event)
    return _changed(
        cluster, record, resolved, event.received_at, why, flags=flags, outcome=outcome, questions=questions
    )


def _reopen(cluster: Cluster, record: Record, event: Commanded, command: Reopen) -> Decision:
    if record.resolution is None:
        return _refuse(cluster, record, event, "nothing_to_reopen")
    reopened = replace(record, resolution=None, version=record.version + 1)
    finding = record.finding
    if finding is not None and record.flag is None and record.round is None:
        deadline_at = None if finding.indeterminate else finding.deadline_at
        reopened = replace(reopened, status=SyncStatus.PENDING, deadline_at=deadline_at)
    why = Why(cause=command.id, note=f"reopened by hand: {command.reason}".rstrip(": "))
    return _changed(cluster, record, reopened, event.received_at, why, outcome=_applied(reopened, event))


def _applied(record: Record, event: Commanded) -> CommandOutcome:
    return CommandOutcome(
        command_id=event.command.id,
        record_id=record.record_id,
        applied=True,
        reason="applied",
        version=record.version,
        decided_at=event.received_at,
    )


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


# --- shared -----------------------------------------------------------------------------------------------------


def _of(cluster: Cluster, wanted: UUID) -> Record | None:
    return next((record for record in cluster.records if record.record_id == wanted), None)


def _changed(
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


def _transition(before: Record | None, after: Record, at: datetime, cause: str) -> list[Transition]:
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


def _resolved(record: Record, flag: OpenFlag, at: datetime, by: str, why: Why) -> Flag:
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
