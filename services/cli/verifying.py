"""What `reconcal status` knows of the verifier: what waits to be asked, what keeps it from asking, and its rounds."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec import Struct

from services.plumbing.postgres import Connection

#: A question that was to be asked so long ago, of a company without an incident, waits for a verifier.
OVERDUE: Final = timedelta(minutes=5)
#: Whoever runs the sweeps begins them within seconds.
NOT_BEGUN: Final = timedelta(minutes=10)
#: A poll that is so many times later than it should be.
LATE_POLLS: Final = 3
#: Lines of each list; the worst come first, the rest is counted.
SHOWN_MAX: Final = 20

_PRIORITIES: Final = ("human", "deadline", "sweep")

#: Questions by priority. Overdue: nobody asks, and the company has no incident that says why.
_QUESTIONS: Final = """
SELECT priority, count(*) AS waiting, count(*) FILTER (WHERE not_before > $1) AS put_off,
  count(*) FILTER (WHERE leased_until > $1) AS being_asked, min(created_at) AS oldest_at,
  count(*) FILTER (WHERE not_before < $2 AND (leased_until IS NULL OR leased_until <= $1)
    AND NOT EXISTS (SELECT FROM incidents i WHERE i.company_id = v.company_id AND i.kind ^@ 'calcom_')) AS overdue
FROM verifications v GROUP BY priority ORDER BY priority"""

#: Keys that nobody may ask with now; the key itself is nowhere.
_BLOCKS: Final = """
SELECT left(budget_id, 8) AS budget, failures,
  CASE WHEN blocked_until > $1 THEN 'limited' WHEN opened_at IS NOT NULL THEN 'breaker' ELSE 'unauthorised' END
    AS reason,
  CASE WHEN blocked_until > $1 THEN blocked_until ELSE coalesce(opened_at, refused_at) END AS at
FROM api_budgets WHERE blocked_until > $1 OR opened_at IS NOT NULL OR refused_at IS NOT NULL ORDER BY at"""

#: Companies whose key counts, and when they were polled last; late ones and those with an error first.
_POLLS: Final = """
SELECT company_id, polled_at, cursor_at, rows_seen, unseen, error,
  coalesce(polled_at, began_at) < $2 AND NOT EXISTS (
    SELECT FROM incidents i WHERE i.company_id = p.company_id AND i.kind ^@ 'calcom_') AS late
FROM api_polls p WHERE EXISTS (SELECT FROM company_secrets s JOIN companies c USING (company_id)
  WHERE s.company_id = p.company_id AND purpose = 'calcom_api_key' AND (expires_at IS NULL OR expires_at > $1)
    AND c.removed_at IS NULL)
ORDER BY error IS NULL, coalesce(polled_at, began_at), company_id"""

_SWEEPS: Final = """
SELECT company_id, kind, requested_at, requested_by, started_at, found, asked FROM sweeps
WHERE finished_at IS NULL ORDER BY started_at IS NULL, requested_at"""
_BACKFILLS: Final = """
SELECT company_id, since, cursor_at, rows_seen, error FROM backfills WHERE finished_at IS NULL ORDER BY requested_at"""
_SILENT: Final = """
SELECT company_id, state, detail, silent_since FROM webhook_checks
WHERE silent_since IS NOT NULL ORDER BY silent_since"""


class Questions(Struct, frozen=True, kw_only=True):
    """What Cal.com is to be asked, of one priority. `put_off`: it is to be asked later."""

    priority: str
    waiting: int
    put_off: int
    being_asked: int
    overdue: int
    oldest_age_seconds: float


class Block(Struct, frozen=True, kw_only=True):
    """A key that nobody may ask with. `budget` begins its hash.

    `at`: until when it is blocked where Cal.com limits it, else since when.
    """

    budget: str
    reason: str  # "limited", "breaker", "unauthorised"
    at: datetime
    failures: int


class Poll(Struct, frozen=True, kw_only=True):
    """How far a company's changes were read. `unseen`: bookings that came by no webhook, ever."""

    company_id: str
    age_seconds: float | None  # None: never yet
    cursor_at: datetime | None
    rows_seen: int
    unseen: int
    error: str | None
    late: bool


class Sweep(Struct, frozen=True, kw_only=True):
    """A round of asking again that is not over; for all companies where `company_id` is empty."""

    company_id: str
    kind: str
    requested_at: datetime
    requested_by: str
    started_at: datetime | None
    found: int
    asked: int


class Backfill(Struct, frozen=True, kw_only=True):
    """A loading of the past that is not over."""

    company_id: str
    since: datetime
    cursor_at: datetime | None
    rows_seen: int
    error: str | None


class Silent(Struct, frozen=True, kw_only=True):
    """A company whose webhook at Cal.com tells us nothing."""

    company_id: str
    state: str
    detail: str
    silent_since: datetime


class Verifying(Struct, kw_only=True):
    """The verifier's part of the picture. `polled` counts companies; `polls` are the worst of them."""

    questions: list[Questions] = []
    blocks: list[Block] = []
    polled: int = 0
    polls_late: int = 0
    polls: list[Poll] = []
    sweeps: list[Sweep] = []
    backfills: list[Backfill] = []
    silent: list[Silent] = []


async def look(connection: Connection, now: datetime, poll_seconds: float) -> Verifying:
    """Look at the verifier's tables. `poll_seconds`: how often companies are to be polled."""
    late = now - timedelta(seconds=LATE_POLLS * poll_seconds)
    polls = [_poll(row, now) for row in await connection.fetch(_POLLS, now, late)]
    return Verifying(
        questions=[_questions(row, now) for row in await connection.fetch(_QUESTIONS, now, now - OVERDUE)],
        blocks=[Block(**dict(row)) for row in await connection.fetch(_BLOCKS, now)],
        polled=len(polls),
        polls_late=sum(poll.late for poll in polls),
        polls=polls[:SHOWN_MAX],
        sweeps=[Sweep(**dict(row)) for row in await connection.fetch(_SWEEPS)],
        backfills=[Backfill(**dict(row)) for row in await connection.fetch(_BACKFILLS)],
        silent=[Silent(**dict(row)) for row in await connection.fetch(_SILENT)],
    )


def judge(verifying: Verifying, now: datetime) -> list[str]:
    """Say what is wrong with the verifier. What a company's admin has to mend is an incident, no trouble of ours."""
    troubles = []
    overdue = sum(one.overdue for one in verifying.questions)
    if overdue:
        minutes = int(OVERDUE.total_seconds() / 60)
        troubles.append(f"{overdue} questions to Cal.com wait for more than {minutes} minutes: is a verifier running?")
    idle = [sweep for sweep in verifying.sweeps if sweep.started_at is None and sweep.requested_at < now - NOT_BEGUN]
    if idle and not any(sweep.started_at for sweep in verifying.sweeps):
        troubles.append(f"{len(idle)} sweeps have not begun: is a verifier running?")
    if verifying.polls_late:
        troubles.append(f"{verifying.polls_late} companies were not polled for long: is a verifier running?")
    return troubles


def lines(verifying: Verifying) -> list[tuple[str, str]]:
    """Give it for people: what, and what is to be said of it."""
    told = [("Questions", ", ".join(_said_of(one) for one in verifying.questions) or "none")]
    told += [("Blocked key", _block(block)) for block in verifying.blocks]
    if verifying.polled:
        oldest = max((poll.age_seconds or 0 for poll in verifying.polls), default=0)
        told.append(("Polls", f"{verifying.polled} polled, the oldest {oldest:.0f} s ago, {verifying.polls_late} late"))
    told += [("Poll", f"{poll.company_id}: {poll.error}") for poll in verifying.polls if poll.error]
    told += [("Sweep", _sweep(one)) for one in verifying.sweeps]
    told += [("Backfill", _backfill(one)) for one in verifying.backfills]
    told += [
        ("Silent", f"{one.company_id}: {one.detail} Since {one.silent_since:%Y-%m-%d %H:%M:%S} UTC.")
        for one in verifying.silent
    ]
    return told


def _said_of(one: Questions) -> str:
    more = [f"{n} {what}" for n, what in ((one.being_asked, "being asked"), (one.put_off, "later")) if n]
    return f"{one.waiting} {one.priority} ({', '.join([*more, f'oldest {one.oldest_age_seconds:.0f} s'])})"


def _block(one: Block) -> str:
    when = "until" if one.reason == "limited" else "since"
    return f"{one.budget}…: {one.reason} {when} {one.at:%Y-%m-%d %H:%M:%S} UTC, {one.failures} failures in a row"


def _sweep(one: Sweep) -> str:
    whose = one.company_id or "all companies"
    if one.started_at is None:
        return f"{one.kind} of {whose}, by {one.requested_by}: not begun"
    return f"{one.kind} of {whose}, by {one.requested_by}: {one.asked} of {one.found} records"


def _backfill(one: Backfill) -> str:
    reached = f"up to {one.cursor_at:%Y-%m-%d}" if one.cursor_at else "not begun"
    return f"{one.company_id} from {one.since:%Y-%m-%d}: {reached}, {one.rows_seen} bookings" + (
        f"; {one.error}" if one.error else ""
    )


def _questions(row: Mapping[str, Any], now: datetime) -> Questions:
    return Questions(
        priority=_PRIORITIES[row["priority"]],
        waiting=row["waiting"],
        put_off=row["put_off"],
        being_asked=row["being_asked"],
        overdue=row["overdue"],
        oldest_age_seconds=max(0.0, (now - row["oldest_at"]).total_seconds()),
    )


def _poll(row: Mapping[str, Any], now: datetime) -> Poll:
    polled_at = row["polled_at"]
    age_seconds = None if polled_at is None else max(0.0, (now - polled_at).total_seconds())
    return Poll(age_seconds=age_seconds, **{name: value for name, value in dict(row).items() if name != "polled_at"})
