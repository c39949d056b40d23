"""When a sweep falls due. Pure: moments in, moments out.

A sweep belongs to a slot: a moment that can be computed from the wall alone, whoever asks and whenever. The latest slot
that has begun is the only one that may be due; so one that was missed is made up once, and of several only the last.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5
from zoneinfo import ZoneInfo

SIX_HOURS: Final = timedelta(hours=6)
DAILY_HOUR: Final = 2
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SWEEPS: Final = uuid5(NAMESPACE_URL, "https://reconcal.example/sweeps")


class SweepKind(StrEnum):
    """What a sweep is of; `sweeps.kind`."""

    SIX_HOURS = "six_hours"  # what is not in order and was not asked for so long
    DAILY = "daily"  # what waits for review
    COMPANY = "company"  # one company's, because somebody asked for it


def latest_slot(kind: SweepKind, now: datetime, zone: ZoneInfo) -> datetime:
    """Give the latest moment, not after `now`, at which a sweep of this kind fell due; aware, UTC.

    Every six hours: 00:00, 06:00, 12:00 and 18:00 UTC. Daily: 02:00 in `zone`, once a calendar day there; where clocks
    leap over it, at the leap, and where it comes twice, the first time.
    """
    if kind is SweepKind.SIX_HOURS:
        return now - (now - _EPOCH) % SIX_HOURS
    if kind is SweepKind.COMPANY:
        raise ValueError("a company's sweep is asked for, and never falls due")
    today = now.astimezone(zone).date()
    # Where a whole calendar day is left out, or one comes twice, today's may be still to come, or tomorrow's over.
    days = (today + timedelta(days=more) for more in (1, 0, -1, -2))
    return next(at for at in (_two_o_clock(day.year, day.month, day.day, zone) for day in days) if at <= now)


def slot_id(kind: SweepKind, slot: datetime) -> UUID:
    """Make the id of a slot's sweep: whoever asks for it, and however often, it is one."""
    return uuid5(_SWEEPS, f"{kind}\0{slot.astimezone(UTC).isoformat()}")


def _two_o_clock(year: int, month: int, day: int, zone: ZoneInfo) -> datetime:
    # fold=0: of two the first; of none, what the clocks before the leap would have called so.
    return datetime(year, month, day, DAILY_HOUR, tzinfo=zone).astimezone(UTC)
