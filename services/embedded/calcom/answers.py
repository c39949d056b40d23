"""Answers of the stand-in as HTTP: JSON with the headers that each of them has."""

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from services.embedded.calcom import shapes
from services.embedded.calcom.model import Json

NO_AUTHENTICATION: Final = "ApiAuthStrategy - No authentication method provided"
_JSON: Final = "application/json; charset=utf-8"


class Refused(Exception):  # noqa: N818 - its fate is its name
    """An error that Cal.com answers with."""

    def __init__(self, status: int, message: str, details: object = None) -> None:
        """`details`: where they are not the framework's own."""
        super().__init__(message)
        self.status, self.message, self.details = status, message, details


def invalid(errors: list[Json]) -> Refused:
    """Give the refusal of a request that is at fault."""
    return Refused(400, "Bad Request Exception", {"errors": errors})


def answer(request: Request, value: Json, status: int = 200) -> Response:
    """Give a JSON answer; `request.state` has the moment and what is left of the limit."""
    headers = request.state.headroom.headers() | {"X-Request-Id": "unknown-request-id", "content-type": _JSON}
    return Response(msgspec.json.encode(value), status, headers)


def refusal(request: Request, refused: Refused) -> Response:
    """Give an error in its documented shape."""
    query = f"?{request.url.query}" if request.url.query else ""
    path = f"{request.url.path}{query}"
    value = shapes.error(refused.status, refused.message, path, request.state.now, details=refused.details)
    return answer(request, value, refused.status)
