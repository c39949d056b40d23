"""A seeded world: clock, broker, doors and store in memory, the real worker, and everything that can go wrong."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from random import Random
from typing import Final

import structlog
from aiokafka.errors import KafkaConnectionError
from msgspec.structs import replace

from schemas import topics
from schemas.envelope import Delivery
from schemas.rules import Waiting
from services.reconciler.core.frontier import Contact
from services.reconciler.core.policy import Policy
from services.reconciler.limits import Limits
from services.reconciler.ports import Ports
from services.reconciler.worker import Worker
from tests.sim.calcom import SimCalcom, Verifiers
from tests.sim.doors import Door, Stray
from tests.sim.judge import judge
from tests.sim.pen import BEGIN, WINDOW_SECONDS, Message
from tests.sim.plan import plan
from tests.support.hand_clock import HandClock
from tests.support.invariants import check, of_memory
from tests.support.memory import MemoryBroker, MemoryDoors, MemoryEnds, MemoryPolicies, MemorySource, MemoryStore

PARTITIONS: Final = 2
#: One keeps to the defaults, one flags what is unpaid and ignores what is unconfirmed, one has the third rung off,
#: and of one Cal.com can be asked.
POLICIES: Final = {
    "acme": Policy(window_seconds=WINDOW_SECONDS),
    "bern": Policy(window_seconds=WINDOW_SECONDS, unconfirmed=Waiting.IGNORE, unpaid=Waiting.FLAG),
    "cork": Policy(window_seconds=WINDOW_SECONDS, match_by_attendee=False),
    "dorf": Policy(window_seconds=WINDOW_SECONDS, verify=True),
}
COMPANIES: Final = tuple(POLICIES)
#: Windows that companies change to; none is shorter than what the plan reckons with.
WINDOWS: Final = (WINDOW_SECONDS, 450.0, 900.0)
#: A door that lives reports at least so often.
REPORT_SECONDS: Final = 60.0
#: What a silent door may hold is waited for so long (design, section 5); a door that comes back does so before.
SILENCE_MAX_SECONDS: Final = 600.0
OUTAGE_MAX_SECONDS: Final = 1200.0
SHORT_OUTAGE_MAX_SECONDS: Final = 40.0
#: Cal.com is asked four times within 21 minutes before a human has to look.
CALCOM_AWAY_MAX_SECONDS: Final = 900.0
#: How far time goes between two turns. A stray that nobody has read yet holds no decision back, so that where there are
#: strays nobody may be late by more than the plan leaves between the sides and the window.
STEPS: Final = (0.05, 4, 4, 30, 120)
SHORT_STEPS: Final = (0.05, 4, 30)
#: Longer than any window, the longest ones included.
REST_SECONDS: Final = 2 * 86_400.0

#: Of four seconds each: as long as a place that was lost to a sleeper, a stall and its grace take together.
CALM_TURNS: Final = 20
TURNS_MAX: Final = 1000


class Crash(BaseException):
    """The process dies between two awaits."""


class Process:
    """One reconciler: a worker with its own connections."""

    def __init__(self, world: "World", numbers: Sequence[int]) -> None:
        """It starts now and owns these partitions."""
        self.source = MemorySource(world.broker, numbers, world.hazard)
        self.source.behind = world.behind
        self.policies = MemoryPolicies(world.policies)
        self.worker = Worker(
            Ports(
                self.source,
                MemoryEnds(world.broker, world.away),
                world.store,
                self.policies,
                world.clock,
                world.reports,
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
        self.policies = dict(POLICIES)
        self.behind: set[tuple[str, int]] = set()
        self.started = self.crashes = 0
        self.trouble = self.random.choice([0.3, 1.0, 2.0])
        self.astray = self.random.choice([None, None, None, None, *COMPANIES])
        self.danger = 0.0 if self.astray else self.random.choice([0.0, 0.005, 0.02])
        self.broker_away_until = self.cut_off_until = self.relay_away_until = -1.0
        self.stray = Stray(self.broker, self.clock)
        self.reports = MemoryDoors(self.store, silence_seconds=SILENCE_MAX_SECONDS, hazard=self.asked)
        self.doors = [Door(f"door-{n}", self.clock, self._append) for n in range(self.random.randint(1, 3))]
        self.zombies: list[Process] = []
        self.cases = plan(self.random, self.policies, cases)
        messages = [message for case in self.cases for message in case.messages]
        self.messages = sorted(messages, key=lambda message: message.arrives)
        truths = [truth for case in self.cases for truth in case.truths]
        self.calcom = SimCalcom(truths, self.clock, self.random)
        self.verifiers = Verifiers(self.calcom, self.store, self.clock, self.random, self._publish)
        self.calcom_goes_away_at = self.random.choice([None, self.random.uniform(300, 6000)])
        self.processes = self._start()

    async def hazard(self, _: str) -> None:
        """Stand between two awaits: sometimes the process dies here."""
        if self.random.random() < self.danger:
            raise Crash
        if self.random.random() < 0.3:
            await asyncio.sleep(0)

    async def away(self, _: str) -> None:
        """Stand before the broker: sometimes it does not answer."""
        if not self._reached():
            raise KafkaConnectionError("away")

    async def asked(self, _: str) -> None:
        """Stand before the doors: those that hear the question report."""
        for door in self.doors:
            if door.alive and self.random.random() < 0.7:
                self._report(door)

    def _reached(self) -> bool:
        return self.clock.seconds >= max(self.broker_away_until, self.cut_off_until)

    def _start(self) -> list[Process]:
        if self.random.random() < 0.5:
            return [Process(self, range(PARTITIONS))]
        return [Process(self, [number]) for number in range(PARTITIONS)]

    # --- time -----------------------------------------------------------------------------------------------------

    async def play(self) -> None:
        """Deliver every message in its time, let things go wrong meanwhile, then let everything come to rest."""
        for message in self.messages:
            await self._until(message.arrives)
            self._deliver(message)
        self._mend()
        await self._rest(max(WINDOWS))
        await self._rest(REST_SECONDS)
        judge(self.cases, self.store)
        until = self.clock.now() - timedelta(seconds=100)
        check(of_memory(self.broker, self.store, self.policies, until))

    def _mend(self) -> None:
        """Let nothing go wrong any more."""
        self.danger, self.behind = 0.0, set()
        self.broker_away_until = self.cut_off_until = self.relay_away_until = self.calcom.away_until = -1.0
        self.calcom_goes_away_at = None
        for door in self.doors:
            door.cut_until = door.dead_until = -1.0
        for process in self.processes:
            process.source.behind = self.behind
        self.zombies = []

    async def _until(self, seconds: float) -> None:
        while self.clock.seconds < seconds:
            step = self.clock.seconds + self.random.choice(SHORT_STEPS if self.astray else STEPS)
            self.clock.seconds = min([seconds, step, *self._returns()])
            self._mishap()
            self._go_on()
            await self.verifiers.work(most=self.random.choice([0, 1, 8]), danger=self.danger)
            await self._turn_all()

    def _returns(self) -> list[float]:
        """Give the moments at which something comes back: nobody may jump over them."""
        moments = [self.broker_away_until, self.cut_off_until, self.relay_away_until, self.calcom.away_until]
        moments += [moment for door in self.doors for moment in (door.cut_until, door.dead_until)]
        return [moment for moment in moments if moment > self.clock.seconds]

    async def _rest(self, seconds: float) -> None:
        """Let time pass, and turn as often as a process does that is well: until all is read, and beyond any grace."""
        self.clock.seconds += seconds
        calm = 0
        for _ in range(TURNS_MAX):
            self.clock.seconds += 4
            self._go_on(calmly=True)
            await self.verifiers.work(most=8, danger=0)
            await self._turn_all()
            calm = calm + 1 if self._all_read() else 0
            if calm > CALM_TURNS:
                return
        raise AssertionError("a partition is never read to its end")

    def _all_read(self) -> bool:
        """Tell whether all is read, sent on and answered."""
        return (
            not self.store.reroutes
            and not self.store.questions
            and all(
                self.store.claims[number].next_offsets.get(topic, 0) == len(kept)
                for (topic, number), kept in self.broker.log.items()
                if topic in topics.INPUTS
            )
        )

    # --- what comes -----------------------------------------------------------------------------------------------

    def _deliver(self, message: Message) -> None:
        """Bring it to a door that lives; it goes on at once, or waits for its turn."""
        delivery = message.delivery(self.clock.now())
        if message.company_id == self.astray and message.topic == topics.APP_APPOINTMENTS:
            self.stray.waiting.append(delivery)
            self._send_on()
            return
        door = self.random.choice([door for door in self.doors if door.alive])
        door.take(delivery)
        if self.random.random() < 0.8:
            self._drain(door)

    def _publish(self, delivery: Delivery) -> bool:
        """Let a verifier tell something; tells whether Kafka took it."""
        if self.clock.seconds < self.broker_away_until:
            return False
        self._append(delivery)
        return True

    def _append(self, delivery: Delivery) -> None:
        self.broker.append(delivery, at=self.clock.now())

    def _go_on(self, *, calmly: bool = False) -> None:
        """Let everybody but the reconcilers do their work: doors send and report, the relay sends on."""
        for door in self.doors:
            if calmly or self.random.random() < 0.5:
                self._drain(door)
            due = self.clock.seconds - door.reported_at >= REPORT_SECONDS
            if door.alive and (calmly or due or self.random.random() < 0.5):
                self._report(door)
        self._send_on()

    def _drain(self, door: Door) -> None:
        if self.clock.seconds >= self.broker_away_until:
            door.drain(most=self.random.choice([1, 3, 100]))

    def _report(self, door: Door) -> None:
        door.reported_at = self.clock.seconds
        self.reports.report(door.name, at=self.clock.now(), oldest_unsent_at=door.oldest_unsent_at)

    def _send_on(self) -> None:
        """Let what is astray come to its partition; a relay that dies before it has noted that sends it again."""
        if self.clock.seconds < self.broker_away_until:
            return
        self.stray.send()
        if self.clock.seconds < self.relay_away_until:
            return
        again = list(self.store.reroutes) if self.random.random() < 0.1 else []
        self.store.send_on(self.broker, at=self.clock.now())
        self.store.reroutes.extend(again)

    # --- mishaps --------------------------------------------------------------------------------------------------

    def _mishap(self) -> None:
        if self.calcom_goes_away_at is not None and self.clock.seconds >= self.calcom_goes_away_at:
            self.calcom_goes_away_at = None  # once, for less than all tries together take
            self.calcom.away_until = self.clock.seconds + self.random.uniform(1, CALCOM_AWAY_MAX_SECONDS)
        roll = self.random.random() / self.trouble
        if roll < 0.06:
            self._lag(more=roll < 0.02)
        elif roll < 0.07:
            self.broker_away_until = max(self.broker_away_until, self.clock.seconds + self._outage())
        elif roll < 0.08:
            self.cut_off_until = max(self.cut_off_until, self.clock.seconds + self._outage())
        elif roll < 0.12:
            self._hand_over(anew=roll < 0.10)
        elif roll < 0.14:
            self._hurt(self.random.choice(self.doors))
        elif roll < 0.15:
            self._change_rules()
        elif roll < 0.16:
            self.relay_away_until = self.clock.seconds + self.random.uniform(1, OUTAGE_MAX_SECONDS)

    def _lag(self, *, more: bool) -> None:
        """Let one topic of a partition stand still, or go on."""
        if more and not self.astray:
            self.behind.add((self.random.choice(topics.SIDES), self.random.randrange(PARTITIONS)))
        elif self.behind:
            self.behind.discard(self.random.choice(sorted(self.behind)))

    def _outage(self) -> float:
        short = self.random.uniform(1, SHORT_OUTAGE_MAX_SECONDS)
        return short if self.astray else self.random.choice([short, self.random.uniform(1, OUTAGE_MAX_SECONDS)])

    def _hand_over(self, *, anew: bool) -> None:
        """Start other processes; those before are paused, not dead: they wake later."""
        if self.astray:
            return
        if anew:
            self.zombies.extend(self.processes)
            self.processes = self._start()
        elif self.zombies:
            self.random.shuffle(self.zombies)

    def _hurt(self, door: Door) -> None:
        """Cut a door off from Kafka, or let it die; somebody is always there to open."""
        now = self.clock.seconds
        if self.random.random() < 0.5:
            outage = self.random.uniform(1, OUTAGE_MAX_SECONDS)
            door.cut_until = max(door.cut_until, now + outage)
        elif sum(other.alive for other in self.doors) > 1 and door.alive:
            # With an empty spool it may stay away for longer: only decisions are held, nothing is missing.
            silence = SILENCE_MAX_SECONDS - 1 if door.spool else 2 * SILENCE_MAX_SECONDS
            door.dead_until = max(now, door.reported_at + self.random.uniform(1, silence))

    def _change_rules(self) -> None:
        """Give a company another window; each process hears of it in its own time."""
        company_id = self.random.choice(COMPANIES)
        self.policies[company_id] = replace(self.policies[company_id], window_seconds=self.random.choice(WINDOWS))

    # --- reconcilers ----------------------------------------------------------------------------------------------

    async def _turn_all(self) -> None:
        for process in list(self.processes):
            if self.random.random() < 0.5:
                self._tell_rules(process)
            await self._turn(process)
        if self.zombies and self.random.random() < 0.3:
            zombie = self.zombies[-1]
            self._tell_rules(zombie)  # whoever wakes looks them up sooner than it may claim what it has lost
            await self._turn(zombie)
            if self.random.random() < 0.3:  # it learns that its place is gone
                zombie.source.assign(())

    def _tell_rules(self, process: Process) -> None:
        for company_id, policy in self.policies.items():
            process.policies[company_id] = policy

    async def _turn(self, process: Process) -> None:
        process.source.behind = self.behind if self._reached() else set(self.broker.log)
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


def play(seed: int) -> World:
    """Play one seed. Raises AssertionError that names it when something does not hold, or breaks."""
    world = World(seed)
    try:
        asyncio.run(world.play())
    except Exception as error:
        said = str(error) if isinstance(error, AssertionError) else repr(error)
        raise AssertionError(f"seed {seed} (repeat with `make sim SEED={seed}`): {said}") from error
    return world


def quiet() -> None:
    """Keep the worker's log lines out of the way."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
