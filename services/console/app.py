"""The console's HTTP: its pages, its style, and the health of the service, all behind the same headers and log line."""

from importlib import resources
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from services.console import access
from services.console.access import Noted
from services.console.database import AwayError, Database
from services.console.pages import Pages
from services.console.preferences import PreferencesPages
from services.console.security import Guarded
from services.plumbing import health

_TYPES: Final = {"css": "text/css"}


def create_app(database: Database, state: health.Health, *, console_url: str) -> ASGIApp:
    """Give the application. `console_url`: where people open it; a path in it stands before all of ours."""
    pages = Pages(console_url)

    async def problem(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        return pages.error(request, error.status_code, error.headers)

    async def away(request: Request, error: Exception) -> Response:
        access.note(request.scope, error=str(error))
        return pages.error(request, 503)

    async def broken(request: Request, _: Exception) -> Response:
        return pages.error(request, 500)

    app = Starlette(
        routes=[*health.routes(state), *_static(), *PreferencesPages(database, pages).routes()],
        exception_handlers={HTTPException: problem, AwayError: away, Exception: broken},
    )
    app.router.redirect_slashes = False  # its redirect would carry the token, and the Host that somebody chose
    return Noted(Guarded(app))


def _static() -> list[Route]:
    """Give a route for each file of ours, read once."""
    folder = resources.files("services.console").joinpath("static")
    return [_file(f"/static/{file.name}", file.read_bytes()) for file in folder.iterdir() if "." in file.name]


def _file(path: str, content: bytes) -> Route:
    media_type = _TYPES[path.rpartition(".")[2]]

    async def give(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return Route(path, give)
