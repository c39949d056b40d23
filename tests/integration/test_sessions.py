"""Sessions in PostgreSQL end by themselves when whoever opened them sleeps."""

import pytest

from services.plumbing import postgres
from services.plumbing.settings import load


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("idle_in_transaction_session_timeout", "10s"),  # it sleeps between two statements
        ("statement_timeout", "15s"),  # within one
        ("transaction_timeout", "20s"),  # between asyncpg's Parse, which it ends by Flush, and its Bind
    ],
)
async def test_a_transaction_whose_client_sleeps_is_ended_wherever_it_sleeps(dsn: str, limit: str, value: str) -> None:
    pool = await postgres.connect(load({"RECONCAL_POSTGRES_DSN": dsn}), name="tests", size=1)
    try:
        assert [await pool.fetchval(f"SHOW {limit}") for _ in range(2)] == [value] * 2, "also once it was given back"
    finally:
        await postgres.close(pool)
