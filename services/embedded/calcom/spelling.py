"""Cal.com's three ways to spell an instant."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo


def to_seconds(at: datetime) -> str:
    """Spell as at a booking's making."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_milliseconds(at: datetime) -> str:
    """Spell as the API does, and whatever is built from the database."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def with_offset(at: datetime, time_zone: str) -> str:
    """Spell as a cancellation does."""
    return at.astimezone(ZoneInfo(time_zone)).isoformat(timespec="seconds")
