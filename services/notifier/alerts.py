"""The table alerts: what there is to tell, as flags; whoever may be told of it has a turn at once."""

from collections.abc import Sequence
from datetime import MAXYEAR, MINYEAR, datetime
from typing import Final

import msgspec

from schemas.flags import NOT_VERIFIED, RECORD_KINDS, Flag, FlagType
from services.notifier.grouping import CAUSES
from services.plumbing.postgres import BEFORE_ALL, FOREVER, Connection, columns
from services.words.story import starts_at

_RAISE: Final = """
INSERT INTO alerts (company_id, flag_id, kind, verified, starts_at, deadline_at, taken_at, flag)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bool[], $5::timestamptz[], $6::timestamptz[],
  $7::timestamptz[], $8::json[])
ON CONFLICT DO NOTHING"""

_RESOLVE: Final = """
UPDATE alerts a SET resolved_at = $4, resolution = f.resolution
FROM unnest($1::text[], $2::uuid[], $3::json[]) AS f (company_id, flag_id, resolution)
WHERE a.company_id = f.company_id AND a.flag_id = f.flag_id AND a.resolved_at IS NULL"""

#: A cause is over: what it held back is not told at once, for what was lost is being found at this moment, and resolves
#: flags. The next news of the company waits as long as two letters lie apart.
_RELEASE: Final = """
UPDATE alerts a SET released_at = $2::timestamptz + make_interval(secs => c.group_interval_seconds) FROM companies c
WHERE a.company_id = ANY($1::text[]) AND c.company_id = a.company_id AND a.resolved_at IS NULL
  AND a.kind <> ALL($3::text[])
  AND NOT EXISTS (SELECT FROM tellings t WHERE t.company_id = a.company_id AND t.flag_id = a.flag_id OFFSET 0)"""

#: Whoever may be told is looked at now; who was looked at last in vain for nothing to tell, too. In order of the key,
#: so that two who touch cannot wait for each other.
_TOUCH: Final = """
WITH touched AS MATERIALIZED (
  SELECT company_id, n.recipient_id, t.urgent_at
  FROM notify_turns n JOIN unnest($1::text[], $2::timestamptz[]) AS t (company_id, urgent_at) USING (company_id)
  ORDER BY company_id, n.recipient_id FOR UPDATE OF n
)
UPDATE notify_turns n SET due_at = '-infinity', urgent_at = least(n.urgent_at, t.urgent_at)
FROM touched t WHERE n.company_id = t.company_id AND n.recipient_id = t.recipient_id"""


async def note(connection: Connection, raised: Sequence[Flag], resolved: Sequence[Flag], at: datetime) -> None:
    """Note what there is to tell, and have those looked at who may be told; in the caller's transaction. Twice is once.

    `raised`: flags, the notifier's own among them; `resolved`: `sync.resolved` flags, which name what they end.
    """
    if raised:
        await connection.execute(_RAISE, *columns(_row(flag, at) for flag in raised))
    if resolved:
        ends = columns((flag.company_id, flag.resolves, _json(flag)) for flag in resolved)
        await connection.execute(_RESOLVE, *ends, at)
    over = sorted({flag.company_id for flag in resolved if flag.kind in CAUSES})
    if over:
        await connection.execute(_RELEASE, over, at, [kind.value for kind in CAUSES])
    urgent: dict[str, datetime] = {}
    for flag in (*raised, *resolved):
        urgent[flag.company_id] = min(urgent.get(flag.company_id, FOREVER), urgent_at(flag, at))
    if urgent:
        await connection.execute(_TOUCH, list(urgent), list(urgent.values()))


def urgent_at(flag: Flag, at: datetime) -> datetime:
    """Give what a recipient's turn is ordered by: a company's own trouble first, then the soonest that is to come."""
    if flag.type is FlagType.RESOLVED:
        return FOREVER
    if flag.kind not in RECORD_KINDS:
        return BEFORE_ALL
    begins = _begins(flag)
    return begins if begins is not None and begins >= at else FOREVER


def _row(flag: Flag, at: datetime) -> tuple[object, ...]:
    verified, deadline_at = flag.verdict != NOT_VERIFIED, flag.deadline_at or flag.decided_at
    return flag.company_id, flag.id, flag.kind.value, verified, _begins(flag), deadline_at, at, _json(flag)


def _begins(flag: Flag) -> datetime | None:
    """Give when the appointment begins, unless that is so near an edge of time that nothing can be added to it."""
    begins = starts_at(flag)
    return begins if begins is not None and MINYEAR < begins.year < MAXYEAR else None


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
