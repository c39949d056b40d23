"""When a company's figures are an alarm, and when it is over: pure.

An episode opens where a figure is beyond its limit, and ends only when it has been clearly within it for a while: a
figure that dances around its limit is told of once.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from schemas.flags import Flag, FlagType, Kind, Measured, Why, company_flag

#: What these two count is of the last day, and the failed checks of the last hour; what waits for review waits now.
DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)
WINDOW_OF: Final = {Kind.ORPHANS_A_DAY: DAY, Kind.SYNC_SUCCESS: DAY, Kind.FAILED_CHECKS_AN_HOUR: HOUR}
#: Of fewer decisions one alone would be an alarm.
LEAST_DECIDED: Final = 20
#: How long a figure must have been clearly within its limit.
REST: Final = timedelta(minutes=10)
#: How long nothing may have been wrong with a company's access to Cal.com.
INCIDENT_REST: Final = timedelta(minutes=2)
#: How far above its limit the success has to be, in percentage points. Counts have to be at 80 % of theirs.
_POINTS: Final = 1.0

#: Incidents that say that Cal.com cannot be asked, the gravest first, and how long each may last until people are told.
#: A refused key does not mend itself; an outage of minutes is nobody's alarm.
PATIENCE: Final = {
    "calcom_unauthorised": timedelta(minutes=2),
    "calcom_wrong_address": timedelta(minutes=2),
    "calcom_wrong_answer": timedelta(minutes=15),
    "calcom_unreachable": timedelta(minutes=15),
    "calcom_limited": timedelta(minutes=15),
}


class Sight(StrEnum):
    """How a figure stands to its limit."""

    BEYOND = "beyond"
    BETWEEN = "between"  # neither an alarm nor clearly none: what was, stays
    CALM = "calm"


class Turn(StrEnum):
    """What becomes of an episode."""

    OPENED = "opened"
    ENDED = "ended"


class Figure(Struct, frozen=True):
    """A count; or a share in per cent `of` so many decisions."""

    value: float
    of: int | None = None


class Incident(Struct, frozen=True):
    """A row of `incidents` that is about Cal.com."""

    kind: str
    detail: str
    opened_at: datetime


class Episode(Struct, frozen=True, kw_only=True):
    """What is known of a company and kind. `opened_at`: None: nothing is open; `generation` is then the last one's.

    `calm_since`: since when the open one seems to be over. `cause`: the incident's kind, of CALCOM_INCIDENT.
    """

    generation: int = 0
    opened_at: datetime | None = None
    calm_since: datetime | None = None
    cause: str | None = None


class Seen(Struct, frozen=True, kw_only=True):
    """What a look at one company found. `reason`: a sentence for people."""

    sight: Sight
    reason: str
    measured: Measured | None = None
    cause: str | None = None


def success(synced: int, amiss: int) -> Figure:
    """Give the share of decisions that ended in sync, rounded down: what is under a limit never looks as if at it."""
    decided = synced + amiss
    return Figure(10_000 * synced // decided / 100 if decided else 100.0, decided)


def see(kind: Kind, figure: Figure, limit: float) -> Seen:
    """Judge a figure by its limit."""
    window = WINDOW_OF.get(kind)
    measured = Measured(
        value=figure.value, limit=float(limit), window_seconds=window.total_seconds() if window else None
    )
    return Seen(sight=_sight(figure, limit), reason=_sentence(kind, figure, limit), measured=measured)


def _sight(figure: Figure, limit: float) -> Sight:
    if figure.of is None:
        if figure.value > limit:
            return Sight.BEYOND
        return Sight.CALM if figure.value * 5 <= limit * 4 else Sight.BETWEEN
    if figure.of >= LEAST_DECIDED and figure.value < limit:
        return Sight.BEYOND
    calm = not figure.of or limit <= 0 or figure.value >= min(limit + _POINTS, 100.0)
    return Sight.CALM if calm else Sight.BETWEEN


def see_incidents(there: Sequence[Incident], cause: str | None, now: datetime) -> Seen:
    """Judge a company's incidents. `cause`: the kind of the one that people were told of, while that is open."""
    if cause is not None:
        told = next((one for one in there if one.kind == cause), None)
        if told is None:
            return Seen(sight=Sight.CALM, reason="What kept Cal.com from being asked is over.", cause=cause)
        return Seen(sight=Sight.BETWEEN, reason=told.detail, cause=cause)
    for kind, patience in PATIENCE.items():
        lasting = next((one for one in there if one.kind == kind and now - one.opened_at >= patience), None)
        if lasting is not None:
            return Seen(sight=Sight.BEYOND, reason=lasting.detail, cause=kind)
    return Seen(sight=Sight.BETWEEN, reason="")


def weigh(known: Episode, seen: Seen, rest: timedelta, now: datetime) -> tuple[Episode, Turn | None]:
    """Decide what becomes of an episode; gives it as it is now, and what has to be told."""
    if known.opened_at is None:
        if seen.sight is not Sight.BEYOND:
            return known, None
        return Episode(generation=known.generation + 1, opened_at=now, cause=seen.cause), Turn.OPENED
    if seen.sight is not Sight.CALM:
        return replace(known, calm_since=None), None
    calm_since = min(known.calm_since or now, now)
    if now - calm_since < rest:
        return replace(known, calm_since=calm_since), None
    return Episode(generation=known.generation), Turn.ENDED


def flag(company_id: str, kind: Kind, generation: int, turn: Turn, seen: Seen, now: datetime) -> Flag:
    """Make what is told of an episode's beginning or end."""
    begun = FlagType.CALCOM_INCIDENT if kind is Kind.CALCOM_INCIDENT else FlagType.THRESHOLD
    type_ = FlagType.RESOLVED if turn is Turn.ENDED else begun
    why = Why(note=seen.cause)
    return company_flag(company_id, kind, generation, type_, now, reason=seen.reason, why=why, measured=seen.measured)


#: Of a company that was removed.
REMOVED: Final = Seen(sight=Sight.CALM, reason="The company was removed.")


def _sentence(kind: Kind, figure: Figure, limit: float) -> str:
    value, most = f"{figure.value:g}", f"{limit:g}"
    if kind is Kind.SYNC_SUCCESS:
        return (
            f"Of {figure.of} appointments that were decided in the last 24 hours {value} % are in sync; "
            f"at least {most} % should be."
        )
    if kind is Kind.ORPHANS_A_DAY:
        return f"In the last 24 hours {value} appointments were found on one side only; the limit is {most}."
    if kind is Kind.FAILED_CHECKS_AN_HOUR:
        return f"In the last hour {value} appointments could not be checked at Cal.com; the limit is {most}."
    return f"{value} appointments wait for review; the limit is {most}."
