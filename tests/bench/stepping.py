"""The reconciler's worker over two databases in turns, its log in memory. JSON in, JSON out.

Measured is what an event costs from the log to committed, without Kafka; and what a tick of the deadlines costs.
"""

import gc
import os
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import lru_cache, partial
from time import perf_counter
from typing import Any, Final

import msgspec
import uvloop
from msgspec import Struct

from services.plumbing import postgres, telemetry
from services.plumbing.lanes import partition_of
from services.plumbing.postgres import Pool
from services.plumbing.settings import load
from services.reconciler.core.frontier import Contact
from services.reconciler.limits import Limits
from services.reconciler.ports import Horizon, Ports
from services.reconciler.store import PostgresStore
from services.reconciler.worker import DUE_MAX, Worker
from tests.bench.filling import COMPANIES
from tests.bench.findings import percentile
from tests.bench.ground import PARTITIONS
from tests.bench.machine import cpu_of
from tests.bench.open_templates import NOW, POLICY
from tests.bench.open_traffic import Traffic
from tests.support.hand_clock import HandClock
from tests.support.memory import MemoryBroker, MemoryEnds, MemoryPolicies, MemorySource

_PAST: Final = timedelta(milliseconds=1)
#: How many ticks are looked at, as far as the deadlines last.
_LOOKS: Final = 60
_NUMBERS: Final = range(PARTITIONS)
_DUE_AT: Final = "SELECT deadline_at FROM records WHERE deadline_at > $1 ORDER BY deadline_at OFFSET $2 LIMIT 1"


class Database(Struct):
    """One database and how many open cases it was filled with."""

    dsn: str
    cases: int


class Order(Struct):
    """What is asked for: so many turns of so many events on each database."""

    databases: dict[str, Database]
    postgres_pid: int
    turns: int
    events: int


class NoDoors:
    """Nothing waits anywhere."""

    async def horizon(self, now: Any) -> Horizon:
        """See `ports.Doors`."""
        return Horizon(None)


class Lane:
    """A worker on one database, and the events that come for it."""

    def __init__(self, pool: Pool, cases: int) -> None:
        """The pool stays its owner's."""
        home_of = lru_cache(maxsize=1_000)(partial(partition_of, partitions=PARTITIONS))
        self.clock, self.store, self.pool = HandClock(NOW), PostgresStore(pool), pool
        self._broker, self._traffic = MemoryBroker(PARTITIONS, home_of), Traffic(cases)
        source, ends = MemorySource(self._broker, _NUMBERS), MemoryEnds(self._broker)
        policies = MemoryPolicies(dict.fromkeys(COMPANIES, POLICY))
        self.worker = Worker(
            Ports(source, ends, self.store, policies, self.clock, NoDoors()),
            owner="bench",
            log_id="memory",
            home_of=home_of,
            limits=Limits(batch_max_records=load({}).batch_max_records, stall_after_seconds=1e9),
            contact=Contact(NOW),
        )

    async def ready(self) -> None:
        """Take over the partitions."""
        await self.worker.turn()

    def come(self, events: int) -> int:
        """Let events lie in the log; gives how many."""
        deliveries = self._traffic.next(events)
        for delivery in deliveries:
            self._broker.append(delivery, at=NOW)
        return len(deliveries)

    async def take(self, events: int) -> None:
        """Take them all, to the last commit."""
        taken = 0
        while taken < events:
            taken += await self.worker.turn()
        await self.worker.turn()


async def step(order: Order) -> dict[str, Any]:
    """Measure; gives by database µs of an event, a sample a turn, and ms of ticks."""
    pools = {
        name: await postgres.connect(load({"RECONCAL_POSTGRES_DSN": database.dsn}), name="reconciler")
        for name, database in order.databases.items()
    }
    lanes = {name: Lane(pool, order.databases[name].cases) for name, pool in pools.items()}
    for lane in lanes.values():
        await lane.ready()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)  # as the services have it
    pids = {"loop": os.getpid(), "PostgreSQL": order.postgres_pid}
    cost: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in lanes}
    for turn in range(order.turns + 1):
        for name in sorted(lanes, reverse=bool(turn % 2)):
            events = lanes[name].come(order.events)
            gc.collect()
            before, began_at = cpu_of(pids), perf_counter()
            await lanes[name].take(events)
            seconds, after = perf_counter() - began_at, cpu_of(pids)
            if turn == 0:  # to warm up
                continue
            cost[name]["time"].append(seconds / events * 1e6)
            for whose in pids:
                cost[name][whose].append((after[whose] - before[whose]) / events * 1e6)
    ticks = {name: await _ticks(lane, order.databases[name].cases) for name, lane in lanes.items()}
    for pool in pools.values():
        await postgres.close(pool)
    return {"cost": cost, "ticks": ticks}


async def _ticks(lane: Lane, cases: int) -> dict[str, dict[str, float]]:
    """Give p50, p99 and worst of ticks and their queries, in ms."""
    store, far = lane.store, NOW + timedelta(days=2)
    never, all_over = dict.fromkeys(_NUMBERS, NOW), dict.fromkeys(_NUMBERS, far)
    looks: dict[str, Callable[[], Awaitable[object]]] = {
        "next_deadlines": lambda: store.next_deadlines(_NUMBERS),
        "due, none is": lambda: store.due(never, limit=DUE_MAX),
        "due, all are": lambda: store.due(all_over, limit=DUE_MAX),
        "count_due, none is": lambda: store.count_due(_NUMBERS, at=NOW),
        "a tick that fires 500": lane.worker.tick,
    }
    found: dict[str, dict[str, float]] = {}
    for what, look in looks.items():
        taken = []
        for _ in range(min(_LOOKS, cases // DUE_MAX // 4)):
            if look == lane.worker.tick:
                await _until_due(lane, DUE_MAX)
            began_at = perf_counter()
            await look()
            taken.append((perf_counter() - began_at) * 1e3)
        found[what] = {"p50": percentile(taken, 50), "p99": percentile(taken, 99), "max": max(taken)}
    began_at = perf_counter()
    await store.count_due(_NUMBERS, at=far)
    held = (perf_counter() - began_at) * 1e3
    found["count_due, all are held"] = {"p50": held, "p99": held, "max": held}
    return found


async def _until_due(lane: Lane, count: int) -> None:
    """Move the clock to where so many deadlines more are over."""
    at = await lane.pool.fetchval(_DUE_AT, lane.clock.now(), count)
    assert at is not None, "no deadlines are left"
    lane.clock.seconds = (at + _PAST - NOW).total_seconds()


if __name__ == "__main__":
    telemetry.configure_logs(load({"RECONCAL_LOG_LEVEL": "error"}))
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(step(asked))))
