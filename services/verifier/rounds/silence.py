"""Whether Cal.com still tells us of bookings: what its API says of our webhook, and what came by none. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from schemas.flags import Flag, FlagType, Kind, Why, company_flag
from schemas.triggers import TRIGGERS
from services.verifier.answers import Webhook

#: Polls that are looked at for bookings that no webhook told of.
RECENT: Final = timedelta(hours=1)
_LEAST_UNSEEN: Final = 3


class State(StrEnum):
    """What is known of a company's webhook: `webhook_checks.state`."""

    WELL = "well"
    ELSEWHERE = "elsewhere"  # not among the key's own, and yet webhooks come: of an event type, team or organisation
    MISSING = "missing"
    INACTIVE = "inactive"
    TRIGGERS = "triggers"
    TEMPLATE = "template"
    UNSEEN = "unseen"  # by Cal.com's word it is well, and yet bookings come by none
    NO_ADDRESS = "no_address"  # nobody said how Cal.com reaches us: only bookings that came by no webhook tell
    NO_KEY = "no_key"  # Cal.com cannot be asked any more: what it had said is over
    NOT_ASKED = "not_asked"  # Cal.com did not answer: nothing is concluded


_SAID_BY_API: Final = frozenset({State.MISSING, State.INACTIVE, State.TRIGGERS, State.TEMPLATE})
_WRONG: Final = _SAID_BY_API | {State.UNSEEN}
_OURS_WAS_THERE: Final = frozenset({State.WELL, State.INACTIVE, State.TRIGGERS, State.TEMPLATE})
#: A webhook of this time says that webhooks come.
_LATELY: Final = timedelta(days=1)
#: What was sent before a silence began may arrive so much later.
_ON_ITS_WAY: Final = timedelta(minutes=10)


class Looked(Struct, frozen=True):
    """What was found; `detail` is a sentence for people. `webhook`: ours, the best of them, if there is one."""

    state: State
    detail: str
    webhook: Webhook | None = None

    @property
    def wrong(self) -> bool:
        """Tell whether something has to be mended at Cal.com."""
        return self.state in _WRONG


#: Of a company without a key nothing can be known.
KEYLESS: Final = Looked(State.NO_KEY, "There is no API key any more: whether webhooks come, nobody can say.")


class Sample(Struct, frozen=True, array_like=True):
    """Of one poll: bookings made lately that it had found, and how many of them no webhook had told of."""

    at: datetime
    judged: int
    unseen: int


class Known(Struct, frozen=True, kw_only=True):
    """What was known before a look. `state`: as Cal.com last said; `cause`: why the flag that is open was raised."""

    state: State | None = None
    cause: State | None = None
    silent_since: datetime | None = None
    generation: int = 0
    recent: tuple[Sample, ...] = ()
    webhook_at: datetime | None = None  # when the last webhook came, if that was lately


class Outcome(Struct, frozen=True):
    """What a look came to. `flag`: to be raised, or that ends the open one; `silent_since` and `generation` then."""

    looked: Looked
    flag: Flag | None
    silent_since: datetime | None
    generation: int


def webhook_url(public_url: str, company_id: str) -> str | None:
    """Give the address of a company's door for Cal.com; None: nobody said how it is reached."""
    return f"{public_url.rstrip('/')}/webhooks/calcom/{company_id}" if urlsplit(public_url).hostname else None


def subscriber_url(public_url: str, company_id: str) -> str | None:
    """Give the address that Cal.com has to post to; None: nobody said how it reaches us, or it is this machine."""
    host = urlsplit(public_url).hostname
    return None if host is None or _is_this_machine(host) else webhook_url(public_url, company_id)


def look(webhooks: Sequence[Webhook], url: str) -> Looked:
    """Judge what Cal.com has registered for our address; of several the best counts."""
    ours = [_judge(webhook) for webhook in webhooks if webhook.subscriber_url.rstrip("/") == url.rstrip("/")]
    missing = Looked(State.MISSING, f"Cal.com has no webhook to {url} among those of the API key.")
    return min(ours, key=lambda found: _GRAVITY.index(found.state), default=missing)


_GRAVITY: Final = (State.WELL, State.TRIGGERS, State.TEMPLATE, State.INACTIVE)


def _judge(webhook: Webhook) -> Looked:
    lacking = [name for name in TRIGGERS if name not in webhook.triggers]
    if not webhook.active:
        return Looked(State.INACTIVE, "Our webhook at Cal.com is switched off.", webhook)
    if webhook.has_template:
        said = "Our webhook at Cal.com has a payload template, so that its bodies cannot be read."
        return Looked(State.TEMPLATE, said, webhook)
    if lacking:
        return Looked(State.TRIGGERS, f"Our webhook at Cal.com lacks the triggers {', '.join(lacking)}.", webhook)
    return Looked(State.WELL, "Our webhook at Cal.com is active and complete.", webhook)


def remember(recent: Sequence[Sample], sample: Sample) -> tuple[Sample, ...]:
    """Add what a poll found, and forget what is older than an hour; a poll without new bookings tells nothing."""
    kept = [one for one in recent if sample.at - one.at < RECENT]
    return (*kept, sample) if sample.judged else tuple(kept)


def many_unseen(recent: Sequence[Sample], now: datetime) -> bool:
    """Tell whether webhooks stay away: at least three, and at least half of the new bookings of the last hour."""
    judged, unseen = _sum(recent, now)
    return unseen >= _LEAST_UNSEEN and unseen * 2 >= judged


def heard(recent: Sequence[Sample], now: datetime) -> bool:
    """Tell whether webhooks come: of the last poll that had found new bookings, more than half were told of by one."""
    last = next((one for one in reversed(recent) if now - one.at < RECENT), None)
    return last is not None and last.unseen * 2 < last.judged


def conclude(looked: Looked, known: Known, now: datetime) -> Looked:
    """Bring both together: what the API says, and what bookings came by."""
    if looked.state is State.MISSING and _comes_from_elsewhere(known, now):
        said = "webhooks do come: it is registered at an event type, a team or the organisation."
        return Looked(State.ELSEWHERE, f"{looked.detail[:-1]}, and yet {said}")
    if looked.wrong or not many_unseen(known.recent, now):
        return looked
    judged, unseen = _sum(known.recent, now)
    count = f"Of {judged} new bookings of the last hour {unseen} came by no webhook."
    hint = "Cal.com says that our webhook is active: see whether its secret is ours."
    return Looked(State.UNSEEN, f"{count} {hint if looked.state is State.WELL else looked.detail}")


def weigh(company_id: str, known: Known, looked: Looked, now: datetime) -> Outcome:
    """Decide what a look comes to."""
    mended = known.cause in _SAID_BY_API and looked.state is State.WELL
    known = replace(known, recent=()) if mended else known  # what came by no webhook then tells nothing of it now
    looked = looked if looked.state is State.NO_KEY else conclude(looked, known, now)
    if known.silent_since is None:
        if not looked.wrong:
            return Outcome(looked, None, None, known.generation)
        generation = known.generation + 1
        return Outcome(looked, _silent(company_id, generation, looked, now), now, generation)
    if _ended(looked, known, now):
        return Outcome(looked, _resolved(company_id, known.generation, looked, now), None, known.generation)
    return Outcome(looked, None, known.silent_since, known.generation)


def _comes_from_elsewhere(known: Known, now: datetime) -> bool:
    """Tell whether webhooks come that the key's own list does not have; where it had ours before, ours is gone."""
    if known.state in _OURS_WAS_THERE or many_unseen(known.recent, now):
        return False
    since = now - _LATELY if known.silent_since is None else known.silent_since + _ON_ITS_WAY
    return heard(known.recent, now) or (known.webhook_at is not None and known.webhook_at > since)


def _ended(looked: Looked, known: Known, now: datetime) -> bool:
    """Tell whether a silence is over.

    What Cal.com's API had said is over when the API says otherwise; that bookings came by no webhook is over when some
    come by one.
    """
    if looked.state is State.NO_KEY:
        return True
    if looked.wrong or looked.state is State.NOT_ASKED:
        return False
    return looked.state is not State.NO_ADDRESS if known.cause in _SAID_BY_API else heard(known.recent, now)


def _silent(company_id: str, generation: int, looked: Looked, now: datetime) -> Flag:
    return _flag(company_id, generation, FlagType.WEBHOOK_SILENT, looked, now)


def _resolved(company_id: str, generation: int, looked: Looked, now: datetime) -> Flag:
    return _flag(company_id, generation, FlagType.RESOLVED, looked, now)


def _flag(company_id: str, generation: int, kind: FlagType, looked: Looked, now: datetime) -> Flag:
    why = Why(note=looked.state.value)
    return company_flag(company_id, Kind.WEBHOOK_SILENT, generation, kind, now, reason=looked.detail, why=why)


def _sum(recent: Sequence[Sample], now: datetime) -> tuple[int, int]:
    kept = [one for one in recent if now - one.at < RECENT]
    return sum(one.judged for one in kept), sum(one.unseen for one in kept)


def _is_this_machine(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified
