"""/livez, /readyz and /metrics, the same for every service."""

import asyncio
import socket
from collections.abc import Callable

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from services.plumbing.http_protocol import BoundedHttp
from services.plumbing.lifecycle import bounded


class Health:
    """What a service says of itself: named parts, each ready or with a reason why not."""

    def __init__(self) -> None:
        """Begin without parts: ready."""
        self._parts: dict[str, str | None] = {}
        self._judges: dict[str, Callable[[], str | None]] = {}
        self._notes: dict[str, Callable[[], object]] = {}

    def ready(self, part: str) -> None:
        """Say that a part works."""
        self._parts[part] = None

    def unready(self, part: str, reason: str) -> None:
        """Say that a part does not work, and why."""
        self._parts[part] = reason

    def judge(self, part: str, trouble: Callable[[], str | None]) -> None:
        """Let a part be asked each time why it does not work; None: it does."""
        self._judges[part] = trouble

    def note(self, part: str, detail: Callable[[], object]) -> None:
        """Let a part be asked each time what is not as usual, though the service is ready; None: nothing."""
        self._notes[part] = detail

    def troubles(self) -> dict[str, str]:
        """Give the parts that do not work, with their reasons."""
        found = self._parts | {part: trouble() for part, trouble in self._judges.items()}
        return {part: reason for part, reason in found.items() if reason is not None}

    def degraded(self) -> dict[str, object]:
        """Give what is not as usual and keeps nothing from being ready; JSON values by part."""
        found = {part: detail() for part, detail in self._notes.items()}
        return {part: detail for part, detail in found.items() if detail is not None}


def routes(health: Health) -> list[Route]:
    """Give the three routes of a service's health."""

    async def livez(_: Request) -> Response:
        return Response("alive\n", media_type="text/plain")

    async def readyz(_: Request) -> Response:
        troubles = health.troubles()
        said: dict[str, object] = {"ready": not troubles, "troubles": troubles}
        degraded = health.degraded()
        if degraded:
            said["degraded"] = degraded
        return JSONResponse(said, status_code=503 if troubles else 200)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]


def app(health: Health) -> ASGIApp:
    """Give the HTTP of a service that has none of its own."""
    return Starlette(routes=routes(health))


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 gives a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(2048)
    listener.settimeout(0)
    return listener


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: `lifecycle` has them."""

    def capture_signals(self) -> "_Nothing":  # type: ignore[override]
        return _Nothing()


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


async def serve(
    application: ASGIApp,
    listener: socket.socket,
    stop: asyncio.Event,
    *,
    started: Callable[[], None] | None = None,
    stop_seconds: float = 5.0,
) -> None:
    """Serve HTTP on an open socket until `stop`; requests under way get `stop_seconds` to end."""
    config = uvicorn.Config(
        application,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(stop_seconds),
        http=BoundedHttp,
        ws="none",
        loop="none",
    )
    server = _Server(config)
    running = asyncio.ensure_future(server.serve(sockets=[listener]))
    if started:
        started()
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True
    await bounded(_ended(running), stop_seconds + 1)


async def _ended(running: "asyncio.Future[None]") -> None:
    await running
