"""What a spool holds, counted in memory, so that nobody has to ask the disk. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

#: A topic and a partition; partition UNKNOWN: no broker has said yet how many there are.
Lane = tuple[str, int]

UNKNOWN: Final = -1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SECOND_US: Final = 1_000_000


def to_us(at: datetime) -> int:
    """Give the microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """Give the moment, aware, UTC."""
    return _EPOCH + us * _MICROSECOND


class Holdings:
    """How many messages, how large, in which lanes and how old."""

    def __init__(self) -> None:
        """Nothing."""
        self.messages = 0
        self.bytes = 0
        self.lanes: dict[Lane, int] = {}
        self._seconds: dict[int, tuple[int, int]] = {}

    @property
    def oldest_at(self) -> datetime | None:
        """Give the oldest `received_at`: to the microsecond until something of its second has gone, then early by less.

        Never later than the truth: a frontier stops at it.
        """
        return from_us(self._seconds[min(self._seconds)][1]) if self._seconds else None

    def add(self, lane: Lane, received_us: int, size_bytes: int) -> None:
        """Count a message in."""
        self.messages += 1
        self.bytes += size_bytes
        self.lanes[lane] = self.lanes.get(lane, 0) + 1
        second = received_us // _SECOND_US
        count, oldest_us = self._seconds.get(second, (0, received_us))
        self._seconds[second] = (count + 1, min(oldest_us, received_us))

    def remove(self, lane: Lane, received_us: int, size_bytes: int) -> None:
        """Count a message out."""
        self.messages -= 1
        self.bytes -= size_bytes
        self._lower(lane, 1)
        second = received_us // _SECOND_US
        count, oldest_us = self._seconds[second]
        if count == 1:
            del self._seconds[second]
        else:
            self._seconds[second] = (count - 1, oldest_us)

    def move(self, moved: Iterable[tuple[Lane, Lane]]) -> None:
        """Count messages over from one lane to another."""
        for lane, other in moved:
            self._lower(lane, 1)
            self.lanes[other] = self.lanes.get(other, 0) + 1

    def _lower(self, lane: Lane, count: int) -> None:
        left = self.lanes[lane] - count
        if left:
            self.lanes[lane] = left
        else:
            del self.lanes[lane]
