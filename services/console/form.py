"""The form of the preferences: what was typed, and what it means. Pure."""

import re
from collections.abc import Mapping, Sequence
from datetime import time
from typing import Final, TypeVar
from urllib.parse import parse_qs

from msgspec import Struct

from schemas.flags import Kind
from services.companies.model import Delivery, Language
from services.companies.preferences import Preferences
from services.words.tongue import mark

#: Fields of a form; a program that sends more is no browser with our page.
MOST_FIELDS: Final = 100
#: Of a field that is shown again.
_LONGEST: Final = 20
_TIME: Final = re.compile(r"\s*(\d{1,2})[:.](\d{2})(?::\d{2}(?:\.\d+)?)?\s*", re.ASCII)
_KINDS: Final = frozenset(kind.value for kind in Kind)

E = TypeVar("E", Delivery, Language)


class UnreadableError(Exception):
    """The body is no form."""


class Typed(Struct, frozen=True, kw_only=True):
    """What the fields have in them, right or wrong. `kinds`: the boxes with a mark, of those `shown`."""

    delivery: str
    daily_at: str
    kinds: frozenset[str]
    shown: frozenset[str]
    language: str


class Choice(Struct, frozen=True, kw_only=True):
    """What was chosen."""

    delivery: Delivery
    daily_at: time
    muted_kinds: frozenset[str]
    language: Language


def parse(body: bytes) -> Typed:
    """Read a form as browsers send it, `application/x-www-form-urlencoded`. Raises UnreadableError."""
    try:
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        raise UnreadableError from None
    return Typed(
        delivery=_one(fields, "delivery"),
        daily_at=_one(fields, "daily_at"),
        kinds=frozenset(fields.get("kinds", ())) & _KINDS,
        shown=frozenset(fields.get("shown", ())) & _KINDS,
        language=_one(fields, "language"),
    )


def typed(known: Preferences) -> Typed:
    """Give the fields as they stand before anybody has typed."""
    return Typed(
        delivery=known.delivery.value,
        daily_at=f"{known.daily_at:%H:%M}",
        kinds=_KINDS - known.muted_kinds,
        shown=_KINDS,
        language=known.language.value,
    )


def choose(given: Typed, known: Preferences) -> Choice | dict[str, str]:
    """Give what was chosen, or what is wrong: a message (English, to be translated) for each field that is.

    Kinds that the page did not show stay as they are: a newer program may know more of them.
    """
    faults: dict[str, str] = {}
    delivery = _among(Delivery, given.delivery)
    if delivery is None:
        faults["delivery"] = mark("Choose when you want emails.")
    daily_at = _time(given.daily_at)
    if daily_at is None:
        daily_at = known.daily_at
        if given.daily_at.strip() or delivery is Delivery.DAILY:
            faults["daily_at"] = mark("Give a time of day, like 08:00.")
    if delivery is not Delivery.NONE and not given.kinds:
        faults["kinds"] = mark("Choose at least one, or choose “No emails” above.")
    language = _among(Language, given.language)
    if language is None:
        faults["language"] = mark("Choose a language.")
    if faults or delivery is None or language is None:
        return faults
    muted = (known.muted_kinds - given.shown) | (given.shown - given.kinds)
    return Choice(delivery=delivery, daily_at=daily_at, muted_kinds=muted, language=language)


def _one(fields: Mapping[str, Sequence[str]], name: str) -> str:
    """Give a field, cut: it goes back into the page."""
    return fields.get(name, ("",))[-1][:_LONGEST]


def _among(kinds: type[E], given: str) -> E | None:
    try:
        return kinds(given)
    except ValueError:
        return None


def _time(given: str) -> time | None:
    """Read 8:00, 08.00 and, as some browsers send it, 08:00:00."""
    found = _TIME.fullmatch(given)
    if found is None:
        return None
    hour, minute = int(found[1]), int(found[2])
    return time(hour, minute) if hour < 24 and minute < 60 else None  # noqa: PLR2004 - a clock's
