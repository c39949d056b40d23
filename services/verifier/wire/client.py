"""One request to Cal.com's API.

httpx, without what would carry one company's things to another, or a key to another host: no cookies, no redirects, no
netrc, no variables of the environment, and a network of our own (`plumbing.network.GuardedTransport`).
"""

import asyncio
import importlib.metadata
import socket
import ssl
import traceback
import zlib
from collections.abc import Iterable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final, Self
from urllib.parse import unquote, urlsplit

import httpcore
import httpx
from msgspec.structs import replace

from services.plumbing import lifecycle, telemetry
from services.plumbing.clock import Clock, WallClock
from services.plumbing.network import GuardedTransport, PrivateAddress, names_private
from services.plumbing.settings import PREFIX, Settings, SettingsError
from services.verifier.answers import Answer, Bookings, NotThere, Reason, Unauthorised, Unknown, Webhooks
from services.verifier.ports import Account, Call, CreateWebhook, PatchWebhook
from services.verifier.wire import calls, reading
from services.verifier.wire.calls import Asked, Place, Unaskable
from services.verifier.wire.reading import Reply
from services.verifier.wire.shapes import Misshapen

#: Connections at once beside those for questions: polls, backfills, sweeps, webhooks. Who finds none free waits.
MORE_CONNECTIONS: Final = 12
#: Shorter than the five seconds after which Node closes what is idle, lest we write to what is closing.
KEEPALIVE_SECONDS: Final = 4.0
CLOSE_SECONDS: Final = 2.0
_GZIP: Final = 16 + zlib.MAX_WBITS


class HttpClient:
    """Sends calls to Cal.com; `ports.Client`."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Connects to nothing yet. Raises SettingsError for a proxy's address that is none."""
        self._version = settings.calcom_api_version
        self._timeout_seconds = settings.calcom_timeout_seconds
        self._max_bytes = settings.calcom_max_answer_bytes
        self._proxy = _proxy(settings.calcom_proxy_url)
        self._refuse_private = settings.calcom_private_addresses == "refuse"
        self._clock = clock
        self._agent = f"reconcal/{importlib.metadata.version('reconcal')}"
        connections = settings.verifier_slots + MORE_CONNECTIONS
        self._free = asyncio.Semaphore(connections)
        self._http = httpx.AsyncClient(
            transport=GuardedTransport(
                proxy=self._proxy,
                allow_private=self._proxy is not None or not self._refuse_private,
                connections=connections,
                idle_seconds=KEEPALIVE_SECONDS,
            ),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            timeout=None,  # noqa: S113 - the whole request has one, see `_answer`
            trust_env=False,
        )

    @classmethod
    def open(cls, settings: Settings, clock: Clock | None = None) -> Self:
        """Make one of the settings `calcom_*`. Raises SettingsError."""
        return cls(settings, clock or WallClock())

    async def close(self) -> None:
        """Close what is open, within CLOSE_SECONDS."""
        await lifecycle.bounded(self._http.aclose(), CLOSE_SECONDS)

    async def send(self, account: Account, call: Call) -> Answer:
        """Ask, within the time allowed. Whatever happens is an answer; raises nothing but CancelledError."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer = await self._answer(account, call)
        name = calls.name(call)
        telemetry.api_seconds.labels(name).observe(loop.time() - began)
        telemetry.api_requests.labels(name, _outcome(answer)).inc()
        return answer

    async def _answer(self, account: Account, call: Call) -> Answer:
        host = "the base URL"
        try:
            place, asked = calls.place(account.base_url), calls.spell(call)
            host = place.host
            if self._proxy and self._refuse_private and names_private(host):
                raise PrivateAddress(host)  # noqa: TRY301 - as if it had been resolved here
            headers = self._headers(account.api_key, place)
            async with asyncio.timeout(self._timeout_seconds):
                return await self._exchange(place, asked, headers, call, _secrets(account, call))
        except Exception as error:  # noqa: BLE001 - one answer that nobody has thought of must not stop all questions
            return _failure(error, host)

    async def _exchange(
        self, place: Place, asked: Asked, headers: list[tuple[bytes, bytes]], call: Call, secrets: Iterable[str]
    ) -> Answer:
        url = f"{place.scheme}://{place.authority}{place.path}{asked.target}"
        request = httpx.Request(asked.method, url, headers=headers, content=asked.body)
        async with self._free:
            response = await self._http.send(request, stream=True)
            try:
                reply = Reply(response.status_code, _by_name(response.headers.raw))
                answer = reading.by_head(reply, self._clock.now())
                if answer is not None:
                    return answer
                whole = replace(reply, body=await self._body(response, reply))
                return reading.by_body(call, whole, self._clock.now(), secrets)
            finally:
                await response.aclose()

    async def _body(self, response: httpx.Response, reply: Reply) -> bytes:
        """Read no more than is allowed, counted as it is when unpacked. Raises Misshapen."""
        body = _Body(self._max_bytes, reply.headers.get("content-encoding", ""))
        body.announced(reply.headers.get("content-length", ""))
        try:
            async for piece in response.aiter_raw():
                body.take(piece)
        except (httpcore.NetworkError, httpcore.ProtocolError):
            raise Misshapen(Reason.CUT, f"The answer was cut (status {reply.status}).") from None
        return body.whole()

    def _headers(self, api_key: str, place: Place) -> list[tuple[bytes, bytes]]:
        """Raises Unaskable."""
        fields = {
            "Host": place.authority,
            "Authorization": f"Bearer {api_key}",
            "cal-api-version": self._version,
            "User-Agent": self._agent,
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Content-Type": "application/json",
        }
        if not all(value.isascii() and value.isprintable() for value in fields.values()):
            raise Unaskable(Reason.REJECTED, "The API key, or the version, has characters that no header takes.")
        return [(name.encode(), value.encode()) for name, value in fields.items()]


class _Body:
    """A body as it grows."""

    def __init__(self, max_bytes: int, encoding: str) -> None:
        """Raises Misshapen for an encoding that was not asked for."""
        kind = encoding.strip().lower()
        if kind not in {"", "identity", "gzip", "x-gzip"}:
            raise Misshapen(Reason.NOT_CALCOM, "The answer is packed in a way that was not asked for.")
        self._unpacker = zlib.decompressobj(_GZIP) if "gzip" in kind else None
        self._max_bytes = max_bytes
        self._bytes = bytearray()

    def announced(self, length: str) -> None:
        """Heed Content-Length, which counts what is packed. Raises Misshapen."""
        if length.isascii() and length.isdigit() and (len(length) > 15 or int(length) > self._max_bytes):  # noqa: PLR2004
            raise self._too_large()

    def take(self, piece: bytes) -> None:
        """Take what came, and unpack no more of it than may be. Raises Misshapen."""
        if self._unpacker is not None:
            try:
                piece = self._unpacker.decompress(piece, self._max_bytes - len(self._bytes) + 1)
            except zlib.error:
                raise Misshapen(Reason.CUT, "The answer's gzip is damaged.") from None
        if len(self._bytes) + len(piece) > self._max_bytes:
            raise self._too_large()
        self._bytes += piece

    def whole(self) -> bytes:
        """Give all of it. Raises Misshapen when it is not all."""
        if self._unpacker is not None and not self._unpacker.eof:
            raise Misshapen(Reason.CUT, "The answer's gzip ends in the middle.")
        return bytes(self._bytes)

    def _too_large(self) -> Misshapen:
        return Misshapen(Reason.TOO_LARGE, f"The answer has more than {self._max_bytes} bytes.")


def _failure(error: Exception, host: str) -> Unknown:
    """Say what an exception means; its own words may quote what we sent, so that none of them are told."""
    match error:
        case Unaskable() | Misshapen():
            return Unknown(reason=error.reason, detail=error.detail)
        case PrivateAddress():
            reason, what = Reason.PRIVATE_ADDRESS, "leads to a private address (calcom_private_addresses is `refuse`)"
        case TimeoutError() | httpcore.TimeoutException():
            reason, what = Reason.TIMEOUT, "did not answer in time"
        case httpcore.ProxyError():
            reason, what = Reason.UNREACHABLE, f"is not to be reached: the proxy refuses{_status_of(error)}"
        case httpcore.ConnectError():
            reason, what = Reason.UNREACHABLE, f"is not to be reached: {_cause(error)}"
        case httpcore.NetworkError():
            reason, what = Reason.CUT, "closed the connection before it had answered"
        case httpcore.RemoteProtocolError() if "disconnected" in str(error):  # httpcore's own word for it
            reason, what = Reason.CUT, "closed the connection before it had answered"
        case httpcore.RemoteProtocolError():
            reason, what = Reason.NOT_CALCOM, "answers with something that is no HTTP, or with endless headers"
        case httpcore.LocalProtocolError() | httpcore.UnsupportedProtocol():
            reason, what = Reason.REJECTED, "cannot be asked: the request cannot be written"
        case _:
            _log(error)
            reason, what = Reason.UNREACHABLE, f"could not be asked ({type(error).__name__})"
    return Unknown(reason=reason, detail=f"{host} {what}.")


def _log(error: Exception) -> None:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{frame.filename}:{frame.lineno}"
    telemetry.log().error(telemetry.CALCOM_CLIENT_FAILED, error=type(error).__name__, where=where)


def _cause(error: Exception) -> str:
    """Name the kind of failure; httpcore hands on the error that it met."""
    met = error.args[0] if error.args else None
    if isinstance(met, ssl.SSLCertVerificationError):
        return "its certificate is not trusted"
    if isinstance(met, ssl.SSLError):
        return "TLS failed"
    if isinstance(met, socket.gaierror | UnicodeError):
        return "its name is not known"
    return "no connection"


def _status_of(error: Exception) -> str:
    status = str(error)[:3]
    return f" ({status})" if status.isascii() and status.isdigit() else ""


def _outcome(answer: Answer) -> str:
    match answer:
        case Bookings() | Webhooks():
            return "found"
        case NotThere():
            return "not_there"
        case Unauthorised():
            return "unauthorised"
        case Unknown(reason=reason):
            return reason.value


def _by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Give the headers by name in lower case; of one that comes again the values with commas between."""
    found: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _secrets(account: Account, call: Call) -> tuple[str, ...]:
    secret = call.secret if isinstance(call, CreateWebhook | PatchWebhook) else None
    return (account.api_key, secret) if secret else (account.api_key,)


def _proxy(url: str) -> httpcore.Proxy | None:
    """Raises SettingsError, which does not tell the address: a password stands in it."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError(f"{PREFIX}CALCOM_PROXY_URL: an address like http://user:password@host:port is wanted")
    place = httpcore.URL(scheme=parts.scheme, host=parts.hostname, port=port, target="/")
    if parts.username is None:
        return httpcore.Proxy(place)
    return httpcore.Proxy(place, auth=(unquote(parts.username).encode(), unquote(parts.password or "").encode()))
