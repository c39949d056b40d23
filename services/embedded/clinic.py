"""A clinic whose Cal.com can be asked, as data: who does what, which webhooks are lost, what must be found.

Pure and seeded. Unlike the practice of `morning.py` it is played live, with a Cal.com of its own: a booking has a uid
only when it is made, so that a plan says what is to be done, and `acting.py` does it.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Final, Literal

from msgspec import Struct

from schemas.flags import Kind, SyncStatus
from schemas.verification import Verdict
from services.embedded.bodies import Visit
from services.embedded.morning import Truth, invented_name, invented_uid


class Book(Struct, frozen=True, kw_only=True):
    """The patient books at Cal.com. `heard`: the webhook arrives; `named`: the booking names the appointment."""

    heard: bool = True
    named: bool = False


class Move(Struct, frozen=True, kw_only=True):
    """The booking is moved at Cal.com; the webhook is lost."""

    minutes: int


class CallOff(Struct, frozen=True):
    """The booking is cancelled at Cal.com; the webhook is lost."""


class Tell(Struct, frozen=True, kw_only=True):
    """The booking app tells of its appointment: `appointment.<what>`. `linked`: it names the booking."""

    what: str = "created"
    status: str = "confirmed"
    shift_minutes: int = 0
    linked: bool = True


Step = Book | Move | CallOff | Tell


class Plot(Struct, frozen=True, kw_only=True):
    """One record to be: what is done for it, one after the other, and how it must end.

    `visit` has a uid that Cal.com does not know: what the app names until there is a booking. `verdict`: what Cal.com's
    answer must come to (None: nobody need ask).
    """

    kind: str
    steps: tuple[Step, ...]
    begins_seconds: float
    visit: Visit
    status: SyncStatus
    code: Kind | None
    sides: Literal["both", "app", "calcom"]
    verdict: Verdict | None

    def truth(self, uid: str) -> Truth:
        """Give how the record must end, the uid in force being this one."""
        return Truth(
            appointment_id=None if self.sides == "calcom" else self.visit.appointment_id,
            uid=None if self.sides == "app" else uid,
            status=self.status,
            code=self.code,
            verdict=self.verdict,
            flags=0 if self.code is None else 1,
        )


class Recipe(Struct, frozen=True):
    """One kind of plot: how often it is planted, what is done, how it must end."""

    kind: str
    count: int
    steps: Callable[[Random], tuple[Step, ...]]
    status: SyncStatus = SyncStatus.SYNCED
    code: Kind | None = None
    verdict: Verdict | None = None
    sides: Literal["both", "app", "calcom"] = "both"


def plan(seed: int, opens_at: datetime, *, play_seconds: float) -> list[Plot]:
    """Plan what happens within `play_seconds` after `opens_at` (aware, UTC); the same seed plans the same.

    What Cal.com has to be asked about twice begins at once: 30 s lie between two questions.
    """
    random = Random(seed)  # noqa: S311 - a plan, not a secret
    recipes = [recipe for recipe in RECIPES for _ in range(recipe.count)]
    random.shuffle(recipes)
    recipes.sort(key=lambda recipe: recipe.verdict is not Verdict.ABSENT)
    twice = sum(recipe.verdict is Verdict.ABSENT for recipe in recipes)
    return [
        Plot(
            kind=recipe.kind,
            steps=recipe.steps(random),
            begins_seconds=play_seconds * max(0, number - twice) / len(recipes),
            visit=_visit(number, opens_at, random),
            status=recipe.status,
            code=recipe.code,
            sides=recipe.sides,
            verdict=recipe.verdict,
        )
        for number, recipe in enumerate(recipes)
    ]


def _visit(number: int, opens_at: datetime, random: Random) -> Visit:
    day = (opens_at + timedelta(days=8)).replace(hour=7, minute=0, second=0, microsecond=0)
    return Visit(
        appointment_id=str(8001 + number),
        uids=(invented_uid(random),),
        booking_ids=(80_000 + number,),
        starts_at=day + timedelta(days=number // 16, minutes=30 * (number % 16)),
        booked_at=opens_at,
        length_minutes=30,
        name=invented_name(random),
        email=f"guest{number}@example.org",
        phone=f"+4930555{number:06d}",
    )


# --- what is done for each kind -----------------------------------------------------------------------------------


def _in_step(random: Random) -> tuple[Step, ...]:
    told_of: list[tuple[Step, ...]] = [
        (Book(), Tell()),
        (Tell(linked=False), Book(named=True)),
        (Book(), Tell(linked=False)),  # recognised by person and time
    ]
    return random.choice(told_of)


def _lost(_: Random) -> tuple[Step, ...]:
    return (Book(heard=False), Tell())


def _lost_and_unnamed(random: Random) -> tuple[Step, ...]:
    return (Book(heard=False, named=random.random() < 0.5), Tell(linked=False))  # noqa: PLR2004 - half of the apps


def _moved(_: Random) -> tuple[Step, ...]:
    return (Book(), Tell(), Move(minutes=60), Tell(what="rescheduled", shift_minutes=60))


def _called_off(_: Random) -> tuple[Step, ...]:
    return (Book(), Tell(), CallOff(), Tell(what="cancelled", status="cancelled"))


def _never_booked(random: Random) -> tuple[Step, ...]:
    return (Tell(linked=random.random() < 0.5),)  # noqa: PLR2004 - asked for by uid, or searched for


def _unknown_here(_: Random) -> tuple[Step, ...]:
    return (Book(),)


def _times_differ(_: Random) -> tuple[Step, ...]:
    return (Book(), Tell(shift_minutes=30))


RECIPES: Final = (
    Recipe("in step", 20, _in_step),
    Recipe("webhook lost", 4, _lost, verdict=Verdict.FOUND_EQUAL),
    Recipe("webhook lost, no uid", 4, _lost_and_unnamed, verdict=Verdict.FOUND_EQUAL),
    Recipe("lost: a move", 3, _moved, verdict=Verdict.MOVED),
    Recipe("lost: a cancel", 2, _called_off, verdict=Verdict.CANCELLED),
    Recipe(
        "never booked", 2, _never_booked, SyncStatus.ORPHANED_LOCAL, Kind.ORPHANED_LOCAL, Verdict.ABSENT,
        "app",
    ),
    Recipe(
        "ghost booking", 2, _unknown_here, SyncStatus.ORPHANED_CALCOM, Kind.ORPHANED_CALCOM, Verdict.FOUND_EQUAL,
        "calcom",
    ),
    Recipe("times differ", 2, _times_differ, SyncStatus.FAILED, Kind.DATA_MISMATCH, Verdict.FOUND_DIFFERENT),
)  # fmt: skip
