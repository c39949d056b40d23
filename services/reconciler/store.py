"""The store in PostgreSQL: one query loads, one transaction saves, and the epoch decides who may."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from schemas import topics
from schemas.envelope import Envelope
from schemas.flags import Flag, FlagType
from schemas.verification import PRIORITIES, QUESTIONS
from services.companies import incidents
from services.plumbing.lifecycle import describe
from services.plumbing.postgres import Connection, Pool, columns
from services.reconciler import rows
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Record
from services.reconciler.ports import (
    NOBODY,
    WRONG_PARTITION,
    Applied,
    Astray,
    Changes,
    Claim,
    ClusterRef,
    Due,
    Fenced,
    Key,
    Loaded,
    Page,
    Progress,
    RecordRef,
    Unstorable,
)

_encoder: Final = msgspec.json.Encoder()
_policies: Final = msgspec.json.Decoder(Policy)

#: Records that are looked at for a page of open ones.
LOOKED_AT_MAX: Final = 5000

#: What PostgreSQL says of content that it will never take.
_REFUSALS: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.UntranslatableCharacterError,
)

#: Makes partitions ours: their epoch rises, so that whoever held them can write no more.
_CLAIM: Final = """
INSERT INTO partitions AS p (kafka_partition, epoch, owner, claimed_at)
SELECT n, 1, $2, $3 FROM unnest($1::int[]) AS n ORDER BY n
ON CONFLICT (kafka_partition) DO UPDATE
SET epoch = p.epoch + 1, owner = excluded.owner, claimed_at = excluded.claimed_at, stopped_reason = NULL
RETURNING kafka_partition, epoch, log_id, next_offsets"""

#: Moves the offsets if the epochs are ours; whoever gets fewer rows back than asked for has been fenced.
_ADVANCE: Final = """
UPDATE partitions AS p SET next_offsets = p.next_offsets || u.next_offsets::jsonb
FROM unnest($1::int[], $2::bigint[], $3::text[]) AS u (kafka_partition, epoch, next_offsets)
WHERE p.kafka_partition = u.kafka_partition AND p.epoch = u.epoch
RETURNING p.kafka_partition"""

#: Notes which log the offsets count in.
_ADOPT: Final = """
UPDATE partitions AS p SET log_id = $4, next_offsets = u.next_offsets::jsonb
FROM unnest($1::int[], $2::bigint[], $3::text[]) AS u (kafka_partition, epoch, next_offsets)
WHERE p.kafka_partition = u.kafka_partition AND p.epoch = u.epoch
RETURNING p.kafka_partition"""

#: Gives every record of the clusters that the keys or records belong to; a row a record, with the keys that led there.
_LOAD: Final = """
WITH found AS (
  SELECT k.company_id, k.cluster_id, k.key, NULL::uuid AS record_id
  FROM unnest($1::text[], $2::text[]) AS w (company_id, key) JOIN record_keys k USING (company_id, key)
  UNION ALL
  SELECT r.company_id, r.cluster_id, NULL, r.record_id
  FROM unnest($3::text[], $4::uuid[]) AS w (company_id, record_id) JOIN records r USING (company_id, record_id)
), clusters AS (
  SELECT company_id, cluster_id, array_agg(key) FILTER (WHERE key IS NOT NULL) AS keys
  FROM found GROUP BY company_id, cluster_id
)
SELECT c.company_id, c.cluster_id, c.keys, r.record_id, r.facts, r.decision
FROM clusters c LEFT JOIN records r ON r.company_id = c.company_id AND r.cluster_id = c.cluster_id"""

_NAMES: Final = ", ".join(name for name, _ in rows.COLUMNS)
_ARRAYS: Final = ", ".join(f"${number}::{kind}[]" for number, (_, kind) in enumerate(rows.COLUMNS, 1))
_UPDATES: Final = ", ".join(f"{name} = excluded.{name}" for name, _ in rows.COLUMNS[2:])

#: Writes every record of a batch in one statement.
_RECORDS: Final = f"""
INSERT INTO records ({_NAMES}) SELECT * FROM unnest({_ARRAYS})
ON CONFLICT (company_id, record_id) DO UPDATE SET {_UPDATES}"""  # noqa: S608 - made of this program's constants

#: Takes away records that became part of others; links to them still lead somewhere.
_GONE: Final = """
WITH gone AS (SELECT * FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::timestamptz[])
  AS g (company_id, record_id, merged_into, merged_at)),
removed AS (DELETE FROM records r USING gone g
  WHERE r.company_id = g.company_id AND r.record_id = g.record_id RETURNING r.company_id, r.record_id)
INSERT INTO record_aliases SELECT g.* FROM gone g JOIN removed USING (company_id, record_id)
ON CONFLICT (company_id, record_id) DO UPDATE SET merged_into = excluded.merged_into, merged_at = excluded.merged_at"""

#: A record that stands on its own again is no alias any more.
_UNALIAS: Final = """
DELETE FROM record_aliases a USING unnest($1::text[], $2::uuid[]) AS r (company_id, record_id)
WHERE a.company_id = r.company_id AND a.record_id = r.record_id"""

#: Points the keys of clusters that were merged to the one that they became part of.
_MERGED: Final = """
UPDATE record_keys k SET cluster_id = m.new_id
FROM unnest($1::text[], $2::uuid[], $3::uuid[]) AS m (company_id, old_id, new_id)
WHERE k.company_id = m.company_id AND k.cluster_id = m.old_id"""

#: Writes the keys that a batch found.
_KEYS: Final = """
INSERT INTO record_keys (company_id, key, cluster_id) SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[])
ON CONFLICT (company_id, key) DO UPDATE SET cluster_id = excluded.cluster_id"""

#: Keeps what was understood.
_EVENTS: Final = """
INSERT INTO events (company_id, received_at, topic, kafka_partition, kafka_offset, record_id, event_id, kind,
  occurred_at, disposition, note)
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::int[], $5::bigint[], $6::uuid[], $7::text[],
  $8::text[], $9::timestamptz[], $10::text[], $11::text[])"""

#: Keeps why each change came about.
_TRANSITIONS: Final = """
INSERT INTO transitions (company_id, at, record_id, version, from_status, to_status, kind, cause, note, why)
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::text[],
  $8::text[], $9::text[], $10::json[])"""

#: Raises flags; the unique index on open ones is the second lock on the door.
_RAISED: Final = """
INSERT INTO flags (company_id, flag_id, record_id, kind, generation, raised_at, body)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::int[], $6::timestamptz[], $7::json[])"""

#: Ends flags.
_RESOLVED: Final = """
UPDATE flags f SET resolved_at = u.at, resolved_by = u.by
FROM unnest($1::text[], $2::uuid[], $3::timestamptz[], $4::text[]) AS u (company_id, flag_id, at, by)
WHERE f.company_id = u.company_id AND f.flag_id = u.flag_id"""

#: Queues what has to be told, in the order of decision.
_OUTBOX: Final = """
INSERT INTO outbox (company_id, kafka_partition, topic, ce_id, ce_type, body)
SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::text[], $6::bytea[])"""

#: Queues envelopes to be sent on to their own partition, as they were.
_REROUTES: Final = """
INSERT INTO outbox (company_id, kafka_partition, topic, ce_id, ce_source, ce_type, content_type, traceparent,
  webhook_version, received_at, body)
SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
  $9::text[], $10::timestamptz[], $11::bytea[])"""

#: Notes by which rules a company's records are decided, and how far.
_APPLIED: Final = """
INSERT INTO applied_policies (company_id, policy, after_record_id, applied_at)
SELECT company_id, policy, after_record_id, $4
FROM unnest($1::text[], $2::json[], $3::uuid[]) AS a (company_id, policy, after_record_id)
ON CONFLICT (company_id) DO UPDATE
SET policy = excluded.policy, after_record_id = excluded.after_record_id, applied_at = excluded.applied_at"""

#: The rules that companies' records were last decided by.
_RULES: Final = "SELECT company_id, policy, after_record_id FROM applied_policies WHERE company_id = ANY($1::text[])"

#: Companies that have any record.
_HAVING: Final = """
SELECT c FROM unnest($1::text[]) AS c WHERE EXISTS (SELECT 1 FROM records r WHERE r.company_id = c)"""

#: A company's records by id; those are open that wait, or of which something is wrong.
_PAGE: Final = """
SELECT record_id, deadline_at IS NOT NULL OR sync_error_code IS NOT NULL AS open FROM records
WHERE company_id = $1 AND record_id > $2 ORDER BY record_id LIMIT $3"""

#: Stores what became of commands; the first outcome of an id stands.
_OUTCOMES: Final = """
INSERT INTO command_outcomes (company_id, command_id, record_id, applied, reason, version, decided_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::bool[], $5::text[], $6::bigint[], $7::timestamptz[])
ON CONFLICT (company_id, command_id) DO NOTHING"""

#: Queues what Cal.com is to be asked. Whoever asks an older question still has the lease: nobody asks beside him.
_QUESTIONS: Final = """
INSERT INTO verifications AS v (company_id, record_id, number, priority, starts_at, not_before, question)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::int[], $4::smallint[], $5::timestamptz[], $6::timestamptz[],
  $7::json[])
ON CONFLICT (company_id, record_id) DO UPDATE
SET number = excluded.number, priority = excluded.priority, starts_at = excluded.starts_at,
  not_before = excluded.not_before, question = excluded.question"""

#: Takes back what Cal.com need not be asked any more.
_UNASKED: Final = """
DELETE FROM verifications v USING unnest($1::text[], $2::uuid[]) AS u (company_id, record_id)
WHERE v.company_id = u.company_id AND v.record_id = u.record_id"""

#: Sets aside what could not be understood.
_DEAD: Final = """
INSERT INTO dead_letters
  (company_id, topic, kafka_partition, kafka_offset, reason, detail, body, headers, received_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::text[], $7::bytea[],
  $8::json[], $9::timestamptz[])
ON CONFLICT DO NOTHING"""

#: Records whose window is over in a partition that is read far enough.
_DUE: Final = """
SELECT r.company_id, r.record_id, r.kafka_partition, r.deadline_at
FROM unnest($1::int[], $2::timestamptz[]) AS u (kafka_partition, until)
JOIN LATERAL (SELECT * FROM records r WHERE r.kafka_partition = u.kafka_partition AND r.deadline_at < u.until
  AND (r.company_id <> ALL($4::text[]) OR r.deadline_at < $5)
  ORDER BY r.deadline_at LIMIT $3) r ON true
ORDER BY r.deadline_at LIMIT $3"""

#: Companies whose envelopes were found on wrong partitions, and how far all partitions but $2 are read.
_ASTRAY: Final = """
SELECT (SELECT array_agg(company_id) FROM incidents WHERE kind = $3 AND last_seen_at >= $1) AS companies,
  (SELECT CASE WHEN bool_and(frontiers ?& $4::text[]) THEN min(least((frontiers->>($4::text[])[1])::timestamptz,
    (frontiers->>($4::text[])[2])::timestamptz)) END FROM partitions WHERE kafka_partition <> ALL($2::int[])) AS until,
  NOT EXISTS (SELECT FROM partitions WHERE kafka_partition <> ALL($2::int[])) AS ours"""

#: The earliest deadline of each partition.
_NEXT: Final = """
SELECT n, (SELECT min(deadline_at) FROM records WHERE kafka_partition = n AND deadline_at IS NOT NULL) AS at
FROM unnest($1::int[]) AS n"""

#: How many windows are over, decided or not, by partition.
_COUNT: Final = """
SELECT kafka_partition, count(*) AS held FROM records
WHERE kafka_partition = ANY($1::int[]) AND deadline_at <= $2 GROUP BY kafka_partition"""

#: How far a partition is, for people to see.
_REPORT: Final = """
UPDATE partitions p SET frontiers = u.frontiers::jsonb, held_decisions = u.held, stopped_reason = u.stopped,
  reported_at = $6
FROM unnest($1::int[], $2::bigint[], $3::text[], $4::int[], $5::text[])
  AS u (kafka_partition, epoch, frontiers, held, stopped)
WHERE p.kafka_partition = u.kafka_partition AND p.epoch = u.epoch"""


class PostgresStore:
    """Keeps records in PostgreSQL. Errors of the database go up as they are."""

    def __init__(self, pool: Pool) -> None:
        """The pool stays its owner's."""
        self._pool = pool

    async def claim(self, numbers: Collection[int], *, owner: str, at: datetime) -> dict[int, Claim]:
        """See `ports.Store`."""
        found = await self._pool.fetch(_CLAIM, sorted(numbers), owner, at)
        return {
            row["kafka_partition"]: Claim(
                epoch=row["epoch"], log_id=row["log_id"], next_offsets=msgspec.json.decode(row["next_offsets"])
            )
            for row in found
        }

    async def adopt(self, epochs: Mapping[int, int], log_id: str, next_offsets: Mapping[int, dict[str, int]]) -> None:
        """See `ports.Store`."""
        numbers = sorted(epochs)
        moved = await self._pool.fetch(
            _ADOPT, numbers, [epochs[n] for n in numbers], [_json(next_offsets[n]) for n in numbers], log_id
        )
        if len(moved) < len(numbers):
            raise Fenced

    async def load(self, keys: Collection[Key], records: Collection[RecordRef] = ()) -> Loaded:
        """See `ports.Store`."""
        if not keys and not records:
            return Loaded({}, {}, {})
        found = await self._pool.fetch(
            _LOAD, [c for c, _ in keys], [k for _, k in keys], [c for c, _ in records], [r for _, r in records]
        )
        by_key: dict[Key, UUID] = {}
        laid: dict[ClusterRef, list[Record]] = {}
        of_record: dict[RecordRef, UUID] = {}
        for company_id, cluster_id, named, record_id, facts, decision in found:
            for key in named or ():
                by_key[(company_id, key)] = cluster_id
            if record_id is not None:
                of_record[(company_id, record_id)] = cluster_id
                laid.setdefault((company_id, cluster_id), []).append(rows.read(company_id, facts, decision))
        return Loaded(by_key, {ref: tuple(records) for ref, records in laid.items()}, of_record)

    async def save(self, changes: Changes) -> None:
        """See `ports.Store`."""
        try:
            async with self._pool.acquire(timeout=10) as connection, connection.transaction():
                await self._advance(connection, changes)
                await _save_records(connection, changes)
                await _save_history(connection, changes)
                await _save_flags(connection, changes)
                await _save_dead(connection, changes)
                await _save_reroutes(connection, changes)
                await _save_applied(connection, changes)
                await _save_questions(connection, changes)
        except _REFUSALS as error:
            raise Unstorable(describe(error)) from error

    async def _advance(self, connection: Connection, changes: Changes) -> None:
        numbers = sorted(changes.epochs)
        moved = await connection.fetch(
            _ADVANCE,
            numbers,
            [changes.epochs[n] for n in numbers],
            [_json(changes.next_offsets.get(n, {})) for n in numbers],
        )
        if len(moved) < len(numbers):
            raise Fenced

    async def astray(self, numbers: Collection[int], *, since: datetime) -> Astray:
        """See `ports.Store`."""
        row = await self._pool.fetchrow(_ASTRAY, since, list(numbers), WRONG_PARTITION, list(topics.SIDES))
        if row is None or not row["companies"]:
            return NOBODY
        until = datetime.max.replace(tzinfo=UTC) if row["ours"] else row["until"]
        return Astray(frozenset(row["companies"]), until)

    async def due(self, until: Mapping[int, datetime], *, limit: int, astray: Astray = NOBODY) -> list[Due]:
        """See `ports.Store`."""
        held = (list(astray.companies), astray.read_until)
        found = await self._pool.fetch(_DUE, list(until), list(until.values()), limit, *held)
        return [Due(*row) for row in found]

    async def next_deadlines(self, numbers: Collection[int]) -> dict[int, datetime]:
        """See `ports.Store`."""
        found = await self._pool.fetch(_NEXT, sorted(numbers))
        return {row["n"]: row["at"] for row in found if row["at"] is not None}

    async def count_due(self, numbers: Collection[int], *, at: datetime) -> dict[int, int]:
        """See `ports.Store`."""
        found = await self._pool.fetch(_COUNT, sorted(numbers), at)
        return {row["kafka_partition"]: row["held"] for row in found}

    async def applied(self, companies: Collection[str]) -> dict[str, Applied]:
        """See `ports.Store`."""
        found = await self._pool.fetch(_RULES, list(companies))
        return {row["company_id"]: Applied(row[0], _policy(row["policy"]), row["after_record_id"]) for row in found}

    async def having_records(self, companies: Collection[str]) -> set[str]:
        """See `ports.Store`."""
        return {row["c"] for row in await self._pool.fetch(_HAVING, list(companies))}

    async def page(self, company_id: str, *, after: UUID, limit: int, open_only: bool) -> Page:
        """See `ports.Store`. Of a company that has millions of records and few open ones no more than some are seen."""
        looked_at = LOOKED_AT_MAX if open_only else limit
        found = await self._pool.fetch(_PAGE, company_id, after, looked_at)
        wanted = [row["record_id"] for row in found if row["open"] or not open_only]
        if len(wanted) > limit:
            return Page(wanted[:limit], wanted[limit - 1])
        return Page(wanted, found[-1]["record_id"] if len(found) == looked_at else None)

    async def report(self, epochs: Mapping[int, int], progress: Mapping[int, Progress], *, at: datetime) -> None:
        """See `ports.Store`."""
        numbers = sorted(progress)
        await self._pool.execute(
            _REPORT,
            numbers,
            [epochs[n] for n in numbers],
            [_json(progress[n].frontiers) for n in numbers],
            [progress[n].held for n in numbers],
            [progress[n].stopped_reason for n in numbers],
            at,
        )


async def _save_records(connection: Connection, changes: Changes) -> None:
    gone = [entry for entry in changes.gone if (entry[0], entry[1].record_id) not in changes.records]
    if gone:
        await connection.execute(
            _GONE,
            *columns(
                (c, g.record_id, g.merged_into, at) for c, g, at in {(e[0], e[1].record_id): e for e in gone}.values()
            ),
        )
    if changes.merged:
        for company_id, old, new in changes.merged:  # in order: one may lead to the next
            await connection.execute(_MERGED, [company_id], [old], [new])
    if changes.records:
        await connection.execute(
            _RECORDS, *columns(rows.columns(record, number, at) for record, number, at in changes.records.values())
        )
        born = [(c, t.record_id) for c, t in changes.transitions if t.from_status is None]
        if again := [ref for ref in born if ref in changes.records]:
            await connection.execute(_UNALIAS, *columns(again))
    if changes.keys:
        await connection.execute(_KEYS, *columns((c, key, cluster) for (c, key), cluster in changes.keys.items()))


async def _save_history(connection: Connection, changes: Changes) -> None:
    """Append. Not by COPY: PostgreSQL waits without end, locks in hand, for a process that is stopped within one."""
    if changes.events:
        await connection.execute(
            _EVENTS,
            *columns(
                (e.company_id, e.received_at, e.topic, e.partition, e.offset, e.record_id, e.event_id, e.kind,
                 e.occurred_at, e.disposition, e.note)
                for e in changes.events
            ),
        )  # fmt: skip
    if changes.transitions:
        await connection.execute(
            _TRANSITIONS,
            *columns(
                (c, t.at, t.record_id, t.version, t.from_status and t.from_status.value, t.to_status.value,
                 t.kind and t.kind.value, t.cause, t.note, _json(t.why))
                for c, t in changes.transitions
            ),
        )  # fmt: skip


async def save_flags(connection: Connection, flags: Sequence[tuple[Flag, int]]) -> None:
    """Write flags, raised or ended, each with its partition number, and queue them to be told, in order."""
    for resolved, run in groupby((flag for flag, _ in flags), key=lambda f: f.type is FlagType.RESOLVED):
        # In order, run by run: a record may be flagged and resolved within one batch.
        if resolved:
            await connection.execute(
                _RESOLVED, *columns((f.company_id, f.resolves, f.decided_at, f.resolved_by) for f in run)
            )
        else:
            await connection.execute(_RAISED, *columns(_flag_row(f) for f in run))
    if flags:
        await connection.execute(
            _OUTBOX,
            *columns(
                (f.company_id, number, topics.SYNC_FLAGS, str(f.id), f.type.value, _encoder.encode(f))
                for f, number in flags
            ),
        )


async def _save_flags(connection: Connection, changes: Changes) -> None:
    await save_flags(connection, changes.flags)
    if changes.outcomes:
        await connection.execute(
            _OUTCOMES,
            *columns(
                (c, o.command_id, o.record_id, o.applied, o.reason, o.version, o.decided_at)
                for c, o in changes.outcomes
            ),
        )


def _flag_row(flag: Flag) -> tuple[object, ...]:
    return (
        flag.company_id,
        flag.id,
        flag.record_id,
        flag.kind.value,
        flag.generation,
        flag.decided_at,
        _json(flag),
    )


async def _save_dead(connection: Connection, changes: Changes) -> None:
    if not changes.dead:
        return
    await connection.execute(
        _DEAD,
        *columns(
            (d.letter.company_id, d.letter.topic, d.letter.partition, d.letter.offset, d.letter.reason,
             d.letter.detail, d.body, _json(d.headers), d.letter.received_at)
            for d in changes.dead
        ),
    )  # fmt: skip
    await connection.execute(
        _OUTBOX,
        *columns(
            (d.letter.company_id, d.letter.partition, topics.SYNC_DEAD_LETTERS,
             f"{d.letter.topic}/{d.letter.partition}/{d.letter.offset}", "sync.dead_letter", _encoder.encode(d.letter))
            for d in changes.dead
        ),
    )  # fmt: skip


async def _save_reroutes(connection: Connection, changes: Changes) -> None:
    if changes.reroutes:
        await connection.execute(_REROUTES, *columns(_rerouted(envelope) for envelope in changes.reroutes))
    if changes.incidents:
        found = [(i.company_id, i.kind, i.detail, i.seen) for i in changes.incidents]
        await incidents.seen_many(connection, found, changes.at)


def _rerouted(envelope: Envelope) -> tuple[object, ...]:
    sent = rows.sent_on(envelope)
    return (
        sent.company_id,
        envelope.partition,
        sent.topic,
        sent.ce_id,
        sent.ce_source,
        sent.ce_type,
        sent.content_type,
        sent.traceparent,
        sent.webhook_version,
        sent.received_at,
        sent.body,
    )


async def _save_applied(connection: Connection, changes: Changes) -> None:
    if changes.applied:
        applied = [(a.company_id, _json(a.policy), a.after_record_id) for a in changes.applied]
        await connection.execute(_APPLIED, *columns(applied), changes.at)


def _ref(item: tuple[RecordRef, object]) -> RecordRef:
    return item[0]


async def _save_questions(connection: Connection, changes: Changes) -> None:
    if not changes.questions:
        return
    if void := sorted(ref for ref, question in changes.questions.items() if question is None):
        await connection.execute(_UNASKED, *columns(void))
    asked = [(ref, question) for ref, question in sorted(changes.questions.items(), key=_ref) if question is not None]
    if asked:
        await connection.execute(
            _QUESTIONS,
            *columns(
                (c, r, q.number, PRIORITIES.index(q.priority), q.starts_at, q.not_before, _json(q))
                for (c, r), q in asked
            ),
        )
        await connection.execute(f"NOTIFY {QUESTIONS}")


def _policy(text: str) -> Policy | None:
    """Read rules; None: an older or newer Reconcal wrote them that had others."""
    try:
        return _policies.decode(text)
    except msgspec.ValidationError:
        return None


def _json(value: object) -> str:
    return _encoder.encode(value).decode()
