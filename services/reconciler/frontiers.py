"""How far each of our partitions is known to be read: what was applied, and what the broker proves.

The rules are pure and stand in `core/frontier.py`; here they are remembered, and the broker is asked.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from msgspec.structs import replace

from schemas import topics
from services.reconciler.core.frontier import Contact, Reach, applied, contacted, known_until, proved
from services.reconciler.limits import Limits
from services.reconciler.ports import Ends, Position


class Frontiers:
    """Remembers the reach of every place that is ours, and when the broker last answered."""

    def __init__(self, ends: Ends, limits: Limits, contact: Contact) -> None:
        """`contact` is when the broker last answered, or the start: a start that had to wait for it is a stall, too."""
        self._ends, self._limits = ends, limits
        self._reaches: dict[Position, Reach] = {}
        self.contact = contact
        self.probed_at = contact.last_at - timedelta(days=1)

    def begin(self, positions: Mapping[Position, int]) -> None:
        """Know nothing but where reading begins."""
        self._reaches = {place: Reach(position=offset) for place, offset in positions.items()}

    def of(self, place: Position) -> Reach:
        """Give the reach of one topic's partition."""
        return self._reaches.get(place, Reach())

    def positions(self) -> dict[Position, int]:
        """Give the next offsets of what is applied."""
        return {place: reach.position for place, reach in self._reaches.items() if reach.position is not None}

    def applied(self, place: Position, *, position: int, appended_at: datetime) -> None:
        """Note that everything before a position is stored."""
        self._reaches[place] = applied(self.of(place), position=position, appended_at=appended_at)

    def known_until(self, number: int) -> datetime | None:
        """Give the moment up to which both sides of a partition are read; None: nothing is known of one."""
        return known_until(self.of((topic, number)) for topic in topics.SIDES)

    async def ask(self, numbers: Collection[int], now: datetime) -> dict[Position, int]:
        """Ask for the log's ends. Raises KafkaError, TimeoutError or OSError: then the frontiers stand still."""
        self.probed_at = now
        ends = await self._ends.ends(topics.SIDES, numbers)
        limits = self._limits
        self.contact = contacted(
            self.contact, at=now, stall_seconds=limits.stall_after_seconds, grace_seconds=limits.stall_grace_seconds
        )
        return ends

    def prove(self, ends: Mapping[Position, int], positions: Mapping[Position, int]) -> None:
        """Take the answer that was asked for at `probed_at`: only that can prove that nothing came before it.

        `positions` are those of the reader, where all that it has read is applied: past what holds no records.
        """
        for place, end in ends.items():
            reach = self.of(place)
            if reach.position is not None and positions.get(place, 0) > reach.position:
                reach = replace(reach, position=positions[place])
            self._reaches[place] = proved(reach, end_offset=end, asked_at=self.probed_at, contact=self.contact)

    def unprove(self, now: datetime) -> None:
        """Take back what was proved by a clock that has stepped back: it spoke of moments that are still to come."""
        self._reaches = {place: replace(reach, proved_until=None) for place, reach in self._reaches.items()}
        self.contact = replace(self.contact, last_at=min(now, self.contact.last_at))
        self.probed_at = now - timedelta(days=1)
