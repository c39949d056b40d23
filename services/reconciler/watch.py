"""Watches the companies as wholes: thresholds crossed, and Cal.com that cannot be asked for long, become flags.

One process does it: whoever owns partition 0. Two that both think so, for a moment, are kept apart by a lock; what an
episode is lies in `episodes`, written in one transaction with its flag, so that nobody tells twice and no restart
forgets. A look is one transaction of a few queries over all companies, and rests for twenty times as long as it took.

What is counted:

- An appointment counts once, however often it flips. One that became part of another record counts as that.
- Sync success is of what was decided in the last day: records that came to be in sync against records that were flagged
  and are not mended. A check that only repeats what is known of an old flag is no new decision.
- What loading a company's past brings to light is no trouble of today: for a day after it, flags about what was there
  before count neither as orphans nor against the success; nor does what it put in sync count for it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from schemas.flags import RECORD_KINDS, THRESHOLDS, Flag, Kind
from services.plumbing import telemetry
from services.plumbing.clock import Clock
from services.plumbing.lanes import partition_of
from services.plumbing.lifecycle import pause
from services.plumbing.postgres import Connection, Pool, columns
from services.reconciler import store
from services.reconciler.core import thresholds
from services.reconciler.core.thresholds import (
    DAY,
    HOUR,
    INCIDENT_REST,
    LEAST_DECIDED,
    PATIENCE,
    REMOVED,
    REST,
    Episode,
    Figure,
    Incident,
    Seen,
)

LOCK_ID: Final = 4_115_208_730_961
#: Whoever owns it watches.
LEADING: Final = 0
LOOK_SECONDS: Final = 30.0
#: How soon a process notices that it is the one that watches.
IDLE_SECONDS: Final = 5.0
#: For each second that a look took it rests so many.
REST_TIMES: Final = 20.0
#: An incident that was not seen for so long says nothing of now.
STALE: Final = timedelta(hours=6)
_CONNECT_SECONDS: Final = 10.0

#: Tells whether nobody else looks, and says what a query may take. Each is planned for the moment, as a join of sets:
#: in a storm of flags the statistics are those of the calm before it.
_BEGIN: Final = """
SELECT pg_try_advisory_xact_lock($1) AS mine, set_config('statement_timeout', '5s', true),
  set_config('work_mem', '32MB', true), set_config('jit', 'off', true), set_config('enable_nestloop', 'off', true),
  set_config('plan_cache_mode', 'force_custom_plan', true)"""

_OPEN: Final = """
SELECT company_id, kind, generation, opened_at, calm_since, cause FROM episodes WHERE opened_at IS NOT NULL"""

#: The last episodes of what has none open.
_LAST: Final = """
SELECT company_id, kind, generation, opened_at, calm_since, cause
FROM unnest($1::text[], $2::text[]) AS w (company_id, kind) JOIN episodes USING (company_id, kind)"""

_SAVE: Final = """
INSERT INTO episodes (company_id, kind, generation, opened_at, calm_since, cause)
SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::timestamptz[], $5::timestamptz[], $6::text[])
ON CONFLICT (company_id, kind) DO UPDATE SET generation = excluded.generation, opened_at = excluded.opened_at,
  calm_since = excluded.calm_since, cause = excluded.cause"""

#: What was flagged since $1 of kinds $2, by company; without records that became part of others, and without the past
#: of a company that was loaded within a day before.
_FLAGGED: Final = """
flags f JOIN companies c USING (company_id)
WHERE f.raised_at > $1 AND f.kind = ANY($2::text[]) AND f.resolved_by IS DISTINCT FROM 'merged'
  AND NOT (c.history_began_at IS NOT NULL AND c.app_loaded_at IS NOT NULL AND c.calcom_loaded_at IS NOT NULL
    AND f.raised_at < greatest(c.app_loaded_at, c.calcom_loaded_at) + interval '1 day'
    AND EXISTS (SELECT FROM records r WHERE r.company_id = f.company_id AND r.record_id = f.record_id
      AND r.first_received_at <= greatest(c.app_loaded_at, c.calcom_loaded_at)))"""

#: Companies beyond their limit, and those ($3) whose episode is open: how many, and the limit.
_ORPHANS: Final = f"""
SELECT c.company_id, coalesce(n, 0) AS n, c.orphans_per_day_max AS most FROM companies c LEFT JOIN (
  SELECT company_id, count(DISTINCT record_id) AS n FROM {_FLAGGED} GROUP BY company_id) m USING (company_id)
WHERE c.removed_at IS NULL AND (n > c.orphans_per_day_max OR c.company_id = ANY($3::text[]))"""  # noqa: S608 - constants

_CHECKS: Final = """
SELECT c.company_id, coalesce(n, 0) AS n, c.failed_checks_per_hour_max AS most FROM companies c LEFT JOIN (
  SELECT company_id, count(DISTINCT record_id) AS n FROM flags
  WHERE raised_at > $1 AND kind = ANY($2::text[]) AND resolved_by IS DISTINCT FROM 'merged'
  GROUP BY company_id) m USING (company_id)
WHERE c.removed_at IS NULL AND (n > c.failed_checks_per_hour_max OR c.company_id = ANY($3::text[]))"""

_WAITING: Final = """
SELECT c.company_id, coalesce(n, 0) AS n, c.waiting_for_review_max AS most FROM companies c LEFT JOIN (
  SELECT company_id, count(*) AS n FROM records WHERE requires_manual_review GROUP BY company_id) m USING (company_id)
WHERE c.removed_at IS NULL AND (n > c.waiting_for_review_max OR c.company_id = ANY($1::text[]))"""

#: Likewise: what came to be in sync, and what was flagged and neither mended itself nor was mended.
_SUCCESS: Final = f"""
WITH amiss AS (SELECT DISTINCT company_id, record_id FROM {_FLAGGED} AND f.resolved_by IS DISTINCT FROM 'auto'),
bad AS (SELECT company_id, count(*) AS n FROM amiss GROUP BY company_id),
good AS (SELECT company_id, count(*) AS n FROM (
  SELECT DISTINCT t.company_id, t.record_id FROM transitions t JOIN companies c USING (company_id)
  WHERE t.at > $1 AND t.to_status = 'synced' AND t.from_status IS DISTINCT FROM 'synced'
    AND t.note IS DISTINCT FROM 'policy'
    AND coalesce(t.at > c.app_loaded_at AND t.at > c.calcom_loaded_at, true)
    AND (EXISTS (SELECT FROM bad b WHERE b.company_id = t.company_id) OR t.company_id = ANY($3::text[]))
    AND NOT EXISTS (SELECT FROM amiss a WHERE a.company_id = t.company_id AND a.record_id = t.record_id)) s
  GROUP BY company_id)
SELECT * FROM (SELECT c.company_id, coalesce(g.n, 0) AS synced, coalesce(b.n, 0) AS amiss,
    c.sync_success_min_percent AS least
  FROM companies c LEFT JOIN good g USING (company_id) LEFT JOIN bad b USING (company_id)
  WHERE c.removed_at IS NULL) m
WHERE synced + amiss >= $4 AND 100.0 * synced < least * (synced + amiss)
  OR company_id = ANY($3::text[])"""  # noqa: S608 - of this program's constants

_INCIDENTS: Final = """
SELECT i.company_id, i.kind, i.detail, i.opened_at FROM incidents i JOIN companies c USING (company_id)
WHERE i.kind = ANY($1::text[]) AND i.last_seen_at > $2 AND c.removed_at IS NULL"""

#: The companies among these that are there.
_THERE: Final = "SELECT company_id FROM companies WHERE company_id = ANY($1::text[]) AND removed_at IS NULL"

Place = tuple[str, Kind]


class Watch:
    """Looks, again and again, while partition 0 is ours."""

    def __init__(
        self,
        *,
        pool: Pool,
        owned: Callable[[], Collection[int]],
        partitions: int,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        """`owned` gives the partition numbers that are ours; `partitions`: how many there are. `jitter`: 0 to 1."""
        self._pool, self._owned, self._partitions = pool, owned, partitions
        self._clock, self._jitter = clock, jitter

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop`. Errors of PostgreSQL go up: begin again then."""
        loop = asyncio.get_running_loop()
        try:
            while not stop.is_set():
                if LEADING not in self._owned():
                    _show({})
                    await pause(IDLE_SECONDS, stop)
                    continue
                began = loop.time()
                await self.look()
                await pause(rest_seconds(loop.time() - began, self._jitter()), stop)
        finally:
            _show({})

    async def look(self) -> list[Flag]:
        """Look at all companies once; gives what was told. Nothing, where another process is looking."""
        async with self._pool.acquire(timeout=_CONNECT_SECONDS) as connection, connection.transaction():
            begun = await connection.fetchrow(_BEGIN, LOCK_ID)
            if begun is None or not begun["mine"]:
                return []
            now = self._clock.now()
            known = {_place(row): _episode(row) for row in await connection.fetch(_OPEN)}
            seen = await _see(connection, known, now)
            if fresh := sorted(seen.keys() - known.keys()):
                last = await connection.fetch(_LAST, [c for c, _ in fresh], [kind.value for _, kind in fresh])
                known |= {_place(row): _episode(row) for row in last}
            flags = await self._save(connection, known, seen, now)
        for flag in flags:
            _say(flag)
        _show(known)
        return flags

    async def _save(
        self, connection: Connection, known: dict[Place, Episode], seen: Mapping[Place, Seen], now: datetime
    ) -> list[Flag]:
        """Weigh everything that was seen, and write down what has changed; `known` is what holds from now on."""
        moved: list[Place] = []
        flags: list[Flag] = []
        for place, found in sorted(seen.items()):
            company_id, kind = place
            before = known.get(place, Episode())
            rest = timedelta(0) if found is REMOVED else INCIDENT_REST if kind is Kind.CALCOM_INCIDENT else REST
            known[place], turn = thresholds.weigh(before, found, rest, now)
            if known[place] != before:
                moved.append(place)
            if turn is not None:
                flags.append(thresholds.flag(company_id, kind, known[place].generation, turn, found, now))
        if moved:
            rows = [(c, kind.value, *_columns(known[(c, kind)])) for c, kind in moved]
            await connection.execute(_SAVE, *columns(rows))
        await store.save_flags(connection, [(flag, partition_of(flag.company_id, self._partitions)) for flag in flags])
        return flags


def rest_seconds(took_seconds: float, chance: float) -> float:
    """Say how long to rest after a look; `chance` from 0 to 1 keeps processes from looking in step."""
    return max(LOOK_SECONDS * (0.9 + 0.2 * chance), took_seconds * REST_TIMES)


async def _see(connection: Connection, known: Mapping[Place, Episode], now: datetime) -> dict[Place, Seen]:
    """Give what is beyond its limit, and how every open episode stands."""
    of = {kind: [c for c, k in known if k is kind] for kind in (*THRESHOLDS, Kind.CALCOM_INCIDENT)}
    seen: dict[Place, Seen] = {}
    orphans = [Kind.ORPHANED_LOCAL, Kind.ORPHANED_CALCOM]
    for kind, query, arguments in (
        (Kind.ORPHANS_A_DAY, _ORPHANS, (now - DAY, orphans)),
        (Kind.FAILED_CHECKS_AN_HOUR, _CHECKS, (now - HOUR, [Kind.VERIFICATION_ERROR])),
        (Kind.WAITING_FOR_REVIEW, _WAITING, ()),
    ):
        for row in await connection.fetch(query, *arguments, of[kind]):
            seen[(row["company_id"], kind)] = thresholds.see(kind, Figure(row["n"]), row["most"])
    decided = (now - DAY, list(RECORD_KINDS), of[Kind.SYNC_SUCCESS], LEAST_DECIDED)
    for row in await connection.fetch(_SUCCESS, *decided):
        figure = thresholds.success(row["synced"], row["amiss"])
        seen[(row["company_id"], Kind.SYNC_SUCCESS)] = thresholds.see(Kind.SYNC_SUCCESS, figure, row["least"])
    seen |= await _see_incidents(connection, known, of[Kind.CALCOM_INCIDENT], now)
    there = {row["company_id"] for row in await connection.fetch(_THERE, list({c for c, _ in known}))}
    return seen | {place: REMOVED for place in known if place[0] not in there}


async def _see_incidents(
    connection: Connection, known: Mapping[Place, Episode], told: Collection[str], now: datetime
) -> dict[Place, Seen]:
    found: dict[str, list[Incident]] = {company_id: [] for company_id in told}
    for row in await connection.fetch(_INCIDENTS, list(PATIENCE), now - STALE):
        incident = Incident(row["kind"], row["detail"], row["opened_at"])
        found.setdefault(row["company_id"], []).append(incident)
    seen: dict[Place, Seen] = {}
    for company_id, there in found.items():
        place = (company_id, Kind.CALCOM_INCIDENT)
        cause = known[place].cause if place in known else None
        seen[place] = thresholds.see_incidents(there, cause, now)
    return seen


def _place(row: Mapping[str, Any]) -> Place:
    return row["company_id"], Kind(row["kind"])


def _episode(row: Mapping[str, Any]) -> Episode:
    return Episode(
        generation=row["generation"], opened_at=row["opened_at"], calm_since=row["calm_since"], cause=row["cause"]
    )


def _columns(episode: Episode) -> tuple[object, ...]:
    return episode.generation, episode.opened_at, episode.calm_since, episode.cause


def _say(flag: Flag) -> None:
    over = flag.resolves is not None
    measured = flag.measured
    told = {"value": measured.value, "limit": measured.limit} if measured else {"cause": flag.why.note}
    log = telemetry.log()
    say = log.info if over else log.warning
    say(telemetry.THRESHOLD, company=flag.company_id, kind=flag.kind.value, crossed=not over, **told)
    telemetry.flags_raised.labels(flag.type.value).inc()


def _show(known: Mapping[Place, Episode]) -> None:
    """Show how many companies are beyond each threshold."""
    crossed = Counter(kind for (_, kind), episode in known.items() if episode.opened_at is not None)
    for kind in THRESHOLDS:
        telemetry.thresholds_crossed.labels(kind.value.lower()).set(crossed[kind])
