"""From Kafka to committed state in one process, beside a loop that only writes the same rows."""

import pstats
from asyncio import get_running_loop, sleep
from collections.abc import Sequence
from io import StringIO
from typing import Any, Final

import asyncpg
from msgspec import Struct

from services.plumbing import telemetry
from services.plumbing.settings import Settings
from tests.bench.filling import COMPANIES, fill
from tests.bench.findings import Figure, Findings, Plan, UnmeasuredError
from tests.bench.ground import HERE, Ground, Tree, companies, pid_of, stopped, worker
from tests.bench.machine import cpu_of
from tests.support.processes import Service

EVENTS_PER_SECOND: Final = 15_000.0
SHARE_OF_WRITING: Final = 0.5
COST_OF_ANOTHER: Final = 1.15
_LOOK_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 180.0
_PROFILED_LINES: Final = 40

_APPLIED: Final = "SELECT coalesce(sum(value::bigint), 0)::bigint FROM partitions, jsonb_each_text(next_offsets)"
_COMPANIES: Final = "INSERT INTO companies (company_id, name) SELECT name, name FROM unnest($1::text[]) AS name"
_STRAY: Final = """
SELECT (SELECT count(*) FROM records) AS records,
  (SELECT count(*) FROM records WHERE calcom_sync_status <> 'synced') AS unmatched,
  (SELECT count(*) FROM dead_letters) AS dead, (SELECT count(*) FROM flags) AS flags"""


class Run(Struct, frozen=True):
    """One run: events a second, and the processor time in µs that each event took of whom."""

    rate: float
    cpu_us: dict[str, float]
    batches: list[dict[str, Any]]


async def measure(ground: Ground, plan: Plan) -> Findings:
    """Measure in turns: the reconciler over fresh topics, then the loop over the rows that it left."""
    events = 20_000 if plan.quick else 100_000
    if plan.against:
        return await _compared(ground, plan, Tree(plan.against), events)
    runs: list[Run] = []
    same: list[Run] = []
    once: list[Run] = []
    profiles: list[str] = []
    for _ in range(1 if plan.profile else plan.rounds):
        settings = await ground.settings(kafka_assignment="group")
        await companies(settings, COMPANIES)
        await fill(settings, events)
        runs.append(await _reconciled(ground, settings, events, profiles if plan.profile else None))
        size = round(events / len(runs[-1].batches))
        same.append(await _rewritten(ground, settings, size, once=False))
        once.append(await _rewritten(ground, settings, size, once=True))
        await ground.drop(settings)
    return Findings(_figures(runs, same, once), [*_notes(runs, same, once, events), *profiles])


async def _compared(ground: Ground, plan: Plan, other: Tree, events: int) -> Findings:
    """Measure two working trees in turns over the same events; who begins changes from round to round."""
    runs: dict[Tree, list[Run]] = {HERE: [], other: []}
    for turn in range(plan.rounds + 1):
        for tree in (HERE, other) if turn % 2 else (other, HERE):
            settings = await ground.settings(tree, kafka_assignment="group")
            await _register(settings)
            await fill(settings, events)
            run = await _reconciled(ground, settings, events, None, tree)
            if turn > 0:  # the first is to warm up
                runs[tree].append(run)
            await ground.drop(settings)
    both = list(zip(runs[HERE], runs[other], strict=True))
    cost = tuple(theirs.rate / ours.rate for ours, theirs in both)
    figures = [
        Figure(what="Kafka to committed: this tree", unit="events/s", samples=tuple(run.rate for run in runs[HERE])),
        Figure(what="Kafka to committed: the other", unit="events/s", samples=tuple(run.rate for run in runs[other])),
        Figure(what="time of an event: this tree / the other", unit="x", samples=cost, at_most=COST_OF_ANOTHER),
    ]
    for name in ("reconciler", "PostgreSQL"):
        what = f"CPU of an event, {name}"
        ratio = tuple(ours.cpu_us[name] / theirs.cpu_us[name] for ours, theirs in both)
        for whose, tree in (("this tree", HERE), ("the other", other)):
            samples = tuple(run.cpu_us[name] for run in runs[tree])
            figures.append(Figure(what=f"{what}: {whose}", unit="µs", samples=samples))
        figures.append(Figure(what=f"{what}: this tree / the other", unit="x", samples=ratio))
    return Findings(figures, [f"{events:,} events a round, {plan.rounds} rounds, in turns; the other: {plan.against}"])


async def _register(settings: Settings) -> None:
    """Add the companies by what all versions of the table have."""
    connection = await asyncpg.connect(settings.postgres_dsn)
    try:
        await connection.execute(_COMPANIES, list(COMPANIES))
    finally:
        await connection.close()


async def _reconciled(
    ground: Ground, settings: Settings, events: int, profiles: list[str] | None, tree: Tree = HERE
) -> Run:
    stats = ground.path("reconciler.pstats")
    profiled = ("-m", "cProfile", "-o", str(stats), "-m", "services.cli", "reconciler")
    service = ground.start("reconciler", settings, None if profiles is None else profiled, tree)
    connection = await asyncpg.connect(settings.postgres_dsn)
    try:
        rate, cpu_us = await _watched(ground, service, connection, events)
        await stopped(service)
        await _all_matched(connection, events // 2)
    finally:
        await connection.close()
    if profiles is not None:
        profiles.append(_printed(str(stats)))
    return Run(rate, cpu_us, service.lines(telemetry.RECONCILER_BATCH))


async def _watched(
    ground: Ground, service: Service, connection: "asyncpg.Connection[Any]", events: int
) -> tuple[float, dict[str, float]]:
    """Look at what is committed, from the first progress to the last event."""
    loop = get_running_loop()
    pids = ground.pids | {"reconciler": pid_of(service)}
    patience = loop.time() + _PATIENCE_SECONDS
    applied = 0
    while applied == 0:
        applied = await _look(service, connection, patience)
    first, began_at, before = applied, loop.time(), cpu_of(pids)
    while applied < events:
        applied = await _look(service, connection, patience)
    ended_at, after = loop.time(), cpu_of(pids)
    if applied - first < events // 2:
        raise UnmeasuredError(f"the first look saw {first} of {events} events: too few are left to measure")
    spent = {name: (after[name] - before[name]) / (applied - first) * 1e6 for name in pids}
    return (applied - first) / (ended_at - began_at), spent


async def _look(service: Service, connection: "asyncpg.Connection[Any]", patience: float) -> int:
    await sleep(_LOOK_SECONDS)
    if not service.running or get_running_loop().time() > patience:
        raise UnmeasuredError(f"the reconciler did not come to the end:\n{service.last_words()}")
    return int(await connection.fetchval(_APPLIED))


async def _all_matched(connection: "asyncpg.Connection[Any]", pairs: int) -> None:
    """Figures of a reconciler that does not match are worth nothing."""
    row = await connection.fetchrow(_STRAY)
    assert row is not None
    if tuple(row) != (pairs, 0, 0, 0):
        raise UnmeasuredError(f"{pairs} pairs came to {dict(row)}")


async def _rewritten(ground: Ground, settings: Settings, size: int, *, once: bool) -> Run:
    order = {"dsn": settings.postgres_dsn, "postgres_pid": ground.pids["PostgreSQL"], "size": size, "once": once}
    said = await worker("rewriting", order)
    return Run(said["rate"], said["cpu_us"], said["batches"])


def _figures(runs: Sequence[Run], same: Sequence[Run], once: Sequence[Run]) -> list[Figure]:
    def ratio(loops: Sequence[Run]) -> tuple[float, ...]:
        return tuple(run.rate / loop.rate for run, loop in zip(runs, loops, strict=True))

    rates = tuple(run.rate for run in runs)
    return [
        Figure(what="reconciler: Kafka to committed", unit="events/s", samples=rates, at_least=EVENTS_PER_SECOND),
        Figure(what="a loop that writes the same rows", unit="events/s", samples=tuple(run.rate for run in same)),
        Figure(what="reconciler / that loop", unit="x", samples=ratio(same), at_least=SHARE_OF_WRITING),
        Figure(what="a loop that writes each row once", unit="events/s", samples=tuple(run.rate for run in once)),
        Figure(what="reconciler / that loop (each row once)", unit="x", samples=ratio(once)),
        *(
            Figure(what=f"CPU of an event: {name}", unit="µs", samples=tuple(run.cpu_us[name] for run in runs))
            for name in ("reconciler", "PostgreSQL", "Kafka")
        ),
    ]


def _notes(runs: Sequence[Run], same: Sequence[Run], once: Sequence[Run], events: int) -> list[str]:
    def written(run: Run) -> int:
        return sum(batch["records"] for batch in run.batches)

    last = (runs[-1], same[-1], once[-1])
    counts = ", ".join(f"{written(run):,} in {len(run.batches)} transactions" for run in last)
    loops = "; ".join(
        f"{name} {run.cpu_us['loop']:.0f} µs + PostgreSQL {run.cpu_us['PostgreSQL']:.0f} µs"
        for name, run in (("same rows", same[-1]), ("each once", once[-1]))
    )
    return [
        f"{events:,} events a round; records written by the reconciler, the loop, the loop of each row once: {counts}",
        f"CPU of an event in the loops: {loops}",
    ]


def _printed(path: str) -> str:
    out = StringIO()
    pstats.Stats(path, stream=out).strip_dirs().sort_stats("tottime").print_stats(_PROFILED_LINES)
    return out.getvalue()
