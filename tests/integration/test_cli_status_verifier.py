"""What `reconcal status` says of the verifier, on a real database: what waits, what is blocked, how its rounds are."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import pytest

from services.cli import verifying
from services.cli.verifying import Verifying, judge, lines
from services.plumbing import postgres
from services.plumbing.postgres import Pool
from services.plumbing.settings import load

NOW: Final = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
KEY: Final = "cal_live_hush"


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    pool = await postgres.connect(load({"RECONCAL_POSTGRES_DSN": dsn}), name="tests", size=1)
    yield pool
    await postgres.close(pool)


async def look(pool: Pool) -> Verifying:
    async with pool.acquire() as connection:
        return await verifying.look(connection, NOW, 300)


async def put(pool: Pool, table: str, **row: Any) -> None:
    numbers = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await pool.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({numbers})", *row.values())


async def ask(pool: Pool, priority: int, **over: Any) -> None:
    plain = {"company_id": "acme", "record_id": uuid4(), "number": 1, "question": "{}", "not_before": NOW}
    await put(pool, "verifications", **(plain | {"priority": priority, "created_at": NOW - MINUTE} | over))


async def incident(pool: Pool, company_id: str) -> None:
    row = {"company_id": company_id, "kind": "calcom_unauthorised", "detail": "d"}
    await put(pool, "incidents", **row, opened_at=NOW, last_seen_at=NOW)


async def company(pool: Pool, company_id: str, *, expires_at: datetime | None = None) -> None:
    await put(pool, "companies", company_id=company_id, name=company_id)
    secret = {"company_id": company_id, "secret_id": uuid4(), "purpose": "calcom_api_key", "ciphertext": KEY.encode()}
    await put(pool, "company_secrets", **secret, expires_at=expires_at)


async def test_an_idle_verifier_is_well(pool: Pool) -> None:
    found = await look(pool)
    assert found == Verifying()
    assert judge(found, NOW) == []
    assert lines(found) == [("Questions", "none")]


async def test_questions_are_counted_by_who_wants_to_know(pool: Pool) -> None:
    await ask(pool, 0, leased_by="me", leased_until=NOW + MINUTE)
    for _ in range(3):
        await ask(pool, 1)
    await ask(pool, 2, not_before=NOW + MINUTE, created_at=NOW - 5 * MINUTE)
    found = await look(pool)
    assert judge(found, NOW) == []
    (line,) = [said for what, said in lines(found) if what == "Questions"]
    assert line == "1 human (1 being asked, oldest 60 s), 3 deadline (oldest 60 s), 1 sweep (1 later, oldest 300 s)"


async def test_questions_that_nobody_asks_are_a_trouble_but_for_those_that_an_incident_explains(pool: Pool) -> None:
    await incident(pool, "refused")
    await ask(pool, 1, company_id="refused", not_before=NOW - 60 * MINUTE)
    assert judge(await look(pool), NOW) == []
    await ask(pool, 1, not_before=NOW - 6 * MINUTE)
    assert judge(await look(pool), NOW) == [
        "1 questions to Cal.com wait for more than 5 minutes: is a verifier running?"
    ]


async def test_a_blocked_key_is_shown_by_what_begins_its_hash(pool: Pool) -> None:
    plain = {"tokens": 1.0, "refilled_at": NOW}
    await put(pool, "api_budgets", budget_id="aaaaaaaaaaaaaaaa", **plain, opened_at=NOW - MINUTE, failures=7)
    await put(pool, "api_budgets", budget_id="bbbbbbbbbbbbbbbb", **plain, blocked_until=NOW + MINUTE)
    await put(pool, "api_budgets", budget_id="cccccccccccccccc", **plain, blocked_until=NOW - MINUTE)
    await put(pool, "api_budgets", budget_id="dddddddddddddddd", **plain, refused_at=NOW - 2 * MINUTE)
    said = [text for what, text in lines(await look(pool)) if what == "Blocked key"]
    assert said == [
        "dddddddd…: unauthorised since 2026-11-24 08:58:00 UTC, 0 failures in a row",
        "aaaaaaaa…: breaker since 2026-11-24 08:59:00 UTC, 7 failures in a row",
        "bbbbbbbb…: limited until 2026-11-24 09:01:00 UTC, 0 failures in a row",
    ]


async def test_a_company_that_is_not_polled_any_more_is_a_trouble_where_its_key_counts(pool: Pool) -> None:
    for name in ("well", "late", "refused"):
        await company(pool, name)
    await company(pool, "gone", expires_at=NOW - MINUTE)
    await incident(pool, "refused")
    for name, minutes in (("well", 4), ("late", 16), ("refused", 100), ("gone", 1000)):
        polled = {"polled_at": NOW - minutes * MINUTE, "began_at": NOW - 2000 * MINUTE}
        await put(pool, "api_polls", company_id=name, **polled, error="filter_ignored" if name == "late" else None)
    found = await look(pool)
    assert (found.polled, [(poll.company_id, poll.late) for poll in found.polls]) == (
        3,
        [("late", True), ("refused", False), ("well", False)],
    )
    assert judge(found, NOW) == ["1 companies were not polled for long: is a verifier running?"]
    assert ("Polls", "3 polled, the oldest 6000 s ago, 1 late") in lines(found)
    assert ("Poll", "late: filter_ignored") in lines(found)


async def test_rounds_under_way_and_silent_webhooks_are_shown(pool: Pool) -> None:
    sweep = {"sweep_id": uuid4(), "requested_at": NOW - 20 * MINUTE, "since": NOW}
    running = {
        "company_id": "",
        "kind": "daily",
        "requested_by": "schedule",
        "started_at": NOW,
        "found": 70,
        "asked": 30,
    }
    await put(pool, "sweeps", **sweep, **running)
    await put(pool, "sweeps", **sweep, company_id="acme", kind="company", requested_by="ada")
    loading = {"cursor_at": NOW - 1440 * MINUTE, "rows_seen": 12, "error": "timeout"}
    await put(pool, "backfills", company_id="acme", requested_at=NOW, since=NOW - 14400 * MINUTE, **loading)
    silent = {"state": "inactive", "detail": "It is switched off.", "silent_since": NOW - MINUTE}
    await put(pool, "webhook_checks", company_id="acme", checked_at=NOW, **silent)
    found = await look(pool)
    assert lines(found)[1:] == [
        ("Sweep", "daily of all companies, by schedule: 30 of 70 records"),
        ("Sweep", "company of acme, by ada: not begun"),
        ("Backfill", "acme from 2026-11-14: up to 2026-11-23, 12 bookings; timeout"),
        ("Silent", "acme: It is switched off. Since 2026-11-24 08:59:00 UTC."),
    ]
    assert judge(found, NOW) == [], "one runs: the other has its turn after it"
    await pool.execute("UPDATE sweeps SET finished_at = $1 WHERE kind = 'daily'", NOW)
    assert judge(await look(pool), NOW) == ["1 sweeps have not begun: is a verifier running?"]


async def test_no_key_is_ever_shown(pool: Pool) -> None:
    await company(pool, "acme")
    await put(pool, "api_polls", company_id="acme", began_at=NOW)
    found = await look(pool)
    assert KEY not in repr(found)
    assert KEY not in repr(lines(found))
