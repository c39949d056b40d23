"""What `reconcal status` knows of the notifier: who waits to be told, what keeps them from it, who has nobody."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct

from schemas.flags import RECORD_KINDS, THRESHOLDS, Kind
from services.companies import incidents
from services.companies.incidents import EVERYBODYS, Incident
from services.notifier import grouping
from services.notifier.measure import NOBODY, WAITING
from services.notifier.ports import TroubleKind
from services.plumbing.postgres import Connection

#: Letters of so long are counted.
LATELY: Final = timedelta(hours=24)
#: A turn is taken within seconds; one that was due so long ago waits for a notifier. A flag likewise.
OVERDUE: Final = timedelta(minutes=5)
#: A server that puts a mail off once (greylisting) is well; one that does it for so long is not.
PUT_OFF_LONG: Final = timedelta(minutes=15)
#: A mail server that was not tried for so long may be well again.
UNTRIED: Final = timedelta(hours=1)
#: Of each list so many are known, and of them so many lines are shown; the worst come first, the rest is counted.
KNOWN_MAX, SHOWN_MAX = 100, 5

_MEND_ADDRESS: Final = (
    "mend it by `reconcal companies contacts set ID EMAIL --deliver-again` once its server takes mail, or with "
    "`--email NEW` where it is the wrong address"
)
_SINCE: Final = "%Y-%m-%d %H:%M UTC"

_LETTERS: Final = """
SELECT channel, state, count(*) AS count FROM letters WHERE created_at > $1 GROUP BY 1, 2 ORDER BY 1, 2"""

#: What is due; and `overdue`: it was due long ago, nothing has kept it from going out, and nobody is at it.
_WAITING: Final = f"""
SELECT count(*) AS recipients, min(since) AS since,
  count(*) FILTER (WHERE since < $2 AND last_error IS NULL AND being_told IS NOT TRUE) AS overdue
FROM ({WAITING}) AS w"""  # noqa: S608 - constants, here and below
_PUT_OFF: Final = f"""
SELECT channel, last_error AS reason, count(*) AS recipients, min(since) AS since
FROM ({WAITING}) AS w WHERE last_error IS NOT NULL
GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"""  # noqa: S608

#: Flags that are open, and that no notifier has taken in.
_UNTAKEN: Final = """
SELECT count(*) FROM flags f WHERE raised_at BETWEEN $1 AND $2 AND resolved_at IS NULL
  AND NOT EXISTS (SELECT FROM seen_flags s WHERE s.company_id = f.company_id AND s.ce_id = f.flag_id)"""

_REFUSED: Final = """
SELECT company_id, email, suppressed_at AS since, coalesce(suppressed_reason, '') AS reason
FROM contacts JOIN companies USING (company_id)
WHERE suppressed_at IS NOT NULL AND role <> 'viewer' AND removed_at IS NULL
ORDER BY suppressed_at DESC, company_id, email"""

_ENDPOINTS: Final = """
SELECT company_id, endpoint_id, format, host, failing_since, disabled_at AS off_since,
  coalesce(disabled_reason, last_error, '') AS reason,
  (SELECT count(*) FROM endpoint_messages m
    WHERE m.company_id = e.company_id AND m.endpoint_id = e.endpoint_id AND m.state = 'waiting') AS waiting
FROM endpoints e JOIN companies c USING (company_id)
WHERE (failing_since IS NOT NULL OR disabled_at IS NOT NULL) AND removed_at IS NULL
ORDER BY disabled_at IS NULL, failing_since, company_id, host"""

#: `people`: admins and managers, whatever keeps mail from them. Those with open flags come first.
_NOBODY: Final = f"""
SELECT c.company_id, k.people, k.refused, (
  SELECT count(*) FROM flags f WHERE f.company_id = c.company_id AND f.resolved_at IS NULL) AS open_flags
FROM companies c CROSS JOIN LATERAL (
  SELECT count(*) AS people, count(suppressed_at) AS refused FROM contacts k
  WHERE k.company_id = c.company_id AND k.role <> 'viewer') k
WHERE {NOBODY} ORDER BY open_flags DESC, company_id"""  # noqa: S608

#: Open alerts that somebody would have been told of, of companies with an open cause.
_UNTOLD: Final = """
SELECT a.company_id, a.kind, a.verified, count(*) AS count,
  (SELECT array_agg(DISTINCT kind) FROM alerts c
    WHERE c.company_id = a.company_id AND c.resolved_at IS NULL AND c.kind = ANY($1::text[])) AS causes
FROM alerts a
WHERE a.resolved_at IS NULL AND a.company_id IN (
    SELECT company_id FROM alerts WHERE resolved_at IS NULL AND kind = ANY($1::text[]))
  AND NOT EXISTS (SELECT FROM tellings t WHERE t.company_id = a.company_id AND t.flag_id = a.flag_id)
GROUP BY 1, 2, 3"""

_THRESHOLDS: Final = """
SELECT company_id, kind, raised_at AS since, (body->'measured'->>'value')::double precision AS value,
  (body->'measured'->>'limit')::double precision AS limit
FROM flags WHERE resolved_at IS NULL AND kind = ANY($1::text[]) ORDER BY raised_at, company_id, kind"""


class Letters(Struct, frozen=True):
    """Letters of the last day, of one channel and state."""

    channel: str
    state: str
    count: int


class PutOff(Struct, frozen=True):
    """Why letters were not taken the last time, in the server's words; they are tried again."""

    channel: str
    reason: str
    recipients: int
    since: datetime | None


class Refused(Struct, frozen=True):
    """An address of an admin or manager that refuses mail for good."""

    company_id: str
    email: str
    since: datetime
    reason: str


class Failing(Struct, frozen=True, kw_only=True):
    """An endpoint that does not take what it is sent; off where `off_since` is given. `waiting`: signed webhooks."""

    company_id: str
    endpoint_id: UUID
    format: str
    host: str
    failing_since: datetime | None
    off_since: datetime | None
    reason: str
    waiting: int


class Nobody(Struct, frozen=True, kw_only=True):
    """A company that nobody is told of. `people`: its admins and managers, `refused` of them refuse mail."""

    company_id: str
    people: int
    refused: int
    open_flags: int


class Held(Struct, frozen=True, kw_only=True):
    """What is not mailed one by one while its cause lasts: how many, by kind, of how many companies."""

    cause: str
    companies: int
    kinds: dict[str, int]


class Crossed(Struct, frozen=True, kw_only=True):
    """A threshold beyond which a company is."""

    company_id: str
    kind: str
    since: datetime
    value: float | None
    limit: float | None


class Notifying(Struct, kw_only=True):
    """The notifier's part of the picture. The lists have KNOWN_MAX entries at most; `more` counts the rest.

    `nobody_with_flags`: how many companies of `nobody` have open flags; they come first.
    """

    letters: list[Letters] = []
    waiting: int = 0
    waiting_since: datetime | None = None
    overdue: int = 0
    untaken_flags: int = 0
    put_off: list[PutOff] = []
    mail_server: list[Incident] = []
    refused: list[Refused] = []
    endpoints: list[Failing] = []
    nobody: list[Nobody] = []
    nobody_with_flags: int = 0
    held: list[Held] = []
    thresholds: list[Crossed] = []
    more: dict[str, int] = {}


async def look(connection: Connection, now: datetime) -> Notifying:
    """Look at the notifier's tables."""
    waiting = await connection.fetchrow(_WAITING, now, now - OVERDUE)
    assert waiting is not None  # noqa: S101 - aggregates have a row
    found = Notifying(
        letters=[Letters(**dict(row)) for row in await connection.fetch(_LETTERS, now - LATELY)],
        waiting=waiting["recipients"],
        waiting_since=waiting["since"],
        overdue=waiting["overdue"],
        untaken_flags=await connection.fetchval(_UNTAKEN, now - LATELY, now - OVERDUE),
        put_off=[PutOff(**dict(row)) for row in await connection.fetch(_PUT_OFF, now)],
        mail_server=[one for one in await incidents.every(connection) if one.company_id == EVERYBODYS],
        refused=[Refused(**dict(row)) for row in await connection.fetch(_REFUSED)],
        endpoints=[Failing(**dict(row)) for row in await connection.fetch(_ENDPOINTS)],
        nobody=[Nobody(**dict(row)) for row in await connection.fetch(_NOBODY)],
        held=await _held(connection),
        thresholds=[Crossed(**dict(row)) for row in await connection.fetch(_THRESHOLDS, list(THRESHOLDS))],
    )
    found.nobody_with_flags = sum(1 for one in found.nobody if one.open_flags)
    found.mail_server.sort(key=lambda one: one.last_seen_at, reverse=True)
    _cut(found)
    return found


def _cut(found: Notifying) -> None:
    for name in ("put_off", "refused", "endpoints", "nobody", "thresholds"):
        known = getattr(found, name)
        if len(known) > KNOWN_MAX:
            found.more[name] = len(known) - KNOWN_MAX
            del known[KNOWN_MAX:]


async def _held(connection: Connection) -> list[Held]:
    """Say what waits for which cause, by the rule by which the notifier holds it back."""
    kinds: dict[Kind, Counter[str]] = {cause: Counter() for cause in grouping.CAUSES}
    companies: dict[Kind, set[str]] = {cause: set() for cause in grouping.CAUSES}
    for row in await connection.fetch(_UNTOLD, list(grouping.CAUSES)):
        for cause in (Kind(kind) for kind in row["causes"]):
            held = grouping.held_by({cause})
            unverified = held.unverified and not row["verified"] and row["kind"] in RECORD_KINDS
            if row["kind"] in held.kinds or unverified:
                kinds[cause][row["kind"]] += row["count"]
                companies[cause].add(row["company_id"])
                break
    return [
        Held(cause=cause, companies=len(companies[cause]), kinds=dict(kinds[cause].most_common()))
        for cause in grouping.CAUSES
        if kinds[cause]
    ]


def judge(notifying: Notifying, now: datetime) -> list[str]:
    """Say what is wrong with the notifier: what keeps people from being told."""
    troubles = [
        f"mails do not go out: {one.detail}{_untried(one, now)}"
        for one in notifying.mail_server
        if one.kind != TroubleKind.SMTP_PUTS_OFF or one.last_seen_at - one.opened_at > PUT_OFF_LONG
    ]
    minutes = int(OVERDUE.total_seconds() / 60)
    overdue = 0 if notifying.mail_server else notifying.overdue  # they wait for one that is tried, and rightly
    if overdue or notifying.untaken_flags:
        what = [(notifying.untaken_flags, "flag"), (overdue, "recipient")]
        named = " and ".join(_counted(count, name) for count, name in what if count)
        troubles.append(f"{named} waiting for the notifier for more than {minutes} minutes: is one running?")
    if count := notifying.nobody_with_flags:
        troubles.append(
            f"{_companies(notifying.nobody, count)} open flags and nobody to tell: `reconcal companies contacts add`"
        )
    off = [one for one in notifying.endpoints if one.off_since is not None]
    if off:
        troubles.append(
            f"{_counted(len(off), 'endpoint')} off: `reconcal companies endpoints --company COMPANY enable ID`"
        )
    return troubles


def _companies(nobody: Sequence[Nobody], count: int) -> str:
    """Name the first of so many."""
    names = [one.company_id for one in nobody[: min(count, SHOWN_MAX)]]
    rest = count - len(names)
    return ", ".join(names) + (f" and {rest} more companies have" if rest else " has" if len(names) == 1 else " have")


def lines(notifying: Notifying, now: datetime) -> list[tuple[str, str]]:
    """Give it for people: what, and what is to be said of it."""
    sent = ", ".join(f"{one.count} {one.channel} {one.state}" for one in notifying.letters)
    told = [("Letters", f"{sent} in 24 hours" if sent else "none in 24 hours")]
    if notifying.waiting:
        since = notifying.waiting_since
        age = "" if since is None else f", the oldest for {max(0.0, (now - since).total_seconds()):.0f} s"
        told.append(("Waiting", f"{_counted(notifying.waiting, 'recipient')} to be told{age}"))
    told += [("Mail server", _mail_server(one, now)) for one in notifying.mail_server]
    more = notifying.more
    told += _list("Put off", [_put_off(one) for one in notifying.put_off], more.get("put_off", 0))
    told += _list("Refused", [_refused(one) for one in notifying.refused], more.get("refused", 0))
    if notifying.refused:
        told.append(("Refused", _MEND_ADDRESS))
    told += _list("Endpoint", [_endpoint(one) for one in notifying.endpoints], more.get("endpoints", 0))
    told += _list("Nobody told", [_nobody(one) for one in notifying.nobody], more.get("nobody", 0))
    told += [("Held back", _held_back(one)) for one in notifying.held]
    told += _list("Threshold", [_threshold(one) for one in notifying.thresholds], more.get("thresholds", 0))
    return told


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def _list(what: str, said: list[str], more: int) -> list[tuple[str, str]]:
    rest = len(said) - SHOWN_MAX + more
    shown = [(what, one) for one in said[:SHOWN_MAX]]
    return [*shown, (what, f"and {rest} more; --json has them")] if rest > 0 else shown


def _mail_server(one: Incident, now: datetime) -> str:
    seen = f"Since {one.opened_at:{_SINCE}}, last at {one.last_seen_at:%H:%M:%S}."
    return f"{one.detail} {seen}{_untried(one, now)}"


def _untried(one: Incident, now: datetime) -> str:
    """Nothing had to be sent since: whoever has mended it may try it."""
    return (
        ""
        if one.last_seen_at > now - UNTRIED
        else " Not tried since: `reconcal notify test --company ID --to EMAIL` shows whether it works."
    )


def _put_off(one: PutOff) -> str:
    since = "" if one.since is None else f", the oldest since {one.since:{_SINCE}}"
    return f"{_counted(one.recipients, 'recipient')} by {one.channel}{since}: {one.reason}"


def _refused(one: Refused) -> str:
    return f"{one.company_id}: {one.email} since {one.since:{_SINCE}}: {one.reason or 'no reason was given'}"


def _endpoint(one: Failing) -> str:
    name = f"{one.company_id}: {one.host} ({one.format})"
    if one.off_since is not None:
        return (
            f"{name} has been off since {one.off_since:{_SINCE}}: {one.reason}."
            f" Once it works: `reconcal companies endpoints --company {one.company_id} enable {one.endpoint_id}`"
        )
    waiting = f"; {_counted(one.waiting, 'message')} waiting" if one.waiting else ""
    return f"{name} has failed since {one.failing_since or one.off_since:{_SINCE}}{waiting}: {one.reason}"


def _nobody(one: Nobody) -> str:
    if not one.people:
        why = "it has no admin and no manager"
    elif one.refused == one.people:
        why = "the addresses of all its admins and managers refuse mail"
    else:
        why = "its admins and managers get no mail: refused, or not wanted"
    return f"{one.company_id}: {why}; {_counted(one.open_flags, 'flag')} open"


def _held_back(one: Held) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in one.kinds.items())
    return (
        f"{kinds}: not mailed one by one while {one.cause} is open ({_counted(one.companies, 'company', 'companies')})"
    )


def _threshold(one: Crossed) -> str:
    unit = " %" if one.kind == Kind.SYNC_SUCCESS else ""
    figures = "" if one.value is None or one.limit is None else f" {one.value:g}{unit}, limit {one.limit:g}{unit},"
    return f"{one.company_id}: {one.kind}{figures} since {one.since:{_SINCE}}"
