"""Processes that end when told to, and loops that outlive a broker or a database."""

import asyncio
import gc
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, Final, TypeVar
from uuid import uuid4

import asyncpg
from aiokafka.errors import KafkaError

from services.plumbing import telemetry
from services.plumbing.backoff import Backoff

T = TypeVar("T")

#: From SIGTERM to the end of the process, whatever hangs.
STOP_SECONDS: Final = 9.0
#: What was cut short gets so long to close what it holds.
CUT_SECONDS: Final = 4.0
#: Errors that pass: the other end is away, and comes back.
#: InternalClientError is what asyncpg makes of a server that says goodbye between two statements.
PASSING: Final = (
    KafkaError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


async def bounded(work: Coroutine[Any, Any, T], seconds: float) -> T | None:
    """Await something that must not hold us up: after `seconds` it is left to itself and None comes back.

    aiokafka's `stop()` and `flush()` hang for minutes when the broker is gone, and do not heed a cancellation.
    """
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if task in done:
        return None if task.cancelled() else task.result()  # aiokafka lets its own cancelled tasks out of `stop()`
    task.cancel()
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return None


async def keep(name: str, loop: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    """Run a loop until `stop`; after a passing error again, with backoff. Any other error is ours: it goes up."""
    backoff = Backoff()
    while not stop.is_set():
        started = asyncio.get_running_loop().time()
        try:
            await loop()
        except PASSING as error:
            if asyncio.get_running_loop().time() - started > 60:  # noqa: PLR2004 - it ran well for a minute
                backoff.succeeded()
            telemetry.loop_failures.labels(name).inc()
            seconds = backoff.failed()
            telemetry.log().warning(
                telemetry.LOOP_FAILED, loop=name, error=describe(error), retry_seconds=round(seconds, 2)
            )
            await pause(seconds, stop)


async def pause(seconds: float, stop: asyncio.Event) -> None:
    """Wait, but not past a stop."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def first_of(
    *events: asyncio.Event, seconds: float | None = None, tasks: Iterable[asyncio.Task[Any]] = ()
) -> None:
    """Wait until one of the events is set or one of the tasks has ended, or so long."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait({*waiting, *tasks}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()


async def together(*loops: Coroutine[Any, Any, None]) -> None:
    """Run loops side by side until all have ended; when one fails, the others are cancelled and its error goes up."""
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        left = [task for task in tasks if not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=STOP_SECONDS - 2)


async def cut(work: Coroutine[Any, Any, None], stop: asyncio.Event, *, grace_seconds: float) -> None:
    """Run a loop; what has not ended by itself so long after `stop` is cut short, wherever it waits."""
    running, told = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({running, told}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({running}, timeout=grace_seconds)
        if running.done():
            running.result()
    finally:
        told.cancel()
        running.cancel()
        await asyncio.wait({running}, timeout=CUT_SECONDS)


def new_holder() -> str:
    """Give a holder of leases a name that nobody else has: in a container every process is number 1."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"


def describe(error: BaseException) -> str:
    """Give an error in one line, without what it may carry of ours."""
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text}"[:300]


def main(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> int:
    """Run a service until SIGTERM or SIGINT; ends within STOP_SECONDS of it, if need be without a goodbye."""
    return asyncio.run(_main(serve)) if _no_uvloop() else _run_uvloop(serve)


def _no_uvloop() -> bool:
    return os.name != "posix"


def _run_uvloop(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> int:
    import uvloop  # noqa: PLC0415 - not on every platform

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_main(serve))


def _calm_collector() -> None:
    """Look for garbage less often: a batch makes many objects and no cycles, and each look walks through them all."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


async def _main(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> int:
    _calm_collector()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _told_to_stop, stop)
    await serve(stop)
    return 0


def _told_to_stop(stop: asyncio.Event) -> None:
    stop.set()
    last_resort = threading.Timer(STOP_SECONDS, os._exit, (70,))
    last_resort.daemon = True
    last_resort.start()
