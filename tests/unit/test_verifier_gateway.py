"""The one way to Cal.com, with a client that answers what it is told, on a clock of the test's own."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from schemas.verification import Priority
from services.verifier.answers import (
    Answer,
    Bookings,
    Headroom,
    NotThere,
    Reason,
    Unauthorised,
    Unknown,
    Webhook,
    Webhooks,
)
from services.verifier.gate.budget import FAILURES_TO_OPEN, OPEN_SECONDS
from services.verifier.gate.gateway import MOST_ROWS, CalcomGateway
from services.verifier.gate.incidents import Kind, trouble_of
from services.verifier.ports import (
    Account,
    Call,
    CreateWebhook,
    Gateway,
    GetBooking,
    ListQuery,
    ListWebhooks,
    NotNow,
    Observed,
    PatchWebhook,
)
from tests.support.budgets import MemoryBudgets, MemoryIncidents
from tests.support.hand_clock import HandClock

BEGIN = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
KEY = "cal_live_0123456789"
ACME = Account(company_id="acme", base_url="https://api.cal.com/v2", api_key=KEY, budget_id="0123456789abcdef")
BETA = Account(company_id="beta", base_url="https://api.cal.com/v2", api_key=KEY, budget_id="0123456789abcdef")
FOUND = Bookings(rows=({"uid": "u1"},))
DOWN = Unknown(reason=Reason.TIMEOUT, detail="no answer within 10 s")
LIMITED = Unknown(reason=Reason.LIMITED, detail="too many requests", status=429)
REFUSED = Unauthorised(status=401, detail="Your api key is not valid")
U1 = GetBooking("u1")


class Cal:
    """A client: answers what `answer` says, as soon as `gate` is open, `seconds` later by the clock."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.answers: Callable[[Call], Answer] | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.seconds = 0.0
        self.sent: list[tuple[str, Call]] = []

    def says(self, answer: Answer) -> None:
        self.answers = lambda _: answer

    async def send(self, account: Account, call: Call) -> Answer:
        self.sent.append((account.company_id, call))
        await self.gate.wait()
        self.clock.seconds += self.seconds
        return self.answers(call) if self.answers else FOUND


class Town:
    """A gateway and what stands behind it."""

    def __init__(self) -> None:
        self.clock = HandClock(BEGIN)
        self.cal, self.budgets, self.incidents = Cal(self.clock), MemoryBudgets(self.clock), MemoryIncidents()
        self.gateway: Gateway = CalcomGateway(self.cal, self.budgets, self.incidents, self.clock, jitter=lambda: 0.0)

    async def ask(
        self,
        call: Call = U1,
        *,
        account: Account = ACME,
        priority: Priority = Priority.HUMAN,
        since: datetime | None = None,
        wait_seconds: float = 0.0,
    ) -> Observed | NotNow:
        return await self.gateway.ask(account, call, priority=priority, not_older_than=since, wait_seconds=wait_seconds)

    async def fall(self) -> None:
        """Open the breaker."""
        self.cal.says(DOWN)
        for _ in range(FAILURES_TO_OPEN):
            assert await self.ask() == Observed(DOWN, self.clock.now())


@pytest.fixture
def town() -> Town:
    return Town()


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


# --- permission, request, what is learnt -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [FOUND, NotThere(), Webhooks(rows=()), REFUSED, DOWN, Unknown(reason=Reason.NOT_CALCOM, detail="HTML")]
)
async def test_what_cal_com_says_is_handed_on_with_the_moment_at_which_it_was_asked(town: Town, answer: Answer) -> None:
    town.cal.seconds = 3
    town.cal.says(answer)
    assert await town.ask() == Observed(answer, at(0))


async def test_every_request_takes_a_token_and_without_one_nothing_is_sent(town: Town) -> None:
    burst = int(town.budgets.limits.burst)
    said = [await town.ask(GetBooking(f"u{n}")) for n in range(burst + 5)]
    assert len(town.cal.sent) == burst
    assert [word.reason for word in said if isinstance(word, NotNow)] == ["bucket"] * 5


async def test_who_may_wait_for_a_token_gets_it_and_no_sooner(town: Town) -> None:
    town.budgets.drain(ACME.budget_id)
    word = await town.ask(wait_seconds=5)
    assert isinstance(word, Observed)
    assert word.at >= at(1 / town.budgets.limits.per_second)


async def test_who_may_not_wait_so_long_is_told_until_when(town: Town) -> None:
    town.budgets.drain(ACME.budget_id)
    word = await town.ask(priority=Priority.SWEEP, wait_seconds=1)
    assert isinstance(word, NotNow)
    assert (word.reason, town.clock.seconds, town.cal.sent) == ("bucket", 0.0, [])
    assert word.until > at(1)


async def test_a_human_does_not_wait_behind_a_sweep(town: Town) -> None:
    while isinstance(await town.ask(ListWebhooks(), priority=Priority.SWEEP), Observed):
        pass
    assert isinstance(await town.ask(), Observed)


async def test_429_is_no_answer_and_nobody_asks_before_it_is_over(town: Town) -> None:
    town.cal.says(LIMITED)
    assert await town.ask() == NotNow(at(60), "limited")
    assert await town.ask(wait_seconds=600) == NotNow(at(60), "limited")
    assert len(town.cal.sent) == 1
    assert [kind for _, kind in town.incidents.open] == [Kind.LIMITED]


async def test_a_company_that_shares_the_key_shares_its_limits(town: Town) -> None:
    town.cal.says(Bookings(rows=(), headroom=Headroom(0, 30)))
    assert isinstance(await town.ask(), Observed)
    assert await town.ask(account=BETA) == NotNow(at(30), "limited")


async def test_an_open_breaker_lets_one_probe_through_whose_failure_is_no_answer(town: Town) -> None:
    await town.fall()
    assert await town.ask(wait_seconds=600) == NotNow(at(OPEN_SECONDS), "breaker")
    town.clock.seconds = OPEN_SECONDS
    assert await town.ask() == NotNow(at(OPEN_SECONDS * 2), "breaker")
    assert len(town.cal.sent) == FAILURES_TO_OPEN + 1
    town.clock.seconds = OPEN_SECONDS * 2
    town.cal.says(NotThere())
    assert await town.ask() == Observed(NotThere(), town.clock.now())
    assert isinstance(await town.ask(), Observed)


async def test_a_probe_is_sent_by_one_however_many_ask_at_once(town: Town) -> None:
    await town.fall()
    town.clock.seconds = OPEN_SECONDS
    town.cal.gate.clear()
    town.cal.says(FOUND)
    asking = [asyncio.ensure_future(town.ask(GetBooking(f"v{n}"))) for n in range(20)]
    done, _ = await asyncio.wait(asking, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    await turns()
    town.cal.gate.set()
    said = await asyncio.gather(*asking)
    assert sum(isinstance(word, Observed) for word in said) == 1
    assert len(town.cal.sent) == FAILURES_TO_OPEN + 1
    assert done


async def turns() -> None:
    """Let all others go as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)


# --- incidents ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "what"),
    [
        (REFUSED, Kind.UNAUTHORISED, "--calcom-api-key-file"),
        (LIMITED, Kind.LIMITED, "RECONCAL_CALCOM_REQUESTS_PER_MINUTE"),
        (Unknown(reason=Reason.NOT_CALCOM, detail="HTML"), Kind.WRONG_ADDRESS, "--calcom-base-url"),
        (Unknown(reason=Reason.REDIRECT, detail="to example.com"), Kind.WRONG_ADDRESS, "example.com"),
        (Unknown(reason=Reason.PRIVATE_ADDRESS, detail="10.0.0.1"), Kind.WRONG_ADDRESS, "10.0.0.1"),
        (Unknown(reason=Reason.API_VERSION, detail="2024-04-15"), Kind.WRONG_ANSWER, "RECONCAL_CALCOM_API_VERSION"),
        (Unknown(reason=Reason.WRONG_SHAPE, detail="no data"), Kind.WRONG_ANSWER, "no data"),
        (Unknown(reason=Reason.TOO_LARGE, detail="50 MB"), Kind.WRONG_ANSWER, "50 MB"),
    ],
)
async def test_what_an_admin_has_to_mend_is_an_incident_at_once_until_cal_com_answers(
    town: Town, answer: Answer, kind: Kind, what: str
) -> None:
    town.cal.says(answer)
    await town.ask()
    assert [(company, found) for company, found in town.incidents.open] == [("acme", kind)]
    detail = town.incidents.open["acme", kind]
    assert what in detail
    assert KEY not in detail
    town.clock.seconds = 3600
    town.cal.says(NotThere())
    assert isinstance(await town.ask(), Observed)
    assert town.incidents.open == {}


async def test_a_failure_is_an_incident_only_once_the_breaker_opens(town: Town) -> None:
    town.cal.says(DOWN)
    for _ in range(FAILURES_TO_OPEN - 1):
        await town.ask()
    assert town.incidents.open == {}
    await town.ask()
    assert "no answer within 10 s" in town.incidents.open["acme", Kind.UNREACHABLE]


@pytest.mark.parametrize(("call", "goes_on"), [(ListWebhooks(), True), (U1, False)])
async def test_a_key_that_may_not_look_at_webhooks_may_still_ask_for_bookings(
    town: Town, call: Call, *, goes_on: bool
) -> None:
    """A 403 of the bookings is a key that is refused."""
    town.cal.says(Unauthorised(status=403, detail="insufficient scope"))
    said = await town.ask(call)
    assert isinstance(said, Observed)
    assert isinstance(said.answer, Unauthorised)
    town.cal.says(FOUND)
    assert isinstance(await town.ask(GetBooking("u2")), Observed) is goes_on
    assert bool(town.incidents.open) is not goes_on


async def test_a_company_whose_key_others_found_refused_is_told_likewise(town: Town) -> None:
    town.cal.says(REFUSED)
    await town.ask()
    assert await town.ask(account=BETA) == NotNow(at(600), "unauthorised")
    assert set(town.incidents.open) == {("acme", Kind.UNAUTHORISED), ("beta", Kind.UNAUTHORISED)}
    assert "set beta" in town.incidents.open["beta", Kind.UNAUTHORISED]


async def test_an_answer_that_is_the_requests_own_fault_is_no_incident_and_ends_none(town: Town) -> None:
    town.cal.says(Unknown(reason=Reason.NOT_CALCOM, detail="HTML"))
    await town.ask()
    town.cal.says(Unknown(reason=Reason.REJECTED, detail="400"))
    await town.ask()
    assert list(town.incidents.open) == [("acme", Kind.WRONG_ADDRESS)]


def test_no_good_answer_is_trouble() -> None:
    assert trouble_of(ACME, FOUND, shut=True) is None


async def test_metrics_show_an_open_breaker_while_it_is_open_and_why_nobody_asked(town: Town) -> None:
    def shown() -> float | None:
        return REGISTRY.get_sample_value("reconcal_calcom_breaker_open", {"budget": "01234567"})

    def refused() -> float:
        return REGISTRY.get_sample_value("reconcal_calcom_not_now_total", {"reason": "breaker"}) or 0.0

    before = refused()
    await town.fall()
    await town.ask()
    assert (shown(), refused() - before) == (1.0, 1.0)
    town.clock.seconds = OPEN_SECONDS
    town.cal.says(FOUND)
    await town.ask()
    assert shown() is None


# --- what was asked lately, and what is being asked --------------------------------------------------------------


async def test_what_was_found_is_given_again_for_five_minutes_and_no_token_taken(town: Town) -> None:
    first = await town.ask(since=at(-600))
    town.clock.seconds = 300
    assert await town.ask(since=at(-600)) is first
    assert await town.ask(since=at(0), account=BETA) is first
    assert len(town.cal.sent) == 1
    town.clock.seconds = 300.1
    assert await town.ask(since=at(-600)) == Observed(FOUND, at(300.1))


async def test_what_was_asked_for_no_reuse_is_not_remembered_and_yet_ends_what_was(town: Town) -> None:
    await town.ask(since=at(0))
    await town.ask()
    await town.ask(since=at(0))
    assert len(town.cal.sent) == 3


async def test_an_answer_that_is_older_than_wanted_is_none(town: Town) -> None:
    await town.ask(since=at(0))
    town.clock.seconds = 10
    assert await town.ask(since=at(5)) == Observed(FOUND, at(10))
    assert await town.ask(since=at(10)) == Observed(FOUND, at(10))
    assert len(town.cal.sent) == 2


async def test_who_does_not_say_how_old_it_may_be_is_answered_afresh(town: Town) -> None:
    await town.ask()
    await town.ask()
    assert len(town.cal.sent) == 2


@pytest.mark.parametrize("answer", [NotThere(), DOWN, Bookings(rows=()), Webhooks(rows=()), REFUSED])
async def test_only_what_was_found_is_given_again(town: Town, answer: Answer) -> None:
    town.cal.says(answer)
    await town.ask(since=at(-600))
    town.clock.seconds = 601 if answer is REFUSED else 1
    await town.ask(since=at(-600))
    assert len(town.cal.sent) == 2


async def test_what_is_not_there_any_more_is_not_given_again(town: Town) -> None:
    await town.ask(since=at(-1))
    town.cal.says(NotThere())
    await town.ask()
    assert await town.ask(since=at(-1)) == Observed(NotThere(), at(0))


async def test_a_clock_that_was_set_back_gives_nothing_again(town: Town) -> None:
    town.clock.seconds = 600
    await town.ask(since=at(0))
    town.clock.seconds = 0
    await town.ask(since=at(-600))
    assert len(town.cal.sent) == 2


async def test_the_memory_is_bounded_by_what_it_holds(town: Town) -> None:
    town.cal.answers = lambda _: Bookings(rows=tuple({"uid": f"u{n}"} for n in range(10)))
    for number in range(MOST_ROWS // 10 + 1):
        town.budgets.kept.clear()
        await town.ask(GetBooking(f"u{number}"), since=at(0))
    town.budgets.kept.clear()
    sent = len(town.cal.sent)
    await town.ask(GetBooking("u1"), since=at(0))
    assert len(town.cal.sent) == sent
    await town.ask(GetBooking("u0"), since=at(0))
    assert len(town.cal.sent) == sent + 1


async def test_more_than_a_page_is_not_remembered(town: Town) -> None:
    town.cal.says(Bookings(rows=tuple({"uid": f"u{n}"} for n in range(101))))
    await town.ask(ListQuery(), since=at(0))
    await town.ask(ListQuery(), since=at(0))
    assert len(town.cal.sent) == 2


async def test_equal_questions_at_once_are_one_request(town: Town) -> None:
    town.cal.gate.clear()
    asking = [asyncio.ensure_future(town.ask(since=at(0))) for _ in range(10)]
    await turns()
    town.cal.gate.set()
    said = await asyncio.gather(*asking)
    assert len(town.cal.sent) == 1
    assert said == [Observed(FOUND, at(0))] * 10


async def test_who_wants_it_fresher_than_what_is_under_way_asks_again(town: Town) -> None:
    town.cal.gate.clear()
    first = asyncio.ensure_future(town.ask(since=at(0)))
    await turns()
    town.clock.seconds = 2
    second = asyncio.ensure_future(town.ask(since=at(1)))
    await turns()
    town.cal.gate.set()
    assert (await first, await second) == (Observed(FOUND, at(0)), Observed(FOUND, at(2)))


@pytest.mark.parametrize(
    "call",
    [
        CreateWebhook(subscriber_url="https://x.example", triggers=("BOOKING_CREATED",), secret="s"),
        PatchWebhook(
            webhook=Webhook(id="w", subscriber_url="https://x.example", active=False, triggers=()), active=True
        ),
    ],
)
async def test_what_changes_something_is_sent_each_time(town: Town, call: Call) -> None:
    town.cal.says(Webhooks(rows=()))
    town.cal.gate.clear()
    asking = [asyncio.ensure_future(town.ask(call, since=at(0))) for _ in range(2)]
    await turns()
    town.cal.gate.set()
    await asyncio.gather(*asking)
    assert len(town.cal.sent) == 2


async def test_a_question_that_nobody_waits_for_any_more_is_learnt_from_all_the_same(town: Town) -> None:
    town.cal.says(REFUSED)
    town.cal.gate.clear()
    leader, joined = (asyncio.ensure_future(town.ask(since=at(0))) for _ in range(2))
    await turns()
    leader.cancel()
    town.cal.gate.set()
    assert await joined == Observed(REFUSED, at(0))
    assert await town.ask() == NotNow(at(600), "unauthorised")


async def test_whoever_closes_does_not_wait_for_cal_com(town: Town) -> None:
    town.cal.gate.clear()
    asking = asyncio.ensure_future(town.ask())
    await turns()
    assert isinstance(town.gateway, CalcomGateway)
    await asyncio.wait_for(town.gateway.close(), 5)
    with pytest.raises(asyncio.CancelledError):
        await asking
