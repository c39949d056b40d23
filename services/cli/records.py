"""`reconcal records`: what is known of each appointment/booking pair."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from services.cli.context import database_settings, json_option, located, run
from services.cli.failures import Failure

if TYPE_CHECKING:
    from services.plumbing.settings import Settings

STATUSES: Final = ("synced", "pending", "failed", "orphaned_local", "orphaned_calcom", "verification_pending")

#: The records of a company, in the order of their key: nothing is sorted, nothing is kept in memory.
_RECORDS: Final = """
SELECT record_id, company_id, calcom_sync_status, last_sync_attempt_at, sync_attempt_count, sync_error_message,
  sync_error_code, sync_verified_at, requires_manual_review, manual_review_flagged_at, match_rule, version,
  facts::text AS facts FROM records
WHERE company_id = $1 AND ($2::text IS NULL OR calcom_sync_status = $2) ORDER BY company_id, record_id"""


@click.command()
@located
@click.option("--company", "company_id", required=True, help="The company's id.")
@click.option("--status", type=click.Choice(STATUSES), help="Only records of this status.")
@json_option
def records(*, data_dir: Path | None, config: Path | None, company_id: str, status: str | None, as_json: bool) -> None:
    """List a company's records.

    With --json one object a line, as they come from the database; else a table.
    """
    settings = database_settings(data_dir, config)
    run(_print_lines(settings, company_id, status) if as_json else _print_table(settings, company_id, status))


async def read(settings: "Settings", company_id: str, status: str | None = None) -> AsyncIterator[dict[str, Any]]:
    """Give a company's records one by one, through a cursor. Raises Failure if there is no such company."""
    from services.plumbing import postgres  # noqa: PLC0415
    from services.reconciler.rows import shown  # noqa: PLC0415

    pool = await postgres.connect(settings, name="cli", size=1, command_seconds=120)
    try:
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            if await connection.fetchval("SELECT true FROM companies WHERE company_id = $1", company_id) is None:
                raise Failure(f"there is no company {company_id!r}")
            async for row in connection.cursor(_RECORDS, company_id, status, prefetch=500):
                yield shown(row)
    finally:
        await postgres.close(pool)


async def _print_lines(settings: "Settings", company_id: str, status: str | None) -> None:
    import msgspec  # noqa: PLC0415

    encoder = msgspec.json.Encoder()
    async for record in read(settings, company_id, status):
        sys.stdout.buffer.write(encoder.encode(record) + b"\n")
    sys.stdout.buffer.flush()


async def _print_table(settings: "Settings", company_id: str, status: str | None) -> None:
    from services.cli.output import console, moment, table  # noqa: PLC0415

    shown = table(
        f"Records of {company_id}", "appointment", "booking", "starts (UTC)", "status", "why", "since", "rule"
    )
    count = 0
    async for record in read(settings, company_id, status):
        appointment, booking = record["appointment"] or {}, record["booking"] or {}
        starts_at = appointment.get("starts_at") or booking.get("starts_at")
        shown.add_row(
            appointment.get("id", "-"),
            booking.get("uid", "-"),
            moment(starts_at),
            record["calcom_sync_status"],
            record["sync_error_code"] or "",
            moment(record["manual_review_flagged_at"]),
            record["match_rule"] or "",
        )
        count += 1
    console().print(shown)
    click.echo(f"{count} record{'' if count == 1 else 's'}")
