"""Is our webhook alive? Asks Cal.com now and then, looks at what the polls had found, and raises `sync.webhook_silent`.

The flag is written as the reconciler writes its own: `flags` and `outbox` in one transaction; its relay sends it.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from schemas.flags import FlagType, Kind, company_flag_id
from schemas.topics import CALCOM_BOOKINGS, SYNC_FLAGS
from schemas.triggers import TRIGGERS
from schemas.verification import Priority
from services.plumbing import telemetry
from services.plumbing.clock import Clock
from services.plumbing.lanes import partition_of
from services.plumbing.postgres import Connection, Pool
from services.plumbing.settings import Settings
from services.verifier.answers import Webhooks
from services.verifier.ports import Account, Gateway, ListWebhooks, NotNow
from services.verifier.rounds import silence
from services.verifier.rounds.pages import AGAIN, TOKEN_SECONDS, Accounts, halted
from services.verifier.rounds.silence import KEYLESS, Known, Looked, Outcome, Sample, State
from services.verifier.rounds.turns import Turns

SLOTS: Final = 2

_KNOWN: Final = """
SELECT w.state, w.silent_since, coalesce(w.generation, 0) AS generation, coalesce(p.recent, '[]'::json) AS recent,
  (SELECT max(received_at) FROM (SELECT company_id, kind, received_at FROM events
    WHERE topic = $2 AND kafka_partition = $3 ORDER BY kafka_offset DESC LIMIT 1000) e
  WHERE e.company_id = $1 AND e.received_at > $4 AND e.kind = ANY($5::text[])) AS webhook_at
FROM (SELECT $1::text AS company_id) c LEFT JOIN webhook_checks w USING (company_id)
LEFT JOIN api_polls p USING (company_id)"""
#: Companies whose people wait for a webhook to be heard again.
_SILENT: Final = "SELECT company_id FROM webhook_checks WHERE silent_since IS NOT NULL"
_SAVE: Final = """
INSERT INTO webhook_checks (company_id, checked_at, state, detail, silent_since, generation)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (company_id) DO UPDATE SET checked_at = excluded.checked_at, state = excluded.state,
  detail = excluded.detail, silent_since = excluded.silent_since, generation = excluded.generation"""
#: Cal.com did not say: what it said last stands.
_NOT_ASKED: Final = """
INSERT INTO webhook_checks (company_id, checked_at, state, detail, silent_since, generation)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (company_id) DO UPDATE SET detail = excluded.detail"""
#: Two that raise it at once would raise it twice: the unique index on open flags lets one of them.
_RAISED: Final = """
INSERT INTO flags (company_id, flag_id, record_id, kind, generation, raised_at, body)
VALUES ($1, $2, $3, $4, $5, $6, $7::json)"""
_RESOLVED: Final = "UPDATE flags SET resolved_at = $3, resolved_by = $4 WHERE company_id = $1 AND flag_id = $2"
_OUTBOX: Final = """
INSERT INTO outbox (company_id, kafka_partition, topic, ce_id, ce_type, body) VALUES ($1, $2, $3, $4, $5, $6)"""
#: Why the flag that is open was raised.
_CAUSE: Final = "SELECT body->'why'->>'note' FROM flags WHERE company_id = $1 AND flag_id = $2"

#: What came by no webhook before ours was mended tells nothing of it.
FORGET: Final = "UPDATE api_polls SET recent = '[]', began_at = $2 WHERE company_id = $1"

_samples: Final = msgspec.json.Decoder(tuple[Sample, ...])


class Watch:
    """Looks at the webhooks of the companies whose turn it is."""

    def __init__(  # noqa: PLR0913 - the composition root names them
        self,
        *,
        pool: Pool,
        gateway: Gateway,
        accounts: Accounts,
        companies: Callable[[], Sequence[str]],
        settings: Settings,
        partitions: int,
        holder: str,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        """`companies`: those with an account. `partitions`: of the topics. `jitter` gives numbers from 0 to 1."""
        self._pool, self._gateway, self._accounts, self._companies = pool, gateway, accounts, companies
        self._settings, self._partitions, self._clock, self._jitter = settings, partitions, clock, jitter
        self._turns = Turns(pool, "webhook", holder, clock)

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop`. Errors of PostgreSQL go up: begin again then."""
        await self._turns.take(self._all, self.look, stop, slots=SLOTS)

    async def _all(self) -> Sequence[str]:
        """Give who is to be looked after: whose key was taken away while its webhook was silent, too."""
        silent = [row["company_id"] for row in await self._pool.fetch(_SILENT)]
        return [*self._companies(), *(name for name in silent if self._accounts.of(name) is None)]

    async def look(self, company_id: str) -> None:
        """Look at one company's webhook, whose turn is ours. Raises `turns.Lost`."""
        account = self._accounts.of(company_id)
        looked, again = (KEYLESS, None) if account is None else await self._ask(account)
        now = self._clock.now()
        async with self._pool.acquire() as connection, connection.transaction():
            await self._turns.hold(connection, company_id)
            outcome = silence.weigh(company_id, await self._known(connection, company_id, now), looked, now)
            await self._save(connection, company_id, outcome, now)
        _said(company_id, outcome)
        await self._turns.pass_on(company_id, again or self._next())

    async def _ask(self, account: Account) -> tuple[Looked, datetime | None]:
        """Ask Cal.com what it has registered; gives when to ask again where it did not say."""
        url = silence.subscriber_url(self._settings.ingest_public_url, account.company_id)
        if url is None:
            return Looked(State.NO_ADDRESS, "RECONCAL_INGEST_PUBLIC_URL says of no address that Cal.com reaches."), None
        said = await self._gateway.ask(account, ListWebhooks(), priority=Priority.SWEEP, wait_seconds=TOKEN_SECONDS)
        if isinstance(said, NotNow):
            detail = f"Cal.com may not be asked now ({said.reason})."
            return Looked(State.NOT_ASKED, detail), max(said.until, self._clock.now() + AGAIN)
        if not isinstance(said.answer, Webhooks):
            return Looked(State.NOT_ASKED, halted(said.answer).error), self._clock.now() + 5 * AGAIN
        return silence.look(said.answer.rows, url), None

    async def _save(self, connection: Connection, company_id: str, made: Outcome, now: datetime) -> None:
        looked = made.looked
        values = (now, looked.state.value, looked.detail, made.silent_since, made.generation)
        statement = _NOT_ASKED if looked.state is State.NOT_ASKED else _SAVE
        await connection.execute(statement, company_id, *values)
        flag = made.flag
        if flag is None:
            return
        body = msgspec.json.encode(flag)
        if flag.type is FlagType.RESOLVED:
            await connection.execute(_RESOLVED, company_id, flag.resolves, flag.decided_at, flag.resolved_by)
            await connection.execute(FORGET, company_id, now)
        else:
            row = (flag.id, flag.record_id, flag.kind.value, flag.generation, flag.decided_at, body.decode())
            await connection.execute(_RAISED, company_id, *row)
        number = partition_of(company_id, self._partitions)
        await connection.execute(_OUTBOX, company_id, number, SYNC_FLAGS, str(flag.id), flag.type.value, body)

    async def _known(self, connection: Connection, company_id: str, now: datetime) -> Known:
        number = partition_of(company_id, self._partitions)
        lately = (CALCOM_BOOKINGS, number, now - timedelta(days=1), list(TRIGGERS))
        row = await connection.fetchrow(_KNOWN, company_id, *lately)
        assert row is not None  # noqa: S101 - there is one for every name
        cause = None
        if row["silent_since"] is not None:
            flag_id = company_flag_id(company_id, Kind.WEBHOOK_SILENT, row["generation"])
            cause = await connection.fetchval(_CAUSE, company_id, flag_id)
        return Known(
            state=State(row["state"]) if row["state"] else None,
            cause=State(cause) if cause else None,
            silent_since=row["silent_since"],
            generation=row["generation"],
            recent=_samples.decode(row["recent"]),
            webhook_at=row["webhook_at"],
        )

    def _next(self) -> datetime:
        seconds = self._settings.calcom_webhook_check_seconds * (0.9 + 0.2 * self._jitter())
        return self._clock.now() + timedelta(seconds=seconds)


def _said(company_id: str, made: Outcome) -> None:
    log = telemetry.log()
    say = log.warning if made.looked.wrong else log.info
    flag = made.flag.type.value if made.flag else None
    say(telemetry.VERIFIER_WEBHOOK, company=company_id, state=made.looked.state.value, flag=flag)
