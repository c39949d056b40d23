"""The stand-in on a port of this machine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from services.embedded.calcom.standin import Calcom
from services.embedded.ports import HOST
from services.plumbing import health

_STOP_SECONDS: Final = 2.0


@asynccontextmanager
async def served(calcom: Calcom, port: int = 0) -> AsyncIterator[str]:
    """Serve the API; gives its base URL, `http://127.0.0.1:…/v2`. Port 0: a free one. Raises OSError.

    At the end pranks are stopped, so that nothing hangs, and the stand-in hangs up.
    """
    listener = health.listen(HOST, port)
    stop = asyncio.Event()
    serving = asyncio.create_task(health.serve(calcom.api, listener, stop, stop_seconds=_STOP_SECONDS))
    try:
        yield f"http://{HOST}:{listener.getsockname()[1]}/v2"
    finally:
        await calcom.aclose()
        stop.set()
        await serving
