"""Reading requests and writing answers, no more of ASGI than the doors need: they are the hot path."""

import asyncio
from typing import Final

from msgspec import Struct
from starlette.types import Message, Receive, Send

#: By lower-case name; where one was sent twice, the last.
Headers = dict[bytes, bytes]

#: A body that takes longer to come is given up; nobody's window began with it.
READ_SECONDS: Final = 20.0
_LONGEST_LENGTH: Final = 18


class TooLargeError(Exception):
    """The body is larger than what is taken."""


class TooSlowError(Exception):
    """The body did not come in READ_SECONDS."""


class GoneError(Exception):
    """The sender went away before the body was whole."""


class Answer(Struct, frozen=True):
    """A status with its ASGI messages, ready to be sent any number of times."""

    status: int
    start: Message
    body: Message

    async def send(self, send: Send) -> None:
        """Send it."""
        await send(self.start)
        await send(self.body)


def answer(status: int, body: bytes, *more: tuple[bytes, bytes]) -> Answer:
    """Make an answer of JSON, with these headers more."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *more]
    start: Message = {"type": "http.response.start", "status": status, "headers": headers}
    return Answer(status, start, {"type": "http.response.body", "body": body})


async def read_body(headers: Headers, receive: Receive, most_bytes: int) -> bytes:
    """Read the whole body. Raises TooLargeError, without reading on, TooSlowError, GoneError."""
    if _declared(headers) > most_bytes:
        raise TooLargeError
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await _read(receive, most_bytes)
    except TimeoutError:
        raise TooSlowError from None


async def _read(receive: Receive, most_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > most_bytes:
            raise TooLargeError
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _declared(headers: Headers) -> int:
    length = headers.get(b"content-length", b"0")
    return int(length[:_LONGEST_LENGTH]) if length.isdigit() else 0
