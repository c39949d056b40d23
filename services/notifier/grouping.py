"""When a recipient is written to, and when not: pure.

As Alertmanager groups: what is new is collected for a while, then at most one letter in an interval tells all that is
new and all that has ended; a cause that was told holds back its effects; what is still open is reminded of.
"""

from collections.abc import Collection
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final

from msgspec import Struct

from schemas.flags import Kind
from services.companies.model import Delivery
from services.notifier.letter import Occasion

#: What is urgent is collected no longer than this: what mends itself at once is not told.
URGENT_WAIT_SECONDS: Final = 2.0
#: Each reminder waits twice as long as the one before, but no longer than this, unless the company wants it rarer.
REMINDER_MOST_SECONDS: Final = 86_400.0

#: What is told once, and holds back what it explains while it is open; see `held_by`.
CAUSES: Final = (Kind.WEBHOOK_SILENT, Kind.CALCOM_INCIDENT)
_ORPHANS: Final = frozenset({Kind.ORPHANED_LOCAL, Kind.ORPHANED_CALCOM})
#: What an open flag about the company explains.
_BY_SILENCE: Final = _ORPHANS | {Kind.ORPHANS_A_DAY, Kind.WAITING_FOR_REVIEW, Kind.SYNC_SUCCESS}
_BY_INCIDENT: Final = frozenset({Kind.VERIFICATION_ERROR, Kind.FAILED_CHECKS_AN_HOUR})


class Policy(Struct, frozen=True, kw_only=True):
    """A company's figures."""

    group_wait_seconds: float = 30.0
    group_interval_seconds: float = 300.0
    reminder_seconds: float = 14_400.0
    urgent_within_seconds: float = 7_200.0


class Held(Struct, frozen=True):
    """What is not told at the moment, for its cause was: `kinds`; if `unverified`, what Cal.com was not asked about.

    Of records alone: flags about a company as a whole, causes among them, have no verdict that says so.
    """

    kinds: frozenset[Kind] = frozenset()
    unverified: bool = False


class Board(Struct, frozen=True, kw_only=True):
    """All that there is to tell one recipient, counted; of kinds that they want.

    `oldest_at`: since when the first of what is new could have been told: taken in, or no longer held back.
    `near_at`: when the first appointment among it that has not begun became both known and near, or will: the least of
    max(as oldest_at, its start - urgent_within_seconds). `ended_at`: when the first of what was told, and has ended
    since, ended. `open`: told before, and still open.
    """

    news: int = 0
    oldest_at: datetime | None = None
    near_at: datetime | None = None
    ended: int = 0
    ended_at: datetime | None = None
    open: int = 0


class Past(Struct, frozen=True, kw_only=True):
    """What the recipient got before. `last_urgent_at`: the last letter that was `urgent` in its plan."""

    last_at: datetime | None = None
    last_urgent_at: datetime | None = None
    reminders: int = 0  # since something was last told


class Plan(Struct, frozen=True, kw_only=True):
    """What is to be done: write now, or look again at `look_at`; both None: when something changes."""

    write: Occasion | None = None
    urgent: bool = False  # written before all was collected, or before its interval was over
    look_at: datetime | None = None


def held_by(open_kinds: Collection[Kind]) -> Held:
    """Say what the open flags about a company as a whole hold back."""
    silent, incident = Kind.WEBHOOK_SILENT in open_kinds, Kind.CALCOM_INCIDENT in open_kinds
    kinds = (_BY_SILENCE if silent else frozenset()) | (_BY_INCIDENT if incident else frozenset())
    return Held(kinds=kinds, unverified=incident)


def plan(
    board: Board, past: Past, policy: Policy, delivery: Delivery, daily_at: time, zone: tzinfo, now: datetime
) -> Plan:
    """Decide whether a recipient is written to now."""
    if delivery is Delivery.NONE:
        return Plan()
    if delivery is Delivery.DAILY:
        return _daily(board, past, daily_at, zone, now)
    urgent_at = _urgent_at(board, past, policy)
    regular_at = _regular_at(board, past, policy)
    reminder_at = _reminder_at(board, past, policy)
    if regular_at is not None and regular_at <= now:
        return Plan(write=Occasion.NEWS)
    if urgent_at is not None and urgent_at <= now:
        return Plan(write=Occasion.NEWS, urgent=True)
    if reminder_at is not None and reminder_at <= now:
        return Plan(write=Occasion.REMINDER)
    moments = [at for at in (urgent_at, regular_at, reminder_at) if at is not None]
    return Plan(look_at=min(moments, default=None))


def _regular_at(board: Board, past: Past, policy: Policy) -> datetime | None:
    """After a time of collecting, and not within an interval of the last letter."""
    began = [at for at in (board.oldest_at, board.ended_at) if at is not None]
    if not began:
        return None
    collected = min(began) + timedelta(seconds=policy.group_wait_seconds)
    return max(collected, _after(past.last_at, policy.group_interval_seconds) or collected)


def _urgent_at(board: Board, past: Past, policy: Policy) -> datetime | None:
    """Nearly at once; but once an interval, or a storm of urgent ones would be a storm of letters."""
    if board.near_at is None:
        return None
    collected = board.near_at + timedelta(seconds=min(policy.group_wait_seconds, URGENT_WAIT_SECONDS))
    return max(collected, _after(past.last_urgent_at, policy.group_interval_seconds) or collected)


def _reminder_at(board: Board, past: Past, policy: Policy) -> datetime | None:
    """Of what is open, where there is nothing else to tell: a reminder would make news wait for an interval."""
    if not board.open or board.oldest_at is not None or board.ended_at is not None:
        return None
    most_seconds = max(REMINDER_MOST_SECONDS, policy.reminder_seconds)
    wait_seconds = min(policy.reminder_seconds * 2.0 ** min(past.reminders, 32), most_seconds)
    return _after(past.last_at, max(wait_seconds, policy.group_interval_seconds))


def _daily(board: Board, past: Past, daily_at: time, zone: tzinfo, now: datetime) -> Plan:
    """Once a day while there is something, at the person's time on the company's clock."""
    moments = []
    if board.open and past.last_at is not None:
        moments.append(past.last_at)
    began = [at for at in (board.oldest_at, board.ended_at) if at is not None]
    if began:
        moments.append(max(min(began), past.last_at or min(began)))
    if not moments:
        return Plan()
    due_at = next_time(min(moments), daily_at, zone)
    return Plan(write=Occasion.DAILY) if due_at <= now else Plan(look_at=due_at)


def next_time(after: datetime, at: time, zone: tzinfo) -> datetime:
    """Give the first moment after `after` at which the clock in `zone` shows `at`, in UTC.

    A time that the clock jumps over comes by as much later as it jumped (02:30 is 03:30 then); of one that it shows
    twice the first counts.
    """
    day = after.astimezone(zone).date()
    moment = datetime.combine(day, at, zone).astimezone(UTC)
    while moment <= after:
        day += timedelta(days=1)
        moment = datetime.combine(day, at, zone).astimezone(UTC)
    return moment


def _after(moment: datetime | None, seconds: float) -> datetime | None:
    return None if moment is None else moment + timedelta(seconds=seconds)
