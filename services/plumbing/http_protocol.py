"""uvicorn's HTTP with bounds: a head has a size and a time, and what cannot be read ends its connection alone.

uvicorn's own protocol on httptools keeps a head that never ends for as long as memory lasts.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import httptools
from msgspec import Struct
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from services.plumbing import telemetry

#: Of a request line with its headers; also of what comes between or behind bodies and is none (trailers, extensions).
MOST_HEAD_BYTES: Final = 65_536
MOST_HEADERS: Final = 256
#: Requests that wait on one connection for the answer to the one before them.
MOST_WAITING: Final = 16
#: A connection on which no request is under way has so long to bring a whole head.
HEAD_SECONDS = 20.0
#: After a refusal what still comes is thrown away for so long: closed at once, the answer could be lost on its way.
LINGER_SECONDS: Final = 2.0

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_MALFORMED: Final = b'{"error":"this is not HTTP/1.1"}'
_TOO_LARGE: Final = b'{"error":"the head of the request is too large"}'
_STATUS: Final = {400: b"400 Bad Request", 431: b"431 Request Header Fields Too Large"}


class _BreachError(Exception):
    """Raised into the parser, which stops at it."""


class _BodyOnly(Struct):
    """What a parser calls that reads nothing but a body."""

    on_body: Callable[[bytes], None]
    on_message_complete: Callable[[], None]


class BoundedHttp(HttpToolsProtocol):
    """What uvicorn does, within bounds. Costs a request some tenths of a microsecond."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - uvicorn's own
        """See uvicorn: one for each connection."""
        super().__init__(*args, **options)
        self._pending_bytes = 0  # came since the last whole head or piece of a body
        self._too_large = False
        self._deaf = False
        self._late: asyncio.TimerHandle | None = None
        self._running: RequestResponseCycle | None = None
        self._upgrade_asked = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; the first head is waited for."""
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD_SECONDS, self.shutdown)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._deaf = True
        self._in_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless it was said that nothing more is read."""
        if not self._deaf:
            self._pending_bytes += len(data)
            self._unset_keepalive_if_required()
            self._feed(data)
            self._look_after()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            self._pass_over(data[stopped.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("")

    def _look_after(self) -> None:
        """Refuse a head that is too large before it is whole; where no request is under way, a head has its time."""
        if self._deaf:
            return
        if self._pending_bytes > MOST_HEAD_BYTES:
            self._too_large = True
            self.send_400_response("")
        elif self._late is None and (self._running is None or self._running.response_complete):
            self._late = self.loop.call_later(HEAD_SECONDS, self.shutdown)

    def on_headers_complete(self) -> None:
        """Take the head, unless it is too large or too many wait already."""
        if len(self.headers) > MOST_HEADERS or (
            self._pending_bytes > MOST_HEAD_BYTES and self._head_bytes() > MOST_HEAD_BYTES
        ):
            self._too_large = True
            raise _BreachError
        if len(self.pipeline) >= MOST_WAITING:
            raise _BreachError
        self._pending_bytes = 0
        self._in_time()
        super().on_headers_complete()
        self._upgrade_asked = self.parser.should_upgrade()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body; who receives it looks at the size."""
        self._pending_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; not one that asked for another protocol, for its body is still to be read."""
        if not self._upgrade_asked:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's
        """Refuse what cannot be read: after all that was asked before it was answered, and then for good."""
        status = 431 if self._too_large else 400
        telemetry.http_refused.labels(str(status)).inc()
        self._deaf = True
        self._in_time()
        if self.pipeline and self.pipeline[0][0].more_body:
            self.pipeline.popleft()  # it is this one that broke off
        last = self.pipeline[0][0] if self.pipeline else self._running
        if last is not None and not last.response_complete:
            if last.response_started or not last.more_body:
                last.keep_alive = False  # uvicorn closes after it
                return
            last.disconnected = True
            last.message_event.set()
        self._say(status, _TOO_LARGE if self._too_large else _MALFORMED)

    def _say(self, status: int, body: bytes) -> None:
        if self.transport.is_closing():
            return
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (_STATUS[status], len(body)) + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._late = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _pass_over(self, body: bytes) -> None:
        """Read the body of a request that asked for another protocol: it is answered in ours, and the connection ends.

        The parser takes a body for the other protocol's. Java's client asks for HTTP/2 in this way by default.
        """
        self._upgrade_asked = False
        self.cycle.keep_alive = False
        framing = [b"%s: %s\r\n" % header for header in self.headers if header[0] in _FRAMING]
        self.parser = httptools.HttpRequestParser(_BodyOnly(self.on_body, self._end))
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")
        if body and not self._deaf:
            self.data_received(body)

    def _end(self) -> None:
        self._deaf = True
        super().on_message_complete()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
