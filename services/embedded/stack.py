"""Everything in one process: the services, and what they need where nobody gave it."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

from msgspec import Struct, structs

from services.console import main as console
from services.embedded import state
from services.embedded.furniture import Furnished, Plan, furnish
from services.embedded.mailbox import mailbox_app
from services.embedded.readiness import Addresses, await_all
from services.ingest import main as ingest
from services.notifier import main as notifier
from services.plumbing import health
from services.plumbing.clock import WallClock
from services.plumbing.lifecycle import STOP_SECONDS, together
from services.plumbing.settings import Settings
from services.reconciler import main as reconciler
from services.verifier import main as verifier

T = TypeVar("T")


class Stack(Struct, frozen=True, kw_only=True):
    """A stack that is ready: the settings in force, and where things are."""

    settings: Settings
    addresses: Addresses


Ready = Callable[[Stack], Coroutine[Any, Any, None]]


async def run(plan: Plan, stop: asyncio.Event, ready: Ready) -> None:
    """Run everything until `stop`.

    `ready` is awaited when every part is ready, beside the services, and given up at `stop`.

    Raises SettingsError, MigrationError and StackError for what somebody has to put right, NotReady, and the errors
    of what was given and is away.
    """
    _heed_signals(stop)
    with state.running(plan.data_dir, plan.pointers):
        async with AsyncExitStack() as opened:
            furnished = await _unless(stop, furnish(plan, opened))
            if furnished is not None:
                await _serve(plan, furnished, stop, ready)


async def _serve(plan: Plan, furnished: Furnished, stop: asyncio.Event, ready: Ready) -> None:
    settings = furnished.settings
    running: list[Coroutine[Any, Any, None]] = [
        ingest.serve(settings, stop, listener=furnished.ingest),
        reconciler.serve(settings, stop, listener=furnished.reconciler),
        verifier.serve(settings, stop, listener=furnished.verifier),
        notifier.serve(settings, stop, listener=furnished.notifier),
        console.serve(settings, stop, listener=furnished.console),
        _announce(plan, furnished, stop, ready),
    ]
    if furnished.sink and furnished.mailbox:
        running.append(health.serve(mailbox_app(furnished.sink), furnished.mailbox, stop))
    await together(*running)


async def _announce(plan: Plan, furnished: Furnished, stop: asyncio.Event, ready: Ready) -> None:
    """Wait until every service says that it is ready; then say where everything is."""
    addresses = await await_all(furnished, WallClock().now(), stop)
    if stop.is_set():
        return
    settings = furnished.settings
    shared = {name: getattr(settings, name) for name in _SHARED}
    state.write(plan.data_dir, state.StackState(pid=os.getpid(), settings=shared, addresses=structs.asdict(addresses)))
    await _unless(stop, ready(Stack(settings=settings, addresses=addresses)))


#: What another command needs; the secret key has a file of its own.
_SHARED: Final = (
    "kafka_bootstrap_servers",
    "kafka_assignment",
    "kafka_topic_prefix",
    "postgres_dsn",
    "ingest_public_url",
    "console_url",
    "calcom_private_addresses",
    "smtp_host",
    "smtp_port",
    "smtp_security",
    "mail_from",
)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Await something, but give it up (None) at `stop`."""
    task, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not task.done():
            task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None
    except BaseExceptionGroup as group:
        raise _first(group) from None  # the first that failed; the other was only called off


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _heed_signals(stop: asyncio.Event) -> None:
    """End at the first signal within STOP_SECONDS, at the second at once: the kernel ends our children with us."""
    loop = asyncio.get_running_loop()

    def told() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()
        last_resort = threading.Timer(STOP_SECONDS, os._exit, (70,))
        last_resort.daemon = True
        last_resort.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
