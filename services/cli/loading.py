"""`reconcal companies backfill`: asks for it, and follows it until all is loaded."""

import asyncio
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from services.cli.company_work import need_key
from services.cli.context import connected
from services.plumbing.clock import WallClock
from services.plumbing.postgres import Connection
from services.plumbing.settings import Settings
from services.verifier.rounds import backfill
from services.verifier.rounds.backfill import Backfill

_LOOK_SECONDS: Final = 0.5
#: A verifier looks for what was asked for every two seconds.
_TAKEN_UP_SECONDS: Final = 15.0


async def load(settings: Settings, company_id: str, days: int, *, seconds: float | None, quiet: bool) -> Backfill:
    """Ask for a backfill and follow it for `seconds` at most; None: not at all. Raises Failure without a key."""
    async with connected(settings) as connection:
        now = WallClock().now()
        await need_key(connection, company_id, now)
        asked = await backfill.request(connection, company_id, days, now)
        if seconds is None:
            return asked
        with _bar(quiet=quiet) as progress:
            return await _follow(connection, asked, progress, seconds)


async def _follow(connection: Connection, asked: Backfill, progress: Progress, seconds: float) -> Backfill:
    loop = asyncio.get_running_loop()
    began, told = loop.time(), False
    shown = progress.add_task("waiting for a verifier", total=None)
    while True:
        asked = await backfill.of(connection, asked.company_id) or asked
        if asked.cursor_at is not None:
            what = f"{asked.rows_seen} bookings, up to {asked.cursor_at:%Y-%m-%d}"
            progress.update(shown, description=what)
        elif asked.error is None and not told and loop.time() - began > _TAKEN_UP_SECONDS:
            told = True
            click.echo("No verifier has taken it up yet: is one running?", err=True)
        if asked.error:
            progress.update(shown, description=asked.error)
        if asked.finished_at is not None or loop.time() - began >= seconds:
            return asked
        await asyncio.sleep(_LOOK_SECONDS)


def _bar(*, quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=quiet)
