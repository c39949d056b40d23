"""How far each of our partitions is known to be read: what was applied, and what doors and broker prove.

A proof is a question with three parts, in this order: the moment, what the doors have sent by then (the horizon), and
where the log ends after that. Whoever has reached these ends has read all that was received before the horizon; also
when that is long after the question was asked. What was applied by itself proves nothing: an envelope that waited in a
spool comes behind others that were received after it.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from sys import maxsize
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from schemas import topics
from services.reconciler.core.frontier import Contact, Reach, applied, contacted, proved
from services.reconciler.limits import Limits
from services.reconciler.ports import Ends, Horizon, Position

#: Questions that are remembered until their ends are reached; of more, every second one is forgotten.
ASKED_MAX: Final = 512


class Asked(Struct, frozen=True):
    """A question that was answered: whoever is at these ends has read all that was received before `until`."""

    until: datetime
    ends: Mapping[Position, int]


class Frontiers:
    """Remembers the reach of every place that is ours, and when the broker last answered."""

    def __init__(self, ends: Ends, limits: Limits, contact: Contact) -> None:
        """`contact` is when the broker last answered, or the start: a start that had to wait for it is a stall, too."""
        self._ends, self._limits = ends, limits
        self._reaches: dict[Position, Reach] = {}
        self._asked: list[Asked] = []
        self._until: datetime | None = None  # of the latest horizon
        self.silent: tuple[str, ...] = ()
        self.contact = contact
        self.probed_at = contact.last_at - timedelta(days=1)

    def begin(self, positions: Mapping[Position, int]) -> None:
        """Know nothing but where reading begins."""
        self._reaches = {place: Reach(position=offset) for place, offset in positions.items()}
        self._asked = []

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
        """Give the moment before which all of both sides of a partition was read; None: nothing is known of one."""
        until = self._until
        for topic in topics.SIDES:
            proved_until = self.of((topic, number)).proved_until
            if until is None or proved_until is None:
                return None
            until = min(until, proved_until)
        return until

    def hear(self, horizon: Horizon, now: datetime) -> None:
        """Take what the doors said when they were asked at `now`; the broker is asked after them."""
        self.probed_at = now
        self.silent = horizon.silent
        until = now if horizon.until is None else min(now, horizon.until)
        if self._until is not None and until < self._until:
            self._take_back(until)
        self._until = until

    def _take_back(self, until: datetime) -> None:
        """Believe no proof past a moment: something older has turned up that nobody had counted in."""
        self._asked = [Asked(min(asked.until, until), asked.ends) for asked in self._asked]
        for place, reach in self._reaches.items():
            if reach.proved_until is not None and reach.proved_until > until:
                self._reaches[place] = replace(reach, proved_until=until)

    async def ask(self, numbers: Collection[int], now: datetime) -> dict[Position, int]:
        """Ask for the log's ends. Raises KafkaError, TimeoutError or OSError: then the frontiers stand still."""
        ends = await self._ends.ends(topics.SIDES, numbers)
        limits = self._limits
        self.contact = contacted(
            self.contact, at=now, stall_seconds=limits.stall_after_seconds, grace_seconds=limits.stall_grace_seconds
        )
        return ends

    def prove(self, ends: Mapping[Position, int], positions: Mapping[Position, int]) -> None:
        """Take the answer to the question of `probed_at`, and see which questions are reached by now.

        `positions` are those of the reader, where all that it has read is applied: past what holds no records. In the
        grace after a stall the answer is no proof.
        """
        grace_until = self.contact.grace_until
        if self._until is not None and (grace_until is None or self.probed_at >= grace_until):
            self._asked.append(Asked(self._until, ends))
        if len(self._asked) > ASKED_MAX:
            del self._asked[-2::-2]
        self._advance(ends, positions)

    def advance(self) -> None:
        """See which questions are reached by what was applied since."""
        if self._asked:
            self._advance(self._asked[-1].ends, {})

    def _advance(self, places: Iterable[Position], positions: Mapping[Position, int]) -> None:
        reached = [self._reach(place, positions) for place in places]
        del self._asked[: min(reached, default=0)]

    def _reach(self, place: Position, positions: Mapping[Position, int]) -> int:
        """Note how much is proved of a place; gives how many of the questions are of no use to it any more."""
        reach = self.of(place)
        if reach.position is None:
            return 0
        position = max(reach.position, positions.get(place, 0))
        reach = replace(reach, position=position)
        reached = bisect_right(self._asked, position, key=lambda asked: asked.ends.get(place, maxsize))
        if reached:
            last = self._asked[reached - 1]
            contact = Contact(self.contact.last_at)  # whether it counts was decided when it was asked
            reach = proved(reach, end_offset=last.ends[place], asked_at=last.until, contact=contact)
        self._reaches[place] = reach
        return reached

    def unprove(self, now: datetime) -> None:
        """Take back what was proved by a clock that has stepped back: it spoke of moments that are still to come."""
        self._reaches = {place: replace(reach, proved_until=None) for place, reach in self._reaches.items()}
        self._asked, self._until = [], None
        self.contact = replace(self.contact, last_at=min(now, self.contact.last_at))
        self.probed_at = now - timedelta(days=1)
