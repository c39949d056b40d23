"""How far a side is known to have been read.

Wall clocks flag everything when one topic lags; stream clocks never flag the last orphan. So a frontier is the receive
time of the last event applied while the partition is behind, and becomes "now" only by proof: the position has
reached an end offset that was fetched at that moment.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace


class Reach(Struct, frozen=True):
    """How far one topic's partition was read. `position` is the next offset; None: not known yet."""

    position: int | None = None
    applied_until: datetime | None = None  # the broker's append time of the last event applied
    proved_until: datetime | None = None  # when the end offset was asked for that the position has reached

    @property
    def frontier(self) -> datetime | None:
        """Give the moment up to which everything is known to have been read; None: nothing is known."""
        known = [moment for moment in (self.applied_until, self.proved_until) if moment is not None]
        return max(known, default=None)


class Contact(Struct, frozen=True):
    """When the broker last answered, and how long after a stall its word does not count as "now" yet."""

    last_at: datetime
    grace_until: datetime | None = None


def applied(reach: Reach, *, position: int, appended_at: datetime) -> Reach:
    """Note that everything before `position` is applied. A broker's clock that steps back moves nothing back."""
    until = appended_at if reach.applied_until is None else max(appended_at, reach.applied_until)
    return replace(reach, position=position, applied_until=until)


def proved(reach: Reach, *, end_offset: int, asked_at: datetime, contact: Contact) -> Reach:
    """Note an end offset that was asked for at `asked_at`; it proves something only if it has been reached.

    During the grace after a stall it proves nothing: spools are still being drained.
    """
    if reach.position is None or reach.position < end_offset:
        return reach
    if contact.grace_until is not None and asked_at < contact.grace_until:
        return reach
    until = asked_at if reach.proved_until is None else max(asked_at, reach.proved_until)
    return replace(reach, proved_until=until)


def contacted(contact: Contact, *, at: datetime, stall_seconds: float, grace_seconds: float) -> Contact:
    """Note that the broker answered. A silence longer than `stall_seconds` begins a grace."""
    if at - contact.last_at > timedelta(seconds=stall_seconds):
        return Contact(at, at + timedelta(seconds=grace_seconds))
    return replace(contact, last_at=max(at, contact.last_at))


def known_until(reaches: Iterable[Reach], *, oldest_unsent_at: datetime | None = None) -> datetime | None:
    """Give the moment up to which all of these are read; None: of one of them nothing is known.

    `oldest_unsent_at` is the door's time of the oldest envelope that still waits in a spool: nothing passes it.
    """
    frontiers = [reach.frontier for reach in reaches]
    known = [frontier for frontier in frontiers if frontier is not None]
    if not known or len(known) < len(frontiers):
        return None
    until = min(known)
    if oldest_unsent_at is not None:
        until = min(until, oldest_unsent_at - timedelta(microseconds=1))
    return until
