"""Ingest, accepted and acknowledged by the broker, beside the same server's route that only reads the body."""

from typing import Any, Final
from urllib.parse import urlsplit

from schemas import topics
from services.companies.admin import Added
from services.plumbing.probe import Probe
from services.plumbing.settings import Settings
from tests.bench.findings import Figure, Findings, Plan, UnmeasuredError
from tests.bench.ground import PARTITIONS, Ground, companies, stopped, worker
from tests.bench.ingest_server import BARE

SHARE_OF_BARE: Final = 0.6
P99_MS: Final = 100.0
_CONNECTIONS: Final = 64
_COMPANY: Final = "practice-00"
_DOORS: Final = {"calcom": "/webhooks/calcom", "appointment": "/events/appointments"}

Said = dict[str, Any]


async def measure(ground: Ground, plan: Plan) -> Findings:
    """Measure bare and real in turns, each door with its own bodies; every answer must be 202 and every event there."""
    seconds = 2.0 if plan.quick else 4.0
    settings = await ground.settings()
    (company,) = await companies(settings, [_COMPANY])
    service = ground.start("ingest", settings, ("-m", "tests.bench.ingest_server"))
    port = urlsplit(await service.ready()).port
    before = await _stored(settings)
    runs: dict[str, list[tuple[Said, Said]]] = {door: [] for door in _DOORS}
    kept = 0
    for turn in range(plan.rounds + 1):
        for door in _DOORS:
            bare = await _load(port, BARE, door, company, seconds)
            real = await _load(port, f"{_DOORS[door]}/{_COMPANY}", door, company, seconds)
            kept += real["answered"]
            if turn > 0:  # the first is to warm up
                runs[door].append((bare, real))
    await stopped(service)
    grown = await _stored(settings) - before
    if grown != kept:
        raise UnmeasuredError(f"{kept} events were acknowledged, the topics have grown by {grown}")
    note = f"{_CONNECTIONS} connections, closed loop, rounds of {seconds:.0f} s; {kept:,} acknowledged, as many stored"
    return Findings([figure for door in _DOORS for figure in _figures(door, runs[door])], [note])


async def _load(port: int | None, path: str, body: str, company: Added, seconds: float) -> Said:
    order = {"port": port, "path": path, "body": body, "company": _COMPANY, "connections": _CONNECTIONS}
    secret = company.calcom_webhook if body == "calcom" else company.app_webhook
    said: Said = await worker("ingest_load", order | {"secret": secret, "seconds": seconds})
    if said["refused"]:
        raise UnmeasuredError(f"{path}: {said['refused']} answers were not 202: {said['example']!r}")
    return said


async def _stored(settings: Settings) -> int:
    probe = await Probe.open(settings)
    try:
        return sum((await probe.ends(topics.SIDES, range(PARTITIONS))).values())
    finally:
        await probe.close()


def _figures(door: str, runs: list[tuple[Said, Said]]) -> list[Figure]:
    ratios = tuple(real["rate"] / bare["rate"] for bare, real in runs)
    p99s = tuple(real["p99_ms"] for _, real in runs)
    p50s = tuple(real["p50_ms"] for _, real in runs)
    name = f"ingest, {door} door"
    return [
        Figure(what=f"{name}: acknowledged", unit="requests/s", samples=tuple(real["rate"] for _, real in runs)),
        Figure(what=f"{name}: the bare route", unit="requests/s", samples=tuple(bare["rate"] for bare, _ in runs)),
        Figure(what=f"{name}: acknowledged / bare", unit="x", samples=ratios, at_least=SHARE_OF_BARE),
        Figure(what=f"{name}: p99, warm", unit="ms", samples=p99s, at_most=P99_MS),
        Figure(what=f"{name}: p50, warm", unit="ms", samples=p50s),
    ]
