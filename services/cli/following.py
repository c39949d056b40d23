"""`reconcal retry --company`: ask for a sweep, and follow it until Cal.com has answered."""

import asyncio
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.cli.company_work import need_key
from services.cli.context import connected
from services.cli.failures import Failure
from services.plumbing.clock import WallClock
from services.plumbing.postgres import Connection
from services.plumbing.settings import Settings

_LOOK_SECONDS: Final = 0.5
#: Whoever runs the sweeps looks for new ones every two seconds.
_TAKEN_UP_SECONDS: Final = 15.0

#: One of a company is open at a time.
_REQUEST: Final = """
INSERT INTO sweeps (company_id, sweep_id, kind, requested_at, requested_by, since)
VALUES ($1, $2, 'company', $3, $4, $5)
ON CONFLICT (company_id) WHERE kind = 'company' AND finished_at IS NULL DO NOTHING RETURNING sweep_id"""
_OPEN: Final = "SELECT sweep_id FROM sweeps WHERE company_id = $1 AND kind = 'company' AND finished_at IS NULL"
_PROGRESS: Final = """
SELECT started_at, finished_at, found, asked,
  (SELECT count(*) FROM records r WHERE r.company_id = s.company_id AND calcom_sync_status = 'verification_pending'
  AND decision -> 'round' ->> 'priority' = 'sweep') AS waiting
FROM sweeps s WHERE company_id = $1 AND sweep_id = $2"""
_RECORDS: Final = """
SELECT calcom_sync_status, count(*) FROM records WHERE company_id = $1 GROUP BY 1 ORDER BY 1"""


class Followed(Struct, frozen=True, kw_only=True):
    """How far a company's sweep is. `new`: it was asked for just now. `waiting`: records still being asked about."""

    company_id: str
    sweep_id: UUID
    new: bool
    started_at: datetime | None = None
    finished_at: datetime | None = None
    found: int = 0
    asked: int = 0
    waiting: int = 0
    records: dict[str, int] = {}

    @property
    def well(self) -> bool:
        """Tell whether all is asked and answered."""
        return self.finished_at is not None and self.waiting == 0


async def sweep(
    settings: Settings, company_id: str, days: int, actor: str, *, seconds: float | None, quiet: bool
) -> Followed:
    """Ask for a sweep of a company, or find the one that is under way, and follow it for `seconds`; None: not at all.

    Raises Failure when the company is not there or has no API key.
    """
    async with connected(settings) as connection:
        followed = await _request(connection, company_id, days, actor)
        if seconds is None:
            return await _look(connection, followed)
        with _bar(quiet=quiet) as progress:
            followed = await _follow(connection, followed, progress, seconds)
        records = await connection.fetch(_RECORDS, company_id)
        return msgspec.structs.replace(followed, records=dict([tuple(row) for row in records]))


async def _request(connection: Connection, company_id: str, days: int, actor: str) -> Followed:
    now = WallClock().now()
    await need_key(connection, company_id, now)
    new = await connection.fetchval(_REQUEST, company_id, uuid4(), now, actor, now - timedelta(days=days))
    sweep_id = new or await connection.fetchval(_OPEN, company_id)
    if sweep_id is None:
        raise Failure("another sweep of the company ended this very moment; try again")
    return Followed(company_id=company_id, sweep_id=sweep_id, new=new is not None)


async def _look(connection: Connection, followed: Followed) -> Followed:
    row = await connection.fetchrow(_PROGRESS, followed.company_id, followed.sweep_id)
    return followed if row is None else msgspec.structs.replace(followed, **dict(row))


async def _follow(connection: Connection, followed: Followed, progress: Progress, seconds: float) -> Followed:
    loop = asyncio.get_running_loop()
    began = loop.time()
    shown, told = progress.add_task("waiting for a verifier", total=None), False
    while True:
        followed = await _look(connection, followed)
        if followed.started_at is not None:
            what = "asking" if followed.finished_at is None else "waiting for answers"
            answered = max(0, followed.asked - followed.waiting)
            progress.update(shown, description=what, completed=answered, total=max(followed.found, followed.asked))
        elif not told and loop.time() - began > _TAKEN_UP_SECONDS:
            told = True
            click.echo("No verifier has taken it up yet: is one running?", err=True)
        if followed.well or loop.time() - began >= seconds:
            return followed
        await asyncio.sleep(_LOOK_SECONDS)


def _bar(*, quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=quiet)
