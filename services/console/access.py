"""One line a request. It names the route's pattern, never the address: a token may stand in it."""

import time
import traceback
from collections.abc import Callable
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.plumbing import telemetry

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"})
#: Asked all day long by machines.
_QUIET: Final = frozenset({"/livez", "/readyz", "/metrics"})
_GONE: Final = 499
_BROKEN: Final = 500


class Noted:
    """An application whose requests are written down; an error of ours ends here, for its text is cleaned first."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap one that answers its own errors and raises them afterwards, as Starlette does."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request and write its line."""
        if scope["type"] != "http":
            return
        started, status, failed = time.perf_counter(), _GONE, None

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:  # noqa: BLE001 - answered already; uvicorn would write it down as it is
            failed = error
        finally:  # of what is cut short at a stop, too
            _write(scope, status, time.perf_counter() - started, failed)


def note(scope: Scope, **fields: str) -> None:
    """Add to the line of a request."""
    scope.setdefault("reconcal.noted", {}).update(fields)


def _write(scope: Scope, status: int, seconds: float, failed: Exception | None) -> None:
    route = getattr(scope.get("route"), "path", None)
    said: dict[str, Any] = {
        "method": scope["method"] if scope["method"] in _METHODS else "other",
        "route": route,  # None: there is none for this address
        "status": status,
        "duration_ms": round(seconds * 1000, 2),
    } | scope.get("reconcal.noted", {})
    if failed is not None:
        said["exception"] = _without_tokens("".join(traceback.format_exception(failed)), scope)
    _level(route, status)(telemetry.CONSOLE_REQUEST, **said)


def _level(route: str | None, status: int) -> Callable[..., object]:
    log = telemetry.log()
    if route in _QUIET:
        return log.debug
    if status >= _BROKEN:
        return log.error if status == _BROKEN else log.warning
    return log.info


def _without_tokens(text: str, scope: Scope) -> str:
    for value in scope.get("path_params", {}).values():
        text = text.replace(str(value), "...").replace(str(value).lower(), "...")
    return text
