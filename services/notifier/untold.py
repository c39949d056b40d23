"""What there is to tell one recipient: counted for `grouping`, and written down as a letter."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from schemas.flags import RECORD_KINDS, Flag, Kind
from services.notifier import grouping
from services.notifier.grouping import Board, Held
from services.notifier.letter import ROWS, Letter, Occasion
from services.plumbing.postgres import Connection

RECORDS: Final = [kind.value for kind in RECORD_KINDS]

_CAUSES: Final = """
SELECT DISTINCT kind FROM alerts
WHERE company_id = $1 AND resolved_at IS NULL AND kind = ANY($2::text[])"""

# OFFSET 0, here and below, keeps each look at another table one by its key. PostgreSQL would join as it believes the
# tables to be, which is wrong in a storm, and for one company that has a thousand times as much as the others: it
# compared every alert with every telling.

#: What is open and was not told to the recipient: $1 company, $2 recipient, $3 kinds that they do not want, $4 kinds
#: that are held back, $5 whether what was not verified is, $6 now, $7 the kinds of records, $8 how soon is urgent.
_UNTOLD: Final = """
WITH untold AS MATERIALIZED (
  SELECT a.flag_id, a.kind, a.starts_at, greatest(a.taken_at, a.released_at) AS since,
    a.kind = ANY($4::text[]) OR ($5 AND NOT a.verified AND a.kind = ANY($7::text[])) AS held
  FROM alerts a
  WHERE a.company_id = $1 AND a.resolved_at IS NULL AND a.kind <> ALL($3::text[])
    AND NOT EXISTS (
      SELECT FROM tellings t WHERE t.company_id = $1 AND t.recipient_id = $2 AND t.flag_id = a.flag_id OFFSET 0)
)"""
_COUNT_UNTOLD: Final = f"""{_UNTOLD}
SELECT count(*) FILTER (WHERE ready) AS news, min(since) FILTER (WHERE ready) AS oldest_at,
  min(starts_at) FILTER (WHERE ready AND starts_at > $6) AS soonest_at,
  min(greatest(since, starts_at - make_interval(secs => $8))) FILTER (WHERE ready AND starts_at > $6) AS near_at,
  min(since) FILTER (WHERE NOT held AND NOT ready) AS later_at
FROM (SELECT *, NOT held AND since <= $6 AS ready FROM untold) AS u"""  # noqa: S608 - constants
_COUNT_TOLD: Final = """
SELECT count(*) FILTER (WHERE a.resolved_at IS NOT NULL) AS ended, min(a.resolved_at) AS ended_at,
  count(*) FILTER (WHERE a.resolved_at IS NULL AND a.kind <> ALL($3::text[])) AS open
FROM tellings t CROSS JOIN LATERAL (
  SELECT resolved_at, kind FROM alerts WHERE company_id = $1 AND flag_id = t.flag_id OFFSET 0) AS a
WHERE t.company_id = $1 AND t.recipient_id = $2 AND t.ended_in IS NULL"""

#: All that is new, in the order in which it is told: the company's own, then by start, what has begun at the end.
_NEWS: Final = f"""{_UNTOLD}
SELECT flag_id, kind, held OR since > $6 AS held FROM untold
ORDER BY kind = ANY($7::text[]), starts_at < $6, starts_at, flag_id"""  # noqa: S608
_ENDED: Final = """
SELECT t.flag_id, t.told_in, a.kind FROM tellings t CROSS JOIN LATERAL (
  SELECT kind, starts_at FROM alerts
  WHERE company_id = $1 AND flag_id = t.flag_id AND resolved_at IS NOT NULL OFFSET 0) AS a
WHERE t.company_id = $1 AND t.recipient_id = $2 AND t.ended_in IS NULL
ORDER BY a.kind = ANY($3::text[]), a.starts_at, t.flag_id"""
_OPEN: Final = """
SELECT t.flag_id, t.told_in, a.kind FROM tellings t CROSS JOIN LATERAL (
  SELECT kind, starts_at FROM alerts
  WHERE company_id = $1 AND flag_id = t.flag_id AND resolved_at IS NULL AND kind <> ALL($4::text[]) OFFSET 0) AS a
WHERE t.company_id = $1 AND t.recipient_id = $2 AND t.ended_in IS NULL
ORDER BY a.kind = ANY($3::text[]), a.starts_at < $5, a.starts_at, t.flag_id"""
_FLAGS: Final = "SELECT flag_id, flag, resolution FROM alerts WHERE company_id = $1 AND flag_id = ANY($2::uuid[])"
_THREAD: Final = """
SELECT message_id, subject FROM letters
WHERE company_id = $1 AND recipient_id = $2 AND number = ANY($3::int[]) AND state = 'sent' ORDER BY number"""


class Reader(Struct, frozen=True, kw_only=True):
    """Whom it is told, and what of it they want and may hear now. `muted`: kinds that they do not want."""

    company_id: str
    recipient_id: UUID
    muted: tuple[str, ...]
    held: Held
    urgent_within_seconds: float

    @property
    def key(self) -> tuple[str, UUID]:
        """Name them."""
        return self.company_id, self.recipient_id

    @property
    def wants(self) -> tuple[list[str], list[str], bool]:
        """Give $3 to $5 of what is untold."""
        return list(self.muted), [kind.value for kind in self.held.kinds], self.held.unverified


class Counted(Struct, frozen=True, kw_only=True):
    """What there is to tell.

    `soonest_at`: when the first appointment among what is new begins; `later_at`: when what was held back may be told.
    """

    board: Board
    soonest_at: datetime | None
    later_at: datetime | None


class Written(Struct, frozen=True):
    """A letter, all flags that it tells of, and all whose end it tells; in full, whatever the letter lists."""

    letter: Letter
    told: list[UUID]
    ended: list[UUID]


async def held(connection: Connection, company_id: str, muted: Sequence[str]) -> Held:
    """Say what the causes hold back that are open; one that the recipient does not want to hear of holds nothing."""
    causes = {
        Kind(row["kind"])
        for row in await connection.fetch(_CAUSES, company_id, [kind.value for kind in grouping.CAUSES])
    }
    return grouping.held_by(causes - {Kind(kind) for kind in muted})


async def count(connection: Connection, reader: Reader, at: datetime) -> Counted:
    """Count what there is to tell at a moment."""
    wanted = (*reader.wants, at, RECORDS, reader.urgent_within_seconds)
    untold = await connection.fetchrow(_COUNT_UNTOLD, *reader.key, *wanted)
    told = await connection.fetchrow(_COUNT_TOLD, *reader.key, list(reader.muted))
    assert untold is not None and told is not None  # noqa: S101, PT018 - aggregates have a row
    found = {**untold, **told}
    soonest_at, later_at = found.pop("soonest_at"), found.pop("later_at")
    return Counted(board=Board(**found), soonest_at=soonest_at, later_at=later_at)


async def write(
    connection: Connection,
    reader: Reader,
    occasion: Occasion,
    at: datetime,
    *,
    open_total: int,
    failing: datetime | None,
) -> Written:
    """Write down what is to be told. `open_total` and `failing`: see `Letter.open_total`, `Letter.failing_since`."""
    untold = await connection.fetch(_NEWS, *reader.key, *reader.wants, at, RECORDS)
    news = [row for row in untold if not row["held"]]
    ended = await connection.fetch(_ENDED, *reader.key, RECORDS)
    still = (RECORDS, list(reader.muted), at)
    listed = [] if occasion is Occasion.NEWS else await connection.fetch(_OPEN, *reader.key, *still)
    notices, records = _apart(news)
    notices_over, records_over = _apart(ended)
    shown = (*notices, *records[:ROWS], *notices_over, *records_over[:ROWS], *listed[:ROWS])
    flags, ends = await _flags(connection, reader.company_id, [row["flag_id"] for row in shown])
    thread = await _thread(connection, reader, [row["told_in"] for row in (*ended, *listed)])
    letter = Letter(
        occasion=occasion,
        written_at=at,
        notices=_of(flags, notices),
        notices_over=_of(ends, notices_over),
        news=_of(flags, records[:ROWS]),
        news_counts=dict(Counter(row["kind"] for row in records)),
        ended=_of(ends, records_over[:ROWS]),
        ended_total=len(records_over),
        open=_of(flags, listed[:ROWS]),
        open_total=open_total,
        held_total=len([row for row in untold if row["held"] and row["kind"] in RECORDS]),
        thread=tuple(name for name, _ in thread),
        thread_subject=next((subject for _, subject in reversed(thread) if subject), None),
        failing_since=failing,
    )
    return Written(letter, [row["flag_id"] for row in news], [row["flag_id"] for row in ended])


async def _flags(
    connection: Connection, company_id: str, names: list[UUID]
) -> tuple[dict[UUID, Flag], dict[UUID, Flag]]:
    """Give flags by id, and what resolved them."""
    rows = await connection.fetch(_FLAGS, company_id, names)
    flags = {row["flag_id"]: msgspec.json.decode(row["flag"], type=Flag) for row in rows}
    ends = {row["flag_id"]: msgspec.json.decode(row["resolution"], type=Flag) for row in rows if row["resolution"]}
    return flags, ends


async def _thread(connection: Connection, reader: Reader, numbers: list[int]) -> list[tuple[str, str | None]]:
    """Give the letters that told what is told of again: Message-ID and subject, the latest last."""
    told_in = sorted(set(numbers))[-ROWS:]
    rows = await connection.fetch(_THREAD, *reader.key, told_in) if told_in else []
    return [(row["message_id"], row["subject"]) for row in rows]


def _apart(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Part what is the company's own from what is about records."""
    records = [row for row in rows if row["kind"] in RECORDS]
    return [row for row in rows if row["kind"] not in RECORDS], records


def _of(flags: Mapping[UUID, Flag], rows: Sequence[Mapping[str, Any]]) -> tuple[Flag, ...]:
    return tuple(flags[row["flag_id"]] for row in rows if row["flag_id"] in flags)
