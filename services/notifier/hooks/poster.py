"""Posts grouped letters to Slack; `ports.Poster`."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from services.notifier.hooks.endpoints import Standings
from services.notifier.hooks.outgoing import Outgoing
from services.notifier.hooks.replies import NotTaken
from services.notifier.hooks.upkeep import Upkeep
from services.notifier.ports import Fate, Troubles, Undelivered
from services.plumbing.clock import Clock
from services.plumbing.postgres import Pool
from services.plumbing.settings import Settings

CONNECTIONS: Final = 8


class SlackPoster:
    """Looks an endpoint up, posts, and notes how it stands. Whoever posts waits between attempts by himself."""

    def __init__(self, settings: Settings, pool: Pool, troubles: Troubles, clock: Clock) -> None:
        """Connects to nothing yet. The pool stays its owner's."""
        self._clock = clock
        self._standings = Standings(pool)
        self._upkeep = Upkeep(settings, pool, troubles, clock)
        self._outgoing = Outgoing(settings, clock, connections=CONNECTIONS)

    async def close(self) -> None:
        """Close what is open."""
        await self._outgoing.close()

    async def post(self, company_id: str, endpoint_id: str, body: bytes) -> str:
        """See `ports.Poster`. Trouble is noted here. Errors of the database go up."""
        target = await self._standings.slack(company_id, UUID(endpoint_id))
        if target is None:
            raise Undelivered(Fate.REFUSED, "the endpoint was switched off or removed")
        now = self._clock.now()
        if target.failing_since is not None and now < target.not_before:
            seconds = (target.not_before - now) / timedelta(seconds=1)
            raise Undelivered(Fate.LATER, f"it asked us to wait {seconds:.0f} s more")
        try:
            said = await self._outgoing.post(self._outgoing.open(target.url_ciphertext), body, {})
        except NotTaken as error:
            # Only what it asked for itself holds an endpoint back here: the sender has its own backoff.
            off = await self._upkeep.failed(target, error, wait_seconds=0.0)
            fate = Fate.REFUSED if off else Fate.LATER
            raise Undelivered(fate, error.reason, in_doubt=error.in_doubt and not off) from None
        await self._upkeep.went_well(target)
        return said
