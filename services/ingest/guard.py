"""A token bucket a company: who sends more than its share waits, so that others need not. Pure: time is handed in."""

from typing import Final

from msgspec import Struct

MOST_COMPANIES: Final = 10_000


class Limits(Struct, frozen=True):
    """Events of one company at one door: so many a second for ever, and so many at once after a quiet time."""

    events_per_second: float
    burst: int


class Guard:
    """The buckets of one door. A bucket is one number: the moment at which it is full again.

    Moments are seconds of any clock that never goes back. Buckets that are full are not kept.
    """

    def __init__(self, limits: Limits, most_companies: int = MOST_COMPANIES) -> None:
        """Begin with all buckets full."""
        self._seconds_per_event = 1 / limits.events_per_second
        self._burst = limits.burst
        self._deepest_seconds = limits.burst / limits.events_per_second
        self._most_companies = most_companies
        self._full_at: dict[str, float] = {}

    def admit(self, company_id: str, events: int, now_seconds: float) -> float:
        """Take a token an event and give 0.0; if they are too few, take none and give the seconds until they are there.

        More events than a bucket holds cost a full bucket: they come in after a quiet time, not never.
        """
        empty_seconds = self._empty_seconds(company_id, events, now_seconds)
        wait_seconds = empty_seconds - self._deepest_seconds
        if wait_seconds > 0:
            return wait_seconds
        self._put(company_id, now_seconds + empty_seconds, now_seconds)
        return 0.0

    def charge(self, company_id: str, events: int, now_seconds: float) -> float:
        """Take a token an event, there or not; give the seconds until the bucket is out of debt (0.0: it has none).

        Debt ends at one more bucket: a flood is not paid for long after it is over.
        """
        empty_seconds = min(self._empty_seconds(company_id, events, now_seconds), 2 * self._deepest_seconds)
        self._put(company_id, now_seconds + empty_seconds, now_seconds)
        return max(empty_seconds - self._deepest_seconds, 0.0)

    def _empty_seconds(self, company_id: str, events: int, now_seconds: float) -> float:
        """How much of the bucket is gone, in the time that it takes to fill again, with these events taken out."""
        gone_seconds = self._full_at.get(company_id, now_seconds) - now_seconds
        cost_seconds = self._seconds_per_event * events if events < self._burst else self._deepest_seconds
        return gone_seconds + cost_seconds if gone_seconds > 0 else cost_seconds

    def _put(self, company_id: str, full_at: float, now_seconds: float) -> None:
        if len(self._full_at) >= self._most_companies and company_id not in self._full_at:
            self._make_room(now_seconds)
        self._full_at[company_id] = full_at

    def _make_room(self, now_seconds: float) -> None:
        """Forget the full buckets, and of the others at least the fuller half: seldom, and to their favour."""
        emptiest_first = sorted(self._full_at.items(), key=lambda item: item[1], reverse=True)
        kept = emptiest_first[: self._most_companies // 2]
        self._full_at = {company_id: full_at for company_id, full_at in kept if full_at > now_seconds}
