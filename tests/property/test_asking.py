"""The law, where Cal.com is asked: whenever its answers came, and whatever deadlines fired before, the ending is one.

A history is lived through with Cal.com being asked, and answering anything; then all that was told is folded anew, in
other orders and without anybody being asked: the log has the answers.
"""

import random
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.verification import Question, check_id
from services.reconciler.core.events import Checked, DeadlineReached, Heard
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Record
from tests.support.history import NOW, Story, at, checked
from tests.support.letters import histories, policies

VERDICTS = ("found_equal", "found_different", "cancelled", "absent_once", "absent", "absent", "unknown", "unknown")
#: After all windows and all tries.
LATE_SECONDS = 400_000.0


def lived(events: list[Heard], policy: Policy, chance: random.Random) -> tuple[Story, list[Checked]]:
    """Live through a history as it came in; every question is answered soon after it was due, now and then twice."""
    story, answers = Story(policy), list[Checked]()
    coming = sorted(events, key=lambda heard: heard.received_at)
    open_questions: dict[Any, Question] = {}
    while True:
        due = [r for r in story.records if r.deadline_at is not None and r.deadline_at < at(LATE_SECONDS)]
        moments: list[tuple[Any, str, Any]] = [(r.deadline_at, "deadline", r) for r in due]
        moments += [(q.not_before + timedelta(seconds=2), "answer", q) for q in open_questions.values()]
        moments += [(coming[0].received_at, "event", coming[0])] if coming else []
        if not moments:
            return story, answers
        moment, kind, what = min(moments, key=lambda one: (one[0], one[1], str(one[2])))
        if kind == "event":
            story.tell(coming.pop(0))
        elif kind == "answer":
            answers += _answer(story, what, moment, chance)
        else:
            until = moment + timedelta(milliseconds=1)
            story.tell(DeadlineReached(record_id=what.record_id, at=until, known_until=until))
        open_questions = {r: q for d in story.decisions for r, q in d.questions if q is not None}
        open_questions = {r: q for r, q in open_questions.items() if _is_open(story.records, q)}


def _is_open(records: list[Record], question: Question) -> bool:
    mine = next((record for record in records if record.record_id == question.record_id), None)
    if mine is None or mine.round is None or mine.round.number != question.number:
        return False
    return all(answer.id != check_id(mine.record_id, question.number) for answer in mine.answers)


def _answer(story: Story, question: Question, moment: Any, chance: random.Random) -> list[Checked]:
    record = next(record for record in story.records if record.record_id == question.record_id)
    seconds = (moment - NOW).total_seconds()
    told = [checked(record, chance.choice(VERDICTS), seconds, number=question.number)]
    if chance.random() < 0.2:  # whoever asked died after he had told: another asks again
        told.append(checked(record, chance.choice(VERDICTS), seconds + 1, number=question.number))
    story.tell(*told)
    return told


def ended(story: Story) -> set[tuple[Any, ...]]:
    """Give what must not depend on when things were told."""
    return {
        (
            r.record_id,
            r.appointment,
            r.chain,
            r.rule,
            r.finding,
            r.status,
            r.flag.kind if r.flag else None,
            r.answers,
        )
        for r in story.records
    }


def replayed(events: list[Any], policy: Policy) -> Story:
    """Fold anew, and let every deadline fire in its own time."""
    story = Story(policy).tell(*events)
    while due := [r for r in story.records if r.deadline_at is not None and r.deadline_at < at(LATE_SECONDS)]:
        first = min(due, key=lambda r: (r.deadline_at, r.record_id))
        moment = first.deadline_at
        assert moment is not None
        reached = DeadlineReached(
            record_id=first.record_id, at=moment + timedelta(milliseconds=1), known_until=at(LATE_SECONDS)
        )
        story.tell(reached)
    return story


@given(events=histories(6), policy=policies(), seed=st.integers(0, 2**32))
def test_the_log_has_the_answers_so_that_a_replay_comes_to_the_same(
    events: list[Heard], policy: Policy, seed: int
) -> None:
    chance = random.Random(seed)
    policy = replace(policy, verify=True, verification_wait_seconds=chance.choice([100.0, 14_400.0]))
    story, answers = lived(events, policy, chance)
    shuffled = list(events)
    chance.shuffle(shuffled)
    mixed = list(answers)
    chance.shuffle(mixed)
    assert ended(replayed([*events, *answers], policy)) == ended(story)
    assert ended(replayed([*shuffled, *mixed], policy)) == ended(story)


@given(events=histories(6), policy=policies(), seed=st.integers(0, 2**32))
def test_no_flag_is_raised_while_cal_com_may_still_say_otherwise(
    events: list[Heard], policy: Policy, seed: int
) -> None:
    """Whatever was flagged was answered for, or nobody could be asked, or nobody answered for as long as one waits."""
    story, _ = lived(events, replace(policy, verify=True), random.Random(seed))
    for flag in story.flags:
        if flag.type.value != "sync.resolved" and flag.verdict == "not_verified":
            assert flag.kind == "AMBIGUOUS_MATCH"
