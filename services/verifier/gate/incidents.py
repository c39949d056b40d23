"""What a company's admin has to mend before Cal.com can be asked: one row a company and kind, while it lasts."""

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from services.companies import incidents
from services.plumbing import telemetry
from services.plumbing.clock import Clock
from services.plumbing.postgres import Pool
from services.verifier.answers import Answer, Reason, Unauthorised, Unknown
from services.verifier.ports import Account


class Kind(StrEnum):
    """What is wrong; `incidents.kind`."""

    UNAUTHORISED = "calcom_unauthorised"
    UNREACHABLE = "calcom_unreachable"
    LIMITED = "calcom_limited"
    WRONG_ADDRESS = "calcom_wrong_address"
    WRONG_ANSWER = "calcom_wrong_answer"


class Trouble(Struct, frozen=True):
    """What to tell; `detail`: sentences without secrets that say what to do."""

    kind: Kind
    detail: str


#: What one good answer does not disprove is over when it was not seen for so long.
SETTLING: Final = timedelta(minutes=10)

_SETTLING_KINDS: Final = (Kind.LIMITED, Kind.WRONG_ANSWER)
_ADDRESS: Final = frozenset({Reason.NOT_CALCOM, Reason.REDIRECT, Reason.PRIVATE_ADDRESS})
_ANSWER: Final = frozenset({Reason.API_VERSION, Reason.WRONG_SHAPE, Reason.TOO_LARGE})
_WAITS: Final = "Nothing of the company is flagged meanwhile without Cal.com's word, until its waiting time is over."


def trouble_of(account: Account, answer: Answer, *, shut: bool) -> Trouble | None:
    """Give what an answer says of the account or its address; `shut`: the breaker is open after it."""
    if isinstance(answer, Unauthorised):
        return _refused(account, answer.detail)
    if not isinstance(answer, Unknown):
        return None
    if answer.reason is Reason.LIMITED:
        return Trouble(
            Kind.LIMITED,
            f"Cal.com says that too much is asked with this API key ({answer.detail}). If another program uses it, "
            "make a key for Reconcal alone, or lower RECONCAL_CALCOM_REQUESTS_PER_MINUTE.",
        )
    if answer.reason in _ADDRESS:
        return Trouble(
            Kind.WRONG_ADDRESS,
            f"At {_host(account)} there is no API of Cal.com ({answer.reason}: {answer.detail}). Set its address by "
            f"`reconcal companies set {account.company_id} --calcom-base-url`, or mend the proxy before it.",
        )
    if answer.reason in _ANSWER:
        return Trouble(
            Kind.WRONG_ANSWER,
            f"{_host(account)} answers otherwise than documented ({answer.reason}: {answer.detail}). See whether its "
            "version knows RECONCAL_CALCOM_API_VERSION.",
        )
    return _silent(account, f"{answer.reason}: {answer.detail}") if shut else None


def refused(account: Account) -> Trouble:
    """Give what is told of a company whose key was refused when another asked with it."""
    return _refused(account, "see the other companies that use this key")


def silent(account: Account) -> Trouble:
    """Give what is told of a company whose API failed when another asked it."""
    return _silent(account, "the last requests with this key failed")


def _refused(account: Account, detail: str) -> Trouble:
    return Trouble(
        Kind.UNAUTHORISED,
        f"{_host(account)} refuses the API key ({detail}). Make a new one at Cal.com (Settings > Developer > API keys) "
        f"and give it by `reconcal companies set {account.company_id} --calcom-api-key-file`. {_WAITS}",
    )


def _silent(account: Account, detail: str) -> Trouble:
    return Trouble(
        Kind.UNREACHABLE,
        f"{_host(account)} does not answer ({detail}). Reconcal tries once a minute; see status.cal.com, or, where "
        f"Cal.com is your own, whether it runs and may be reached from here. {_WAITS}",
    )


def _host(account: Account) -> str:
    return urlsplit(account.base_url).hostname or "the address"


class PostgresIncidents:
    """See `gateway.Incidents`; raises asyncpg's errors, OSError or TimeoutError when the database is away."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        """The pool stays its owner's."""
        self._pool, self._clock = pool, clock
        self._good: dict[str, datetime] = {}
        self._heard: dict[str, datetime] = {}

    async def seen(self, company_id: str, trouble: Trouble) -> None:
        """See `gateway.Incidents`."""
        self._good.pop(company_id, None)
        opened = await incidents.seen(self._pool, company_id, trouble.kind, trouble.detail, self._clock.now())
        await self._opened(company_id, trouble, opened=opened)

    async def heard(self, company_id: str, trouble: Trouble) -> None:
        """See `gateway.Incidents`."""
        now = self._clock.now()
        if _lately(self._heard.get(company_id), now):
            return
        self._good.pop(company_id, None)
        opened = await incidents.heard(self._pool, company_id, trouble.kind, trouble.detail, now, unless=list(Kind))
        self._heard[company_id] = now
        await self._opened(company_id, trouble, opened=opened)

    async def over(self, company_id: str) -> None:
        """See `gateway.Incidents`."""
        now = self._clock.now()
        if _lately(self._good.get(company_id), now):
            return
        ended = await incidents.over(
            self._pool, company_id, list(Kind), settling=_SETTLING_KINDS, unseen_since=now - SETTLING
        )
        self._good[company_id] = now
        self._heard.pop(company_id, None)
        for kind in ended:
            telemetry.log().info(telemetry.CALCOM_INCIDENT_OVER, company=company_id, kind=kind)
        if ended:
            await self.measure()

    async def keep(self, company_ids: Collection[str]) -> None:
        """End the incidents of all other companies: removed, or without a key."""
        await incidents.keep(self._pool, list(Kind), company_ids)
        for memory in (self._good, self._heard):
            for company_id in memory.keys() - set(company_ids):
                del memory[company_id]
        await self.measure()

    async def measure(self) -> None:
        """Show how many companies have an incident, by kind, whichever process has seen it."""
        for kind, companies in (await incidents.count(self._pool, [kind.value for kind in Kind])).items():
            telemetry.calcom_incidents.labels(kind).set(companies)

    async def _opened(self, company_id: str, trouble: Trouble, *, opened: bool) -> None:
        if opened:
            told = {"company": company_id, "kind": trouble.kind.value, "detail": trouble.detail}
            telemetry.log().warning(telemetry.CALCOM_INCIDENT, **told)
            await self.measure()


def _lately(at: datetime | None, now: datetime) -> bool:
    return at is not None and timedelta(0) <= now - at < incidents.AGAIN
