"""`reconcal companies webhook`: looks at our webhook through Cal.com's API, makes it or mends it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

from msgspec import Struct

from schemas.triggers import TRIGGERS
from schemas.verification import Priority
from services.cli.company_work import NO_API_KEY
from services.cli.failures import Failure, Wrong
from services.companies.model import Purpose
from services.companies.register import Register
from services.plumbing import postgres
from services.plumbing.clock import Clock, WallClock
from services.plumbing.postgres import Pool
from services.plumbing.secrets import Vault
from services.plumbing.settings import Settings
from services.verifier.accounts import Accounts
from services.verifier.answers import Answer, Unknown, Webhook, Webhooks
from services.verifier.gate.budget import Limits
from services.verifier.gate.budgets import PostgresBudgets
from services.verifier.gate.gateway import CalcomGateway
from services.verifier.gate.incidents import Trouble
from services.verifier.ports import Account, Call, CreateWebhook, ListWebhooks, NotNow, PatchWebhook
from services.verifier.rounds import silence
from services.verifier.rounds.pages import halted, not_now
from services.verifier.rounds.silence import Looked, State
from services.verifier.rounds.turns import HASTEN
from services.verifier.rounds.watch import FORGET
from services.verifier.wire.client import HttpClient

Act = Literal["check", "register", "repair"]

_TOKEN_SECONDS: Final = 10.0
_CONFLICT: Final = 409
_NOT_FOUND: Final = "there is none to repair: `reconcal companies webhook --company {company} register` makes it"


class NotAsked(Failure):
    """Cal.com could not be asked: one line on stderr, exit 2."""

    exit_code = 2


class Shown(Struct, frozen=True, kw_only=True):
    """Our webhook as it is at the end. `done`: "checked", "registered" or "repaired"."""

    company_id: str
    url: str
    done: str
    state: State
    detail: str
    webhook: Webhook | None

    @property
    def well(self) -> bool:
        """Tell whether there is nothing to mend."""
        return self.state is State.WELL


async def webhook(settings: Settings, company_id: str, act: Act) -> Shown:
    """Do what was asked for and look afterwards. Raises Failure, Wrong and NotAsked; asyncpg's errors."""
    url = silence.webhook_url(settings.ingest_public_url, company_id)
    if url is None:
        raise Wrong("RECONCAL_INGEST_PUBLIC_URL is not set: how does Cal.com reach ingest?")
    async with _desk(settings, company_id) as desk:
        done = "checked" if act == "check" else await desk.mend(url, act)
        looked = await desk.look(url)
        if act != "check":
            await desk.tell_the_verifier()
        return Shown(
            company_id=company_id,
            url=url,
            done=done,
            state=looked.state,
            detail=looked.detail,
            webhook=looked.webhook,
        )


class _Desk:
    """One company's account, and the way to Cal.com."""

    def __init__(self, pool: Pool, gateway: CalcomGateway, account: Account, secret: str, clock: Clock) -> None:
        self._pool, self._gateway, self._account, self._secret = pool, gateway, account, secret
        self._clock = clock

    async def look(self, url: str) -> Looked:
        """Look at what Cal.com has registered. Raises NotAsked."""
        return silence.look(await self._ask(ListWebhooks()), url)

    async def mend(self, url: str, act: Act) -> str:
        """Make our webhook or mend it; gives what was done. Raises Failure and NotAsked."""
        ours = (await self.look(url)).webhook
        if ours is None and act == "repair":
            raise Failure(f"{url}: {_NOT_FOUND.format(company=self._account.company_id)}")
        if ours is None:
            made = CreateWebhook(subscriber_url=url, triggers=TRIGGERS, secret=self._secret)
            if not await self._created(made):
                ours = (await self.look(url)).webhook
            if ours is None:
                return "registered"
        triggers = (*TRIGGERS, *(name for name in ours.triggers if name not in TRIGGERS))
        await self._ask(
            PatchWebhook(webhook=ours, triggers=triggers, active=True, secret=self._secret, drop_template=True)
        )
        return "repaired"

    async def tell_the_verifier(self) -> None:
        """Have it look at once, and forget what came by no webhook before."""
        company_id, now = self._account.company_id, self._clock.now()
        await self._pool.execute(FORGET, company_id, now)
        await self._pool.execute(HASTEN, company_id, "webhook", now)

    async def _created(self, call: CreateWebhook) -> bool:
        """Make it; tells whether it was not there already."""
        said = await self._said(call)
        if isinstance(said, Unknown) and said.status == _CONFLICT:
            return False
        if isinstance(said, Webhooks):
            return True
        raise NotAsked(halted(said).error)

    async def _ask(self, call: Call) -> tuple[Webhook, ...]:
        said = await self._said(call)
        if isinstance(said, Webhooks):
            return said.rows
        raise NotAsked(halted(said).error)

    async def _said(self, call: Call) -> Answer:
        said = await self._gateway.ask(self._account, call, priority=Priority.HUMAN, wait_seconds=_TOKEN_SECONDS)
        if isinstance(said, NotNow):
            raise NotAsked(f"{not_now(said).error} Again from {said.until:%H:%M:%S} UTC on.")
        return said.answer


class _Quiet:
    """What goes wrong here is told to who asked: incidents are the verifier's. See `gateway.Incidents`."""

    async def seen(self, company_id: str, trouble: Trouble) -> None: ...

    async def heard(self, company_id: str, trouble: Trouble) -> None: ...

    async def over(self, company_id: str) -> None: ...


@asynccontextmanager
async def _desk(settings: Settings, company_id: str) -> AsyncIterator[_Desk]:
    if not settings.secret_key:
        raise Wrong("RECONCAL_SECRET_KEY is not set: give the key that the services run with")
    clock = WallClock()
    pool = await postgres.connect(settings, name="cli", size=2)
    client = HttpClient.open(settings, clock)
    try:
        account, secret = await _known(pool, Vault(settings.secret_key), company_id, clock)
        limits = Limits.of(settings.calcom_requests_per_minute, settings.calcom_timeout_seconds)
        gateway = CalcomGateway(client, PostgresBudgets(pool, limits, clock), _Quiet(), clock)
        yield _Desk(pool, gateway, account, secret, clock)
    finally:
        await client.close()
        await postgres.close(pool)


async def _known(pool: Pool, vault: Vault, company_id: str, clock: Clock) -> tuple[Account, str]:
    """Give a company's account and the secret of its webhook. Raises Wrong where it has none."""
    register = Register(opens={Purpose.CALCOM_API_KEY, Purpose.CALCOM_WEBHOOK})
    await register.refresh(pool, vault)
    if register.company(company_id) is None:
        raise Wrong(f"there is no company {company_id!r}")
    account = Accounts(register, clock).of(company_id)
    if account is None:
        raise NotAsked(NO_API_KEY.format(company=company_id))
    secrets = register.secrets(company_id, Purpose.CALCOM_WEBHOOK, clock.now())
    if not secrets:
        raise Wrong(f"{company_id} has no webhook secret: `reconcal companies rotate-secret {company_id}` makes one")
    return account, secrets[0].decode()
