"""Load on one path, from a process of its own. JSON in, JSON out.

Connections are kept alive, and each sends its next request when the last was answered.
"""

import asyncio
import hashlib
import hmac
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import cycle
from time import perf_counter
from typing import Any, Final

import msgspec
import uvloop
from msgspec import Struct
from standardwebhooks import Webhook

from tests.bench import bodies

#: Requests that are prepared, to be sent over and over.
PREPARED: Final = 512
_OK: Final = b"HTTP/1.1 202"
_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length: "


class Order(Struct):
    """What is asked for. `body`: "calcom" or "appointment"; `path` takes what is signed, or is the bare route."""

    port: int
    path: str
    body: str
    company: str
    secret: str
    connections: int
    seconds: float


class Tally:
    """What came of it. Latencies in ms."""

    def __init__(self, ends_at: float) -> None:
        """Nothing is sent after `ends_at`."""
        self.ends_at = ends_at
        self.latencies_ms: list[float] = []
        self.refused: list[str] = []


class Connection(asyncio.Protocol):
    """Sends a request, waits for the whole answer, sends the next."""

    def __init__(self, requests: Iterator[bytes], tally: Tally) -> None:
        """`requests` are shared by all connections."""
        self._requests, self._tally = requests, tally
        self._got = b""
        self._sent_at = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Take what came; when the answer is whole, count it and go on."""
        self._got += data
        head, end, rest = self._got.partition(_END)
        if not end or len(rest) < _length(head):
            return
        now = perf_counter()
        self._tally.latencies_ms.append((now - self._sent_at) * 1000)
        if not head.startswith(_OK):
            self._tally.refused.append(self._got.decode("latin-1")[:300])
        self._got = b""
        if now < self._tally.ends_at:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """End; before its time that is a failure."""
        if perf_counter() < self._tally.ends_at:
            self._tally.refused.append(f"connection lost: {error!r}")
        if not self.ended.done():
            self.ended.set_result(None)

    def _send(self) -> None:
        self._sent_at = perf_counter()
        self._transport.write(next(self._requests))


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(_LENGTH)
    return int(rest.partition(b"\r\n")[0]) if found else 0


def prepared(order: Order) -> list[bytes]:
    """Give whole requests with real signatures of this moment."""
    make = bodies.webhook if order.body == "calcom" else bodies.appointment
    return [_request(order, make(order.company, number), number) for number in range(PREPARED)]


def _request(order: Order, body: bytes, number: int) -> bytes:
    sign = _calcom if order.body == "calcom" else _standard
    headers = {"host": "bench", "content-type": "application/json", "content-length": str(len(body))}
    headers |= sign(order.secret, body, number)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {order.path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def _calcom(secret: str, body: bytes, _: int) -> dict[str, str]:
    return {"x-cal-signature-256": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def _standard(secret: str, body: bytes, number: int) -> dict[str, str]:
    at, name = datetime.now(UTC), f"msg_{number}"
    signature = Webhook(secret).sign(name, at, body.decode())
    return {"webhook-id": name, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


async def load(order: Order) -> dict[str, Any]:
    """Send for so many seconds; gives what was answered, how fast, and what was not 202."""
    requests = cycle(prepared(order))
    loop = asyncio.get_running_loop()
    began_at = perf_counter()
    tally = Tally(began_at + order.seconds)
    made = [
        await loop.create_connection(lambda: Connection(requests, tally), "127.0.0.1", order.port)
        for _ in range(order.connections)
    ]
    await asyncio.gather(*(connection.ended for _, connection in made))
    seconds = perf_counter() - began_at
    latencies = sorted(tally.latencies_ms)
    return {
        "answered": len(latencies),
        "rate": len(latencies) / seconds,
        "p50_ms": latencies[len(latencies) // 2],
        "p99_ms": latencies[int(len(latencies) * 0.99)],
        "refused": len(tally.refused),
        "example": tally.refused[0] if tally.refused else None,
    }


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(load(asked))))
