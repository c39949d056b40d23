"""Ingest's HTTP: authentic? durable? then 202.

What is answered: 202 kept, 401 not proved (one body for every cause), 413 too large, 422 an appointment event that is
wrong, 429 more than a company's share, 405 not a POST, and 503 for everything else, our own mistakes included: the
sender comes again. Cal.com would not: it is never answered 429 but late.
"""

import math
import time
from collections.abc import Callable
from typing import Final
from uuid import uuid4

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from schemas.answers import Faults, Problem
from services.companies.register import Register
from services.ingest import wire
from services.ingest.batch import Invalid
from services.ingest.doors import ACCEPTED, AppointmentDoor, Arrival, CalcomDoor, Door, Ids
from services.ingest.guard import Guard, Limits
from services.ingest.keeper import Keeper
from services.ingest.signature import Rejected
from services.ingest.wire import Answer, Headers, answer
from services.plumbing import telemetry
from services.plumbing.clock import Clock
from services.plumbing.health import Health, routes
from services.plumbing.lifecycle import PASSING, describe

_CALCOM: Final = "/webhooks/calcom/"
_APPOINTMENTS: Final = "/events/appointments/"
_LONGEST_NOTED: Final = 64
_GONE: Final = 499

#: Just after the start a request waits so long for the companies to be read: Cal.com would not send it again.
BEGIN_SECONDS = 2.0
#: A webhook over the limit is answered so late at most, and so many at once; more are answered at once.
MOST_SLOW_SECONDS: Final = 2.0
MOST_SLOWED: Final = 100
#: Of a company's refusals one line is written in this time, per door; the metrics count them all.
_QUIET_SECONDS: Final = 1.0


def _problem(status: int, error: str, *more: tuple[bytes, bytes]) -> Answer:
    return answer(status, msgspec.json.encode(Problem(error)), *more)


_ACCEPTED: Final = answer(202, ACCEPTED)
_UNPROVED: Final = _problem(401, "unauthorized", (b"www-authenticate", b"Signature, Bearer"))
_NOT_A_POST: Final = _problem(405, "POST is wanted", (b"allow", b"POST"))
_TOO_LARGE: Final = _problem(413, "the body is too large")
_TOO_MANY: Final = 429
#: What comes in floods when it comes: one line a second of it.
_OFTEN: Final = frozenset({_TOO_MANY, 503})
_LATER: Final = _problem(503, "not kept; please send it again", (b"retry-after", b"5"))


class _Outcome(Struct):
    """What the log line says of a request, gathered on the way."""

    status: int = _GONE
    bytes: int = 0
    events: int = 0
    slow_seconds: float = 0.0
    reason: str | None = None
    error: BaseException | None = None


def create_app(
    register: Register,
    keeper: Keeper,
    health: Health,
    *,
    clock: Clock,
    max_body_bytes: int,
    limits: Limits,
    ids: Ids | None = None,
) -> ASGIApp:
    """Give the application: the two doors, and the health of the service.

    `limits` are those of a company at each door: what floods one of them does not shut the other.
    """
    rest = Starlette(routes=routes(health))
    calcom, appointments = (
        _Receiver(door, register, keeper, Guard(limits), clock, max_body_bytes)
        for door in (CalcomDoor(register, ids or _fresh_id), AppointmentDoor(register))
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        """Choose the door by the path; a plain comparison, for every request passes here."""
        path = f"{scope['path']}/" if scope["type"] == "http" else ""
        if path.startswith(_CALCOM):
            await calcom.receive(path[len(_CALCOM) :].strip("/"), scope, receive, send)
        elif path.startswith(_APPOINTMENTS):
            await appointments.receive(path[len(_APPOINTMENTS) :].strip("/"), scope, receive, send)
        else:
            await rest(scope, receive, send)

    return app


def _fresh_id() -> str:
    return str(uuid4())


class _Receiver:
    """A door on the wire."""

    def __init__(
        self, door: Door, register: Register, keeper: Keeper, guard: Guard, clock: Clock, max_body_bytes: int
    ) -> None:
        self._door = door
        self._register = register
        self._keeper = keeper
        self._take_tokens = guard.admit if door.comes_again else guard.charge
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._log = telemetry.log().bind(door=door.name)
        self._seconds = telemetry.ingest_seconds.labels(door.name)
        self._counts: dict[int, Callable[[], None]] = {}
        self._slowed = 0
        self._loud_at: dict[int, float] = {}

    async def receive(self, company_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and write its line."""
        started = time.perf_counter()
        outcome = _Outcome()
        try:
            answered = await self._answer(company_id, scope, receive, outcome)
            if answered is not None:
                outcome.status = answered.status
                await answered.send(send)
        finally:
            self._note(company_id, outcome, time.perf_counter() - started)

    async def _answer(self, company_id: str, scope: Scope, receive: Receive, outcome: _Outcome) -> Answer | None:
        if scope["method"] != "POST":
            return _NOT_A_POST
        try:
            answered = await self._accept(company_id, dict(scope["headers"]), receive, outcome)
        except wire.GoneError:
            outcome.reason = "the sender went away"
            return None
        except Exception as error:  # noqa: BLE001 - ours, too, are no reason to lose an event: the sender comes again
            return _refuse(outcome, error)
        if outcome.slow_seconds > 0:
            await self._slow(outcome)
        return answered

    async def _accept(self, company_id: str, headers: Headers, receive: Receive, outcome: _Outcome) -> Answer:
        if not self._register.loaded and not await self._register.read_within(BEGIN_SECONDS):
            return _because(outcome, "the companies were not read yet", _LATER)
        body = await wire.read_body(headers, receive, self._max_body_bytes)
        outcome.bytes = len(body)
        # Now, not at the first byte: a slow body must not eat of the window, and the log's order is that of the ends.
        parcel = self._door.take(Arrival(company_id, headers, body, self._clock.now()))
        outcome.events = len(parcel.deliveries)
        wait_seconds = self._take_tokens(company_id, outcome.events, time.perf_counter())
        if wait_seconds > 0 and self._door.comes_again:
            return _too_many(outcome, wait_seconds)
        await self._keeper.keep(parcel.deliveries)
        outcome.slow_seconds = min(wait_seconds, MOST_SLOW_SECONDS)
        return _ACCEPTED if parcel.answer is ACCEPTED else answer(202, parcel.answer)

    async def _slow(self, outcome: _Outcome) -> None:
        """Let a sender wait that is over its limit. What it sent is kept, and nothing of it is held in memory."""
        outcome.reason = "over the limit"
        if self._slowed >= MOST_SLOWED:
            telemetry.ingest_slowed.labels("at_once").inc()
            outcome.slow_seconds = 0.0
            return
        telemetry.ingest_slowed.labels("late").inc()
        self._slowed += 1
        try:
            await self._clock.sleep(outcome.slow_seconds)
        finally:
            self._slowed -= 1

    def _note(self, company_id: str, outcome: _Outcome, seconds: float) -> None:
        status = outcome.status
        count = self._counts.get(status)
        if count is None:
            count = self._counts[status] = telemetry.ingest_requests.labels(self._door.name, str(status)).inc
        count()
        self._seconds.observe(seconds - outcome.slow_seconds)  # how long we took, not how long we let wait
        write = self._level(status)
        write(
            telemetry.INGEST_REQUEST,
            company=company_id[:_LONGEST_NOTED],
            status=status,
            bytes=outcome.bytes,
            events=outcome.events,
            duration_ms=round(seconds * 1000, 2),
            reason=outcome.reason,
            **({"exc_info": outcome.error} if outcome.error else {}),
        )

    def _level(self, status: int) -> Callable[..., object]:
        """At debug what went well: its line costs as much as the rest of the door, and the metrics count it anyway."""
        if status == _ACCEPTED.status or (status in _OFTEN and not self._loud(status)):
            return self._log.debug
        return self._log.error if status == _LATER.status else self._log.warning

    def _loud(self, status: int) -> bool:
        now = time.perf_counter()
        if now < self._loud_at.get(status, 0.0):
            return False
        self._loud_at[status] = now + _QUIET_SECONDS
        return True


def _refuse(outcome: _Outcome, error: Exception) -> Answer:
    match error:
        case Rejected():
            return _because(outcome, error.reason, _UNPROVED)
        case Invalid():
            return _because(outcome, str(error)[:200], _wrong(error))
        case wire.TooLargeError():
            return _because(outcome, "too large", _TOO_LARGE)
        case wire.TooSlowError():
            return _because(outcome, "the body came too slowly", _LATER)
    if not isinstance(error, PASSING):
        outcome.error = error
    return _because(outcome, describe(error), _LATER)


def _because(outcome: _Outcome, reason: str, answered: Answer) -> Answer:
    outcome.reason = reason
    return answered


def _wrong(error: Invalid) -> Answer:
    return answer(422, msgspec.json.encode(Faults(error.faults)))


def _too_many(outcome: _Outcome, wait_seconds: float) -> Answer:
    seconds = max(1, math.ceil(wait_seconds))
    outcome.reason = "over the limit"
    return _problem(_TOO_MANY, f"too many events; please come again in {seconds} s", (b"retry-after", b"%d" % seconds))
