"""Delivers signed webhooks: Standard Webhooks, one message a flag, in the order in which they were queued."""

import asyncio
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from msgspec import Struct

from services.companies import whsec
from services.notifier.hooks.endpoints import Endpoints, Message, Target
from services.notifier.hooks.outgoing import Outgoing
from services.notifier.hooks.replies import NotTaken
from services.notifier.hooks.upkeep import Upkeep
from services.notifier.ports import Troubles
from services.plumbing import lifecycle, telemetry
from services.plumbing.clock import Clock
from services.plumbing.health import Health
from services.plumbing.postgres import Pool
from services.plumbing.settings import Settings

#: Endpoints that are told something at once.
SLOTS: Final = 8
#: Messages of one endpoint that are read at once.
PAGE: Final = 50
#: What another process queued, and endpoints that have waited long enough, are seen within this time.
POLL_SECONDS: Final = 2.0
#: An endpoint is told for so long; then it is another one's turn.
TURN_SECONDS: Final = 20.0
#: What a lease is longer than a turn and its last request: for a slow database.
_SPARE_SECONDS: Final = 15.0
#: How often what is old is forgotten, and alerts of endpoints that are on again are ended.
TIDY_SECONDS: Final = 15.0
#: What is under way at a stop has so long, then is cut; with all else less than `main.GRACE_SECONDS`.
STOP_SECONDS: Final = 1.0


class Hooks:
    """The loop that empties the queues of endpoints. Several may run, here and elsewhere: each has its own endpoints.

    A message is posted, and noted as sent when it was taken. A crash in between lets the lease run out and tells it
    again under the same webhook-id: twice is possible there, never is not.
    """

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        troubles: Troubles,
        clock: Clock,
        health: Health,
        queued: asyncio.Event,
        stop: asyncio.Event,
    ) -> None:
        """Connects to nothing yet. `queued` is set when messages were queued, and cleared here."""
        self._clock, self._health, self._queued, self._stop = clock, health, queued, stop
        self._table = Endpoints(pool, lifecycle.new_holder())
        self._upkeep = Upkeep(settings, pool, troubles, clock)
        self._outgoing = Outgoing(settings, clock, connections=2 * SLOTS)
        self._turn = timedelta(seconds=TURN_SECONDS)
        self._lease = timedelta(seconds=TURN_SECONDS + settings.endpoint_timeout_seconds + _SPARE_SECONDS)
        self._tidied_at: datetime | None = None

    async def run(self) -> None:
        """Deliver until stop. Errors of the database go up; those of endpoints do not."""
        turns: set[asyncio.Task[None]] = set()
        try:
            while not self._stop.is_set():
                self._queued.clear()
                turns |= await self._begin(SLOTS - len(turns))
                await self._tidy()
                turns = await self._rest(turns)
            await _ended(turns, STOP_SECONDS)
        finally:
            await self._let_go(turns)

    async def burst(self) -> bool:
        """Tell each endpoint whose turn it is what waits for it; says whether there was anything to do."""
        turns = await self._begin(SLOTS)
        await asyncio.gather(*turns)
        return bool(turns)

    async def close(self) -> None:
        """Close what is open."""
        await self._outgoing.close()

    async def tidy(self) -> None:
        """See `Upkeep.tidy`."""
        self._tidied_at = self._clock.now()
        await self._upkeep.tidy()

    async def _begin(self, free: int) -> set[asyncio.Task[None]]:
        now = self._clock.now()
        targets = await self._table.lease(now, now + self._lease, limit=free) if free else []
        self._health.ready("webhooks")
        return {asyncio.create_task(self._tell_all(target, now + self._turn)) for target in targets}

    async def _tidy(self) -> None:
        now = self._clock.now()
        if self._tidied_at is None or now - self._tidied_at >= timedelta(seconds=TIDY_SECONDS):
            await self.tidy()

    async def _rest(self, turns: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        """Wait until there may be something to do; gives the turns that go on. Raises what ended a turn."""
        await lifecycle.first_of(self._queued, self._stop, seconds=POLL_SECONDS, tasks=turns)
        return await _ended(turns, 0)

    async def _let_go(self, turns: set[asyncio.Task[None]]) -> None:
        """Cut what is still under way, and give its endpoints back, within seconds; a lease runs out anyway."""
        for turn in turns:
            turn.cancel()
        if turns:
            done, _ = await asyncio.wait(turns, timeout=STOP_SECONDS / 2)
            for turn in done:
                turn.cancelled() or turn.exception()
        try:
            await lifecycle.bounded(self._table.release(self._clock.now()), STOP_SECONDS / 2)
        except lifecycle.PASSING as error:
            telemetry.log().warning(telemetry.LOOP_FAILED, loop="notifier.webhooks", error=lifecycle.describe(error))
        await self.close()

    async def _tell_all(self, target: Target, latest: datetime) -> None:
        """Tell an endpoint what waits for it, one after the other, until one is not taken or the turn is over."""
        while messages := await self._table.next(target, limit=PAGE):
            for message in messages:
                if self._stop.is_set() or self._clock.now() > latest:
                    return await self._table.release(self._clock.now(), target.endpoint_id)
                if not await self._tell(target, message):
                    return await self._table.release(self._clock.now(), target.endpoint_id)
                target = await self._upkeep.went_well(target)
        return await self._table.release(self._clock.now(), target.endpoint_id)

    async def _tell(self, target: Target, message: Message) -> bool:
        """Tell one flag and note what became of it; says whether it was taken."""
        began = asyncio.get_running_loop().time()
        state, error = "sent", None
        try:
            said = await self._post(target, message)
            await self._table.sent(target, message.flag_id, self._clock.now())
        except NotTaken as not_taken:
            state, said, error = "failed", "", not_taken
            await self._table.not_sent(target, message.flag_id, not_taken.reason)
            await self._upkeep.failed(target, not_taken)
        telemetry.endpoint_messages.labels(state).inc()
        telemetry.log().info(
            telemetry.NOTIFIER_WEBHOOK,
            state=state,
            company_id=target.company_id,
            endpoint_id=str(target.endpoint_id),
            host=target.host,
            flag_id=str(message.flag_id),
            attempts=message.attempts + 1,
            answer=said,
            error=error.reason if error else None,
            ms=round((asyncio.get_running_loop().time() - began) * 1000),
        )
        return error is None

    async def _post(self, target: Target, message: Message) -> str:
        """Post one flag; gives what was answered. Raises NotTaken."""
        url = self._outgoing.open(target.url_ciphertext)
        secret = self._outgoing.open(target.secret_ciphertext or b"")
        body = body_of(message.flag)
        return await self._outgoing.post(url, body, signed(secret, message.flag_id, self._clock.now(), body))


class _Head(Struct):
    """What is said of a flag outside of it."""

    type: str
    decided_at: msgspec.Raw


def body_of(flag: str) -> bytes:
    """Give the body that tells a flag, of its JSON: always the same."""
    head = msgspec.json.decode(flag, type=_Head)
    return msgspec.json.encode({"type": head.type, "timestamp": head.decided_at, "data": msgspec.Raw(flag.encode())})


def signed(secret: str, message_id: UUID, now: datetime, body: bytes) -> dict[str, str]:
    """Give the headers that prove who sent a body, and when; `secret`: `whsec_...`."""
    sent_id, sent_at = str(message_id), str(int(now.timestamp()))
    what = whsec.signed(sent_id.encode(), sent_at.encode(), body)
    signature = whsec.signature(whsec.key(secret.encode()), what).decode()
    return {"webhook-id": sent_id, "webhook-timestamp": sent_at, "webhook-signature": signature}


async def _ended(turns: set[asyncio.Task[None]], seconds: float) -> set[asyncio.Task[None]]:
    """Wait for turns so long; gives those that go on. Raises what ended one."""
    if not turns:
        return turns
    done, left = await asyncio.wait(turns, timeout=seconds)
    for turn in done:
        turn.result()
    return left
