"""The dead-letter brake: too many envelopes that nobody understands are a bad deploy, not bad data. Pure."""

from msgspec import Struct


class Brake(Struct):
    """Watches one partition. A run of dead letters, or a share of the latest ones, trips it."""

    run_max: int
    share_max: float
    of: int
    run: int = 0
    seen: int = 0
    dead: int = 0

    def saw(self, *, dead: bool) -> str | None:
        """Count an envelope; gives the reason once the brake trips."""
        self.run = self.run + 1 if dead else 0
        self.seen += 1
        self.dead += dead
        if self.run >= self.run_max:
            return f"{self.run} dead letters in a row"
        if self.seen < self.of:
            return None
        share = self.dead / self.seen
        self.seen, self.dead = self.seen // 2, self.dead // 2  # the older half fades
        return f"{share:.0%} of the latest {self.of} envelopes are dead letters" if share >= self.share_max else None
