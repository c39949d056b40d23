"""`reconcal retry` as a person types it, on a broker, a database and a reconciler; Cal.com's part is told by hand."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import msgspec
import pytest
from msgspec import Struct

from schemas import topics
from schemas.envelope import Delivery
from schemas.observations import Check
from schemas.verification import Priority, Question, Verdict
from services.plumbing.clock import WallClock
from services.plumbing.publisher import Publisher
from services.plumbing.settings import Settings
from services.verifier.rounds.sweeps import Sweeps
from tests.support import builders
from tests.support.running import READY_SECONDS, Running, running
from tests.support.stand import stand

ROOT = Path(__file__).parents[2]
ME = "--actor=ada"


@pytest.fixture
async def here(embedded_broker: str, dsn: str) -> AsyncIterator[Running]:
    settings = await stand(embedded_broker, dsn, kafka_assignment="all")
    async with running(settings) as service:
        yield service


class Said(Struct):
    """What a command came to: its exit code, and both of its outputs."""

    exit_code: int
    stdout: str
    stderr: str


async def call(settings: Settings, *arguments: str) -> Said:
    """Run `reconcal retry` in a process of its own, while the services go on in ours."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RECONCAL_")}
    environ |= {
        f"RECONCAL_{name.upper()}": str(getattr(settings, name))
        for name in ("kafka_bootstrap_servers", "kafka_topic_prefix", "postgres_dsn")
    }
    command = (sys.executable, "-m", "services.cli", "retry", *arguments)
    child = await asyncio.create_subprocess_exec(*command, env=environ, stdout=PIPE, stderr=PIPE, cwd=ROOT)
    out, err = await asyncio.wait_for(child.communicate(), READY_SECONDS)
    return Said(child.returncode or 0, out.decode(), err.decode())


async def with_key(service: Running, company_id: str = "acme") -> None:
    """Give a company an API key that nobody will open."""
    await service.pool.execute(
        "INSERT INTO company_secrets (company_id, secret_id, purpose, ciphertext) "
        "VALUES ($1, $2, 'calcom_api_key', 'x')",
        company_id, uuid4(),
    )  # fmt: skip


async def question(service: Running, priority: Priority, number: int = 1) -> Question:
    """Wait for what Cal.com is to be asked for somebody."""
    query = "SELECT question::text FROM verifications WHERE question->>'priority' = $1 AND number >= $2"
    found: str = await service.comes(query, priority.value, number)
    return msgspec.json.decode(found, type=Question)


async def answer(
    service: Running,
    asked: Question,
    verdict: Verdict,
    *bookings: dict[str, Any],
    observed_at: datetime | None = None,
) -> None:
    """Tell what Cal.com said, as the verifier does, and take the question away. It may be said to be of later."""
    at = datetime.now(UTC)
    check = Check(
        id=f"check-{asked.record_id}-{asked.number}",
        observed_at=observed_at or at,
        record_id=asked.record_id,
        subject=asked.subject,
        number=asked.number,
        verdict=verdict,
        reason="by hand",
        uid=asked.uid,
        bookings=list(bookings),
    )
    delivery = Delivery(
        topic=topics.CALCOM_BOOKINGS, company_id=asked.company_id, ce_id=check.id, ce_source="test",
        ce_type=topics.TYPE_CHECK, received_at=at, body=msgspec.json.encode(check),
    )  # fmt: skip
    await service.publish([delivery])
    await service.pool.execute(
        "DELETE FROM verifications WHERE record_id = $1 AND number = $2", asked.record_id, asked.number
    )


def booking(number: int) -> dict[str, Any]:
    """Give the booking of an appointment as the API has it."""
    return builders.api_booking(f"uid-{number}", id=number, metadata={})


async def orphan(service: Running, number: int = 1) -> UUID:
    """Flag an appointment while the company has no key; gives its record."""
    await service.appointment(number)
    await service.status(number, "orphaned_local")
    found: UUID = await service.value("SELECT record_id FROM records WHERE appointment_id = $1", f"{number}")
    return found


async def test_a_retry_that_finds_the_booking_heals_the_record_and_says_so(here: Running) -> None:
    await here.company(window_seconds=1)
    record_id = await orphan(here)
    await with_key(here)
    retrying = asyncio.ensure_future(call(here.settings, str(record_id), "--company", "acme", ME, "--json"))
    asked = await question(here, Priority.HUMAN)
    assert not retrying.done()
    await answer(here, asked, Verdict.FOUND_EQUAL, booking(1))
    said = await retrying
    assert said.exit_code == 0, said.stderr
    told = json.loads(said.stdout)
    assert (told["record_id"], told["company_id"]) == (str(record_id), "acme")
    assert (told["applied"], told["answered"], told["calcom_sync_status"]) == (True, True, "synced")
    assert told["requires_manual_review"] is False
    assert await here.value("SELECT true FROM transitions WHERE note = 'retry: ada'")


async def test_a_retry_that_finds_nothing_ends_with_one_and_says_what_is_wrong(here: Running) -> None:
    await here.company(window_seconds=1)
    record_id = await orphan(here)
    await with_key(here)
    retrying = asyncio.ensure_future(call(here.settings, str(record_id), "--company", "acme", ME))
    await answer(here, await question(here, Priority.HUMAN), Verdict.ABSENT_ONCE)
    again = await question(here, Priority.HUMAN, 2)
    await answer(here, again, Verdict.ABSENT, observed_at=again.not_before)
    said = await retrying
    assert said.exit_code == 1
    assert f"record {record_id}: orphaned_local (ORPHANED_LOCAL)\n" in said.stdout
    assert "It waits for review." in said.stdout


async def test_a_retry_that_finds_something_else_says_when_that_is_decided(here: Running) -> None:
    await here.company(window_seconds=1)
    record_id = await orphan(here)
    await here.pool.execute("UPDATE companies SET settling_window_seconds = 600")
    await with_key(here)
    retrying = asyncio.ensure_future(call(here.settings, str(record_id), "--company", "acme", ME))
    other = booking(1) | {"status": "cancelled"}
    await answer(here, await question(here, Priority.HUMAN), Verdict.FOUND_DIFFERENT, other)
    said = await retrying
    assert said.exit_code == 1
    assert f"record {record_id}: pending\n" in said.stdout
    assert "Its window ends at 20" in said.stdout


async def test_what_nobody_answers_in_time_is_said_and_the_question_stands(here: Running) -> None:
    await here.company(window_seconds=1)
    record_id = await orphan(here)
    await with_key(here)
    said = await call(here.settings, str(record_id), "--company", "acme", "--timeout-seconds", "1")
    assert (said.exit_code, said.stderr.count("\n")) == (1, 1)
    assert "not heard of in time" in said.stderr
    assert (await question(here, Priority.HUMAN)).record_id == record_id


async def test_a_refusal_is_one_line_that_says_what_to_do(here: Running) -> None:
    await here.company(window_seconds=1)
    record_id = await orphan(here)
    said = await call(here.settings, str(record_id), "--company", "acme")
    assert said.exit_code == 1
    assert said.stderr == (
        "reconcal: acme has no Cal.com API key: `reconcal companies set acme --calcom-api-key-file`\n"
    )
    refused = json.loads((await call(here.settings, str(record_id), "--company", "acme", "--json")).stdout)
    assert (refused["applied"], refused["reason"], refused["answered"]) == (False, "no_api_key", False)


async def test_a_record_that_is_not_there_or_anothers_is_named(here: Running) -> None:
    await here.company(window_seconds=1)
    await here.company("other")
    record_id = await orphan(here)
    said = await call(here.settings, str(record_id), "--company", "other")
    assert (said.exit_code, said.stderr) == (1, f"reconcal: 'other' has no record {record_id}\n")


# --- a company's -------------------------------------------------------------------------------------------------


async def test_a_companys_retry_asks_about_all_of_it_and_follows_until_all_is_answered(here: Running) -> None:
    await here.company(window_seconds=1)
    records = {await orphan(here, number): number for number in (1, 2, 3)}
    await with_key(here)
    publisher, stop = await Publisher.open(here.settings), asyncio.Event()
    runner = Sweeps(here.pool, publisher, lambda _: ("acme",), WallClock(), ZoneInfo("Europe/Berlin"))
    sweeping = asyncio.ensure_future(runner.run(stop))
    retrying = asyncio.ensure_future(call(here.settings, "--company", "acme", "--wait", ME, "--json"))
    for _ in records:
        asked = await question(here, Priority.SWEEP)
        await answer(here, asked, Verdict.FOUND_EQUAL, booking(records[asked.record_id]))
    said = await retrying
    stop.set()
    await sweeping
    await publisher.close()
    assert said.exit_code == 0, said.stderr
    told = json.loads(said.stdout)
    assert (told["new"], told["waiting"], told["records"]) == (True, 0, {"synced": 3})
    assert told["finished_at"] is not None
    assert await here.value("SELECT requested_by FROM sweeps WHERE kind = 'company'") == "ada"


async def test_a_companys_retry_is_asked_for_once_at_a_time(here: Running) -> None:
    await here.company()
    await with_key(here)
    said = [await call(here.settings, "--company", "acme", "--days", "30", "--json") for _ in range(2)]
    first, second = (json.loads(one.stdout) for one in said)
    assert [one.exit_code for one in said] == [0, 0]
    assert (first["new"], second["new"], first["sweep_id"]) == (True, False, second["sweep_id"])
    since, requested_at = await here.pool.fetchrow("SELECT since, requested_at FROM sweeps")  # type: ignore[misc]
    assert requested_at - since == timedelta(days=30)


async def test_without_a_verifier_the_wait_ends_with_one(here: Running) -> None:
    await here.company()
    await with_key(here)
    said = await call(here.settings, "--company", "acme", "--wait", "--timeout-seconds", "1")
    assert said.exit_code == 1
    assert "not over in time" in said.stderr


async def test_a_company_without_a_key_or_none_at_all_is_named(here: Running) -> None:
    await here.company()
    said = await call(here.settings, "--company", "acme")
    assert (said.exit_code, "acme has no Cal.com API key" in said.stderr) == (1, True)
    said = await call(here.settings, "--company", "nobody")
    assert (said.exit_code, said.stderr) == (2, "reconcal: there is no company 'nobody'\n")
