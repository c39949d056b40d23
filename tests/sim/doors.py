"""Doors of a simulated world: each takes what comes, keeps in its spool what Kafka cannot have yet, and reports."""

from collections import deque
from collections.abc import Callable
from datetime import datetime

from msgspec.structs import replace

from schemas.envelope import Delivery
from tests.support.hand_clock import HandClock
from tests.support.memory import MemoryBroker


class Door:
    """One ingest and its spool. `append` gives an envelope to Kafka."""

    def __init__(self, name: str, clock: HandClock, append: Callable[[Delivery], None]) -> None:
        """It is open, and its spool is empty."""
        self.name, self._clock, self._append = name, clock, append
        self.spool: deque[Delivery] = deque()
        self.cut_until = self.dead_until = -1.0  # in seconds of the world's clock
        self.reported_at = clock.seconds
        self.most_spooled = 0

    @property
    def alive(self) -> bool:
        """Tell whether it takes and reports."""
        return self._clock.seconds >= self.dead_until

    @property
    def oldest_unsent_at(self) -> datetime | None:
        """Say when it took the oldest envelope that Kafka does not have."""
        return self.spool[0].received_at if self.spool else None

    def take(self, delivery: Delivery) -> None:
        """Keep what has come; it is sent in its turn, after all that came before."""
        self.spool.append(delivery)
        self.most_spooled = max(self.most_spooled, len(self.spool))

    def drain(self, *, most: int) -> None:
        """Send what waits, the oldest first, as far as Kafka can be reached and no more than so many."""
        if not self.alive or self._clock.seconds < self.cut_until:
            return
        for _ in range(min(most, len(self.spool))):
            self._append(self.spool.popleft())


class Stray:
    """An app's own producer, whose partitioner is not that of Kafka's clients: it writes on another partition."""

    def __init__(self, broker: MemoryBroker, clock: HandClock) -> None:
        """It writes into the same log."""
        self._clock = clock
        self._beside = MemoryBroker(
            broker.partitions, lambda company_id: (broker.home_of(company_id) + 1) % broker.partitions
        )
        self._beside.log = broker.log
        self.waiting: deque[Delivery] = deque()

    def send(self) -> None:
        """Write what waits; nobody has received it before Kafka has."""
        now = self._clock.now()
        while self.waiting:
            self._beside.append(replace(self.waiting.popleft(), received_at=now), at=now)
