"""Time that is moved by hand."""

from datetime import datetime, timedelta


class HandClock:
    """Seconds since a beginning; may be set back."""

    def __init__(self, begin: datetime) -> None:
        """Begin at the beginning."""
        self._begin = begin
        self.seconds = 0.0

    @property
    def at(self) -> datetime:
        """What it shows; setting it moves the hands."""
        return self.now()

    @at.setter
    def at(self, moment: datetime) -> None:
        self.seconds = (moment - self._begin).total_seconds()

    def now(self) -> datetime:
        """See `clock.Clock`."""
        return self._begin + timedelta(seconds=self.seconds)

    async def sleep(self, seconds: float) -> None:
        """See `clock.Clock`."""
        self.seconds += seconds
