"""Ingest as it is, and beside its doors one route that only reads the body: /bare."""

import os
import sys
from collections.abc import Callable
from typing import Any, Final
from unittest.mock import patch

from starlette.types import ASGIApp, Receive, Scope, Send

from services.ingest import main
from services.ingest.app import create_app
from services.ingest.doors import ACCEPTED
from services.plumbing import lifecycle, telemetry
from services.plumbing.settings import load

BARE: Final = "/bare"
_HEADERS: Final = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ACCEPTED))]


def with_bare_route(make: Callable[..., ASGIApp]) -> Callable[..., ASGIApp]:
    """Give a `create_app` whose application has the route, too."""

    def create(*args: Any, **options: Any) -> ASGIApp:
        ingest = make(*args, **options)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"] == BARE:
                await _bare(receive, send)
            else:
                await ingest(scope, receive, send)

        return app

    return create


async def _bare(receive: Receive, send: Send) -> None:
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 202, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": ACCEPTED})


def run() -> int:
    """Serve under the settings of the environment until told to stop."""
    settings = load(os.environ)
    telemetry.configure_logs(settings)
    # Nothing of ingest is replaced: its own composition is what is measured, with a route more.
    with patch.object(main, "create_app", with_bare_route(create_app)):
        return lifecycle.main(lambda stop: main.serve(settings, stop))


if __name__ == "__main__":
    sys.exit(run())
