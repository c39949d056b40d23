"""Cal.com's limit of requests a key, and the stand-in's own book of who asked what when."""

import math
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

WINDOW: Final = timedelta(seconds=60)
BLOCK: Final = timedelta(seconds=60)
KEPT_REQUESTS: Final = 200_000


class Headroom(Struct, frozen=True):
    """What is left after a request. `allowed`: it was within the limit."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int

    def headers(self) -> dict[str, str]:
        """Give them as Cal.com does; Reset counts the seconds that are left."""
        return {
            "X-RateLimit-Limit-Default": f"{self.limit}",
            "X-RateLimit-Remaining-Default": f"{self.remaining}",
            "X-RateLimit-Reset-Default": f"{self.reset_seconds}",
        }


class _Window(Struct):
    ends_at: datetime
    asked: int = 0
    blocked_until: datetime | None = None


class Limiter:
    """So many requests of a key in a window that its first request opens; one more, and the key is blocked."""

    def __init__(self, requests_per_minute: int) -> None:
        """`requests_per_minute` is every key's, until `allow` says otherwise."""
        self._default = requests_per_minute
        self._own: dict[str, int] = {}
        self._windows: dict[str, _Window] = {}

    def allow(self, key: str, requests_per_minute: int) -> None:
        """Give a key a limit of its own, as Cal.com's support does."""
        self._own[key] = requests_per_minute

    def count(self, key: str, now: datetime) -> Headroom:
        """Count a request."""
        limit = self._own.get(key, self._default)
        window = self._windows.get(key)
        if window is None or now >= (window.blocked_until or window.ends_at):
            window = self._windows[key] = _Window(now + WINDOW)
        if window.blocked_until is None:
            window.asked += 1
            if window.asked > limit:
                window.blocked_until = now + BLOCK
        ends_at = window.blocked_until or window.ends_at
        left = max(0, limit - window.asked)
        return Headroom(window.blocked_until is None, limit, left, math.ceil((ends_at - now).total_seconds()))


class Asked(Struct):
    """One request. `status` is None while it is under way, and for ever where no answer was given."""

    at: datetime
    key: str
    method: str
    path: str
    query: str
    status: int | None = None

    def __repr__(self) -> str:
        """Hide the key."""
        return f"Asked({self.at:%H:%M:%S.%f}, {self.method} {self.path}?{self.query}, {self.status})"


class Book:
    """Every request that reached the stand-in, the newest 200,000."""

    def __init__(self) -> None:
        """Begin empty."""
        self.requests: deque[Asked] = deque(maxlen=KEPT_REQUESTS)
        self.asked_together: set[str] = set()  # paths that one key asked for while it was asking for them already
        self._under_way: Counter[tuple[str, str]] = Counter()

    def begin(self, asked: Asked) -> None:
        """Note a request."""
        self.requests.append(asked)
        self._under_way[asked.key, asked.path] += 1
        if self._under_way[asked.key, asked.path] > 1:
            self.asked_together.add(asked.path)

    def end(self, asked: Asked) -> None:
        """Note that it is over."""
        self._under_way[asked.key, asked.path] -= 1
        if not self._under_way[asked.key, asked.path]:
            del self._under_way[asked.key, asked.path]

    def of(
        self, key: str | None = None, *, under: str = "", having: Callable[[Asked], bool] | None = None
    ) -> list[Asked]:
        """Give the requests of a key (of all) below a path, in order."""
        return [
            one for one in self.requests
            if key in (None, one.key) and one.path.startswith(under) and (having is None or having(one))
        ]  # fmt: skip

    def most_in(self, seconds: float, key: str | None = None) -> int:
        """Give how many requests of a key came within the fullest span of so many seconds, wherever it begins."""
        span, most = timedelta(seconds=seconds), 0
        recent: deque[datetime] = deque()
        for one in self.of(key):
            recent.append(one.at)
            while one.at - recent[0] >= span:
                recent.popleft()
            most = max(most, len(recent))
        return most
