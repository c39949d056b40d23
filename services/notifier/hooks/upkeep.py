"""What an attempt does to its endpoint: it stands well, it is waited for, or it is switched off and people are told."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from schemas.flags import Flag, FlagType, Kind, Why, company_flag
from services.companies import incidents
from services.notifier import alerts, inboxes
from services.notifier.hooks import endpoints
from services.notifier.hooks.endpoints import Failing, Standings, Target
from services.notifier.hooks.replies import NotTaken
from services.notifier.people import households
from services.notifier.ports import Trouble, TroubleKind, Troubles
from services.plumbing import telemetry
from services.plumbing.backoff import Backoff
from services.plumbing.clock import Clock
from services.plumbing.postgres import Connection, Pool
from services.plumbing.settings import Settings

FIRST_SECONDS: Final = 5.0
MOST_SECONDS: Final = 3_600.0
#: Days without a success count only where it was tried so often: a Slack channel may have nothing to be told for weeks.
LEAST_ATTEMPTS: Final = 5
#: What may pass by itself is trouble from this attempt on.
TROUBLE_ATTEMPTS: Final = 3
#: What is ours to mend is looked at again after this time.
_OURS_SECONDS: Final = 60.0
_LONGEST_REASON: Final = 300


class Upkeep:
    """Notes how attempts went. Errors of the database go up as they are."""

    def __init__(self, settings: Settings, pool: Pool, troubles: Troubles, clock: Clock) -> None:
        """The pool stays its owner's."""
        self._pool, self._troubles, self._clock = pool, troubles, clock
        self._standings = Standings(pool)
        self._off_after = timedelta(days=settings.endpoint_off_after_days)
        self._console_url = settings.console_url
        self._troubled: set[str] = set()

    async def went_well(self, target: Target) -> Target:
        """Note a success; gives the endpoint as it stands then. Costs nothing where there was no failure."""
        if target.failing_since is not None:
            await self._standings.well(target)
        if target.failing_since is not None or target.company_id in self._troubled:
            await self._heal({target.company_id})
        return replace(target, attempts=0, failing_since=None)

    async def failed(self, target: Target, error: NotTaken, *, wait_seconds: float | None = None) -> bool:
        """Note a failure: the endpoint is waited for, or switched off; tells whether it is off.

        `wait_seconds`: how long it is left alone; None: with backoff. If it asked for longer, that counts.
        """
        now = self._clock.now()
        seconds = wait_seconds
        if seconds is None:
            seconds = _OURS_SECONDS if error.ours else retry_seconds(target.attempts)
        not_before = now + timedelta(seconds=max(seconds, error.retry_seconds or 0.0))
        reason = error.reason[:_LONGEST_REASON]
        failing = await self._standings.failed(target, now, reason, not_before, its_own=not error.ours)
        if failing is None:
            return True
        if why := self._why_off(failing, error, now):
            await self._switch_off(target, why, now)
            return True
        if error.advice or failing.attempts >= TROUBLE_ATTEMPTS:
            advice = error.advice or "It is tried again and again; ask its owner."
            await self._trouble(target, f"The webhook at {target.host} takes nothing: {reason}. {advice}")
        return False

    async def tidy(self) -> None:
        """End the alerts and the trouble of endpoints that were enabled or removed; forget what is old; count."""
        now = self._clock.now()
        await self._standings.tidy(now)
        for flag in await self._standings.on_again():
            async with self._pool.acquire() as connection, connection.transaction():
                await self._note(connection, [], [_resolution(flag, now)], now)
        await self._heal(await incidents.having(self._pool, TroubleKind.ENDPOINT))

    def _why_off(self, failing: Failing, error: NotTaken, now: datetime) -> str | None:
        """Say why an endpoint is switched off, if it is."""
        if error.gone:
            return error.reason
        if error.ours or failing.attempts < LEAST_ATTEMPTS or now - failing.since < self._off_after:
            return None
        return f"it took nothing since {failing.since:%Y-%m-%d %H:%M} UTC; at last {error.reason}"[:_LONGEST_REASON]

    async def _switch_off(self, target: Target, why: str, now: datetime) -> None:
        """Switch an endpoint off and tell its company's people, in one transaction."""
        at = now.replace(microsecond=0)  # the alert's generation, and found again by it
        async with self._pool.acquire() as connection, connection.transaction():
            if not await endpoints.switch_off(connection, target, at, why):
                return
            await self._note(connection, [_switched_off(target, why, at)], [], now)
        telemetry.log().warning(
            telemetry.NOTIFIER_WEBHOOK,
            state="off",
            company_id=target.company_id,
            endpoint_id=str(target.endpoint_id),
            host=target.host,
            error=why,
        )
        on_again = f"reconcal companies endpoints --company {target.company_id} enable {target.endpoint_id}"
        await self._trouble(target, f"{_told(target, why)} When it is mended: `{on_again}`.")

    async def _note(self, connection: Connection, raised: list[Flag], resolved: list[Flag], at: datetime) -> None:
        """Have people told, by letters and in their inboxes; within the caller's transaction."""
        homes = await households(connection, {flag.company_id for flag in (*raised, *resolved)})
        await alerts.note(connection, raised, resolved, at)
        await inboxes.put(connection, homes, raised, resolved, at, console_url=self._console_url)

    async def _trouble(self, target: Target, detail: str) -> None:
        self._troubled.add(target.company_id)
        await self._troubles.seen(target.company_id, Trouble(TroubleKind.ENDPOINT, detail))

    async def _heal(self, company_ids: Collection[str]) -> None:
        """End the trouble of those companies of which no endpoint has any."""
        if not company_ids:
            return
        for company_id in set(company_ids) - await self._standings.ill(company_ids):
            self._troubled.discard(company_id)
            await self._troubles.over(company_id, TroubleKind.ENDPOINT)


def retry_seconds(attempts: int) -> float:
    """Say how long an endpoint is left alone that failed again after `attempts` failures: 5 s to 1 h, jitter."""
    return Backoff(FIRST_SECONDS, MOST_SECONDS, failures=attempts).failed()


def _switched_off(target: Target, why: str, at: datetime) -> Flag:
    """Make what people are told; `why.cause` names the endpoint."""
    return _flag(target.company_id, str(target.endpoint_id), int(at.timestamp()), at, _told(target, why))


def _resolution(flag: Flag, at: datetime) -> Flag:
    endpoint_id, reason = flag.why.cause or "", "The webhook was switched on again, or removed."
    return _flag(flag.company_id, endpoint_id, flag.generation, at, reason, over=True)


def _flag(company_id: str, endpoint_id: str, generation: int, at: datetime, reason: str, *, over: bool = False) -> Flag:
    type_ = FlagType.RESOLVED if over else FlagType.ENDPOINT_OFF
    why = Why(cause=endpoint_id)
    return company_flag(company_id, Kind.ENDPOINT_OFF, generation, type_, at, reason=reason, why=why)


def _told(target: Target, why: str) -> str:
    return f"The webhook at {target.host} was switched off: {why}."
