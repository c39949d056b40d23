"""Cal.com's stand-in for tests: over ASGI without a socket, or on a port in the test's own loop."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from services.embedded.calcom import Calcom, Person
from services.embedded.calcom.server import served
from services.plumbing.clock import WallClock

KEY: Final = "cal_test_0123456789"
VERSION: Final = "2024-08-13"
ORIGIN: Final = "http://api.cal.test"
NORA: Final = Person(name="Nora Guest", email="nora.guest@example.org", phone="+493055501234")
KIM: Final = Person(name="Kim Other", email="kim.other@example.org")


class Heard:
    """A subscriber in memory: keeps what is posted, and answers `status`."""

    def __init__(self, status: int = 202) -> None:
        """Begin empty. `error` is raised instead of an answer, where set."""
        self.status = status
        self.error: Exception | None = None
        self.posts: list[tuple[str, bytes, dict[str, str]]] = []

    async def __call__(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """See `hooks.Post`."""
        self.posts.append((url, body, headers))
        if self.error is not None:
            raise self.error
        return self.status


def client(calcom: Calcom, key: str | None = KEY, version: str | None = VERSION) -> httpx.AsyncClient:
    """Give a client of the API that opens no socket."""
    transport = httpx.ASGITransport(app=calcom.api)
    return httpx.AsyncClient(transport=transport, base_url=f"{ORIGIN}/v2", headers=headers(key, version))


def headers(key: str | None = KEY, version: str | None = VERSION) -> dict[str, str]:
    """Give the headers of a request."""
    given = {} if key is None else {"authorization": f"Bearer {key}"}
    return given | ({} if version is None else {"cal-api-version": version})


@asynccontextmanager
async def running_calcom(
    clock: Callable[[], datetime] | None = None, **options: Any
) -> AsyncIterator[tuple[Calcom, str]]:
    """Run a stand-in on a port of its own; gives it and its base URL (`.../v2`). On the wall's clock if none is given.

    Options are `Calcom`'s. At the end everything that hangs is let go.
    """
    calcom = Calcom(clock or WallClock().now, **options)
    async with served(calcom) as base_url:
        yield calcom, base_url


def at(hour: int, minute: int = 0, *, day: int = 9) -> datetime:
    """Give a moment in March 2026, UTC."""
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)
