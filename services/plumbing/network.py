"""Where an address may lead: a name is resolved once, and no address is connected to but one that was looked at."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

import httpcore
import httpx

#: What has no private address among its names' addresses has few; more are not tried.
ADDRESSES_MAX: Final = 4
_NAT64: Final = ip_network("64:ff9b::/96")
#: Not on the Internet, or of the machine's own cloud, though Python calls them global.
_NOBODYS: Final = tuple(
    ip_network(text)
    for text in (
        "168.63.129.16/32",  # Azure's own services
        "192.0.0.0/24",  # IETF's; 192.0.0.192 tells a machine of Oracle's cloud its secrets
        "192.88.99.0/24",  # relays of 6to4, given up
        "3fff::/20",  # documentation
        "fec0::/10",  # site-local, given up
    )
)


class PrivateAddress(httpcore.ConnectError):
    """The name leads to no address that may be asked; nothing was connected to."""


def is_public(address: str) -> bool:
    """Tell whether an IP address is one that anybody on the Internet would reach, and that no machine has for itself.

    An IPv6 address that stands for an IPv4 address (mapped, NAT64, 6to4) is what that one is. Raises ValueError.
    """
    return _is_public(ip_address(address))


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    meant = _meant(ip)
    if meant is not None:
        return _is_public(meant)
    if not ip.is_global or ip.is_multicast or ip.is_reserved:
        return False
    return not any(ip in network for network in _NOBODYS)


def _meant(ip: IPv4Address | IPv6Address) -> IPv4Address | None:
    if isinstance(ip, IPv4Address):
        return None
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour


def names_private(host: str) -> bool:
    """Tell whether a host says by itself that it is private: an IP address, or localhost.

    Where a proxy resolves names this is all that can be known here. A number in another spelling ("127.1",
    "0x7f000001") is read as the system's resolver reads it.
    """
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return not _is_public(ip_address(name))
    except ValueError:
        pass
    try:
        return not _is_public(IPv4Address(socket.inet_aton(name)))
    except (OSError, ValueError):
        return False


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects for httpcore, to public addresses alone unless told otherwise."""

    def __init__(self, *, allow_private: bool) -> None:
        """`allow_private`: any address will do (what is self-hosted, and where a proxy is connected to)."""
        self._allow_private = allow_private
        self._sockets = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve the name, look at what came, connect to the first that answers.

        `timeout` is for all of it, in seconds; with several addresses none may use up what the others need. Raises
        PrivateAddress, httpcore.ConnectError, httpcore.ConnectTimeout.
        """
        addresses = self._allowed(await _resolve(host, port))
        share = None if timeout is None or len(addresses) == 1 else timeout / (len(addresses) + 1)
        failed: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in addresses:
            try:
                return await self._sockets.connect_tcp(address, port, share or timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = failed or error
        raise failed or httpcore.ConnectError("no address")

    def _allowed(self, found: list[str]) -> list[str]:
        """Pass over what is private; a public address beside it will do. Raises PrivateAddress when none is left."""
        allowed = [one for one in found if self._allow_private or is_public(one)]
        if found and not allowed:
            raise PrivateAddress("private addresses only")
        return allowed[:ADDRESSES_MAX]


async def _resolve(host: str, port: int) -> list[str]:
    """Give a name's addresses, each once, in the system's order. Raises httpcore.ConnectError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(error) from None
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class GuardedTransport(httpx.AsyncBaseTransport):
    """httpx's way to the network, over connections that `GuardedBackend` opens.

    httpx's own transport has no place for a network backend. Errors are httpcore's.
    """

    def __init__(
        self, *, proxy: httpcore.Proxy | None, allow_private: bool, connections: int, idle_seconds: float
    ) -> None:
        """`connections` at once at most; an idle one is dropped after `idle_seconds`."""
        self._proxy, self._connections, self._idle_seconds = proxy, connections, idle_seconds
        self._tls = httpcore.default_ssl_context()  # the system's authorities and certifi's
        self._network = GuardedBackend(allow_private=allow_private)
        self._pool = self._new_pool()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the answer's body is read by whoever asked.

        Through a proxy each request has a pool of its own: httpcore's tunnels never give back their place in a pool
        when TLS fails within them.
        """
        assert isinstance(request.stream, httpx.AsyncByteStream)  # noqa: S101 - of an AsyncClient
        pool = self._pool if self._proxy is None else self._new_pool()
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        try:
            answer = await pool.handle_async_request(
                httpcore.Request(request.method, target, headers=request.headers.raw, content=request.stream)
            )
        except BaseException:
            if pool is not self._pool:
                await pool.aclose()
            raise
        stream = _Stream(answer, None if pool is self._pool else pool)
        return httpx.Response(answer.status, headers=answer.headers, stream=stream, extensions=answer.extensions)

    async def aclose(self) -> None:
        """Close what is open."""
        await self._pool.aclose()

    def _new_pool(self) -> httpcore.AsyncConnectionPool:
        return httpcore.AsyncConnectionPool(
            ssl_context=self._tls,
            proxy=self._proxy,
            max_connections=self._connections,
            keepalive_expiry=self._idle_seconds,
            network_backend=self._network,
        )


class _Stream(httpx.AsyncByteStream):
    """An answer's body, and the pool that goes with it."""

    def __init__(self, answer: httpcore.Response, pool: httpcore.AsyncConnectionPool | None) -> None:
        self._answer, self._pool = answer, pool

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._answer.aiter_stream():
            yield piece

    async def aclose(self) -> None:
        await self._answer.aclose()
        if self._pool is not None:
            await self._pool.aclose()
