"""`reconcal demo`: a morning in a practice and in a clinic, told through the front door, and what is found of it.

The practice's Cal.com is not asked: it has no API key. The clinic's is: a stand-in on a port of this machine, at which
its bookings are made and which posts its webhooks, but for those that are lost.
"""

import asyncio
import secrets
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
from msgspec import Struct
from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from schemas.flags import RECORD_KINDS
from schemas.verification import ABSENT_APART_SECONDS
from services.companies import admin
from services.embedded import acting, clinic, morning, report, stack, state
from services.embedded.calcom import Calcom
from services.embedded.calcom.server import served
from services.embedded.compare import Comparison, compare, mailed_in_vain
from services.embedded.furniture import Plan
from services.embedded.morning import Case, Told
from services.embedded.play import Door, PlayError, await_open, send, tell
from services.plumbing import lifecycle, postgres, telemetry
from services.plumbing.clock import Clock, WallClock
from services.plumbing.postgres import Pool
from services.plumbing.secrets import Vault
from services.plumbing.settings import load
from services.reconciler.rows import shown

WINDOW_SECONDS: Final = 5.0
PLAY_SECONDS: Final = 7.0
LATE_SECONDS: Final = WINDOW_SECONDS + 3
#: After the last message: until the last window is over, Cal.com was asked twice, 30 s apart, and every mail is sent,
#: on a slow machine.
SETTLE_SECONDS: Final = 75.0
#: So long news are collected, and in this time a person is mailed once at most; in life 30 s and five minutes.
GROUP_WAIT_SECONDS: Final = 3.0
GROUP_INTERVAL_SECONDS: Final = 12.0
PRACTICE: Final = admin.NewCompany(
    company_id="praxis",
    name="Praxis Dr. Host",
    window_seconds=WINDOW_SECONDS,
    group_wait_seconds=GROUP_WAIT_SECONDS,
    group_interval_seconds=GROUP_INTERVAL_SECONDS,
    contacts=(
        admin.NewContact(person="Mia Muster <mia@praxis.example>", role="admin", language="de"),
        admin.NewContact(person="Tom Beispiel <tom@praxis.example>", role="manager"),
    ),
)
CLINIC: Final = admin.NewCompany(
    company_id="klinik",
    name="Klinik am Park",
    window_seconds=WINDOW_SECONDS,
    group_wait_seconds=GROUP_WAIT_SECONDS,
    group_interval_seconds=GROUP_INTERVAL_SECONDS,
    contacts=(admin.NewContact(person="Ada Admin <ada@klinik.example>", role="admin"),),
)
_SETTINGS: Final = {
    "RECONCAL_PROBE_INTERVAL_SECONDS": "0.5",
    "RECONCAL_STALL_GRACE_SECONDS": "1",
    "RECONCAL_COMPANIES_REFRESH_SECONDS": "0.5",
    "RECONCAL_LOG_LEVEL": "error",
    "RECONCAL_LOG_FORMAT": "text",
}


class Outcome(Struct):
    """What a run came to."""

    agrees: bool = False


class Scene(Struct, frozen=True, kw_only=True):
    """Where it is played: the running stack, the clinic's Cal.com, and the screen of whoever looks on."""

    running: stack.Stack
    calcom: Calcom
    calcom_url: str
    pool: Pool
    screen: Console
    clock: Clock


def run(environ: Mapping[str, str], *, seed: int, keep: bool, screen: Console) -> int:
    """Run the demo; gives the exit code: 0 only if what was planted was found, record by record, and nothing else."""
    outcome = Outcome()
    # The demo is a world of its own: nothing of an installation around it is used.
    settings = load(_SETTINGS | {k: v for k, v in environ.items() if k == "RECONCAL_LOG_LEVEL"})
    telemetry.configure_logs(settings)
    with TemporaryDirectory(prefix="reconcal-demo-") as folder:
        what = Plan(settings=settings, given=(), data_dir=Path(folder), pointers=state.default_data_dir(environ))

        async def serve(stop: asyncio.Event) -> None:
            screen.print("Starting broker, PostgreSQL, services, mail sink and a stand-in for Cal.com ...")
            calcom = Calcom(WallClock().now, seed=seed)

            async def ready(running: stack.Stack) -> None:
                outcome.agrees = await _play(running, calcom, calcom_url, screen, seed=seed, keep=keep)
                if keep:
                    screen.print("\nIt stays up until Ctrl-C. In another terminal: reconcal status, or")
                    screen.print(f"reconcal records --company {CLINIC.company_id}")
                else:
                    stop.set()

            async with served(calcom) as calcom_url:
                await stack.run(what, stop, ready)

        lifecycle.main(serve)
    return 0 if outcome.agrees else 1


async def _play(
    running: stack.Stack, calcom: Calcom, calcom_url: str, screen: Console, *, seed: int, keep: bool
) -> bool:
    pool = await postgres.connect(running.settings, name="demo", size=1)
    try:
        scene = Scene(
            running=running, calcom=calcom, calcom_url=calcom_url, pool=pool, screen=screen, clock=WallClock()
        )
        planted = await _tell(scene, seed)
        found = await _settled(scene, planted)
        mails = await _mails(running)
        in_vain = mailed_in_vain(planted[CLINIC.company_id], mails)
        report.show_tables(screen, found[PRACTICE.company_id], found[CLINIC.company_id])
        for said in (*(said for one in found.values() for said in one.differences), *in_vain):
            screen.print(said, soft_wrap=True)
        report.show_sums(screen, await _sums(pool), mails, in_vain)
        report.show_mail(screen, planted[CLINIC.company_id], mails)
        report.show_addresses(screen, running.addresses.for_people() | {"cal.com": calcom_url}, keep=keep)
        return not in_vain and all(one.agrees for one in found.values())
    finally:
        await postgres.close(pool)


# --- what is told -------------------------------------------------------------------------------------------------


async def _tell(scene: Scene, seed: int) -> dict[str, list[Case]]:
    """Tell both mornings side by side; gives what must be found, by company."""
    clock, screen = scene.clock, scene.screen
    practice = await _register(scene, PRACTICE)
    api_key = f"cal_{secrets.token_hex(16)}"
    with_key = replace(CLINIC, calcom_base_url=scene.calcom_url, calcom_api_key=api_key)
    door = await _register(scene, with_key)
    began = clock.now() - timedelta(hours=4)
    cases = morning.plan(seed, began, play_seconds=PLAY_SECONDS, late_seconds=LATE_SECONDS)
    plots = clinic.plan(seed, clock.now(), play_seconds=PLAY_SECONDS)
    total = sum(len(case.told) for case in cases) + sum(len(plot.steps) for plot in plots)
    text = f"Telling {len(cases) + len(plots)} appointments and bookings"
    if not screen.is_terminal:
        screen.print(f"{text}: {total} messages ...")
    async with httpx.AsyncClient(base_url=door.ingest_url, timeout=10) as client, asyncio.TaskGroup() as group:
        stage = _stage(scene, door, api_key, client)
        with _bar(screen) as progress:
            task = progress.add_task(text, total=total)
            telling = group.create_task(tell(cases, practice, clock, told=lambda: progress.advance(task)))
            planted = await acting.perform(plots, stage, lambda: progress.advance(task))
            await telling
    _require_taken(scene.calcom)
    return {PRACTICE.company_id: cases, CLINIC.company_id: planted}


async def _register(scene: Scene, new: admin.NewCompany) -> Door:
    """Add a company, and wait until its door opens."""
    async with scene.pool.acquire() as connection:
        added = await admin.add(connection, Vault(scene.running.settings.secret_key), new)
    door = Door(scene.running.addresses.ingest, new.company_id, added.calcom_webhook, added.app_webhook)
    await await_open(door, scene.clock)
    return door


def _stage(scene: Scene, door: Door, api_key: str, client: httpx.AsyncClient) -> acting.Stage:
    """Let the clinic join the stand-in, and have its webhooks come to our door."""
    account = scene.calcom.join(CLINIC.company_id, api_key)
    scene.calcom.subscribe(account, f"{door.ingest_url}/webhooks/calcom/{door.company_id}", secret=door.webhook_secret)

    async def say(body: bytes) -> None:
        await send(client, door, Told("app", body, 0), scene.clock)

    return acting.Stage(calcom=scene.calcom, account=account, tell=say, clock=scene.clock)


def _require_taken(calcom: Calcom) -> None:
    """Make sure that every webhook that was not to be lost arrived. Raises PlayError."""
    for delivered in calcom.hooks.delivered:
        if delivered.status != httpx.codes.ACCEPTED:
            raise PlayError(f"{delivered.url} answered {delivered.status} to {delivered.trigger} of {delivered.uid}")


# --- what is found ------------------------------------------------------------------------------------------------


async def _settled(scene: Scene, planted: Mapping[str, list[Case]]) -> dict[str, Comparison]:
    """Wait until everything is found as planted and every mail is sent, or the time is over; by company."""
    screen = scene.screen
    seconds = f"{WINDOW_SECONDS:g} s, and for second answers {ABSENT_APART_SECONDS:g} s after the first"
    screen.print(f"Waiting for the windows of {seconds} ...")
    loop = asyncio.get_running_loop()
    until = loop.time() + SETTLE_SECONDS
    with _bar(screen) as progress:
        task = progress.add_task("Found", total=sum(map(len, planted.values())))
        while True:
            found = {name: compare(cases, await _records(scene.pool, name)) for name, cases in planted.items()}
            progress.update(task, completed=sum(line.found for one in found.values() for line in one.lines))
            agrees = all(one.agrees for one in found.values())
            if loop.time() > until or (agrees and await _all_mailed(scene.pool)):
                return found
            await scene.clock.sleep(0.25)


_RECORDS: Final = """
SELECT r.*, r.facts::text AS facts,
  (SELECT count(*) FROM flags f WHERE f.company_id = r.company_id AND f.record_id = r.record_id) AS flags,
  (SELECT substr(e.kind, 7) FROM events e
    WHERE e.company_id = r.company_id AND e.record_id = r.record_id AND e.kind LIKE 'check.%'
    ORDER BY e.received_at DESC LIMIT 1) AS verdict
FROM records r WHERE r.company_id = $1"""


async def _records(pool: Pool, company_id: str) -> list[dict[str, Any]]:
    """Give a company's records as `reconcal records --json` does, with their flags and what Cal.com answered last."""
    rows = await pool.fetch(_RECORDS, company_id)
    return [shown(row) | {"flags": row["flags"], "verdict": row["verdict"]} for row in rows]


_LEFT_TO_TELL: Final = """
SELECT FROM alerts a JOIN contacts k USING (company_id)
LEFT JOIN tellings t ON t.company_id = a.company_id AND t.flag_id = a.flag_id AND t.recipient_id = k.contact_id
WHERE CASE WHEN a.resolved_at IS NULL THEN t.flag_id IS NULL ELSE t.told_in IS NOT NULL AND t.ended_in IS NULL END"""


async def _all_mailed(pool: Pool) -> bool:
    """Tell whether every flag has reached the notifier, and everybody was mailed of what is open, and of what ended."""
    query = f"""
SELECT (SELECT count(*) FROM outbox) = 0
  AND NOT EXISTS (SELECT FROM flags f WHERE NOT EXISTS (SELECT FROM seen_flags s WHERE s.ce_id = f.flag_id))
  AND NOT EXISTS ({_LEFT_TO_TELL})"""  # noqa: S608 - a constant
    return bool(await pool.fetchval(query))


async def _mails(running: stack.Stack) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(timeout=10) as client:
        mails: list[dict[str, Any]] = (await client.get(f"{running.addresses.mailbox}/messages")).json()
    return mails


async def _sums(pool: Pool) -> report.Sums:
    query = """
SELECT (SELECT count(DISTINCT (company_id, record_id)) FROM transitions WHERE note = 'webhook_lost') AS healed,
  count(*) AS flags, count(resolved_at) AS resolved FROM flags WHERE kind = ANY($1::text[])"""
    row = await pool.fetchrow(query, [kind.value for kind in RECORD_KINDS])
    assert row is not None  # noqa: S101 - an aggregate has a row
    return report.Sums(healed=row["healed"], flags=row["flags"], resolved=row["resolved"])


def _bar(screen: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=screen, disable=not screen.is_terminal)
