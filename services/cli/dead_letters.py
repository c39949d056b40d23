"""`reconcal dead-letters`: what could not be understood, and why."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from services.cli.context import database_settings, json_option, located, run

if TYPE_CHECKING:
    from services.plumbing.settings import Settings

_DEAD_LETTERS: Final = """
SELECT company_id, topic, kafka_partition, kafka_offset, reason, detail, octet_length(body) AS body_bytes, body,
  headers::text AS headers, received_at FROM dead_letters
WHERE $1::text IS NULL OR company_id = $1 ORDER BY received_at DESC, topic, kafka_partition, kafka_offset"""


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at what could not be understood."""


@dead_letters.command("list")
@located
@click.option("--company", "company_id", help="Only those of this company.")
@json_option
def list_command(*, data_dir: Path | None, config: Path | None, company_id: str | None, as_json: bool) -> None:
    """List dead letters, newest first.

    With --json one object a line, the body as base64.
    """
    run(_list(database_settings(data_dir, config), company_id, as_json=as_json))


async def _list(settings: "Settings", company_id: str | None, *, as_json: bool) -> None:
    from services.cli.output import console, line, moment, table  # noqa: PLC0415
    from services.plumbing import postgres  # noqa: PLC0415

    shown = table(
        "Dead letters", "received (UTC)", "company", "topic", ">partition", ">offset", "reason", "detail", ">bytes"
    )
    pool = await postgres.connect(settings, name="cli", size=1)
    try:
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            async for row in connection.cursor(_DEAD_LETTERS, company_id, prefetch=50):
                if as_json:
                    line(_shape(row))
                else:
                    place = (str(row["kafka_partition"]), str(row["kafka_offset"]))
                    said = (row["reason"], row["detail"], str(row["body_bytes"]))
                    shown.add_row(moment(row["received_at"]), row["company_id"], row["topic"], *place, *said)
    finally:
        await postgres.close(pool)
    if not as_json:
        console().print(shown if shown.row_count else "No dead letters.")


def _shape(row: Any) -> dict[str, Any]:  # noqa: ANN401 - a row of asyncpg
    import msgspec  # noqa: PLC0415

    shaped = dict(row)
    shaped["headers"] = msgspec.json.decode(shaped["headers"])
    return shaped
