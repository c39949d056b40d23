"""A keeper whose log is a list."""

from collections.abc import Sequence

from schemas.envelope import Delivery


class MemoryKeeper:
    """Keeps in memory; while `away` is an error, it raises that and keeps nothing."""

    def __init__(self) -> None:
        """Begin empty, and there."""
        self.kept: list[Delivery] = []
        self.away: Exception | None = None

    async def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Keep all, or none."""
        if self.away is not None:
            raise self.away
        self.kept.extend(deliveries)
