"""The schema on a real database: up, down, up again; what it must have; what must not be done to it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from services.plumbing import migrate as migrations
from services.plumbing.migrate import Migration, MigrationError, migrate

Connection: TypeAlias = "asyncpg.Connection[Any]"

NOT_BY_COMPANY: Final = {
    "schema_migrations": "the ledger of the database itself",
    "change_counters": "one counter for all companies, by name",
    "partitions": "Kafka's partition numbers, which all companies share",
    "notifier_offsets": "likewise",
    "api_budgets": "companies that share an API key share its limits",
    "doors": "an ingest is every company's door",
}
NO_PRIMARY_KEY: Final = {
    "events": "append-only; the log's own offsets identify a row, through an index",
    "transitions": "append-only; its rows are read by record, through an index",
}
#: Design section 4, to the letter.
SEED_COLUMNS: Final = {
    "calcom_sync_status": ("text", "NO"),
    "last_sync_attempt_at": ("timestamp with time zone", "YES"),
    "sync_attempt_count": ("integer", "NO"),
    "sync_error_message": ("text", "YES"),
    "sync_error_code": ("text", "YES"),
    "sync_verified_at": ("timestamp with time zone", "YES"),
    "requires_manual_review": ("boolean", "NO"),
    "manual_review_flagged_at": ("timestamp with time zone", "YES"),
}
SEED_INDEXES: Final = {
    "(calcom_sync_status, company_id)",
    "(requires_manual_review, company_id)",
    "(last_sync_attempt_at)",
}
SEED_STATUSES: Final = {"synced", "pending", "failed", "orphaned_local", "orphaned_calcom", "verification_pending"}
SHAPE: Final = """
SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
WHERE table_schema = 'public' ORDER BY 1, 2"""
TABLES: Final = """
SELECT c.relname AS name, obj_description(c.oid) AS sentence, c.relkind = 'p' AS partitioned, c.relispartition AS part
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1"""
LEADING: Final = """
SELECT c.relname AS name, a.attname AS leads FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
WHERE i.indisprimary AND c.relnamespace = 'public'::regnamespace"""


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(dsn)
    yield opened
    await opened.close()


@pytest.fixture
async def empty(empty_dsn: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(empty_dsn)
    yield opened
    await opened.close()


async def tables(connection: Connection) -> list[str]:
    return [row["name"] for row in await connection.fetch(TABLES)]


async def test_up_down_and_up_again_end_in_the_same_shape(empty: Connection, empty_dsn: str) -> None:
    steps = migrations.migrations()
    assert len(await migrate(empty_dsn)) == len(steps)
    shape = await empty.fetch(SHAPE)
    assert [said.split()[0] for said in await migrate(empty_dsn, to=0)] == ["down"] * len(steps)
    assert await tables(empty) == ["schema_migrations"]
    assert await empty.fetchval("SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace") == 0
    await migrate(empty_dsn)
    assert await empty.fetch(SHAPE) == shape


async def test_every_step_has_a_way_back_that_leads_to_the_step_before(empty: Connection, empty_dsn: str) -> None:
    for step in migrations.migrations():
        before = await empty.fetch(SHAPE)
        await migrate(empty_dsn, to=step.version)
        await migrate(empty_dsn, to=step.version - 1)
        after = await empty.fetch(SHAPE)
        assert [row for row in after if row["table_name"] != "schema_migrations"] == [
            row for row in before if row["table_name"] != "schema_migrations"
        ], step.name
        await migrate(empty_dsn, to=step.version)


async def test_what_was_mailed_before_the_fifth_step_is_told_and_what_waited_is_not_lost(
    empty: Connection, empty_dsn: str
) -> None:
    """A flag that was mailed, one whose end was mailed too, and one whose mail waited for a silent webhook."""
    await migrate(empty_dsn, to=4)
    mia, told, ended, waiting = (UUID(int=number) for number in range(4))
    await empty.execute("INSERT INTO companies (company_id, name) VALUES ('praxis', 'Praxis')")
    await empty.execute(
        "INSERT INTO contacts (company_id, contact_id, name, email, role)"
        " VALUES ('praxis', $1, 'Mia', 'mia@example.com', 'admin')",
        mia,
    )
    for flag_id, over in ((told, False), (ended, True), (waiting, False)):
        body = {"verdict": "absent", "appointment": {"starts_at": "2026-12-01T10:00:00Z"}, "booking": None}
        await empty.execute(
            "INSERT INTO flags (company_id, flag_id, record_id, kind, generation, raised_at, resolved_at, body)"
            " VALUES ('praxis', $1, $1, 'ORPHANED_LOCAL', 1, now(), CASE WHEN $2 THEN now() END, $3::json)",
            flag_id, over, json.dumps(body),
        )  # fmt: skip
        await empty.execute(
            "INSERT INTO seen_flags (company_id, ce_id, type) VALUES ('praxis', $1, 'sync.orphaned_local')", flag_id
        )
    for number, (flag_id, state, resolution) in enumerate(
        ((told, "sent", False), (ended, "sent", False), (ended, "sent", True), (waiting, "waiting", False))
    ):
        await empty.execute(
            "INSERT INTO mails (company_id, message_id, contact_id, flag_id, recipient, state, resolution, flag,"
            " not_before, sent_at) VALUES ('praxis', $1, $2, $3, 'mia@example.com', $4, $5, '{}', now(), $6)",
            f"<{number}@x>", mia, flag_id, state, resolution, datetime(2026, 11, 24, number, tzinfo=UTC),
        )  # fmt: skip
    await migrate(empty_dsn)
    alerts = await empty.fetch("SELECT flag_id, verified, starts_at FROM alerts ORDER BY 1")
    assert [row["flag_id"] for row in alerts] == [told, waiting]
    assert {(row["verified"], row["starts_at"]) for row in alerts} == {(True, datetime(2026, 12, 1, 10, tzinfo=UTC))}
    tellings = await empty.fetch("SELECT flag_id, told_in, ended_in FROM tellings ORDER BY told_in")
    assert [tuple(row) for row in tellings] == [(told, 1, None), (ended, 2, 3)]
    turn = await empty.fetchrow("SELECT number, last_at FROM notify_turns")
    assert tuple(turn or ()) == (3, datetime(2026, 11, 24, 2, tzinfo=UTC))


async def test_a_second_run_does_nothing_and_nothing_is_pending(dsn: str, connection: Connection) -> None:
    assert await migrate(dsn) == []
    assert await migrations.pending(connection) == 0


async def test_on_an_empty_database_everything_is_pending(empty: Connection) -> None:
    assert await migrations.pending(empty) == len(migrations.migrations())


async def test_every_table_has_a_sentence(connection: Connection) -> None:
    for row in await connection.fetch(TABLES):
        assert re.fullmatch(r"[A-Z].{10,}\.", row["sentence"] or ""), row["name"]


async def test_the_company_leads_every_primary_key(connection: Connection) -> None:
    leads = {row["name"]: row["leads"] for row in await connection.fetch(LEADING)}
    ours = {row["name"] for row in await connection.fetch(TABLES) if not row["part"]}
    assert ours - leads.keys() == NO_PRIMARY_KEY.keys()
    assert {name for name, column in leads.items() if column != "company_id"} == NOT_BY_COMPANY.keys()


async def test_the_records_have_the_columns_that_were_specified(connection: Connection) -> None:
    rows = await connection.fetch(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = 'records'"
    )
    have = {row["column_name"]: (row["data_type"], row["is_nullable"]) for row in rows}
    assert {name: have.get(name) for name in SEED_COLUMNS} == SEED_COLUMNS


async def test_the_records_have_the_indexes_that_were_specified(connection: Connection) -> None:
    rows = await connection.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = 'records'")
    whole = {row["indexdef"].partition("USING btree ")[2] for row in rows}
    assert whole >= SEED_INDEXES


async def test_the_statuses_are_those_that_were_specified(connection: Connection) -> None:
    rows = await connection.fetch(
        "SELECT pg_get_constraintdef(oid) AS said FROM pg_constraint "
        "WHERE conrelid = 'records'::regclass AND contype = 'c'"
    )
    said = next(row["said"] for row in rows if "calcom_sync_status" in row["said"])
    assert set(re.findall(r"'(\w+)'", said)) == SEED_STATUSES


@pytest.mark.parametrize(("name", "column"), [("events", "received_at"), ("transitions", "at")])
async def test_what_grows_with_time_is_partitioned_by_it(connection: Connection, name: str, column: str) -> None:
    assert await connection.fetchval("SELECT pg_get_partkeydef($1::regclass)", name) == f"RANGE ({column})"


async def test_partitions_are_made_ahead_once_and_have_a_sentence(connection: Connection) -> None:
    made = await connection.fetchval("SELECT ensure_partitions('2031-11-15 12:00+00', 2)")
    assert made == 6
    assert await connection.fetchval("SELECT ensure_partitions('2031-11-15 12:00+00', 2)") == 0
    assert {"events_2031_11", "events_2031_12", "events_2032_01", "transitions_2032_01"} <= set(
        await tables(connection)
    )
    bounds = await connection.fetchval(
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'events_2031_12'"
    )
    assert await connection.fetchval("SHOW timezone") == "UTC"
    assert bounds == "FOR VALUES FROM ('2031-12-01 00:00:00+00') TO ('2032-01-01 00:00:00+00')"
    await test_every_table_has_a_sentence(connection)


async def test_partitions_begin_at_utc_months_whatever_the_sessions_zone(connection: Connection) -> None:
    await connection.execute("SET timezone = 'Europe/Berlin'")
    await connection.fetchval("SELECT ensure_partitions('2031-02-28 23:30+00', 2)")
    await connection.execute("SET timezone = 'UTC'")
    rows = await connection.fetch(
        "SELECT relname, pg_get_expr(relpartbound, oid) AS bounds FROM pg_class "
        "WHERE relispartition AND relkind = 'r' AND relname LIKE 'events_2031_%'"
    )
    assert {row["relname"]: row["bounds"] for row in rows} == {
        "events_2031_02": "FOR VALUES FROM ('2031-02-01 00:00:00+00') TO ('2031-03-01 00:00:00+00')",
        "events_2031_03": "FOR VALUES FROM ('2031-03-01 00:00:00+00') TO ('2031-04-01 00:00:00+00')",
        "events_2031_04": "FOR VALUES FROM ('2031-04-01 00:00:00+00') TO ('2031-05-01 00:00:00+00')",
    }


async def test_a_changed_migration_is_noticed(dsn: str, connection: Connection) -> None:
    await connection.execute("UPDATE schema_migrations SET checksum = 'another' WHERE version = 1")
    with pytest.raises(MigrationError, match=r"migration 1 \(house\) is not the one"):
        await migrate(dsn)


async def test_a_database_from_the_future_is_left_alone(dsn: str, connection: Connection) -> None:
    await connection.execute("INSERT INTO schema_migrations VALUES (9999, 'future', 'x')")
    with pytest.raises(MigrationError, match="9999"):
        await migrate(dsn)


async def test_a_version_that_does_not_exist_is_named(dsn: str) -> None:
    with pytest.raises(MigrationError, match="no migration 77"):
        await migrate(dsn, to=77)


async def test_a_busy_table_makes_it_fail_in_time_with_nothing_half_done(dsn: str, connection: Connection) -> None:
    before = await connection.fetch(SHAPE)
    async with connection.transaction():
        await connection.execute("LOCK TABLE records IN ACCESS SHARE MODE")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await migrate(dsn, to=0, lock_timeout_ms=100)
    assert [row for row in await connection.fetch(SHAPE) if row["table_name"] == "records"] == [
        row for row in before if row["table_name"] == "records"
    ]
    assert await migrate(dsn) is not None
    assert await connection.fetch(SHAPE) == before


async def test_two_at_once_take_turns(empty_dsn: str) -> None:
    one, other = await asyncio.gather(migrate(empty_dsn), migrate(empty_dsn))
    assert sorted([len(one), len(other)]) == [0, len(migrations.migrations())]


def test_the_newest_step_is_last() -> None:
    steps: list[Migration] = migrations.migrations()
    assert [step.version for step in steps] == list(range(1, len(steps) + 1))
    assert all(step.down.strip() for step in steps)
