"""What a service takes that has nothing to do."""

from asyncio import sleep
from typing import Final

import psutil

from tests.bench.filling import COMPANIES
from tests.bench.findings import Figure, Findings, Plan
from tests.bench.ground import Ground, companies, pid_of, stopped
from tests.bench.machine import cpu_seconds

RSS_MB: Final = 120.0
CPU_PERCENT: Final = 2.0
_ROLES: Final = ("ingest", "reconciler", "verifier", "notifier", "console")


async def measure(ground: Ground, plan: Plan) -> Findings:
    """Start each, let them settle, and look at them for a while."""
    settle_seconds, watch_seconds = (5.0, 8.0) if plan.quick else (15.0, 20.0)
    settings = await ground.settings(verifier_port="0", console_port="0")
    await companies(settings, COMPANIES)
    services = {role: ground.start(role, settings) for role in _ROLES}
    for service in services.values():
        await service.ready()
    await sleep(settle_seconds)
    pids = {role: pid_of(service) for role, service in services.items()}
    before = {role: cpu_seconds(pid) for role, pid in pids.items()}
    await sleep(watch_seconds)
    figures = []
    for role, pid in pids.items():
        share = (cpu_seconds(pid) - before[role]) / watch_seconds * 100
        rss = psutil.Process(pid).memory_info().rss / 1e6
        figures.append(Figure(what=f"idle {role}: RSS", unit="MB", samples=(rss,), at_most=RSS_MB))
        figures.append(Figure(what=f"idle {role}: CPU", unit="% of a core", samples=(share,), at_most=CPU_PERCENT))
    for service in services.values():
        await stopped(service)
    return Findings(figures, [f"after {settle_seconds:.0f} s, over {watch_seconds:.0f} s, {len(COMPANIES)} companies"])
