"""One request to an endpoint of a company's.

Nothing is carried from one company to another, or from one host to another: no cookies, no redirects, no netrc, no
proxies of the environment, and a network of our own (`plumbing.network.GuardedTransport`).
"""

import asyncio
import importlib.metadata
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Final

import httpcore
import httpx

from services.notifier.hooks.replies import NotTaken, Reply, taken
from services.plumbing import lifecycle
from services.plumbing.clock import Clock
from services.plumbing.network import GuardedTransport, PrivateAddress
from services.plumbing.secrets import Vault
from services.plumbing.settings import Settings, SettingsError

#: No more of an answer is read.
ANSWER_MAX_BYTES: Final = 65_536
#: So much of it is looked at.
BEGINNING_BYTES: Final = 1_024
KEEPALIVE_SECONDS: Final = 4.0
CLOSE_SECONDS: Final = 1.0


class Outgoing:
    """Posts bodies to addresses that lie encrypted in the database."""

    def __init__(self, settings: Settings, clock: Clock, *, connections: int) -> None:
        """Connects to nothing yet. `connections` at once at most; who finds none free waits within his time."""
        self._clock = clock
        self._keys = settings.secret_key
        self._timeout_seconds = settings.endpoint_timeout_seconds
        self._agent = f"reconcal/{importlib.metadata.version('reconcal')}"
        self._transport = GuardedTransport(
            proxy=None,
            allow_private=settings.endpoint_private_addresses == "allow",
            connections=connections,
            idle_seconds=KEEPALIVE_SECONDS,
        )

    async def close(self) -> None:
        """Close what is open, within CLOSE_SECONDS."""
        await lifecycle.bounded(self._transport.aclose(), CLOSE_SECONDS)

    def open(self, ciphertext: bytes) -> str:
        """Decrypt an address or a secret. Raises NotTaken, which names the setting that is missing or does not fit."""
        try:
            return Vault(self._keys).open(ciphertext)
        except SettingsError as error:
            advice = "Give the notifier the RECONCAL_SECRET_KEY that the endpoint was added with."
            raise NotTaken(f"its address cannot be read ({error})", advice=advice, ours=True) from None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> str:
        """Post JSON, within the time allowed; gives what was answered. Raises NotTaken and nothing else."""
        sending, heard = _Sending(body), _Heard()
        try:
            request = httpx.Request("POST", url, headers=self._headers(url, body, headers), stream=sending)
            async with asyncio.timeout(self._timeout_seconds):
                await self._exchange(request, heard)
        except Exception as error:  # noqa: BLE001 - an address that nobody has thought of must not stop all others
            if heard.reply is None:
                raise _failure(error, self._timeout_seconds, in_doubt=sending.begun) from None
        assert heard.reply is not None  # noqa: S101 - an answer whose end did not come is one all the same
        return taken(heard.reply, self._clock.now())

    async def _exchange(self, request: httpx.Request, heard: "_Heard") -> None:
        response = await self._transport.handle_async_request(request)
        try:
            await heard.hear(response)
        finally:
            await response.aclose()

    def _headers(self, url: str, body: bytes, more: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        fields = {
            "Host": httpx.URL(url).netloc.decode("ascii"),
            "User-Agent": self._agent,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **more,
        }
        return [(name.encode(), value.encode()) for name, value in fields.items()]


class _Sending(httpx.AsyncByteStream):
    """A body; `begun`: from when on the other side may have it."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.begun = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = True
        yield self._body


class _Heard:
    """An answer as it comes: the status counts, whatever becomes of the rest."""

    def __init__(self) -> None:
        self.reply: Reply | None = None

    async def hear(self, response: httpx.Response) -> None:
        """Read the status, then the body as far as is allowed."""
        status, retry_after = response.status_code, response.headers.get("retry-after", "")
        self.reply = Reply(status=status, retry_after=retry_after)
        beginning, read_bytes = b"", 0
        async for piece in response.aiter_raw():
            read_bytes += len(piece)
            if len(beginning) < BEGINNING_BYTES:
                beginning = (beginning + piece)[:BEGINNING_BYTES]
                self.reply = Reply(status=status, retry_after=retry_after, beginning=beginning)
            if read_bytes >= ANSWER_MAX_BYTES:
                return


def _failure(error: Exception, timeout_seconds: float, *, in_doubt: bool) -> NotTaken:
    """Say what an exception means; its own words may quote what is secret, so that none of them are told."""
    advice: str | None = None
    match error:
        case PrivateAddress():
            reason = "its name leads to a private address, which is refused"
            advice = "If it is meant to, set RECONCAL_ENDPOINT_PRIVATE_ADDRESSES to `allow`; else remove it."
        case TimeoutError() | httpcore.TimeoutException():
            reason = f"it did not answer in {timeout_seconds:g} s"
        case httpcore.ConnectError():
            reason, advice = _unreachable(error.args[0] if error.args else None)
        case httpcore.RemoteProtocolError() if "disconnected" not in str(error):  # httpcore's word for a cut connection
            reason, advice = "it answers with something that is no HTTP", "See whether the port is a web server's."
        case httpcore.NetworkError() | httpcore.RemoteProtocolError():
            reason = "it closed the connection before it had answered"
        case _:
            reason, advice = f"it cannot be asked ({type(error).__name__})", "Remove it and add the right address."
    return NotTaken(reason, advice=advice, in_doubt=in_doubt)


def _unreachable(met: object) -> tuple[str, str | None]:
    """Name the kind of failure, and what to do; httpcore hands on the error that it met."""
    if isinstance(met, ssl.SSLCertVerificationError):
        return "its certificate is not trusted", "Have its owner renew it, or give the right address."
    if isinstance(met, ssl.SSLError):
        return "it speaks no TLS", "See whether https and the port are right."
    if isinstance(met, socket.gaierror | UnicodeError):
        return "its name is not known", "See whether it is spelled right."
    return "there is no connection to it", None
