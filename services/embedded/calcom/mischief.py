"""How the stand-in misbehaves when told to: for one key or for all, so many times or until stopped.

Of each kind of prank that applies to a request the oldest plays; several kinds may play at once (slow and cut).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final, TypeVar

from starlette.types import Message, Receive, Scope, Send

from services.embedded.calcom.pranks import Cut, Hang, Huge, Instead, Prank, Refusal

_CHUNK: Final = b" " * 65_536
P = TypeVar("P", bound="Prank")


class Playing:
    """A prank that is on."""

    def __init__(self, prank: Prank, key: str | None, times: int | None, under: str) -> None:
        """Made by `Mischief.play`."""
        self.prank = prank
        self.played = 0
        self._key, self._left, self._under = key, times, under
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Let it be; what hangs because of it ends."""
        self._left = 0
        self._stopped.set()

    def is_of(self, key: str | None) -> bool:
        """Tell whether it plays for this key alone."""
        return self._key == key

    def applies(self, key: str, path: str) -> bool:
        """Tell whether it would play for a request."""
        return self._left != 0 and self._key in (None, key) and path.startswith(self._under)

    def take(self) -> None:
        """Play once."""
        self.played += 1
        if self._left is not None:
            self._left -= 1

    async def over(self) -> None:
        """Wait until it is stopped."""
        await self._stopped.wait()


class Mischief:
    """All pranks that are on."""

    def __init__(self) -> None:
        """Begin honest."""
        self._playing: list[Playing] = []

    def play(self, prank: Prank, *, key: str | None = None, times: int | None = None, under: str = "/v2") -> Playing:
        """Begin a prank, for one key (for all), for so many requests (until it is stopped), below a path."""
        playing = Playing(prank, key, times, under)
        self._playing.append(playing)
        return playing

    def stop(self, key: str | None = None) -> None:
        """Stop all pranks; with a key: those that play for it alone."""
        for playing in [one for one in self._playing if key is None or one.is_of(key)]:
            playing.stop()
            self._playing.remove(playing)

    def for_request(self, key: str, path: str) -> "Pranks":
        """Take what plays for a request: of each kind the oldest."""
        found: dict[type[Prank], Playing] = {}
        for playing in self._playing:
            kind = type(playing.prank)
            kind = Instead if kind is Refusal else kind  # both are the whole answer
            if playing.applies(key, path):
                found.setdefault(kind, playing)
        for playing in found.values():
            playing.take()
        return Pranks(found.values())


class Pranks:
    """What plays for one request."""

    def __init__(self, playing: Iterable[Playing] = ()) -> None:
        """`playing`: at most one of a kind."""
        self._of_kind = {type(one.prank): one for one in playing}

    def get(self, kind: type[P]) -> P | None:
        """Give the prank of a kind, where one plays."""
        playing = self._of_kind.get(kind)
        return playing.prank if playing is not None and isinstance(playing.prank, kind) else None

    async def hang(self, receive: Receive) -> bool:
        """Wait until the other side hangs up or the prank is stopped; true: stopped, the answer may come after all."""
        over = asyncio.ensure_future(self._of_kind[Hang].over())
        hung_up = asyncio.ensure_future(_hung_up(receive))
        try:
            await asyncio.wait((over, hung_up), return_when=asyncio.FIRST_COMPLETED)
            return over.done()
        finally:
            over.cancel()
            hung_up.cancel()

    def spoils_body(self) -> bool:
        """Tell whether an answer is not to come as it is."""
        return any(kind in self._of_kind for kind in (Cut, Huge, Hang))

    async def send_spoilt(self, start: Message, body: bytes, receive: Receive, send: Send) -> None:
        """Send an answer and spoil it on its way."""
        huge = self.get(Huge)
        if huge is not None:
            await _send_huge(huge, start, body, send)
            return
        await send(start)
        half = len(body) // 2
        await send({"type": "http.response.body", "body": body[:half], "more_body": True})
        if self.get(Hang) is not None and await self.hang(receive):
            await send({"type": "http.response.body", "body": body[half:]})
        # Left without an end: the server hangs up.


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_huge(huge: Huge, start: Message, body: bytes, send: Send) -> None:
    """Send the answer with white space before its last brace, never held in memory."""
    chunks = huge.megabytes * 16
    length = len(body) + chunks * len(_CHUNK)
    headers = [pair for pair in start["headers"] if pair[0] != b"content-length"]
    declared = [(b"content-length", b"%d" % length)] if huge.declared else []
    await send({**start, "headers": headers + declared})
    async for piece in _pieces(body, chunks):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": body[-1:]})


async def _pieces(body: bytes, chunks: int) -> AsyncIterator[bytes]:
    yield body[:-1]
    for _ in range(chunks):
        yield _CHUNK


def spoiling(
    pranks: Pranks, application: Callable[[Scope, Receive, Send], Awaitable[None]]
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Give an application whose answers are spoilt on their way."""

    async def spoilt(scope: Scope, receive: Receive, send: Send) -> None:
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        await application(scope, receive, hold)
        body = b"".join(message.get("body", b"") for message in held[1:])
        await pranks.send_spoilt(held[0], body, receive, send)

    return spoilt
