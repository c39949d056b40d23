"""What keeps letters from going out, in `incidents` until it is over; said in the log once an episode.

The mail server's troubles are every company's. Of endpoints a company has one row, whichever of them fail: `endpoints`
says which, the row that it is known, to all processes and over restarts. A refused address has none:
`contacts.suppressed_at` is written once, with the letter's end, and nothing is sent there any more.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from services.companies import incidents
from services.companies.incidents import AGAIN, EVERYBODYS
from services.notifier.ports import SMTP, Trouble, TroubleKind
from services.plumbing import telemetry
from services.plumbing.clock import Clock
from services.plumbing.postgres import Pool

#: Trouble of the mail server that was not seen for so long is over where other trouble is seen: it got further now, or
#: less far. Of a server that changes its mind all the time each is said once.
SETTLING: Final = timedelta(minutes=10)
#: A server that takes some mails and puts off others goes on doing so though one was taken; while a mail waits it is
#: tried every half minute.
_SETTLES: Final = (TroubleKind.SMTP_PUTS_OFF,)
#: So many episodes are remembered; the oldest are looked up again.
_KNOWN_MOST: Final = 1000

#: Contacts and endpoints that are in trouble at the moment.
_OTHERS: Final = """
SELECT (SELECT count(*) FROM contacts JOIN companies USING (company_id)
    WHERE suppressed_at IS NOT NULL AND role <> 'viewer' AND removed_at IS NULL) AS address_refused,
  (SELECT count(*) FROM endpoints JOIN companies USING (company_id)
    WHERE failing_since IS NOT NULL AND disabled_at IS NULL AND removed_at IS NULL) AS endpoint"""


class _Episode(Struct, frozen=True):
    """What this process knows of one. `told`: what the log has of it."""

    written_at: datetime
    told: frozenset[str]


class PostgresTroubles:
    """See `ports.Troubles`; one a loop: what the others have seen lies in the table."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        """The pool stays its owner's."""
        self._pool, self._clock = pool, clock
        self._known: dict[tuple[str, TroubleKind], _Episode] = {}
        self._none: dict[TroubleKind, datetime] = {}

    async def seen(self, company_id: str, trouble: Trouble) -> None:
        """See `ports.Troubles`; the same trouble is written once a minute at most."""
        if trouble.kind is TroubleKind.ADDRESS_REFUSED:
            _log(company_id, trouble)
            return
        now = self._clock.now()
        self._none.pop(trouble.kind, None)
        known = self._known.get((company_id, trouble.kind))
        about = _about(trouble.kind, trouble.detail)
        told = frozenset() if known is None else known.told
        if known is not None and about in told and timedelta(0) <= now - known.written_at < AGAIN:
            return
        if await self._is_news(company_id, trouble, about, told, now):
            _log(company_id, trouble)
        self._remember((company_id, trouble.kind), _Episode(now, told | {about}))
        if trouble.kind in SMTP:
            others = [kind for kind in SMTP if kind is not trouble.kind]
            await _end(self._pool, EVERYBODYS, others, settling=others, unseen_since=now - SETTLING)

    async def over(self, company_id: str, *kinds: TroubleKind) -> None:
        """See `ports.Troubles`. What another process has seen of the mail server is over within a minute."""
        now = self._clock.now()
        asked = [kind for kind in kinds if not self._looked_lately(company_id, kind, now)]
        if not asked:
            return
        await _end(self._pool, company_id, asked, settling=_SETTLES, unseen_since=now - SETTLING)
        for kind in set(asked) - set(_SETTLES):
            self._known.pop((company_id, kind), None)
        if company_id == EVERYBODYS:
            self._none |= dict.fromkeys(asked, now)

    async def _is_news(
        self, company_id: str, trouble: Trouble, about: str, told: frozenset[str], now: datetime
    ) -> bool:
        """Write it down; tells whether the log has nothing of it yet, from whichever process."""
        before = None if about in told else await incidents.detail(self._pool, company_id, trouble.kind)
        opened = await incidents.seen(self._pool, company_id, trouble.kind, trouble.detail, now)
        return opened or (before is not None and _about(trouble.kind, before) != about)

    def _remember(self, key: tuple[str, TroubleKind], episode: _Episode) -> None:
        self._known.pop(key, None)
        self._known[key] = episode
        if len(self._known) > _KNOWN_MOST:
            del self._known[next(iter(self._known))]

    def _looked_lately(self, company_id: str, kind: TroubleKind, now: datetime) -> bool:
        at = self._none.get(kind) if company_id == EVERYBODYS else None
        return at is not None and timedelta(0) <= now - at < AGAIN


async def measure(pool: Pool, now: datetime) -> None:
    """Show in `/metrics` how many troubles there are, whoever has seen them; end what nobody sees any more."""
    await _end(pool, EVERYBODYS, _SETTLES, settling=_SETTLES, unseen_since=now - SETTLING)
    found = await incidents.count(pool, [kind.value for kind in SMTP])
    others = await pool.fetchrow(_OTHERS)
    assert others is not None  # noqa: S101 - it has no FROM
    for kind, count in (found | dict(others)).items():
        telemetry.delivery_troubles.labels(kind).set(count)


async def _end(
    pool: Pool,
    company_id: str,
    kinds: Sequence[TroubleKind],
    *,
    settling: Sequence[TroubleKind],
    unseen_since: datetime,
) -> None:
    for kind in await incidents.over(pool, company_id, kinds, settling=settling, unseen_since=unseen_since):
        telemetry.log().info(telemetry.NOTIFIER_TROUBLE_OVER, company_id=company_id, kind=kind)


def _about(kind: TroubleKind, detail: str) -> str:
    """Give what tells one trouble of a kind from another: of endpoints what comes before the reason, with the host."""
    return detail.partition(": ")[0] if kind is TroubleKind.ENDPOINT else ""


def _log(company_id: str, trouble: Trouble) -> None:
    told = {"company_id": company_id, "kind": trouble.kind.value, "detail": trouble.detail}
    telemetry.log().warning(telemetry.NOTIFIER_TROUBLE, **told)
