"""Events of the booking app, checked before anything is kept. Pure."""

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from schemas.answers import Fault
from schemas.appointments import AppointmentEvent

MOST_EVENTS: Final = 500
NDJSON: Final = "application/x-ndjson"
_LONGEST_MESSAGE: Final = 300

_event: Final = msgspec.json.Decoder(AppointmentEvent)
_list: Final = msgspec.json.Decoder(list[Raw])
_raw: Final = msgspec.json.Decoder(Raw)
_anything: Final = msgspec.json.Decoder()


class Invalid(Exception):  # noqa: N818 - its fate is its name
    """What was sent cannot be taken, none of it."""

    def __init__(self, faults: list[Fault]) -> None:
        """`faults`: in the order of the events, at least one."""
        super().__init__(f"{faults[0].path}: {faults[0].message}")
        self.faults = faults


class Event(Struct, frozen=True):
    """An event's own id and its bytes as they came."""

    event_id: str
    body: bytes


def read(body: bytes, content_type: str) -> list[Event]:
    """Read one event, a JSON array of them, or one a line; 1 to MOST_EVENTS. Raises Invalid."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise Invalid([Fault("$", f"not UTF-8 (byte {error.start})")]) from None
    start = body.lstrip(b" \t\r\n")[:1]
    if start == b"[":
        return _each(list(enumerate(_elements(body))))
    if start == b"{" and not content_type.startswith(NDJSON):
        return _one_or_lines(body)
    return _each(_lines(body))


def _one_or_lines(body: bytes) -> list[Event]:
    """Read an object as one event, and as lines where the first line is already a whole value."""
    found = _check(body, "$")
    if isinstance(found, Event):
        return [found]
    lines = _lines(body)
    if len(lines) > 1 and _whole(lines[0][1]):
        return _each(lines)
    raise Invalid([found])


def _each(bodies: list[tuple[int, bytes]]) -> list[Event]:
    if not bodies:
        raise Invalid([Fault("$", "no event")])
    if len(bodies) > MOST_EVENTS:
        raise Invalid([Fault("$", f"{len(bodies)} events; at most {MOST_EVENTS} are taken at once")])
    found = [_check(body, f"$[{number}]") for number, body in bodies]
    faults = [one for one in found if isinstance(one, Fault)]
    if faults:
        raise Invalid(faults)
    return [one for one in found if isinstance(one, Event)]


def _elements(body: bytes) -> list[bytes]:
    try:
        return [bytes(raw) for raw in _list.decode(body)]
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid([_fault(error, "$")]) from None


def _lines(body: bytes) -> list[tuple[int, bytes]]:
    """Number the lines from 0; empty ones have a number and no event."""
    lines = enumerate(line.strip(b" \t\r") for line in body.split(b"\n"))
    return [(number, line) for number, line in lines if line]


def _check(body: bytes, path: str) -> Event | Fault:
    try:
        event = _event.decode(body)
        place = _nul(_anything.decode(body), path) if b"\\u0000" in body else None
    except (msgspec.DecodeError, RecursionError) as error:
        return _fault(error, path)
    return Event(event.id, body) if place is None else Fault(place, "a NUL character")


def _whole(line: bytes) -> bool:
    try:
        _raw.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _fault(error: Exception, path: str) -> Fault:
    if isinstance(error, RecursionError):
        return Fault(path, "nested too deeply")
    message, _, place = str(error).partition(" - at `$")
    return Fault(path + place.rstrip("`"), message[:_LONGEST_MESSAGE])


def _nul(value: Any, path: str) -> str | None:  # noqa: ANN401 - any JSON
    """Find a NUL: PostgreSQL has no place for it. The look is taken only where the escape was seen."""
    if isinstance(value, str):
        return path if "\0" in value else None
    children: list[tuple[str, Any]] = []
    if isinstance(value, list):
        children = [(f"{path}[{number}]", child) for number, child in enumerate(value)]
    elif isinstance(value, dict):
        if any("\0" in key for key in value):
            return path
        children = [(f"{path}.{key}", child) for key, child in value.items()]
    return next((found for place, child in children if (found := _nul(child, place))), None)
