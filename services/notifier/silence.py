"""The silent_webhooks table: all that writes it. While a company's webhook is silent, mails about single orphans wait.

Its bookings look like orphans for one cause then, and its people were told of that. The flags themselves stay, and so
do the rows of the inbox. What was leased a moment before is on its way already, and goes out.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from schemas.flags import Flag, FlagType, Kind
from services.notifier.mailbox import About
from services.plumbing.postgres import Connection

_ORPHANS: Final = frozenset({Kind.ORPHANED_LOCAL, Kind.ORPHANED_CALCOM})

#: A webhook fell silent: mails of the company that were not sent wait from now on, those of earlier flags too.
_BEGIN: Final = """
INSERT INTO silent_webhooks (company_id, flag_id, since)
SELECT company_id, flag_id, $3 FROM unnest($1::text[], $2::uuid[]) AS f (company_id, flag_id)
ON CONFLICT DO NOTHING"""

#: A webhook is heard again.
_END: Final = """
DELETE FROM silent_webhooks s USING unnest($1::text[], $2::uuid[]) AS f (company_id, flag_id)
WHERE s.company_id = f.company_id AND s.flag_id = f.flag_id
RETURNING s.company_id"""

#: Lets go what waited; not at once, for what was lost is being found at this moment, and resolves flags.
_RELEASE: Final = """
UPDATE mails m SET released_at = $2, not_before = greatest(m.not_before, $3)
WHERE m.company_id = ANY($1::text[]) AND m.state = 'waiting' AND m.about = 'orphan'
  AND NOT EXISTS (SELECT FROM silent_webhooks s WHERE s.company_id = m.company_id)
RETURNING m.message_id"""


def about(flag: Flag) -> About:
    """Say what a mail about this flag is about. A resolution is never held back."""
    if flag.kind is Kind.WEBHOOK_SILENT:
        return About.COMPANY
    return About.ORPHAN if flag.kind in _ORPHANS and flag.type is not FlagType.RESOLVED else About.RECORD


async def begin(connection: Connection, raised: Iterable[Flag], at: datetime) -> None:
    """Hold back mails of companies of which such a flag was raised, within the caller's transaction."""
    silent = [flag for flag in raised if flag.kind is Kind.WEBHOOK_SILENT]
    if silent:
        await connection.execute(_BEGIN, [f.company_id for f in silent], [f.id for f in silent], at)


async def end(connection: Connection, resolved: Sequence[Flag], at: datetime, not_before: datetime) -> int:
    """Let go what waited for these flags to be resolved, within the caller's transaction: how many mails."""
    heard = [flag for flag in resolved if flag.kind is Kind.WEBHOOK_SILENT]
    if not heard:
        return 0
    ended = await connection.fetch(_END, [f.company_id for f in heard], [f.resolves for f in heard])
    companies = sorted({row["company_id"] for row in ended})
    return len(await connection.fetch(_RELEASE, companies, at, not_before)) if companies else 0
