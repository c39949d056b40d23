"""Moments on a company's clock: `dd.mm.YYYY HH:MM`, with the zone named. Pure."""

from datetime import UTC, datetime, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from services.words.tongue import Tongue, mark

#: Short names of zones that have another one in German.
ZONES: Final = (mark("CET"), mark("CEST"))


def zone(name: str) -> tzinfo:
    """Give the zone of that name, or UTC where there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found, no name, a folder of names
        return UTC


def aware(moment: datetime) -> datetime:
    """Give the moment with a zone; without one it is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def on_the_clock(moment: datetime, time_zone: str) -> datetime:
    """Give the moment on that zone's clock."""
    try:
        return aware(moment).astimezone(zone(time_zone))
    except OverflowError:  # the first or last day that there is
        return aware(moment).astimezone(UTC)


def in_zone(moment: datetime, time_zone: str, tongue: Tongue) -> str:
    """Write a moment with its zone: 01.12.2026 10:00 (Europe/Berlin, CET)."""
    local = on_the_clock(moment, time_zone)
    name, short = str(local.tzinfo), local.tzname()
    named = name if short is None or short == name else f"{name}, {tongue.gettext(short)}"
    return f"{_written(local)} ({named})"


def in_short(moment: datetime, time_zone: str, tongue: Tongue) -> str:
    """Write a moment for a list that names the zone once; in an hour that the clock shows twice it says which one."""
    local = on_the_clock(moment, time_zone)
    twice = local.replace(fold=0).utcoffset() > local.replace(fold=1).utcoffset()  # type: ignore[operator] # aware
    return f"{_written(local)} {tongue.gettext(local.tzname() or '')}".rstrip() if twice else _written(local)


def _written(local: datetime) -> str:
    return f"{local:%d.%m.}{local.year:04d} {local:%H:%M}"
