"""The keys' budgets and the companies' incidents in a real database, shared by processes whose clocks differ."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from structlog.testing import capture_logs

from schemas.verification import Priority
from services.companies import admin
from services.companies.admin import Changes, NewCompany
from services.companies.model import Purpose
from services.companies.register import Register
from services.plumbing.clock import WallClock
from services.plumbing.postgres import Pool
from services.plumbing.secrets import Vault, new_key
from services.verifier.accounts import Accounts, budget_of
from services.verifier.answers import Bookings, Headroom, NotThere, Reason, Unauthorised, Unknown
from services.verifier.gate.budget import FAILURES_TO_OPEN, Grant, Limits
from services.verifier.gate.budgets import PostgresBudgets
from services.verifier.gate.incidents import Kind, PostgresIncidents, Trouble
from services.verifier.ports import NotNow
from tests.support.hand_clock import HandClock

KEY = "0123456789abcdef0123456789abcdef"
FAST = Limits(burst=10, reserve=3, per_second=40)
DOWN = Unknown(reason=Reason.TIMEOUT, detail="no answer")
NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
AFTER_THAT = timedelta(seconds=0.5)


class Ahead(WallClock):
    """A machine's clock that goes so many seconds before the others."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self._seconds)


@pytest.fixture
async def pools(dsn: str) -> AsyncIterator[list[Pool]]:
    """Give the pools of two processes."""
    opened = [await asyncpg.create_pool(dsn, min_size=4, max_size=4) for _ in range(2)]
    yield opened
    for pool in opened:
        await pool.close()


def processes(pools: list[Pool], limits: Limits = FAST) -> list[PostgresBudgets]:
    """Give two processes whose clocks are two seconds apart."""
    return [PostgresBudgets(pool, limits, Ahead(seconds)) for pool, seconds in zip(pools, (-1, 1), strict=True)]


async def age(pool: Pool, column: str, seconds: float) -> None:
    """Let what was noted in a column lie longer ago."""
    await pool.execute(f"UPDATE api_budgets SET {column} = {column} - $1 * interval '1 second'", seconds)


async def fall(budgets: PostgresBudgets) -> None:
    """Open the breaker."""
    for _ in range(FAILURES_TO_OPEN):
        grant = await budgets.take(KEY, Priority.HUMAN)
        assert isinstance(grant, Grant)
        await budgets.learn(KEY, grant, DOWN)


# --- budgets -----------------------------------------------------------------------------------------------------


async def test_two_processes_together_never_get_more_than_one_alone_may(pools: list[Pool]) -> None:
    began = time.monotonic()

    async def asking(budgets: PostgresBudgets) -> int:
        granted = 0
        while time.monotonic() < began + 2:
            granted += isinstance(await budgets.take(KEY, Priority.HUMAN), Grant)
        return granted

    granted = sum(await asyncio.gather(*(asking(one) for one in processes(pools) for _ in range(4))))
    most = FAST.burst + FAST.per_second * (time.monotonic() - began)
    assert most / 2 < granted <= most
    assert await pools[0].fetchval("SELECT count(*) FROM api_budgets") == 1


async def test_two_processes_that_begin_a_key_at_once_begin_it_once(pools: list[Pool]) -> None:
    slow = Limits(burst=10, reserve=3, per_second=0.001)
    takes = [one.take(KEY, Priority.HUMAN) for one in processes(pools, slow) for _ in range(20)]
    said = await asyncio.gather(*takes)
    assert sum(isinstance(word, Grant) for word in said) == 10


async def test_each_process_is_told_until_when_by_its_own_clock(pools: list[Pool]) -> None:
    behind, ahead = processes(pools)
    grant = await behind.take(KEY, Priority.HUMAN)
    assert isinstance(grant, Grant)
    lesson = await behind.learn(KEY, grant, Unknown(reason=Reason.LIMITED, detail="429"))
    for one, seconds, word in ((behind, -1, lesson.not_now), (ahead, 1, await ahead.take(KEY, Priority.HUMAN))):
        assert isinstance(word, NotNow), one
        expected = Ahead(seconds).now() + timedelta(seconds=60)
        assert (word.reason, abs(word.until - expected) < AFTER_THAT) == ("limited", True)


async def test_one_probe_goes_out_however_many_processes_ask(pools: list[Pool]) -> None:
    one, other = processes(pools)
    await fall(one)
    assert isinstance(await other.take(KEY, Priority.HUMAN), NotNow)
    await age(pools[0], "opened_at", 60)
    said = await asyncio.gather(*(budgets.take(KEY, Priority.HUMAN) for budgets in (one, other) for _ in range(10)))
    probes = [word for word in said if isinstance(word, Grant)]
    assert len(probes) == 1
    assert {word.reason for word in said if isinstance(word, NotNow)} == {"breaker"}
    await one.learn(KEY, probes[0], NotThere())
    assert isinstance(await other.take(KEY, Priority.HUMAN), Grant)


async def test_a_prober_that_died_holds_its_place_for_a_while_only(pools: list[Pool]) -> None:
    one, other = processes(pools)
    await fall(one)
    await age(pools[0], "opened_at", 60)
    assert isinstance(await one.take(KEY, Priority.HUMAN), Grant)
    assert isinstance(await other.take(KEY, Priority.HUMAN), NotNow)
    await age(pools[0], "probe_until", FAST.probe_seconds)
    assert isinstance(await other.take(KEY, Priority.HUMAN), Grant)


async def test_what_one_process_learns_the_other_heeds(pools: list[Pool]) -> None:
    one, other = processes(pools)
    for answer, reason in (
        (Unauthorised(status=401, detail="no"), "unauthorised"),
        (Bookings(rows=(), headroom=Headroom(0, 30)), "limited"),
    ):
        await pools[0].execute("DELETE FROM api_budgets")
        grant = await one.take(KEY, Priority.HUMAN)
        assert isinstance(grant, Grant)
        await one.learn(KEY, grant, answer)
        word = await other.take(KEY, Priority.HUMAN)
        assert isinstance(word, NotNow)
        assert word.reason == reason


async def test_who_dies_between_question_and_answer_has_used_a_token_and_harms_nobody(pools: list[Pool]) -> None:
    one, other = processes(pools)
    asking = asyncio.ensure_future(one.take(KEY, Priority.HUMAN))
    await asyncio.wait({asking}, timeout=0.002)
    asking.cancel()
    await asyncio.wait({asking})
    assert isinstance(await asyncio.wait_for(other.take(KEY, Priority.HUMAN), 5), Grant)


# --- incidents ---------------------------------------------------------------------------------------------------


async def open_ones(pool: Pool) -> dict[tuple[str, str], int]:
    return {(row["company_id"], row["kind"]): row["seen"] for row in await pool.fetch("SELECT * FROM incidents")}


REFUSED = Trouble(Kind.UNAUTHORISED, "Make a new key.")
SILENT = Trouble(Kind.UNREACHABLE, "See whether it runs.")
ODD = Trouble(Kind.WRONG_ANSWER, "See its version.")


async def test_an_incident_is_logged_once_counted_and_ended_by_a_good_answer_of_any_process(pools: list[Pool]) -> None:
    clock = HandClock(NOW)
    one, other = (PostgresIncidents(pool, clock) for pool in pools)
    with capture_logs() as lines:
        await one.seen("acme", REFUSED)
        await other.seen("acme", REFUSED)
        await one.seen("beta", SILENT)
        assert await open_ones(pools[0]) == {("acme", Kind.UNAUTHORISED): 2, ("beta", Kind.UNREACHABLE): 1}
        await other.over("acme")
    assert await open_ones(pools[0]) == {("beta", Kind.UNREACHABLE): 1}
    assert [(line["event"], line["company"]) for line in lines] == [
        ("verifier.incident", "acme"),
        ("verifier.incident", "beta"),
        ("verifier.incident_over", "acme"),
    ]


async def test_hearsay_adds_nothing_to_what_a_company_knows_itself(pools: list[Pool]) -> None:
    incidents = PostgresIncidents(pools[0], HandClock(NOW))
    await incidents.seen("acme", ODD)
    await incidents.heard("acme", SILENT)
    await incidents.heard("beta", SILENT)
    await incidents.heard("beta", SILENT)  # written once a minute
    assert await open_ones(pools[0]) == {("acme", Kind.WRONG_ANSWER): 1, ("beta", Kind.UNREACHABLE): 1}


async def test_an_odd_answer_is_over_when_none_came_for_ten_minutes(pools: list[Pool]) -> None:
    clock = HandClock(NOW)
    incidents = PostgresIncidents(pools[0], clock)
    await incidents.seen("acme", ODD)
    await incidents.over("acme")
    assert await open_ones(pools[0]) == {("acme", Kind.WRONG_ANSWER): 1}
    clock.seconds = 601
    await incidents.over("acme")
    assert await open_ones(pools[0]) == {}


async def test_an_incident_that_another_process_has_opened_ends_within_a_minute_of_good_answers(
    pools: list[Pool],
) -> None:
    clock = HandClock(NOW)
    one, other = (PostgresIncidents(pool, clock) for pool in pools)
    await one.over("acme")
    await other.seen("acme", REFUSED)
    clock.seconds = 60
    await one.over("acme")
    assert await open_ones(pools[0]) == {}


async def test_incidents_of_companies_without_an_account_are_over_and_others_kinds_stay(pools: list[Pool]) -> None:
    incidents = PostgresIncidents(pools[0], HandClock(NOW))
    await incidents.seen("acme", REFUSED)
    await incidents.seen("gone", REFUSED)
    await pools[0].execute("UPDATE incidents SET kind = 'wrong_partition' WHERE company_id = 'acme'")
    await incidents.keep([])
    assert await open_ones(pools[0]) == {("acme", "wrong_partition"): 1}


# --- accounts ----------------------------------------------------------------------------------------------------


async def test_an_account_is_the_newest_key_that_counts_and_follows_every_change(pools: list[Pool]) -> None:
    pool, vault, clock = pools[0], Vault(new_key()), HandClock(NOW)
    register = Register(opens={Purpose.CALCOM_API_KEY})
    accounts = Accounts(register, clock)
    async with pool.acquire() as conn:
        await admin.add(conn, vault, NewCompany(company_id="acme", name="Acme", calcom_api_key="cal_live_first"))
        await admin.add(conn, vault, NewCompany(company_id="beta", name="Beta"))
        await register.refresh(pool, vault)
        first = accounts.of("acme")
        assert first is not None
        assert (first.api_key, first.budget_id) == ("cal_live_first", budget_of(first.base_url, "cal_live_first"))
        assert "cal_live_first" not in repr(first)
        assert (accounts.of("beta"), accounts.of("nobody"), list(accounts.all())) == (None, None, [first])
        await admin.rotate_secret(
            conn, vault, "acme", Purpose.CALCOM_API_KEY, keep_old_seconds=60, now=NOW, given="cal_live_second"
        )
        await admin.set_company(conn, "acme", Changes(calcom_base_url="https://cal.example/v2/"))
        await register.refresh(pool, vault)
        second = accounts.of("acme")
        assert second is not None
        assert (second.api_key, second.base_url) == ("cal_live_second", "https://cal.example/v2")
        assert second.budget_id != first.budget_id
        await admin.remove_company(conn, "acme", NOW)
    await register.refresh(pool, vault)
    assert list(accounts.all()) == []
