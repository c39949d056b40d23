"""A seeded world: clock, broker and store in memory, the real worker, and everything that can go wrong.

`python -m tests.sim.world --seed 7` plays one seed aloud, `--seeds 2000` that many.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from datetime import timedelta
from random import Random
from typing import Final

import structlog
from aiokafka.errors import KafkaConnectionError

from schemas import topics
from schemas.flags import Flag
from services.reconciler.core.frontier import Contact
from services.reconciler.core.policy import Policy
from services.reconciler.limits import Limits
from services.reconciler.ports import Ports
from services.reconciler.worker import Worker
from tests.sim.plan import BEGIN, WINDOW_SECONDS, Case, Message, plan
from tests.support.hand_clock import HandClock
from tests.support.invariants import check, of_memory
from tests.support.memory import MemoryBroker, MemoryEnds, MemoryPolicies, MemorySource, MemoryStore

COMPANIES: Final = ("acme", "bern", "cork")
PARTITIONS: Final = 2
POLICY: Final = Policy(window_seconds=WINDOW_SECONDS)


class Crash(BaseException):
    """The process dies between two awaits."""


class Process:
    """One reconciler: a worker with its own connections."""

    def __init__(self, world: "World", numbers: Sequence[int]) -> None:
        """It starts now and owns these partitions."""
        self.source = MemorySource(world.broker, numbers, world.hazard)
        self.source.behind = world.behind
        self.worker = Worker(
            Ports(
                self.source,
                MemoryEnds(world.broker, world.away),
                world.store,
                MemoryPolicies(dict.fromkeys(COMPANIES, POLICY)),
                world.clock,
            ),
            owner=f"process-{world.started}",
            log_id="sim",
            home_of=world.broker.home_of,
            limits=Limits(batch_max_records=world.random.choice([1, 7, 1000]), stall_grace_seconds=30),
            contact=Contact(world.clock.now()),
        )
        world.started += 1


class World:
    """One seed's world. `play` lets it happen and checks it against what was planted."""

    def __init__(self, seed: int, *, cases: int = 14) -> None:
        """Everything is decided by the seed."""
        self.random = Random(seed)
        self.clock = HandClock(BEGIN)
        self.broker = MemoryBroker(PARTITIONS, lambda company: COMPANIES.index(company) % PARTITIONS)
        self.store = MemoryStore(self.hazard)
        self.behind: set[tuple[str, int]] = set()
        self.started = self.crashes = 0
        self.danger = self.random.choice([0.0, 0.005, 0.02])
        self.broker_away_until = -1.0
        self.zombies: list[Process] = []
        self.cases = plan(self.random, COMPANIES, cases)
        messages = [message for case in self.cases for message in case.messages]
        self.messages = sorted(messages, key=lambda message: message.arrives)
        self.processes = self._start()

    async def hazard(self, _: str) -> None:
        """Stand between two awaits: sometimes the process dies here."""
        if self.random.random() < self.danger:
            raise Crash
        if self.random.random() < 0.3:
            await asyncio.sleep(0)

    async def away(self, _: str) -> None:
        """Stand before the broker: sometimes it does not answer."""
        if self.clock.seconds < self.broker_away_until:
            raise KafkaConnectionError("away")

    def _start(self) -> list[Process]:
        if self.random.random() < 0.5:
            return [Process(self, range(PARTITIONS))]
        return [Process(self, [number]) for number in range(PARTITIONS)]

    async def play(self) -> None:
        """Deliver every message in its time, let things go wrong meanwhile, then let everything come to rest."""
        for message in self.messages:
            await self._until(message.arrives)
            self._deliver(message)
        self.danger, self.behind, self.broker_away_until = 0.0, set(), -1.0
        for process in self.processes:
            process.source.behind = self.behind
        self.zombies = []
        await self._rest()
        self.clock.seconds += 2 * POLICY.unconfirmed_window_seconds
        await self._rest()
        self._check()

    async def _rest(self) -> None:
        """Turn as often as a process does that is well, for longer than any grace."""
        self.clock.seconds += POLICY.window_seconds
        for _ in range(15):
            self.clock.seconds += 4
            await self._turn_all()

    async def _until(self, seconds: float) -> None:
        while self.clock.seconds < seconds:
            self.clock.seconds = min(seconds, self.clock.seconds + self.random.choice([0.05, 4, 4, 30, 120]))
            self._mishap()
            await self._turn_all()

    def _deliver(self, message: Message) -> None:
        """Append at the door; while the broker is away the sender tries again until it is back."""
        self.clock.seconds = max(self.clock.seconds, self.broker_away_until)
        self.broker.append(message.delivery(self.clock.now()), at=self.clock.now())

    def _mishap(self) -> None:
        roll = self.random.random()
        if roll < 0.02:
            self.behind.add((self.random.choice(topics.SIDES), self.random.randrange(PARTITIONS)))
        elif roll < 0.06 and self.behind:
            self.behind.discard(self.random.choice(sorted(self.behind)))
        elif roll < 0.07:
            self.broker_away_until = max(self.broker_away_until, self.clock.seconds + self.random.uniform(1, 40))
        elif roll < 0.09:
            self.zombies.extend(self.processes)  # paused, not dead: they wake later
            self.processes = self._start()
        elif roll < 0.11 and self.zombies:
            self.random.shuffle(self.zombies)

    async def _turn_all(self) -> None:
        for process in list(self.processes):
            await self._turn(process)
        if self.zombies and self.random.random() < 0.3:
            zombie = self.zombies[-1]
            await self._turn(zombie)
            if self.random.random() < 0.3:  # it learns that its place is gone
                zombie.source.assign(())

    async def _turn(self, process: Process) -> None:
        try:
            await process.worker.turn()
        except KafkaConnectionError:
            process.worker.doubt()
        except Crash:
            self.crashes += 1
            if process in self.processes:
                index = self.processes.index(process)
                self.processes[index] = Process(self, sorted(process.source.assigned[1]))
            elif process in self.zombies:
                self.zombies.remove(process)

    def _check(self) -> None:
        until = self.clock.now() - timedelta(seconds=100)
        check(of_memory(self.broker, self.store, dict.fromkeys(COMPANIES, POLICY), until))
        told: dict[tuple[str, str], list[str]] = {}
        for flag in self.store.outbox:
            told.setdefault((flag.company_id, self._case_of(flag)), []).append(flag.type.value)
        for case in self.cases:
            self._check_case(case, tuple(told.get((case.company_id, case.appointment_id), ())))

    def _case_of(self, flag: Flag) -> str:
        if flag.appointment:
            return flag.appointment.appointment_id
        assert flag.booking is not None
        return str(int(flag.booking.uid[1:]))

    def _check_case(self, case: Case, told: tuple[str, ...]) -> None:
        found = [
            record
            for (company_id, _), (record, _) in self.store.records.items()
            if company_id == case.company_id
            and (
                (record.appointment and record.appointment.appointment_id == case.appointment_id)
                or any(side.uid in case.uids for side in record.chain)
            )
        ]
        statuses = [record.status.value for record in found]
        assert statuses == [case.status], f"{case.name} {case.appointment_id}: {statuses}, planted {case.status}"
        assert told in case.flags, (
            f"{case.company_id} {case.name} {case.appointment_id}: told {told}, allowed {case.flags}"
        )


def play(seed: int) -> World:
    """Play one seed. Raises AssertionError that names it when something does not hold."""
    world = World(seed)
    try:
        asyncio.run(world.play())
    except AssertionError as error:
        raise AssertionError(f"seed {seed} (repeat with `make sim SEED={seed}`): {error}") from error
    return world


def quiet() -> None:
    """Keep the worker's log lines out of the way."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def main() -> None:
    """Play seeds from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    given = parser.parse_args()
    quiet()
    crashes = 0
    for seed in range(given.seed, given.seed + given.seeds):
        world = play(seed)
        crashes += world.crashes
    sys.stdout.write(f"{given.seeds} seeds from {given.seed} on: all held, {crashes} crashes survived\n")


if __name__ == "__main__":
    main()
