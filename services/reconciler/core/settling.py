"""Settling: who belongs to whom, and how every record stands by what its sides, its human and Cal.com said. Pure."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from schemas.flags import Flag, Kind, SyncStatus, Why
from services.reconciler.core.answers import Answer, Judgement, add
from services.reconciler.core.decision import Cluster, Decision, Gone, Transition
from services.reconciler.core.effects import STATUS_OF, Questions, applied, changed, resolved, still, transitions_of
from services.reconciler.core.events import Commanded
from services.reconciler.core.findings import find, stirred
from services.reconciler.core.hearsay import hand_on, own
from services.reconciler.core.matching import Pair, age, name_of, pair, sides_of
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Finding, Record, Round, record_id
from services.reconciler.core.rounds import can_ask, concluded, is_over, next_question
from services.reconciler.core.sides import AppointmentSide, BookingSide

Appointments = dict[str, AppointmentSide]
Bookings = dict[tuple[str, str | None], BookingSide]


def sides_by_name(cluster: Cluster) -> tuple[Appointments, Bookings]:
    """Give the cluster's sides, each with what was said of itself."""
    records = cluster.records
    appointments = {r.appointment.appointment_id: r.appointment for r in records if r.appointment}
    if len(records) == 1 and len(records[0].chain) <= 1:
        bookings = {(side.uid, side.seat): side for side in records[0].chain}
    else:
        bookings = {(side.uid, side.seat): own(side) for record in records for side in record.chain}
    return appointments, bookings


def settle_all(
    cluster: Cluster,
    by_id: Appointments,
    by_uid: Bookings,
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
    questions: Questions = []
    for place in places:
        known = before.get(place.record_id)
        settled, told = settle(_inherit(cluster, known, place, leaving), place, policy, at, cause)
        settled, question = ask(settled, known, policy)
        questions.extend(question)
        after.append(settled)
        flags.extend(told)
        if settled is not known:
            transitions.extend(transitions_of(known, settled, at, cause))
    cluster_id = min(cluster.ids) if cluster.ids else after[0].record_id
    after = [r if r.cluster_id == cluster_id else replace(r, cluster_id=cluster_id) for r in after]
    merged = Why(cause=cause, note="merged")
    flags.extend(resolved(record, record.flag, at, "merged", merged) for record in leaving if record.flag is not None)
    moved = tuple([record for record in after if before.get(record.record_id) is not record])
    if not moved and not leaving and cluster.ids == (cluster_id,):
        return Decision(cluster=cluster, repeat=True)
    return Decision(
        cluster=Cluster(cluster.company_id, (cluster_id,), tuple(after)),
        changed=moved,
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


def ask(settled: Record, known: Record | None, policy: Policy) -> tuple[Record, Questions]:
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
    ended = flag if flag and (finding is None or not still(flag.kind, finding, judged)) else None
    shown = flag.kind if flag and not ended else None
    if shown is None and resolution and finding and still(resolution.kind, finding, judged):
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
        flags.append(resolved(settled, ended, at, "auto", why))
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


def _merge(record: Record, after: list[Record]) -> Gone:
    """Say where a record went that is none of its own any more: to the one that holds its first side."""
    for other in after:
        if any(name_of(side) == record.anchor for side in sides_of(other)):
            return Gone(record.record_id, other.record_id)
    raise AssertionError(f"no record holds {record.anchor!r} any more")


def open_round(
    cluster: Cluster,
    record: Record,
    under_way: Round,
    at: datetime,
    why: Why,
    policy: Policy,
    command: Commanded | None = None,
) -> Decision:
    """Have Cal.com asked about a record, in a round of questions that begins now. `command`: whoever wants to know."""
    asking = replace(
        record,
        status=SyncStatus.VERIFICATION_PENDING,
        deadline_at=under_way.gives_up_at,
        round=under_way,
        asked_since=under_way.started_at,
        version=record.version + 1,
    )
    asking, questions = ask(asking, record, policy)
    outcome = applied(asking, command) if command else None
    return changed(cluster, record, asking, at, why, outcome=outcome, questions=questions)
