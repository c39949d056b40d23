"""How much may be asked with a key, and whether there is anybody to answer; on a clock of the test's own."""

from datetime import UTC, datetime, timedelta
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.verification import Priority
from services.verifier.answers import Answer, Bookings, Headroom, NotThere, Reason, Unauthorised, Unknown, Webhooks
from services.verifier.gate.budget import (
    FAILURES,
    FAILURES_TO_OPEN,
    OPEN_SECONDS,
    REFUSED_SECONDS,
    Budget,
    Grant,
    Lesson,
    Limits,
    fresh,
    learn,
    take,
)
from services.verifier.ports import NotNow

BEGIN = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
LIMITS = Limits.of(120)
FOUND = Bookings(rows=({"uid": "u1"},))
REFUSED = Unauthorised(status=401, detail="Your api key is not valid")
DOWN = Unknown(reason=Reason.TIMEOUT, detail="no answer within 10 s")


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


class Key:
    """A key's budget, and what was granted with it when."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits, self.budget = limits, fresh(limits, BEGIN)
        self.granted_at: list[float] = []

    def take(self, seconds: float, priority: Priority = Priority.HUMAN, *, ahead: float = 0.0) -> Grant | NotNow:
        """Ask at `seconds`, by a clock that is `ahead`."""
        self.budget, word = take(self.budget, priority, self.limits, at(seconds + ahead))
        if isinstance(word, Grant):
            self.granted_at.append(seconds)
        return word

    def grant(self, seconds: float) -> Grant:
        word = self.take(seconds)
        assert isinstance(word, Grant)
        return word

    def learn(self, seconds: float, answer: Answer, grant: Grant | None = None) -> Lesson:
        """Answer at `seconds`, at once if no grant is given."""
        grant = grant or self.grant(seconds)
        lesson = learn(self.budget, grant, answer, self.limits, at(seconds))
        self.budget = lesson.budget
        return lesson

    def fall(self, seconds: float = 0.0) -> "Key":
        """Open the breaker."""
        for _ in range(FAILURES_TO_OPEN):
            self.learn(seconds, DOWN)
        return self

    def most_in_a_minute(self, delays: list[float] | None = None) -> int:
        """Give the most requests that arrive within any 60 s, each so much after its grant."""
        late = delays or [0.0]
        arrived = sorted(one + late[n % len(late)] for n, one in enumerate(self.granted_at))
        return max((sum(first <= one < first + 60 for one in arrived) for first in arrived), default=0)


# --- the bucket --------------------------------------------------------------------------------------------------

gaps = st.lists(st.sampled_from((0.0, 0.01, 0.2, 0.66, 1.0, 7.0, 60.0, 61.0)), min_size=1, max_size=400)
ways = st.lists(st.sampled_from(tuple(Priority)), min_size=1, max_size=7)


@given(gaps=gaps, ways=ways, limit=st.integers(10, 800), delays=st.lists(st.floats(0, 10), min_size=1, max_size=9))
def test_no_minute_sees_more_than_was_allowed_however_late_each_arrives_within_its_own_time(
    gaps: list[float], ways: list[Priority], limit: int, delays: list[float]
) -> None:
    key = Key(Limits.of(limit, timeout_seconds=10))
    for number, seconds in enumerate(accumulate(gaps)):
        key.take(seconds, ways[number % len(ways)])
    assert key.most_in_a_minute(delays) <= limit


@given(gaps=gaps, ahead=st.lists(st.floats(-2, 2), min_size=1, max_size=9))
def test_clocks_that_differ_by_two_seconds_buy_nobody_a_request(gaps: list[float], ahead: list[float]) -> None:
    key = Key()
    for number, seconds in enumerate(accumulate(gaps)):
        key.take(seconds, ahead=ahead[number % len(ahead)])
    assert key.most_in_a_minute() <= 120


@pytest.mark.parametrize("limit", [10, 16, 24, 60, 120, 200, 800])
def test_whoever_asks_without_end_comes_near_the_limit_and_never_beyond(limit: int) -> None:
    key = Key(Limits.of(limit))
    for tenth in range(3000):
        key.take(tenth / 10, Priority.SWEEP)
    assert limit * 0.7 <= key.most_in_a_minute() <= limit


@given(ways=st.lists(st.sampled_from((Priority.SWEEP, Priority.DEADLINE)), min_size=50, max_size=300))
def test_a_human_always_finds_a_reserve_whatever_the_others_ask(ways: list[Priority]) -> None:
    key = Key()
    for number, priority in enumerate(ways):
        key.take(number / 50, priority)
    assert all(isinstance(key.take(len(ways) / 50), Grant) for _ in range(int(LIMITS.reserve)))


def test_what_is_not_granted_is_granted_at_the_moment_that_was_said() -> None:
    for priority in Priority:
        key = Key()
        while isinstance(word := key.take(0, priority), Grant):
            pass
        assert (word.reason, word.until > BEGIN) == ("bucket", True)
        late = (word.until - BEGIN).total_seconds()
        assert isinstance(key.take(late - 0.01, priority), NotNow)
        assert isinstance(key.take(late + 0.001, priority), Grant)


def test_a_quiet_time_saves_up_no_more_than_the_burst() -> None:
    key = Key()
    key.take(0)
    granted = [word for _ in range(100) if isinstance(word := key.take(86_400), Grant)]
    assert len(granted) == LIMITS.burst


def test_a_clock_that_is_set_back_by_an_hour_stops_nobody_and_pays_nothing_twice() -> None:
    key = Key().fall(3600)
    for _ in range(10):
        key.take(0)
    assert key.budget.opened_at == at(0)
    assert isinstance(key.take(OPEN_SECONDS), Grant)
    burst = Key()
    while isinstance(burst.take(3600), Grant):
        pass
    assert isinstance(burst.take(0), NotNow)
    assert isinstance(burst.take(1), Grant)


# --- what Cal.com says of its limits -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (Unknown(reason=Reason.LIMITED, detail="429", status=429), 60),
        (Unknown(reason=Reason.LIMITED, detail="429", status=429, retry_after_seconds=17), 17),
        (Unknown(reason=Reason.LIMITED, detail="429", status=429, retry_after_seconds=0), 1),
        (Unknown(reason=Reason.SERVER_ERROR, detail="503", status=503, retry_after_seconds=30), 30),
        (Unknown(reason=Reason.SERVER_ERROR, detail="503", status=503, retry_after_seconds=1e9), 3600),
        (Bookings(rows=(), headroom=Headroom(0, 42)), 42),
        (NotThere(headroom=Headroom(0, 42)), 42),
        (Webhooks(rows=(), headroom=Headroom(-3, 42)), 42),
        (NotThere(headroom=Headroom(0, 1_764_000_000)), 60),  # a Unix time, as some documentation has it
    ],
)
def test_a_block_is_obeyed_by_everybody_humans_too_and_by_nobody_afterwards(answer: Answer, seconds: float) -> None:
    key = Key()
    key.learn(0, answer)
    for priority in Priority:
        assert key.take(seconds - 0.1, priority) == NotNow(at(seconds), "limited")
    assert isinstance(key.take(seconds + 5), Grant)


def test_a_shorter_block_does_not_shorten_a_longer_one() -> None:
    key = Key()
    first, second = key.grant(0), key.grant(0)
    key.learn(0, Unknown(reason=Reason.LIMITED, detail="429", retry_after_seconds=60), first)
    key.learn(1, Unknown(reason=Reason.LIMITED, detail="429", retry_after_seconds=5), second)
    assert key.take(30) == NotNow(at(60), "limited")


def test_what_another_program_has_used_of_the_key_is_not_there_for_us() -> None:
    key = Key()
    key.learn(0, Bookings(rows=(), headroom=Headroom(2, 30)))
    assert [isinstance(key.take(0), Grant) for _ in range(3)] == [True, True, False]


def test_429_is_no_failure_and_says_that_it_is_none() -> None:
    key = Key()
    for turn in range(FAILURES_TO_OPEN * 2):
        lesson = key.learn(turn * 61, Unknown(reason=Reason.LIMITED, detail="429", status=429))
        assert lesson.not_now == NotNow(at(turn * 61 + 60), "limited")
    assert (key.budget.shut, key.budget.failures) == (None, 0)


# --- the breaker -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", sorted(FAILURES))
def test_five_failures_in_a_row_open_it_for_a_minute_and_each_of_them_is_told(reason: Reason) -> None:
    key = Key()
    lessons = [key.learn(0, Unknown(reason=reason, detail="no")) for _ in range(FAILURES_TO_OPEN)]
    assert [lesson.not_now for lesson in lessons] == [None] * FAILURES_TO_OPEN
    for priority in Priority:
        assert key.take(59.9, priority) == NotNow(at(60), "breaker")
    assert isinstance(key.take(60), Grant)


@pytest.mark.parametrize("answer", [FOUND, NotThere(), Webhooks(rows=()), Unknown(reason=Reason.REJECTED, detail="")])
def test_a_living_api_ends_the_row_of_failures(answer: Answer) -> None:
    key = Key()
    for turn in range(10):
        for number in range(FAILURES_TO_OPEN - 1):
            key.learn(turn * 60 + number, DOWN)
        key.learn(turn * 60 + 30, answer)
    assert key.budget.shut is None


def test_after_a_minute_exactly_one_may_try_and_its_success_lets_all_in() -> None:
    key = Key().fall()
    probe = key.grant(60)
    assert probe.probe_until == at(75)
    assert [key.take(60 + n / 10) for n in range(10)] == [NotNow(at(75), "breaker")] * 10
    assert key.learn(62, FOUND, probe).not_now is None
    assert [isinstance(key.take(62), Grant) for _ in range(3)] == [True] * 3


def test_a_probe_that_fails_is_not_told_and_opens_it_again() -> None:
    key = Key().fall()
    assert key.learn(61, DOWN, key.grant(60)).not_now == NotNow(at(121), "breaker")
    assert key.take(120) == NotNow(at(121), "breaker")
    assert key.learn(121, FOUND).not_now is None
    assert key.budget == Budget(tokens=key.budget.tokens, refilled_at=key.budget.refilled_at)


def test_the_place_of_a_prober_that_died_is_free_again_and_its_late_word_changes_nothing() -> None:
    key = Key().fall()
    dead = key.grant(60)
    second = key.grant(75)
    assert (second.probe_until, key.take(76)) == (at(90), NotNow(at(90), "breaker"))
    assert key.learn(77, FOUND, dead).budget.shut is not None
    assert key.learn(77, DOWN, dead).not_now is not None
    assert key.take(78) == NotNow(at(90), "breaker")
    key.learn(79, FOUND, second)
    assert isinstance(key.take(79), Grant)


def test_who_was_under_way_when_it_opened_neither_closes_it_nor_keeps_it_open_nor_counts() -> None:
    key = Key()
    stragglers = [key.grant(0) for _ in range(3)]
    key.fall()
    assert key.learn(5, DOWN, stragglers[0]).not_now == NotNow(at(60), "breaker")
    assert key.learn(5, FOUND, stragglers[1]).not_now is None  # its answer is good all the same
    assert key.learn(61, DOWN, stragglers[2]).not_now is not None
    assert key.budget.opened_at == at(0)


def test_a_probe_that_is_told_429_leaves_the_place_to_the_next_after_the_block() -> None:
    key = Key().fall()
    key.learn(60, Unknown(reason=Reason.LIMITED, detail="429", retry_after_seconds=20), key.grant(60))
    assert key.take(79) == NotNow(at(80), "limited")
    assert key.grant(80).probe_until is not None
    assert isinstance(key.take(80), NotNow)


def test_a_probe_takes_a_token_as_all_do() -> None:
    key = Key(Limits(burst=FAILURES_TO_OPEN, reserve=1, per_second=0.001)).fall()
    word = key.take(60)
    assert isinstance(word, NotNow)
    assert word.reason == "bucket"


# --- a key that is refused ---------------------------------------------------------------------------------------


def test_nobody_asks_with_a_refused_key_for_ten_minutes_and_then_one() -> None:
    key = Key()
    assert key.learn(0, REFUSED).not_now is None
    for priority in Priority:
        assert key.take(REFUSED_SECONDS - 1, priority) == NotNow(at(REFUSED_SECONDS), "unauthorised")
    probe = key.grant(REFUSED_SECONDS)
    assert key.take(REFUSED_SECONDS) == NotNow(at(REFUSED_SECONDS + 15), "unauthorised")
    key.learn(REFUSED_SECONDS + 1, REFUSED, probe)
    assert key.take(REFUSED_SECONDS * 2) == NotNow(at(REFUSED_SECONDS * 2 + 1), "unauthorised")
    key.learn(REFUSED_SECONDS * 2 + 1, FOUND)
    assert [isinstance(key.take(REFUSED_SECONDS * 2 + 1), Grant) for _ in range(3)] == [True] * 3


def test_a_refusal_is_the_word_of_a_living_api() -> None:
    key = Key().fall()
    key.learn(60, REFUSED, key.grant(60))
    assert (key.budget.opened_at, key.budget.failures) == (None, 0)
    assert key.take(70) == NotNow(at(60 + REFUSED_SECONDS), "unauthorised")


def test_an_api_that_dies_while_the_key_is_refused_is_tried_once_a_minute() -> None:
    key = Key()
    key.learn(0, REFUSED)
    assert key.learn(601, DOWN, key.grant(600)).not_now == NotNow(at(661), "breaker")
    key.learn(661, FOUND)
    assert key.budget.shut is None


# --- any life ----------------------------------------------------------------------------------------------------

answers: st.SearchStrategy[Answer] = st.sampled_from(
    (FOUND, NotThere(), DOWN, DOWN, DOWN, REFUSED, Unknown(reason=Reason.LIMITED, detail="429"))
)
steps = st.lists(st.tuples(st.sampled_from((0.0, 0.5, 5.0, 61.0, 601.0)), st.booleans(), answers), max_size=120)


@given(steps=steps)
def test_whatever_happens_there_is_one_probe_at_a_time_and_always_a_way_back(
    steps: list[tuple[float, bool, Answer]],
) -> None:
    """Requests go and are answered, or never, in any order; then Cal.com is well again."""
    key, under_way, seconds = Key(), list[Grant](), 0.0
    probe: Grant | None = None
    for gap, ask, answer in steps:
        seconds += gap
        if not ask and under_way:
            answered = under_way.pop(0)
            key.learn(seconds, answer, answered)
            probe = None if answered is probe else probe
        elif isinstance(word := key.take(seconds), Grant):
            assert (word.probe_until is None) is (key.budget.shut is None)
            assert probe is None or probe.probe_until is None or at(seconds) >= probe.probe_until
            probe = word if word.probe_until else None
            under_way.append(word)
    for _ in range(3):
        seconds += 3601
        key.learn(seconds, FOUND)
    assert key.budget.shut is None
