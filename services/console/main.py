"""The console as a process: the place that knows the concrete classes."""

import asyncio
import socket
from typing import Final

from starlette.types import ASGIApp

from services.console.app import create_app
from services.console.database import Database
from services.plumbing import health, telemetry
from services.plumbing.health import Health
from services.plumbing.lifecycle import cut, keep, together
from services.plumbing.settings import Settings

#: After a stop: for pages under way; then for the database to be let go. With the second that HTTP takes to end and
#: `lifecycle.CUT_SECONDS` no more than `lifecycle.STOP_SECONDS`.
PAGES_SECONDS: Final = 3.0
GRACE_SECONDS: Final = 1.0


async def serve(settings: Settings, stop: asyncio.Event, *, listener: socket.socket | None = None) -> None:
    """Show pages until `stop`; ends within 10 s of it.

    Starts with the database away: pages answer 503 until it is back. Raises SettingsError; OSError when the port is
    taken.
    """
    settings.need("postgres_dsn", "console_url")
    state = Health()
    database = Database(settings, state)
    app = create_app(database, state, console_url=settings.console_url)
    listener = listener or health.listen(settings.console_host, settings.console_port)
    telemetry.log().info(telemetry.SERVICE_STARTED, service="console", address="{}:{}".format(*listener.getsockname()))
    shut = asyncio.Event()
    await together(
        _show(app, listener, stop, shut),
        cut(keep("console.database", lambda: database.follow(shut), shut), shut, grace_seconds=GRACE_SECONDS),
    )
    telemetry.log().info(telemetry.SERVICE_STOPPED, service="console")


async def _show(app: ASGIApp, listener: socket.socket, stop: asyncio.Event, shut: asyncio.Event) -> None:
    """Serve HTTP; when the last page was answered, and not before, the database may go."""
    try:
        await health.serve(app, listener, stop, stop_seconds=PAGES_SECONDS)
    finally:
        shut.set()
