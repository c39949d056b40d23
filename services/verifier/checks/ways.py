"""Which companies are asked for at the moment, and for how many of their questions at once. Pure but for its memory.

A company that nobody may ask for holds up no other. One whose key is short of requests gets fewer of the slots: half
as many with every "not now", one more with every answer.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final

from msgspec import Struct

#: Names the key of a company; None: it has none.
KeyOf = Callable[[str], str | None]

_FEWEST: Final = 1


class _Closed(Struct, frozen=True):
    until: datetime
    budget_id: str | None


class Ways:
    """What was learnt of each company lately."""

    def __init__(self, most: int, key_of: KeyOf) -> None:
        """All ways are open. `most`: questions of one company at once, humans' not counted."""
        self._most, self._key_of = most, key_of
        self._closed: dict[tuple[str, bool], _Closed] = {}
        self._allowed: dict[str, int] = {}
        self._under_way: Counter[str] = Counter()

    def close(self, company_id: str, budget_id: str | None, until: datetime, *, humans: bool) -> None:
        """Close a way until a moment, or until the company has another key than this. `humans`: for them, too."""
        self._closed[(company_id, humans)] = _Closed(until, budget_id)

    def began(self, company_id: str) -> None:
        """Count a question under way."""
        self._under_way[company_id] += 1

    def ended(self, company_id: str) -> None:
        """Count it out."""
        self._under_way[company_id] -= 1
        if not self._under_way[company_id]:
            del self._under_way[company_id]

    def answered(self, company_id: str) -> None:
        """Let one more of a company's questions go at once."""
        allowed = self._allowed.get(company_id, self._most) + 1
        if allowed >= self._most:
            self._allowed.pop(company_id, None)
        else:
            self._allowed[company_id] = allowed

    def short(self, company_id: str) -> None:
        """Let half as many of a company's questions go at once."""
        self._allowed[company_id] = max(_FEWEST, self._allowed.get(company_id, self._most) // 2)

    def look(self, now: datetime) -> tuple[list[str], list[str], datetime | None]:
        """Give who is closed to everybody; who is to all but humans, or has enough under way; and what opens next."""
        for way, closed in list(self._closed.items()):
            if closed.until <= now or closed.budget_id != self._key_of(way[0]):
                del self._closed[way]
        shut = [company_id for (company_id, humans) in self._closed if humans]
        crowded = {company_id for (company_id, humans) in self._closed if not humans}
        crowded |= {one for one, count in self._under_way.items() if count >= self._allowed.get(one, self._most)}
        opens_at = min((closed.until for closed in self._closed.values()), default=None)
        return shut, sorted(crowded), opens_at
