"""What strangers may send down a connection: a head and a body have bounds, and nothing of it is a 5xx or a crash."""

import asyncio
import resource
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import repeat
from pathlib import Path

import pytest
from msgspec import Struct

from services.plumbing import health, http_protocol
from tests.support.doors import PING, TOKEN, Doors, signed

CALCOM_PATH = "/webhooks/calcom/acme"
PIECE = b"x" * 65_536
MEBIBYTE = 1_048_576
PATIENCE_SECONDS = 10.0


class Ground(Struct):
    """The doors on a socket."""

    doors: Doors
    port: int


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    doors = Doors()
    doors.load()
    listener, stop = health.listen("127.0.0.1", 0), asyncio.Event()
    serving = asyncio.ensure_future(health.serve(doors.app, listener, stop, stop_seconds=1))
    yield Ground(doors, listener.getsockname()[1])
    stop.set()
    await serving
    await doors.client.aclose()


async def say(ground: Ground, pieces: Iterable[bytes], *, end: bool = False) -> bytes:
    """Send piece after piece until an answer begins; give all that comes until the other side is done or silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", ground.port)
    sending = asyncio.ensure_future(_send(writer, pieces, end=end))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await reader.read()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


async def _send(writer: asyncio.StreamWriter, pieces: Iterable[bytes], *, end: bool) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    if end:
        writer.write_eof()


def statuses(said: bytes) -> list[int]:
    """Give the status of each answer."""
    return [int(part[:3]) for part in said.split(b"HTTP/1.1 ")[1:]]


def post(body: bytes = PING, *more: bytes, path: str = CALCOM_PATH, version: bytes = b"1.1") -> bytes:
    """Give a signed webhook as it goes over the wire; `more`: lines of the head."""
    proof = f"x-cal-signature-256: {signed(body)['X-Cal-Signature-256']}".encode()
    lines = (b"POST %s HTTP/%s" % (path.encode(), version), b"host: ingest", proof, *more)
    return b"\r\n".join((*lines, b"content-length: %d" % len(body), b"", body))


CLOSING = b"connection: close"


def endless(head: bytes, piece: bytes) -> Iterator[bytes]:
    """Send a beginning, then the same piece for ever."""
    yield head
    yield from repeat(piece)


HEAD = b"POST /webhooks/calcom/acme HTTP/1.1\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
TOO_LARGE: dict[str, Callable[[], Iterable[bytes]]] = {
    "headers without end": lambda: endless(HEAD, b"x-more: 1\r\n" * 6000),
    "one header without end": lambda: endless(HEAD + b"x-more: ", PIECE),
    "a name without end": lambda: endless(HEAD, PIECE),
    "an address without end": lambda: endless(b"POST /", PIECE),
    "a header of one mebibyte": lambda: [HEAD + b"x-more: " + b"x" * MEBIBYTE + b"\r\n\r\n"],
    "a header just over the bound": lambda: [HEAD + b"x-more: " + PIECE + b"\r\n\r\n"],
    "ten thousand headers": lambda: [HEAD + b"x-more: 1\r\n" * 10_000 + b"\r\n"],
    "more headers than anyone sends": lambda: [HEAD + b"a:b\r\n" * 300 + b"\r\n"],
    "trailers without end": lambda: endless(CHUNKED + b"1\r\nx\r\n0\r\n", b"x-more: 1\r\n" * 6000),
    "one trailer without end": lambda: endless(CHUNKED + b"1\r\nx\r\n0\r\nx-more: ", PIECE),
    "a chunk's extension without end": lambda: endless(CHUNKED + b"1;x=", PIECE),
    "empty lines without end": lambda: endless(b"", b"\r\n" * 30_000),
}


@pytest.mark.parametrize("name", TOO_LARGE)
async def test_a_head_has_a_bound_and_the_memory_with_it(ground: Ground, name: str) -> None:
    before_bytes = _resident_bytes()
    said = await say(ground, TOO_LARGE[name]())
    assert statuses(said) == [431]
    assert b"connection: close" in said
    assert _resident_bytes() - before_bytes < 20 * MEBIBYTE
    assert ground.doors.kept == []
    assert statuses(await say(ground, [post(PING, CLOSING)])) == [202]


async def test_a_large_head_within_the_bound_comes_in_with_a_large_body(ground: Ground) -> None:
    body = b"y" * 900_000
    request = post(body, b"x-more: " + b"x" * 60_000, CLOSING)
    assert statuses(await say(ground, [request])) == [202]
    assert ground.doors.kept[0].body == body


NOT_HTTP = {
    "a method in small letters": b"post /webhooks/calcom/acme HTTP/1.1\r\n\r\n",
    "no path": b"POST http://ingest HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
    "a tunnel": b"CONNECT ingest:443 HTTP/1.1\r\n\r\n",
    "bytes in the path that are no ASCII": b"POST /\xff HTTP/1.1\r\n\r\n",
    "two lengths": HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\nx",
    "a length and chunks": HEAD + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    "a length that is none": HEAD + b"content-length: -1\r\n\r\n",
    "a length beyond counting": HEAD + b"content-length: " + b"9" * 40 + b"\r\n\r\n",
    "a chunk's size that is none": CHUNKED + b"zz\r\n",
    "a chunk longer than it says": CHUNKED + b"1\r\nxyz\r\n",
    "a space before the colon": HEAD + b"content-length : 1\r\n\r\nx",
    "HTTP/2 by prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another version": b"GET /livez HTTP/9.9\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "nothing but NULs": b"\0" * 100,
}


@pytest.mark.parametrize("name", NOT_HTTP)
async def test_what_is_no_http_is_told_so_once(ground: Ground, name: str) -> None:
    said = await say(ground, [NOT_HTTP[name]])
    assert (statuses(said), said.endswith(b'{"error":"this is not HTTP/1.1"}')) == ([400], True)


async def test_old_and_roundabout_ways_to_ask_are_answered(ground: Ground) -> None:
    assert statuses(await say(ground, [post(PING, version=b"1.0")])) == [202]
    assert statuses(await say(ground, [post(PING, CLOSING, path=f"http://elsewhere{CALCOM_PATH}")])) == [202]
    assert statuses(await say(ground, [b"OPTIONS * HTTP/1.1\r\nconnection: close\r\n\r\n"])) == [404]
    assert statuses(await say(ground, [HEAD + CLOSING + b"\r\n\r\n"])) == [401]


JAVAS_WISH = (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQ")


@pytest.mark.parametrize("size", [0, 100, 900_000])
async def test_javas_wish_for_http_2_is_passed_over(ground: Ground, size: int) -> None:
    """Its client asks with each first request, and is content with HTTP/1.1; the body must not be lost over it."""
    body = b"y" * size
    said = await say(ground, [post(body, *JAVAS_WISH)])
    assert (statuses(said), b"connection: close" in said) == ([202], True)
    assert [one.body for one in ground.doors.kept] == [body]


async def test_a_wish_for_another_protocol_in_pieces_and_chunks_is_passed_over_too(ground: Ground) -> None:
    proof = f"x-cal-signature-256: {signed(b'abc')['X-Cal-Signature-256']}".encode()
    head = b"\r\n".join((HEAD[:-2], proof, *JAVAS_WISH, b"transfer-encoding: chunked", b"", b""))
    pieces = [head[:50], head[50:], b"1\r\na\r\n", b"2\r\nb", b"c\r\n0\r\n", b"\r\n"]
    assert statuses(await say(ground, pieces)) == [202]
    assert [one.body for one in ground.doors.kept] == [b"abc"]


async def test_a_websocket_is_not_had_here(ground: Ground) -> None:
    wish = b"GET /livez HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\nrest"
    assert statuses(await say(ground, [wish])) == [200]


async def test_requests_in_a_row_are_answered_in_a_row(ground: Ground) -> None:
    said = await say(ground, [post() * 9 + post(PING, CLOSING)])
    assert statuses(said) == [202] * 10
    assert [one.ce_id for one in ground.doors.kept] == [f"delivery-{number}" for number in range(1, 11)]


async def test_too_many_in_a_row_are_not_all_read(ground: Ground) -> None:
    said = await say(ground, [post() * 500])
    answered = statuses(said)
    assert set(answered) == {202}
    assert len(answered) == len(ground.doors.kept) < 100


async def test_what_was_asked_is_answered_before_the_rubbish_behind_it(ground: Ground) -> None:
    said = await say(ground, [post() * 3 + b"\0rubbish\r\n\r\n"])
    assert statuses(said) == [202] * 3
    assert len(ground.doors.kept) == 3


async def test_a_body_longer_than_it_says_is_cut_there(ground: Ground) -> None:
    said = await say(ground, [post() + b"{}"])
    assert statuses(said) == [202]
    assert [one.body for one in ground.doors.kept] == [PING]


async def test_a_body_shorter_than_it_says_is_not_kept(ground: Ground) -> None:
    said = await say(ground, [HEAD + b"content-length: 100\r\n\r\nxyz"], end=True)
    assert (said, ground.doors.kept) == (b"", [])


@pytest.mark.parametrize("path", [CALCOM_PATH, "/events/appointments/acme", "/livez", "/nowhere"])
async def test_a_body_without_end_is_refused_and_then_let_go(
    ground: Ground, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.5)
    before_bytes = _resident_bytes()
    head = f"POST {path} HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    try:
        said = await say(ground, endless(head, b"10000\r\n" + PIECE + b"\r\n"))
    except ConnectionError:
        said = b""  # closed while we were sending
    assert statuses(said) in ([413], [405], [404], [])
    assert _resident_bytes() - before_bytes < 20 * MEBIBYTE


async def test_a_connection_that_brings_no_head_is_closed(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    assert await say(ground, []) == b""
    assert await say(ground, [HEAD]) == b""
    assert await say(ground, [HEAD, b"x-slow: "]) == b""


async def test_a_head_that_comes_drop_by_drop_is_not_waited_for(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the first of a connection nor a later one."""
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.3)
    for before in (b"", post()):
        reader, writer = await asyncio.open_connection("127.0.0.1", ground.port)
        writer.write(before)
        if before:
            assert (await _one(reader)).startswith(b"HTTP/1.1 202")
        dripping = asyncio.ensure_future(_drip(writer))
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await _until_closed(reader) == b""
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        writer.close()


async def test_a_connection_at_rest_is_not_cut_in_the_middle_of_its_next_request(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", ground.port)
    writer.write(post()[:-1])  # the head is there, so that its time no longer runs; the body has its own
    assert await _silent(reader, 0.4)
    writer.write(post()[-1:])
    assert (await _one(reader)).startswith(b"HTTP/1.1 202")
    writer.close()


async def _one(reader: asyncio.StreamReader) -> bytes:
    """Read one answer that has a short body."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head + await reader.readexactly(length)


async def _drip(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD)
    while not writer.is_closing():
        writer.write(b"x-slow: 1\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def _until_closed(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def _silent(reader: asyncio.StreamReader, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()
