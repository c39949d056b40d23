"""What an operator sees of the checks that wait, and of polls, on a real database."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from services.plumbing import postgres
from services.plumbing.postgres import Pool
from services.plumbing.settings import load
from services.verifier.measure import Measure
from tests.support.hand_clock import HandClock

NOW: Final = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    pool = await postgres.connect(load({"RECONCAL_POSTGRES_DSN": dsn}), name="test")
    yield pool
    await postgres.close(pool)


async def look(pool: Pool) -> None:
    await Measure(pool, HandClock(NOW)).look()


async def ask(pool: Pool, priority: int, *, wanted: timedelta, put_back: timedelta) -> None:
    await pool.execute(
        "INSERT INTO verifications (company_id, record_id, number, priority, not_before, question)"
        " VALUES ('praxis', $1, 1, $2, $3, json_build_object('not_before', $4::timestamptz))",
        uuid4(), priority, NOW + put_back, NOW + wanted,
    )  # fmt: skip


async def polled(pool: Pool, company_id: str, ago: timedelta, *, key_ends: timedelta | None) -> None:
    await pool.execute("INSERT INTO companies (company_id, name) VALUES ($1, $1)", company_id)
    await pool.execute(
        "INSERT INTO api_polls (company_id, began_at, polled_at) VALUES ($1, $2, $3)", company_id, NOW, NOW - ago
    )
    if key_ends is not None:
        await pool.execute(
            "INSERT INTO company_secrets (company_id, secret_id, purpose, ciphertext, expires_at)"
            " VALUES ($1, $2, 'calcom_api_key', '', $3)",
            company_id, uuid4(), NOW + key_ends,
        )  # fmt: skip


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"reconcal_{name}", labels)


async def test_a_question_that_is_put_back_again_and_again_shows_its_age(pool: Pool) -> None:
    await ask(pool, 1, wanted=-timedelta(minutes=20), put_back=timedelta(minutes=1))
    await ask(pool, 1, wanted=timedelta(minutes=5), put_back=timedelta(minutes=5))
    await ask(pool, 2, wanted=-timedelta(minutes=1), put_back=-timedelta(minutes=1))
    await look(pool)
    assert [shown("verifications_waiting", priority=name) for name in ("human", "deadline", "sweep")] == [0, 2, 1]
    assert shown("verification_oldest_seconds") == 1200


async def test_when_nothing_waits_any_more_nothing_is_shown_to_wait(pool: Pool) -> None:
    await ask(pool, 0, wanted=-timedelta(minutes=20), put_back=-timedelta(minutes=20))
    await look(pool)
    await pool.execute("DELETE FROM verifications")
    await look(pool)
    assert shown("verifications_waiting", priority="human") == 0
    assert shown("verification_oldest_seconds") == 0


async def test_a_question_for_later_has_no_age(pool: Pool) -> None:
    await ask(pool, 1, wanted=timedelta(minutes=5), put_back=timedelta(minutes=5))
    await look(pool)
    assert shown("verification_oldest_seconds") == 0


async def test_the_oldest_poll_counts_of_those_companies_that_have_a_key(pool: Pool) -> None:
    await look(pool)
    assert shown("calcom_poll_age_seconds") == 0
    await polled(pool, "a", timedelta(minutes=4), key_ends=timedelta(days=1))
    await polled(pool, "b", timedelta(minutes=7), key_ends=timedelta(days=1))
    await polled(pool, "late", timedelta(days=9), key_ends=-timedelta(days=1))
    await polled(pool, "none", timedelta(days=9), key_ends=None)
    await look(pool)
    assert shown("calcom_poll_age_seconds") == 420
