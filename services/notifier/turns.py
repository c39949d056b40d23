"""The tables notify_turns, letters and tellings: whose turn it is, what they are written, and what became of it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from services.companies.model import Delivery
from services.notifier import grouping, untold
from services.notifier.alerts import urgent_at
from services.notifier.grouping import Past, Plan, Policy
from services.notifier.letter import Company, Letter, Occasion, Recipient
from services.notifier.mail.compose import message_id
from services.notifier.ports import Fate, Undelivered
from services.notifier.untold import RECORDS, Reader, Written
from services.plumbing import lifecycle, telemetry
from services.plumbing.postgres import FOREVER, Connection, Pool
from services.words.moments import zone

#: A letter that could not be delivered for so long is given up; what it told is in the next one.
KEEP: Final = timedelta(hours=24)
_OVERDUE: Final = "it could not be delivered for a day"
_NOBODY: Final = "nobody is to be told any more"
#: What has ended so long ago is forgotten, and who was told of it.
FORGET: Final = timedelta(days=90)
#: Who is told of anything is looked at so often at least: a contact that comes in while flags are being taken in sees
#: nothing of them yet, and is not touched by them.
LOOK_WITHIN: Final = timedelta(hours=1)
#: Whoever cannot be looked at, for an error of ours, is left alone for so long.
_LEFT_ALONE: Final = timedelta(minutes=15)

#: The most urgent turn that is due and nobody has: a company's own trouble, then the soonest appointment.
_NEXT: Final = """
SELECT company_id, recipient_id, number, last_at, last_urgent_at, reminders, attempts, failing_since, gave_up_since
FROM notify_turns
WHERE channel = $2 AND due_at <= $1 AND not_before <= $1 AND (leased_until IS NULL OR leased_until <= $1)
ORDER BY urgent_at, due_at LIMIT 1 FOR UPDATE SKIP LOCKED"""

#: What is asked about a recipient is planned for the moment: in a storm of flags the plan that was kept is that of the
#: calm before it, when to read all tellings for each alert was cheap.
_PLAN_ANEW: Final = "SET LOCAL plan_cache_mode = force_custom_plan"

_RULES: Final = """p.name AS company_name, p.time_zone, p.group_wait_seconds, p.group_interval_seconds,
  p.reminder_seconds, p.urgent_within_seconds"""
_CONTACT: Final = f"""
SELECT {_RULES}, k.name, k.email AS address, k.language, k.daily_at, k.muted_kinds, k.preferences_token,
  CASE WHEN k.role = 'viewer' OR k.suppressed_at IS NOT NULL OR p.removed_at IS NOT NULL THEN 'none'
    ELSE k.delivery END AS delivery
FROM contacts k JOIN companies p USING (company_id) WHERE k.company_id = $1 AND k.contact_id = $2"""  # noqa: S608 - constants
_ENDPOINT: Final = f"""
SELECT {_RULES}, 'Slack' AS name, e.host AS address, e.language, '08:00'::time AS daily_at, e.muted_kinds,
  NULL::uuid AS preferences_token,
  CASE WHEN e.disabled_at IS NOT NULL OR p.removed_at IS NOT NULL THEN 'none' ELSE 'immediate' END AS delivery
FROM endpoints e JOIN companies p USING (company_id) WHERE e.company_id = $1 AND e.endpoint_id = $2"""  # noqa: S608

_PENDING: Final = """
SELECT message_id, heading, content, urgent, state FROM letters
WHERE company_id = $1 AND recipient_id = $2 AND number = $3"""

_WRITE: Final = """
INSERT INTO letters AS l (company_id, recipient_id, number, channel, message_id, recipient, occasion, heading, content,
  told, ended, urgent, state, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::json, $9::json, $10, $11, $12, 'sending', $13)
ON CONFLICT (company_id, recipient_id, number) DO UPDATE SET recipient = excluded.recipient,
  message_id = excluded.message_id, occasion = excluded.occasion, heading = excluded.heading,
  content = excluded.content, told = excluded.told, ended = excluded.ended, urgent = excluded.urgent,
  state = 'sending', attempts = l.attempts + 1
RETURNING attempts"""
_AGAIN: Final = """
UPDATE letters SET attempts = attempts + 1 WHERE company_id = $1 AND recipient_id = $2 AND number = $3
RETURNING attempts"""
_LEASE: Final = """
UPDATE notify_turns SET leased_by = $3, leased_until = $4, urgent_at = 'infinity'
WHERE company_id = $1 AND recipient_id = $2"""
_LOOK_AGAIN: Final = """
UPDATE notify_turns SET due_at = $3, urgent_at = $4, leased_by = NULL, leased_until = NULL
WHERE company_id = $1 AND recipient_id = $2"""
_DROP: Final = """
DELETE FROM letters WHERE company_id = $1 AND recipient_id = $2 AND number = $3 AND state = 'put_off'"""
_CALM: Final = """
UPDATE notify_turns SET attempts = 0, failing_since = NULL
WHERE company_id = $1 AND recipient_id = $2 AND failing_since IS NOT NULL"""
_LEAVE_ALONE: Final = "UPDATE notify_turns SET not_before = $3 WHERE company_id = $1 AND recipient_id = $2"
_GONE: Final = "DELETE FROM notify_turns WHERE company_id = $1 AND recipient_id = $2"
_GIVE_UP: Final = """
UPDATE letters SET state = 'expired', last_error = coalesce(last_error, $4)
WHERE company_id = $1 AND recipient_id = $2 AND number = $3"""
_GAVE_UP: Final = """
UPDATE notify_turns SET number = $3, gave_up_since = coalesce(gave_up_since, failing_since), failing_since = NULL
WHERE company_id = $1 AND recipient_id = $2"""

#: Whatever becomes of a letter: the turn comes first, as for whoever takes it, so that the two cannot wait for each
#: other; and before the turn its contact, as for whoever changes one.
_HOLD_TURN: Final = "SELECT FROM notify_turns WHERE company_id = $1 AND recipient_id = $2 FOR UPDATE"
_HOLD_CONTACT: Final = "SELECT FROM contacts WHERE company_id = $1 AND contact_id = $2 FOR NO KEY UPDATE"

#: The server took it. Not if another process was taken for the owner meanwhile: it may have another letter in hand.
_SENT: Final = """
UPDATE letters SET state = 'sent', sent_at = $4, subject = $5, last_error = NULL
WHERE company_id = $1 AND recipient_id = $2 AND number = $3 AND state <> 'sent' AND attempts = $6
RETURNING told, ended"""
_TOLD: Final = """
INSERT INTO tellings (company_id, recipient_id, flag_id, told_in) SELECT $1, $2, f, $3 FROM unnest($4::uuid[]) AS f
ON CONFLICT DO NOTHING"""
_END_TOLD: Final = """
UPDATE tellings SET ended_in = $3 WHERE company_id = $1 AND recipient_id = $2 AND flag_id = ANY($4::uuid[])"""
_DONE: Final = """
UPDATE notify_turns SET number = $3, last_at = $4, last_urgent_at = CASE WHEN $5 THEN $4 ELSE last_urgent_at END,
  reminders = CASE WHEN $6 THEN reminders + 1 ELSE 0 END, attempts = 0, failing_since = NULL, gave_up_since = NULL,
  leased_by = NULL, leased_until = NULL, due_at = '-infinity'
WHERE company_id = $1 AND recipient_id = $2 AND number < $3"""
#: One that was given up while whoever had it slept: the next one waits for its interval all the same.
_CAME_LATE: Final = """
UPDATE notify_turns SET last_at = greatest(last_at, $4),
  last_urgent_at = CASE WHEN $5 THEN greatest(last_urgent_at, $4) ELSE last_urgent_at END
WHERE company_id = $1 AND recipient_id = $2 AND number >= $3"""

#: The server has it certainly not, or perhaps: another attempt later.
_NOT_SENT: Final = """
UPDATE letters SET state = CASE WHEN $4 THEN 'sending' ELSE 'put_off' END, last_error = $5
WHERE company_id = $1 AND recipient_id = $2 AND number = $3 AND state = 'sending' AND attempts = $6"""
_LATER: Final = """
UPDATE notify_turns SET due_at = $3, not_before = $3, attempts = attempts + $6,
  failing_since = coalesce(failing_since, $4),
  urgent_at = least(urgent_at, $7), leased_by = NULL, leased_until = NULL
WHERE company_id = $1 AND recipient_id = $2 AND leased_by = $5"""

#: The server will never take it: the address is not written to again until somebody mends it.
_REFUSED: Final = """
UPDATE letters SET state = 'refused', last_error = $4
WHERE company_id = $1 AND recipient_id = $2 AND number = $3 AND state = 'sending' AND attempts = $5 RETURNING number"""
_SUPPRESS: Final = """
UPDATE contacts SET suppressed_at = $3, suppressed_reason = $4
WHERE company_id = $1 AND contact_id = $2 AND email = $5 AND suppressed_at IS NULL"""
_FINISH: Final = """
UPDATE notify_turns SET number = $3, attempts = 0, failing_since = NULL, leased_by = NULL, leased_until = NULL,
  due_at = '-infinity'
WHERE company_id = $1 AND recipient_id = $2 AND number < $3"""

#: How late a mail tells of records, from the deadlines behind them; what was held back is not late.
_LATENESS: Final = """
SELECT extract(epoch FROM $3::timestamptz - deadline_at) FROM alerts
WHERE company_id = $1 AND flag_id = ANY($2::uuid[]) AND kind = ANY($4::text[]) AND released_at IS NULL"""

_DUE: Final = """
SELECT min(greatest(due_at, not_before, leased_until, 'epoch')) FROM notify_turns
WHERE channel = $1 AND due_at < 'infinity'"""

_FORGET: Final = (
    "DELETE FROM letters WHERE created_at < $1",
    """DELETE FROM tellings t USING alerts a
       WHERE a.resolved_at < $1 AND t.company_id = a.company_id AND t.flag_id = a.flag_id""",
    "DELETE FROM alerts WHERE resolved_at < $1",
)


class Channel(StrEnum):
    """The way by which a recipient is told."""

    MAIL = "mail"
    SLACK = "slack"


class Leased(Struct, frozen=True, kw_only=True):
    """A letter that is ours to send until the lease is over; `attempts` counts this one.

    `tries`: likewise, of all letters since one was taken last, without those at a server that was away. `again`: an
    earlier attempt may have delivered it; whatever this one comes to, it stays as it is.
    """

    company: Company
    recipient: Recipient
    number: int
    message_id: str
    letter: Letter
    attempts: int
    tries: int
    urgent: bool = False
    again: bool = False

    @property
    def key(self) -> tuple[str, UUID, int]:
        """Name the letter's row."""
        return self.company.company_id, self.recipient.recipient_id, self.number


class _Heading(Struct, frozen=True):
    """Whom a letter is to and whose it is, as it was when it was written: `letters.heading`."""

    company: Company
    recipient: Recipient  # whose token is kept in one place only, with the contact


class _Turn(Struct, frozen=True, kw_only=True):
    company_id: str
    recipient_id: UUID
    number: int
    last_at: datetime | None
    last_urgent_at: datetime | None
    reminders: int
    attempts: int
    failing_since: datetime | None
    gave_up_since: datetime | None

    @property
    def key(self) -> tuple[str, UUID]:
        return self.company_id, self.recipient_id


class Turns:
    """Gives out letters of one channel, and keeps what became of them. Errors of the database go up as they are."""

    def __init__(self, pool: Pool, channel: Channel, holder: str, *, mail_from: str, lease_seconds: float) -> None:
        """The pool stays its owner's. `holder` names this process; a letter that it holds is its own for the lease."""
        self._pool, self._channel, self._holder = pool, channel, holder
        self._mail_from = mail_from
        self._lease = timedelta(seconds=lease_seconds)

    async def take(self, at: datetime) -> Leased | None:
        """Take the most urgent letter that is to go out now, writing it if need be; None: there is none.

        From here to `sent` the letter counts as perhaps delivered: a crash in between sends it again as it is.
        """
        while True:
            async with self._pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(_NEXT, at, self._channel.value)
                if row is None:
                    return None
                await connection.execute(_PLAN_ANEW)
                leased = await self._looked(connection, msgspec.convert(dict(row), _Turn), at)
                if leased is not None:
                    return leased

    async def sent(self, leased: Leased, subject: str | None, at: datetime) -> list[float]:
        """Note that the server has it; gives how many seconds after their deadlines it tells of records first."""
        key = leased.key
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_HOLD_TURN, *key[:2])
            row = await connection.fetchrow(_SENT, *key, at, subject, leased.attempts)
            if row is None:
                return []
            await connection.execute(_TOLD, *key, row["told"])
            await connection.execute(_END_TOLD, *key, row["ended"])
            reminder = leased.letter.occasion is Occasion.REMINDER
            await connection.execute(_CAME_LATE, *key, at, leased.urgent)
            await connection.execute(_DONE, *key, at, leased.urgent, reminder)
            if leased.letter.occasion is not Occasion.NEWS:
                return []
            rows = await connection.fetch(_LATENESS, key[0], row["told"], at, RECORDS)
        return [max(0.0, float(row[0])) for row in rows]

    async def later(self, leased: Leased, error: Undelivered, at: datetime, *, due_at: datetime) -> None:
        """Try again at `due_at`: the same letter where the server may have it, else one that is written anew.

        An attempt at a server that is away is not the letter's: it does not count for how long it waits next time.
        """
        letter = leased.letter
        urgent = [urgent_at(flag, at) for flag in (*letter.notices, *letter.news)]
        in_doubt, counts = error.in_doubt or leased.again, int(error.fate is not Fate.AWAY)
        async with self._pool.acquire() as connection, connection.transaction():
            turn = (*leased.key[:2], due_at, at, self._holder, counts, min(urgent, default=FOREVER))
            await connection.execute(_LATER, *turn)
            await connection.execute(_NOT_SENT, *leased.key, in_doubt, error.reason, leased.attempts)

    async def refused(self, leased: Leased, at: datetime, reason: str) -> None:
        """Note that it will never be taken; a contact's address is not written to any more."""
        key = leased.key
        async with self._pool.acquire() as connection, connection.transaction():
            if self._channel is Channel.MAIL:
                await connection.execute(_HOLD_CONTACT, *key[:2])
            await connection.execute(_HOLD_TURN, *key[:2])
            if await connection.fetchval(_REFUSED, *key, reason, leased.attempts) is None:
                return
            await connection.execute(_FINISH, *key)
            if self._channel is Channel.MAIL:
                await connection.execute(_SUPPRESS, *key[:2], at, reason, leased.recipient.address)

    async def next_due(self) -> datetime | None:
        """Give the moment at which the next turn is due; None: none is."""
        found: datetime | None = await self._pool.fetchval(_DUE, self._channel.value)
        return found

    async def _looked(self, connection: Connection, turn: _Turn, at: datetime) -> Leased | None:
        """Look at one recipient; one whom nobody has thought of must not stop all others."""
        try:
            async with connection.transaction():
                return await self._look(connection, turn, at)
        except Exception as error:
            if isinstance(error, lifecycle.PASSING) and not isinstance(error, asyncpg.DataError):
                raise
            who = {"company_id": turn.company_id, "recipient_id": str(turn.recipient_id)}
            telemetry.log().exception(telemetry.NOTIFIER_LETTER, state="failed", **who)
        await connection.execute(_LEAVE_ALONE, *turn.key, at + _LEFT_ALONE)
        return None

    async def _look(self, connection: Connection, turn: _Turn, at: datetime) -> Leased | None:
        """Look at one recipient: give what goes out to them now, or note when to look again."""
        row = await connection.fetchrow(_CONTACT if self._channel is Channel.MAIL else _ENDPOINT, *turn.key)
        pending = await connection.fetchrow(_PENDING, *turn.key, turn.number + 1)
        overdue = turn.failing_since is not None and turn.failing_since <= at - KEEP
        nobody = row is None or row["delivery"] == Delivery.NONE
        if pending is not None and (overdue or nobody):
            turn = await self._give_up(connection, turn, _NOBODY if nobody else _OVERDUE)
            pending = None
        if row is None:
            await connection.execute(_GONE, *turn.key)
            return None
        if pending is not None and pending["state"] == "sending":
            return await self._again(connection, turn, row, pending, at)
        return await self._plan(connection, turn, row, at)

    async def _give_up(self, connection: Connection, turn: _Turn, why: str) -> _Turn:
        await connection.execute(_GIVE_UP, *turn.key, turn.number + 1, why)
        await connection.execute(_FINISH if why is _NOBODY else _GAVE_UP, *turn.key, turn.number + 1)
        telemetry.letters.labels(self._channel.value, "expired").inc()
        telemetry.log().warning(telemetry.NOTIFIER_LETTER, state="expired", company_id=turn.company_id, error=why)
        since = turn.gave_up_since or (None if why is _NOBODY else turn.failing_since)
        return replace(turn, number=turn.number + 1, gave_up_since=since, failing_since=None)

    async def _again(
        self, connection: Connection, turn: _Turn, row: Mapping[str, Any], pending: Mapping[str, Any], at: datetime
    ) -> Leased:
        """Take a letter once more that the server may have: as it is, to the address that it was for."""
        number = turn.number + 1
        attempts = await connection.fetchval(_AGAIN, *turn.key, number)
        await connection.execute(_LEASE, *turn.key, self._holder, at + self._lease)
        heading = msgspec.json.decode(pending["heading"], type=_Heading)
        recipient = heading.recipient
        if recipient.address == row["address"]:  # whoever has the old address has no key to the new one's mails
            recipient = replace(recipient, preferences_token=row["preferences_token"])
        return Leased(
            company=heading.company,
            recipient=recipient,
            number=number,
            message_id=pending["message_id"],
            letter=msgspec.json.decode(pending["content"], type=Letter),
            attempts=attempts,
            tries=turn.attempts + 1,
            urgent=pending["urgent"],
            again=True,
        )

    async def _plan(self, connection: Connection, turn: _Turn, row: Mapping[str, Any], at: datetime) -> Leased | None:
        muted = row["muted_kinds"]
        reader = Reader(
            company_id=turn.company_id,
            recipient_id=turn.recipient_id,
            muted=tuple(muted),
            held=await untold.held(connection, turn.company_id, muted),
            urgent_within_seconds=row["urgent_within_seconds"],
        )
        counted = await untold.count(connection, reader, at)
        board = counted.board
        made = grouping.plan(
            board,
            Past(last_at=turn.last_at, last_urgent_at=turn.last_urgent_at, reminders=turn.reminders),
            _policy(row),
            Delivery(row["delivery"]),
            row["daily_at"],
            zone(row["time_zone"]),
            at,
        )
        if made.write is None:
            look_at = min(moment for moment in (made.look_at, counted.later_at, at + LOOK_WITHIN) if moment is not None)
            look_at = FOREVER if row["delivery"] == Delivery.NONE else look_at
            if not board.news and not board.ended:  # what was put off has mended itself
                await connection.execute(_DROP, *turn.key, turn.number + 1)
                await connection.execute(_CALM, *turn.key)
            await connection.execute(_LOOK_AGAIN, *turn.key, look_at, counted.soonest_at or FOREVER)
            return None
        since = turn.gave_up_since
        written = await untold.write(connection, reader, made.write, at, open_total=board.open, failing=since)
        return await self._write(connection, turn, row, made, written, at)

    async def _write(
        self,
        connection: Connection,
        turn: _Turn,
        row: Mapping[str, Any],
        made: Plan,
        written: Written,
        at: datetime,
    ) -> Leased:
        letter = written.letter
        company, recipient, number = _company(turn, row), _recipient(turn, row), turn.number + 1
        heading = _Heading(company, replace(recipient, preferences_token=None))
        name = message_id(turn.recipient_id, number, self._mail_from)
        attempts = await connection.fetchval(
            _WRITE,
            *turn.key,
            number,
            self._channel.value,
            name,
            recipient.address,
            letter.occasion.value,
            _json(heading),
            _json(letter),
            written.told,
            written.ended,
            made.urgent,
            at,
        )
        await connection.execute(_LEASE, *turn.key, self._holder, at + self._lease)
        return Leased(
            company=company,
            recipient=recipient,
            number=number,
            message_id=name,
            letter=letter,
            attempts=attempts,
            tries=turn.attempts + 1,
            urgent=made.urgent,
        )


async def forget(pool: Pool, at: datetime) -> None:
    """Drop what has ended long ago, of all channels."""
    for statement in _FORGET:
        await pool.execute(statement, at - FORGET)


def _json(value: Struct) -> str:
    return msgspec.json.encode(value).decode()


def _policy(row: Mapping[str, Any]) -> Policy:
    return Policy(**{name: row[name] for name in Policy.__struct_fields__})


def _company(turn: _Turn, row: Mapping[str, Any]) -> Company:
    return Company(company_id=turn.company_id, name=row["company_name"], time_zone=row["time_zone"])


def _recipient(turn: _Turn, row: Mapping[str, Any]) -> Recipient:
    return Recipient(
        recipient_id=turn.recipient_id,
        name=row["name"],
        address=row["address"],
        language=row["language"],
        preferences_token=row["preferences_token"],
    )
