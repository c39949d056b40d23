"""A morning in a practice, as data: what the two sides tell, and what must be found. Pure and seeded."""

from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Final, Literal

from msgspec import Struct

from schemas.flags import Kind, SyncStatus
from schemas.verification import Verdict
from services.embedded.bodies import Visit, appointment_event, webhook

Door = Literal["calcom", "app"]


class Told(Struct, frozen=True):
    """One message on its way to a front door, sent when the play is at least this old."""

    door: Door
    body: bytes
    after_seconds: float


class Truth(Struct, frozen=True):
    """How one record must end. A side that is None must not be known; `uid` is the one in force.

    `verdict`: what Cal.com must have answered; `flags`: how often it must have been flagged. None: not looked at.
    """

    appointment_id: str | None
    uid: str | None
    status: SyncStatus
    code: Kind | None
    verdict: Verdict | None = None
    flags: int | None = None


class Case(Struct, frozen=True):
    """One record to be: its messages in the order in which they are sent, and the truth."""

    kind: str
    told: tuple[Told, ...]
    truth: Truth


Message = tuple[Door, bytes]


class Recipe(Struct, frozen=True):
    """One kind of case: how often it is planted, how it is told and how it must end."""

    kind: str
    count: int
    tell: Callable[[Visit, Random], list[Message]]
    status: SyncStatus = SyncStatus.SYNCED
    code: Kind | None = None
    sides: Literal["both", "app", "calcom"] = "both"
    generation: int = 0  # of the uid in force at the end
    late: int = 0  # so many of the last messages come after the window


def plan(seed: int, begins_at: datetime, *, play_seconds: float, late_seconds: float) -> list[Case]:
    """Plan a morning that began at `begins_at` (aware, UTC, some hours ago); the same seed plans the same one.

    It is told within `play_seconds`; what is late, `late_seconds` after the beginning of its case.
    """
    random = Random(seed)  # noqa: S311 - a plan, not a secret
    recipes = [recipe for recipe in RECIPES for _ in range(recipe.count)]
    random.shuffle(recipes)
    recipes.sort(key=lambda recipe: -recipe.late)  # what takes longest begins first
    return [
        _case(recipe, _visit(number, begins_at, random), random, play_seconds * number / len(recipes), late_seconds)
        for number, recipe in enumerate(recipes)
    ]


def _case(recipe: Recipe, visit: Visit, random: Random, begin: float, late_seconds: float) -> Case:
    messages = recipe.tell(visit, random)
    on_time = len(messages) - recipe.late
    told = tuple(
        Told(door, body, begin + 0.15 * index + (late_seconds if index >= on_time else 0))
        for index, (door, body) in enumerate(messages)
    )
    return Case(
        recipe.kind,
        told,
        Truth(
            None if recipe.sides == "calcom" else visit.appointment_id,
            None if recipe.sides == "app" else visit.uids[recipe.generation],
            recipe.status,
            recipe.code,
        ),
    )


_FIRST_NAMES: Final = ("Mia", "Noah", "Emma", "Ben", "Lina", "Paul", "Ayşe", "Jürgen", "Zoë", "Finn", "Ida", "Emil")
_LAST_NAMES: Final = ("Muster", "Schäfer", "Öztürk", "Krüger", "Novak", "Roth", "Weiß", "Lange", "Busch", "Arnold")
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def invented_name(random: Random) -> str:
    """Give a patient's name."""
    return f"{random.choice(_FIRST_NAMES)} {random.choice(_LAST_NAMES)}"


def invented_uid(random: Random) -> str:
    """Give a uid as Cal.com makes them."""
    return "".join(random.choices(_BASE58, k=22))


def _visit(number: int, begins_at: datetime, random: Random) -> Visit:
    day = (begins_at + timedelta(days=7)).replace(hour=7, minute=0, second=0, microsecond=0)
    name = invented_name(random)
    return Visit(
        appointment_id=str(4711 + number),
        uids=tuple(invented_uid(random) for _ in range(3)),
        booking_ids=tuple(90_000 + 3 * number + generation for generation in range(3)),
        starts_at=day + timedelta(days=number // 32, minutes=15 * (number % 32)),
        booked_at=begins_at + timedelta(seconds=random.uniform(0, 10_000)),
        length_minutes=random.choice((15, 30, 45)),
        name=name,
        email=f"patient{number}@example.com",
        phone=f"+4915100{number:06d}",
    )


# --- how each kind is told: event times are minutes after the booking, arrival is the order of the list ------------


def _app(body: bytes) -> Message:
    return ("app", body)


def _cal(body: bytes) -> Message:
    return ("calcom", body)


def _created(visit: Visit, random: Random) -> list[Message]:
    named = random.random() < 0.5  # noqa: PLR2004 - half of the apps pass metadata
    return [_app(appointment_event(visit, "created", 0)), _cal(webhook(visit, "BOOKING_CREATED", 0, metadata=named))]


def _booking_first(visit: Visit, random: Random) -> list[Message]:
    return _created(visit, random)[::-1]


def _metadata_only(visit: Visit, random: Random) -> list[Message]:
    told = [
        _app(appointment_event(visit, "created", 0, linked=False)),
        _cal(webhook(visit, "BOOKING_CREATED", 0, metadata=True)),
    ]
    random.shuffle(told)
    return told


def _moves(visit: Visit) -> list[Message]:
    return [
        _cal(webhook(visit, "BOOKING_CREATED", 0)),
        _cal(webhook(visit, "BOOKING_RESCHEDULED", 4, generation=1, shift_minutes=60)),
        _cal(webhook(visit, "BOOKING_RESCHEDULED", 9, generation=2, shift_minutes=120)),
    ]


def _rescheduled_twice(visit: Visit, _: Random) -> list[Message]:
    created, once, twice = _moves(visit)
    return [
        created,
        _app(appointment_event(visit, "created", 0)),
        once,
        twice,
        _app(appointment_event(visit, "rescheduled", 9, shift_minutes=120)),
    ]


def _told_backwards(visit: Visit, random: Random) -> list[Message]:
    return _rescheduled_twice(visit, random)[::-1]


def _cancelled_on_both(visit: Visit, random: Random) -> list[Message]:
    return [
        *_created(visit, random),
        _cal(webhook(visit, "BOOKING_CANCELLED", 7)),
        _app(appointment_event(visit, "cancelled", 7, status="cancelled")),
    ]


def _cancel_before_create(visit: Visit, random: Random) -> list[Message]:
    return _cancelled_on_both(visit, random)[::-1]


def _told_thrice(visit: Visit, random: Random) -> list[Message]:
    return [message for message in _created(visit, random) for _ in range(3)]


def _disorder(visit: Visit, random: Random) -> list[Message]:
    told = [
        *_created(visit, random),
        _app(appointment_event(visit, "updated", 2)),
        _app(appointment_event(visit, "rescheduled", 4, shift_minutes=60)),
        _moves(visit)[1],
    ]
    told += random.sample(told, 2)
    random.shuffle(told)
    return told


def _requested(visit: Visit, _: Random) -> list[Message]:
    return [
        _cal(webhook(visit, "BOOKING_REQUESTED", 0, metadata=True)),
        _app(appointment_event(visit, "created", 0, status="pending")),
    ]


def _confirmed(visit: Visit, random: Random) -> list[Message]:
    return [
        *_requested(visit, random),
        _cal(webhook(visit, "BOOKING_CREATED", 6)),
        _app(appointment_event(visit, "updated", 6)),
    ]


def _rejected(visit: Visit, random: Random) -> list[Message]:
    return [
        *_requested(visit, random),
        _cal(webhook(visit, "BOOKING_REJECTED", 6)),
        _app(appointment_event(visit, "cancelled", 6, status="cancelled")),
    ]


def _appointment_alone(visit: Visit, _: Random) -> list[Message]:
    return [_app(appointment_event(visit, "created", 0))]


def _booking_alone(visit: Visit, _: Random) -> list[Message]:
    return [_cal(webhook(visit, "BOOKING_CREATED", 0))]


def _cancelled_in_app(visit: Visit, random: Random) -> list[Message]:
    return [*_created(visit, random), _app(appointment_event(visit, "cancelled", 5, status="cancelled"))]


def _cancelled_at_calcom(visit: Visit, random: Random) -> list[Message]:
    return [*_created(visit, random), _cal(webhook(visit, "BOOKING_CANCELLED", 5))]


def _times_differ(visit: Visit, _: Random) -> list[Message]:
    return [
        _app(appointment_event(visit, "created", 0, shift_minutes=30)),
        _cal(webhook(visit, "BOOKING_CREATED", 0)),
    ]


def _moved_at_calcom(visit: Visit, random: Random) -> list[Message]:
    return [*_created(visit, random), _moves(visit)[1]]


def _deleted(visit: Visit, random: Random) -> list[Message]:
    return [*_created(visit, random), _app(appointment_event(visit, "deleted", 5))]


RECIPES: Final = (
    Recipe("in step", 130, _created),
    Recipe("booking told first", 30, _booking_first),
    Recipe("matched by metadata alone", 20, _metadata_only),
    Recipe("rescheduled twice (A, B, C)", 12, _rescheduled_twice, generation=2),
    Recipe("rescheduled, told backwards", 8, _told_backwards, generation=2),
    Recipe("cancelled on both sides", 12, _cancelled_on_both),
    Recipe("cancel before its create", 8, _cancel_before_create),
    Recipe("everything told three times", 10, _told_thrice),
    Recipe("told in disorder", 12, _disorder, generation=1),
    Recipe("requested, then confirmed", 10, _confirmed),
    Recipe("requested, then rejected", 6, _rejected),
    Recipe("requested, still waiting", 4, _requested),
    Recipe("webhook after the window", 4, _created, late=1),
    Recipe("webhook lost", 12, _appointment_alone, SyncStatus.ORPHANED_LOCAL, Kind.ORPHANED_LOCAL, "app"),
    Recipe("ghost booking", 8, _booking_alone, SyncStatus.ORPHANED_CALCOM, Kind.ORPHANED_CALCOM, "calcom"),
    Recipe("deleted here, booking lives", 5, _deleted, SyncStatus.ORPHANED_CALCOM, Kind.ORPHANED_CALCOM),
    Recipe("cancelled in the app only", 6, _cancelled_in_app, SyncStatus.FAILED, Kind.DATA_MISMATCH),
    Recipe("cancelled at Cal.com only", 6, _cancelled_at_calcom, SyncStatus.FAILED, Kind.DATA_MISMATCH),
    Recipe("times differ", 6, _times_differ, SyncStatus.FAILED, Kind.DATA_MISMATCH),
    Recipe("moved at Cal.com only", 3, _moved_at_calcom, SyncStatus.FAILED, Kind.DATA_MISMATCH, generation=1),
)
