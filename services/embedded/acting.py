"""Does what a clinic's plan says: at the stand-in for Cal.com, and as the booking app."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from services.embedded.bodies import Visit, appointment_event
from services.embedded.calcom import Account, Calcom, Person
from services.embedded.clinic import Book, CallOff, Move, Plot, Step, Tell
from services.embedded.morning import Case
from services.plumbing.clock import Clock

#: Between two steps of a plot.
STEP_SECONDS: Final = 0.15


class Stage(Struct, frozen=True, kw_only=True):
    """Where it is done: a user at Cal.com, and the door at which the booking app tells its events."""

    calcom: Calcom
    account: Account
    tell: Callable[[bytes], Awaitable[None]]
    clock: Clock


async def perform(plots: Iterable[Plot], stage: Stage, done: Callable[[], None]) -> list[Case]:
    """Do it all, each at its time; `done` is called after each step. Gives what must be found."""
    async with asyncio.TaskGroup() as group:
        acting = [group.create_task(_in_time(plot, stage, done)) for plot in plots]
    return [task.result() for task in acting]


async def _in_time(plot: Plot, stage: Stage, done: Callable[[], None]) -> Case:
    await stage.clock.sleep(plot.begins_seconds)
    return await act(plot, stage, done)


async def act(plot: Plot, stage: Stage, done: Callable[[], None]) -> Case:
    """Do what one plot says. A webhook that is not lost is at its receiver when its step is done."""
    visit = plot.visit
    for number, step in enumerate(plot.steps):
        if number:
            await stage.clock.sleep(STEP_SECONDS)
        visit = await _take(step, visit, stage)
        done()
    return Case(plot.kind, (), plot.truth(visit.uids[-1]))


async def _take(step: Step, visit: Visit, stage: Stage) -> Visit:
    """Take one step; gives the visit with the booking that it has then."""
    calcom = stage.calcom
    match step:
        case Book(heard=heard, named=named):
            metadata = {"appointment_id": visit.appointment_id} if named else {}
            row = await calcom.book(stage.account, visit.starts_at, _person(visit), metadata=metadata, send=heard)
            return replace(visit, uids=(row.uid,), booking_ids=(row.id,))
        case Move(minutes=minutes):
            row = await calcom.move(visit.uids[-1], visit.starts_at + timedelta(minutes=minutes), send=False)
            return replace(visit, uids=(*visit.uids, row.uid), booking_ids=(*visit.booking_ids, row.id))
        case CallOff():
            await calcom.cancel(visit.uids[-1], by=visit.email, send=False)
        case Tell(what=what, status=status, shift_minutes=shift, linked=linked):
            now = replace(visit, booked_at=stage.clock.now())
            await stage.tell(appointment_event(now, what, 0, status=status, shift_minutes=shift, linked=linked))
    return visit


def _person(visit: Visit) -> Person:
    return Person(name=visit.name, email=visit.email, phone=visit.phone)
