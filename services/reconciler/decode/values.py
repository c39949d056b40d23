"""What all bodies have in common: instants in UTC, numbers that fit, text that can be stored, errors in plain words."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from services.reconciler.decode.outcomes import Undecodable

#: Years that leave room for any offset, tolerance or time zone around them.
FIRST_YEAR: Final = 1900
LAST_YEAR: Final = 9998
#: PostgreSQL's bigint.
BIGINT_MAX: Final = 2**63 - 1

_canonical: Final = msgspec.json.Encoder(order="sorted")

_ECHOED_VALUE: Final = re.compile(r" '.*'", re.DOTALL)
_HALF_PAIR: Final = re.compile("[\ud800-\udfff]")
_TWO_OBJECTS: Final = re.compile(rb"\}\s*\{")
#: Times that ISO 8601 knows and `fromisoformat` does not: a leap second, 24:00, a zone's name behind the offset.
_UNUSUAL_TIME: Final = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)[Tt ](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?P<fraction>[.,]\d{1,9})?)?"
    r" ?(?P<offset>[Zz]|[+-]\d\d(?::?\d\d)?)?(?P<zone>\[[^\[\]]{1,64}\])?",
    re.ASCII,
)


def instant(text: str) -> datetime | None:
    """Give the time that a text is; without an offset where it has none. None: it is no time."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return unusual_instant(text)


def unusual_instant(text: str) -> datetime | None:
    """Give the time that a text is which `fromisoformat` refuses; None: it is no time.

    A zone's name is believed only behind an offset that says the same: alone it needs tables that change.
    """
    found = _UNUSUAL_TIME.fullmatch(text)
    if found is None or (found["zone"] and not found["offset"]):
        return None
    hour, second = found["hour"], found["second"] or "00"
    more = timedelta()
    if second == "60":
        second, more = "59", timedelta(seconds=1)
    if hour == "24":
        if (found["minute"], second) != ("00", "00"):
            return None
        hour, more = "00", timedelta(days=1)
    fraction = (found["fraction"] or "").replace(",", ".")
    offset = (found["offset"] or "").upper()
    try:
        return datetime.fromisoformat(f"{found['day']}T{hour}:{found['minute']}:{second}{fraction}{offset}") + more
    except (ValueError, OverflowError):
        return None


def utc(moment: datetime, field: str, reason: str) -> datetime:
    """Give the same instant in UTC.

    One without an offset is in UTC already: Cal.com's servers and its columns are, and no source shows another.
    Raises Undecodable(reason) outside of the years that can be reckoned with.
    """
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise Undecodable(reason, f"{field} is not in the years {FIRST_YEAR} to {LAST_YEAR}.")
    if moment.tzinfo is UTC:
        return moment
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def fits(number: int | None) -> bool:
    """Tell whether PostgreSQL can keep the number as a bigint; no number always fits."""
    return number is None or -BIGINT_MAX <= number <= BIGINT_MAX


def require_storable(body: bytes, event: object) -> None:
    """Raise Undecodable("invalid_text") where a text of the event is none that PostgreSQL and UTF-8 can hold.

    Such text can only come out of an escape, so most bodies need no closer look.
    """
    if b"\\" not in body or b"\\u" not in body:
        return
    field = _unstorable(msgspec.to_builtins(event), "")
    if field is not None:
        raise Undecodable("invalid_text", f"The text of `{field}` has a NUL character or half a surrogate pair in it.")


def _unstorable(value: object, name: str) -> str | None:
    if isinstance(value, str):
        return name if "\0" in value or _HALF_PAIR.search(value) else None
    if isinstance(value, dict):
        found = (_unstorable(inner, f"{name}.{key}".lstrip(".")) for key, inner in value.items())
    elif isinstance(value, list | tuple):
        found = (_unstorable(inner, f"{name}[{index}]") for index, inner in enumerate(value))
    else:
        return None
    return next((field for field in found if field is not None), None)


def half_paired(body: bytes) -> tuple[object, bytes] | None:
    """Read a body that is JSON but for half a surrogate pair, which JavaScript writes and msgspec refuses.

    Gives the value and its canonical JSON; None: the body is no such one.
    """
    if b"\\ud" not in body and b"\\uD" not in body:
        return None
    try:
        value = json.loads(body.decode())
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    return (value, text.encode(errors="surrogatepass")) if _HALF_PAIR.search(text) else None


def canonical(value: object) -> bytes:
    """Give the canonical JSON of what was read: sorted keys, no white space; half surrogate pairs may be in it."""
    try:
        return _canonical.encode(value)
    except UnicodeEncodeError:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode(errors="surrogatepass")


def not_json(body: bytes) -> Undecodable:
    """Say why a body that msgspec refused cannot be read."""
    if not body.strip():
        return Undecodable("invalid_json", "The body is empty.")
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return Undecodable("invalid_text", f"The body is not UTF-8: byte {error.start} fits nowhere.")
    if half_paired(body) is not None:
        return Undecodable("invalid_text", "A text of the body has half a surrogate pair in it.")
    if _TWO_OBJECTS.search(body):
        return Undecodable("batch", "One record holds one event; this one holds several JSON texts (NDJSON).")
    return Undecodable(
        "invalid_json", "The body is not JSON that can be read: broken, too deep, or with too large a number."
    )


def in_plain_words(error: msgspec.ValidationError) -> str:
    """Give msgspec's sentence with its JSON path, without the value that it repeats."""
    return _ECHOED_VALUE.sub("", str(error)) + "."
