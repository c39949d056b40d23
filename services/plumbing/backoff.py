"""How long to wait before trying again."""

import random
from collections.abc import Callable
from typing import Final

_random: Final = random.Random()  # noqa: S311 - spreads load, guards nothing


class Backoff:
    """Doubling delays with full jitter: after n failures between half of and the whole of first x 2^n, bounded."""

    def __init__(
        self,
        first_seconds: float = 0.2,
        most_seconds: float = 15.0,
        jitter: Callable[[], float] = _random.random,
        *,
        failures: int = 0,
    ) -> None:
        """`jitter` gives numbers from 0 to 1; tests hand in their own. `failures`: there were so many already."""
        self._first_seconds = first_seconds
        self._most_seconds = most_seconds
        self._jitter = jitter
        self._failures = failures

    def succeeded(self) -> None:
        """Begin anew."""
        self._failures = 0

    def failed(self) -> float:
        """Count a failure and give the seconds to wait."""
        seconds = min(self._most_seconds, self._first_seconds * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return seconds * (0.5 + 0.5 * self._jitter())
