"""From a deadline to the mail that a server has accepted: how much longer it takes than what is collected for."""

import asyncio
import re
from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import asyncpg
from msgspec import Struct
from msgspec.structs import replace

from schemas import topics
from services.embedded.mailsink import MailSink
from services.plumbing.publisher import Publisher
from services.plumbing.settings import Settings
from tests.bench import bodies
from tests.bench.filling import delivery
from tests.bench.findings import Figure, Findings, Plan, UnmeasuredError, percentile
from tests.bench.ground import Ground, companies, stopped
from tests.support.wait import until

#: Beyond `group_wait` (issue 6): in the usual case, and in the worst.
USUAL_SECONDS: Final = 2.0
WORST_SECONDS: Final = 300.0
GROUP_WAIT_SECONDS: Final = 5.0
WINDOW_SECONDS: Final = 2.0
_PER_SECOND: Final = 20
_PATIENCE_SECONDS: Final = 120.0

_NUMBER: Final = re.compile(r"#(\S+)")
_FLAGS: Final = """
SELECT body->'appointment'->>'appointment_id' AS number, (body->>'deadline_at')::timestamptz AS at FROM flags"""


class Took(Struct, frozen=True):
    """How long after its deadline the mail about an appointment was accepted."""

    number: str
    seconds: float


async def measure(ground: Ground, plan: Plan) -> Findings:
    """Send one appointment that stands alone to each of many companies, and wait for the mail about each."""
    wanted = 200 if plan.quick else 1_000
    names = [f"company-{number}" for number in range(wanted)]
    async with MailSink() as sink:
        settings = replace(await ground.settings(), smtp_port=sink.smtp_port)
        await companies(settings, names, WINDOW_SECONDS)
        await _people(settings)
        services = [ground.start(role, settings) for role in ("reconciler", "notifier")]
        for service in services:
            await service.ready()
        await _send(settings, names)
        took = await _mailed(settings, sink, wanted)
        shown = await services[1].metric("reconcal_deadline_to_mail_seconds_count")
        for service in services:
            await stopped(service)
    return _findings(took, shown)


async def _people(settings: Settings) -> None:
    connection = await asyncpg.connect(settings.postgres_dsn)
    await connection.execute("UPDATE companies SET group_wait_seconds = $1", GROUP_WAIT_SECONDS)
    rows = await connection.fetch("SELECT company_id FROM companies")
    await connection.executemany(
        "INSERT INTO contacts (company_id, contact_id, name, email, role) VALUES ($1, $2, 'Mia', $3, 'admin')",
        [(row[0], uuid4(), f"mia@{row[0]}.example") for row in rows],
    )
    await connection.close()


async def _send(settings: Settings, names: Sequence[str]) -> None:
    """Send at even distances."""
    publisher = await Publisher.open(settings)
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    try:
        for number, company in enumerate(names):
            await asyncio.sleep(max(0.0, began_at + number / _PER_SECOND - loop.time()))
            body = bodies.appointment(company, number)
            await publisher.publish(delivery(topics.APP_APPOINTMENTS, company, f"evt-{number}", body))
    finally:
        await publisher.close()


async def _mailed(settings: Settings, sink: MailSink, wanted: int) -> list[Took]:
    """Wait for all mails; hold the moment at which each was accepted against the flag's deadline."""

    async def all_mailed() -> bool:
        return len(sink.mails) >= wanted

    try:
        await until(all_mailed, _PATIENCE_SECONDS)
    except AssertionError:
        raise UnmeasuredError(f"{wanted} mails were to come, {len(sink.mails)} came") from None
    connection = await asyncpg.connect(settings.postgres_dsn)
    rows = await connection.fetch(_FLAGS)
    await connection.close()
    deadlines = {row["number"]: row["at"] for row in rows}
    took = []
    for mail in sink.mails:
        (number,) = set(_NUMBER.findall(mail.subject))
        took.append(Took(number, (mail.received_at - deadlines[number]).total_seconds()))
    return took


def _findings(took: list[Took], shown: float) -> Findings:
    beyond = [one.seconds - GROUP_WAIT_SECONDS for one in took]
    what = "deadline to accepted mail, beyond group_wait"
    figures = [
        Figure(what=f"{what}: p99", unit="s", samples=(percentile(beyond, 99),), at_most=USUAL_SECONDS),
        Figure(what=f"{what}: p50", unit="s", samples=(percentile(beyond, 50),)),
        Figure(what=f"{what}: max", unit="s", samples=(max(beyond),), at_most=WORST_SECONDS - GROUP_WAIT_SECONDS),
        Figure(what="mails more or fewer in /metrics than sent", unit="", samples=(abs(shown - len(took)),), at_most=0),
    ]
    early = sum(1 for seconds in beyond if seconds < 0)
    load = f"{len(took):,} companies, one orphan each, {_PER_SECOND}/s, group_wait {GROUP_WAIT_SECONDS:.0f} s"
    return Findings(figures, [f"{load}; {early} mailed before the wait was over"])
