"""What the doors answer, in bodies: part of the contract with whoever sends. For openapi.json."""

from typing import Literal

from msgspec import Struct


class Accepted(Struct, frozen=True):
    """The webhook is kept."""

    status: Literal["accepted"] = "accepted"


class EventResult(Struct, frozen=True):
    """An event is kept; `id` is its own."""

    id: str
    status: Literal["accepted"] = "accepted"


class Results(Struct, frozen=True):
    """All events are kept, in the order in which they came."""

    results: list[EventResult]


class Fault(Struct, frozen=True):
    """One thing that is wrong, and where: `$[3].appointment.starts_at`."""

    path: str
    message: str


class Faults(Struct, frozen=True):
    """No event was kept, for at least one is wrong."""

    errors: list[Fault]


class Problem(Struct, frozen=True):
    """Nothing was kept. Why, for people: nothing depends on the words."""

    error: str


class Readiness(Struct, frozen=True):
    """Whether the service can do its work; if not, the parts that are in its way, each with a reason."""

    ready: bool
    troubles: dict[str, str]
