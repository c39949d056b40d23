"""`reconcal demo`: a morning in a practice, told through the front door, and what is found of it."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
from msgspec import Struct
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from schemas.flags import Kind
from services.companies import admin
from services.embedded import stack, state
from services.embedded.compare import Comparison, compare
from services.embedded.furniture import Plan
from services.embedded.morning import RECIPES, Case, plan
from services.embedded.play import Door, await_open, tell
from services.plumbing import lifecycle, postgres, telemetry
from services.plumbing.clock import Clock, WallClock
from services.plumbing.postgres import Pool
from services.plumbing.secrets import Vault
from services.plumbing.settings import load
from services.reconciler.rows import shown

COMPANY: Final = "praxis"
WINDOW_SECONDS: Final = 5.0
PLAY_SECONDS: Final = 7.0
LATE_SECONDS: Final = WINDOW_SECONDS + 3
#: After the last message: until the last window is over and every mail is sent, on a slow machine.
SETTLE_SECONDS: Final = 45.0
_KINDS: Final = [recipe.kind for recipe in RECIPES]
_PEOPLE: Final = (
    admin.NewContact(person="Mia Muster <mia@praxis.example>", role="admin"),
    admin.NewContact(person="Tom Beispiel <tom@praxis.example>", role="manager"),
)
_SETTINGS: Final = {
    "RECONCAL_NOTIFY_HOLD_SECONDS": "1",
    "RECONCAL_PROBE_INTERVAL_SECONDS": "0.5",
    "RECONCAL_STALL_GRACE_SECONDS": "1",
    "RECONCAL_COMPANIES_REFRESH_SECONDS": "0.5",
    "RECONCAL_LOG_LEVEL": "error",
    "RECONCAL_LOG_FORMAT": "text",
}


class Outcome(Struct):
    """What a run came to."""

    agrees: bool = False


def run(environ: Mapping[str, str], *, seed: int, keep: bool, screen: Console) -> int:
    """Run the demo; gives the exit code: 0 only if what was planted was found, record by record, and nothing else."""
    outcome = Outcome()
    # The demo is a world of its own: nothing of an installation around it is used.
    settings = load(_SETTINGS | {k: v for k, v in environ.items() if k == "RECONCAL_LOG_LEVEL"})
    telemetry.configure_logs(settings)
    with TemporaryDirectory(prefix="reconcal-demo-") as folder:
        what = Plan(settings=settings, given=(), data_dir=Path(folder), pointers=state.default_data_dir(environ))

        async def serve(stop: asyncio.Event) -> None:
            screen.print("Starting the embedded broker, PostgreSQL, the services and a mail sink ...")

            async def ready(running: stack.Stack) -> None:
                outcome.agrees = await _play(running, screen, WallClock(), seed=seed, keep=keep)
                if keep:
                    screen.print("\nIt stays up until Ctrl-C. In another terminal: reconcal status, or")
                    screen.print(f"reconcal records --company {COMPANY}")
                else:
                    stop.set()

            await stack.run(what, stop, ready)

        lifecycle.main(serve)
    return 0 if outcome.agrees else 1


async def _play(running: stack.Stack, screen: Console, clock: Clock, *, seed: int, keep: bool) -> bool:
    pool = await postgres.connect(running.settings, name="demo", size=1)
    try:
        door = await _register(pool, running, clock)
        cases = plan(seed, clock.now() - timedelta(hours=4), play_seconds=PLAY_SECONDS, late_seconds=LATE_SECONDS)
        await _tell(cases, door, screen, clock)
        comparison = await _settled(pool, cases, screen, clock)
        await _show(running, pool, cases, comparison, screen, keep=keep)
        return comparison.agrees
    finally:
        await postgres.close(pool)


async def _register(pool: Pool, running: stack.Stack, clock: Clock) -> Door:
    """Add the practice, and wait until its door opens."""
    new = admin.NewCompany(company_id=COMPANY, name="Praxis Dr. Host", window_seconds=WINDOW_SECONDS, contacts=_PEOPLE)
    async with pool.acquire() as connection:
        added = await admin.add(connection, Vault(running.settings.secret_key), new)
    door = Door(running.addresses.ingest, COMPANY, added.calcom_webhook, added.app_webhook)
    await await_open(door, clock)
    return door


async def _tell(cases: list[Case], door: Door, screen: Console, clock: Clock) -> None:
    total = sum(len(case.told) for case in cases)
    text = f"Telling {len(cases)} appointments and bookings"
    if not screen.is_terminal:
        screen.print(f"{text}: {total} messages ...")
    with _bar(screen) as progress:
        task = progress.add_task(text, total=total)
        await tell(cases, door, clock, told=lambda: progress.advance(task))


async def _settled(pool: Pool, cases: list[Case], screen: Console, clock: Clock) -> Comparison:
    """Wait until everything is found as planted and every mail is sent, or the time is over."""
    if not screen.is_terminal:
        screen.print(f"Waiting for the windows of {WINDOW_SECONDS:g} s to end ...")
    loop = asyncio.get_running_loop()
    until = loop.time() + SETTLE_SECONDS
    with _bar(screen) as progress:
        task = progress.add_task("Waiting for the windows to end", total=len(cases))
        while True:
            comparison = compare(cases, await _records(pool))
            progress.update(task, completed=sum(line.found for line in comparison.lines))
            if loop.time() > until or (comparison.agrees and await _all_mailed(pool)):
                return comparison
            await clock.sleep(0.25)


async def _records(pool: Pool) -> list[dict[str, Any]]:
    rows = await pool.fetch("SELECT *, facts::text AS facts FROM records WHERE company_id = $1", COMPANY)
    return [shown(row) for row in rows]


async def _all_mailed(pool: Pool) -> bool:
    """Tell whether every flag has reached the notifier, and no mail waits."""
    query = """
SELECT (SELECT count(*) FROM outbox) = 0
  AND NOT EXISTS (SELECT FROM flags f WHERE NOT EXISTS (SELECT FROM seen_flags s WHERE s.ce_id = f.flag_id))
  AND NOT EXISTS (SELECT FROM mails WHERE state = 'waiting')"""
    return bool(await pool.fetchval(query))


def _bar(screen: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=screen, disable=not screen.is_terminal)


async def _show(
    running: stack.Stack, pool: Pool, cases: list[Case], comparison: Comparison, screen: Console, *, keep: bool
) -> None:
    screen.print(_table(comparison))
    for difference in comparison.differences:
        screen.print(difference, soft_wrap=True)
    flags = await pool.fetchrow("SELECT count(*) AS raised, count(resolved_at) AS resolved FROM flags")
    async with httpx.AsyncClient(timeout=10) as client:
        mails = (await client.get(f"{running.addresses.mailbox}/messages")).json()
    people = len({to for mail in mails for to in mail["to"]})
    if flags is not None:
        screen.print(f"{flags['raised']} flags were raised; {flags['resolved']} ended when the other side came late.")
    screen.print(f"{len(mails)} mails went to {people} people. One of them:\n")
    _show_mail(mails, cases, screen)
    screen.print("\nWhat is running:" if keep else "\nWhat was running (with --keep it stays):")
    for name, where in running.addresses.for_people().items():
        screen.print(f"  {name:9} {where}", soft_wrap=True)


def _table(comparison: Comparison) -> Table:
    table = Table(title="Planted and found", title_justify="left", box=box.SIMPLE_HEAD, show_footer=True)
    lines = sorted(comparison.lines, key=lambda line: _KINDS.index(line.kind))
    planted, found = sum(line.planted for line in lines), sum(line.found for line in lines)
    table.add_column("what was told", "all")
    table.add_column("must end as")
    table.add_column("planted", str(planted), justify="right")
    table.add_column("found", str(found), justify="right")
    table.add_column("", "ok" if comparison.agrees else "DIFFERS")
    for line in lines:
        verdict = "ok" if line.planted == line.found else "DIFFERS"
        table.add_row(line.kind, line.expected, str(line.planted), str(line.found), verdict)
    return table


def _show_mail(mails: list[dict[str, Any]], cases: list[Case], screen: Console) -> None:
    """Show the mail about a webhook that was lost: the case that all of this is for."""
    lost = {f"#{case.truth.appointment_id}" for case in cases if case.truth.code is Kind.ORPHANED_LOCAL}
    mail = next((mail for mail in mails if mail["subject"].split()[-1] in lost), None)
    if mail is None:
        screen.print("  none about a lost webhook")
        return
    head = [f"To: {', '.join(mail['to'])}", f"Subject: {mail['subject']}", ""]
    for line in (*head, *mail["text"].rstrip().splitlines()):
        screen.print(f"  {line}", soft_wrap=True)
