"""Fields of JSON that others wrote: a field of the wrong type is a field that is not there."""

from datetime import datetime
from typing import Any, Final

from services.reconciler.decode.outcomes import Undecodable
from services.reconciler.decode.values import BIGINT_MAX, FIRST_YEAR, LAST_YEAR, instant, unusual_instant, utc

Object = dict[str, Any]

ID_MAX_CHARS: Final = 200
TEXT_MAX_CHARS: Final = 1000
#: What names a booking by its number where a body gives no uid; no uid of Cal.com looks like it.
BY_NUMBER: Final = "id:"
_DIGITS_MAX: Final = 19
_BITS_MAX: Final = 3 * ID_MAX_CHARS  # a longer number is no id, and Python may refuse to write it
_NOTHING: Final[Object] = {}
#: The app's own id, as it was told to write it, and as others write it.
_APPOINTMENT_KEYS: Final = ("appointment_id", "appointmentId")


def an_object(value: object) -> Object:
    """Give the value if it is an object, the one object of an array, else an empty one."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        return value[0]
    return _NOTHING


def identity(value: object) -> str | None:
    """Give the value if it can name something: text of 1 to 200 characters. A longer one is no id, so it is not cut."""
    return value if isinstance(value, str) and 0 < len(value) <= ID_MAX_CHARS else None


def uid(value: object) -> str | None:
    """Give the value if it can be a booking's uid."""
    if isinstance(value, str) and 0 < len(value) <= ID_MAX_CHARS and not value.startswith(BY_NUMBER):
        return value
    return None


def number(value: object) -> int | None:
    """Give the value if it is a whole number that can be kept; text of digits is one, as templates write it."""
    if type(value) is int:
        return value if -BIGINT_MAX <= value <= BIGINT_MAX else None
    if value is None:
        return None
    if isinstance(value, str) and len(value) <= _DIGITS_MAX and value.isascii() and value.isdigit():
        return number(int(value))
    return None


def text(value: object) -> str | None:
    """Give the value if it is text that says something, cut to what can be kept."""
    return value[:TEXT_MAX_CHARS] if isinstance(value, str) and value else None


def moment(holder: Object, key: str) -> datetime | None:
    """Give the instant that stands under the key, in UTC; None unless text stands there.

    Raises Undecodable("invalid_time") where that text is no time.
    """
    value = holder.get(key)
    if not isinstance(value, str) or not value:
        return None
    try:
        found: datetime | None = datetime.fromisoformat(value)
    except ValueError:
        found = unusual_instant(value)
    if found is None:
        raise Undecodable("invalid_time", f"{key} is not a time as ISO 8601 writes it.")
    return utc(found, key, "invalid_time")


def readable_moment(holder: Object, key: str) -> datetime | None:
    """Give the instant that stands under the key, in UTC; None where none can be read."""
    value = holder.get(key)
    found = instant(value) if isinstance(value, str) else None
    return utc(found, key, "") if found is not None and FIRST_YEAR <= found.year <= LAST_YEAR else None


def appointment_id(metadata: Object) -> str | None:
    """Give the app's own id, as it stands in the metadata of a booking."""
    for key in _APPOINTMENT_KEYS:
        value = metadata.get(key)
        named = identity(str(value) if type(value) is int and value.bit_length() < _BITS_MAX else value)
        if named is not None:
            return named
    return None
