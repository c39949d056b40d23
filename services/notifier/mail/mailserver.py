"""The way to the mail server: connection, TLS and login; and what somebody has to mend where there is no way."""

import asyncio
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, cast

import aiosmtplib
from aiosmtplib import SMTPException, SMTPHeloError, SMTPResponseException, SMTPServerDisconnected, SMTPTimeoutError

from services.notifier.ports import Fate, Trouble, TroubleKind, Undelivered
from services.plumbing.settings import Settings
from services.words.plain import plain

CLOSING: Final = 421
#: Answers that speak of how we log in, whatever they answer.
LOGIN_WANTED: Final = frozenset({530, 534, 535, 538})
#: What aiosmtplib gives as the code of an answer that is none.
NOT_SMTP: Final = -1
_SAID_CHARACTERS: Final = 200
#: The server knows the way of logging in, but not with us: the next may do.
_ANOTHER_WAY: Final = frozenset({500, 502, 503, 504, 534})
_WAYS: Final = ("plain", "login", "cram-md5")


class Connection(aiosmtplib.SMTP):
    """A connection that is cut when it is closed: nothing more goes out over it, and nobody is waited for."""

    def close(self) -> None:
        """Cut it, at once."""
        if self.transport is not None:
            cast(asyncio.WriteTransport, self.transport).abort()
        super().close()


class MailServer:
    """The server that the settings name."""

    def __init__(self, settings: Settings) -> None:
        """Opens nothing."""
        self._settings = settings
        self._name = plain(f"{settings.smtp_host}:{settings.smtp_port}", 100)
        self._secrets = _secrets(settings.smtp_username, settings.smtp_password)

    async def connect(self) -> Connection:
        """Connect, begin TLS and log in, as the settings want it; never less than that.

        Raises Undelivered, AWAY, with what is to be mended; no connection is left behind, whatever ends this.
        """
        connection = await self._connection()
        try:
            with self._or_away(self._unreachable):
                await connection.connect()
                await _greet(connection)
            if self._settings.smtp_security == "starttls":
                with self._or_away(self._no_tls):
                    await self._start_tls(connection)
            if self._settings.smtp_username:
                with self._or_away(self._no_login):
                    await self._log_in(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def said(self, code: int, text: str) -> str:
        """Give an answer of the server in one harmless line, without what we logged in with."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return plain(text if code == NOT_SMTP else f"{code} {text}", _SAID_CHARACTERS)

    def away(self, kind: TroubleKind, detail: str) -> Undelivered:
        """Say that nothing can be sent now; `detail` begins with what the server does: "refuses ..."."""
        return Undelivered(Fate.AWAY, plain(detail, 300), trouble=self.trouble(kind, detail))

    def trouble(self, kind: TroubleKind, detail: str) -> Trouble:
        """Say what is to be mended; `detail` begins with what the server does."""
        return Trouble(kind, f"The mail server {self._name} {detail}")

    def failed(self, error: Exception) -> str:
        """Say what the server did when the connection failed: "ended the connection", say."""
        if isinstance(error, TimeoutError):
            return f"did not answer within {self._settings.smtp_timeout_seconds:g} s"
        if isinstance(error, SMTPResponseException) and error.code == CLOSING:
            return f"is closing: {self.said(error.code, error.message)}"
        if isinstance(error, SMTPResponseException):
            return f"does not speak SMTP: {self.said(error.code, error.message)}"
        return "ended the connection"

    async def _connection(self) -> Connection:
        settings = self._settings
        if settings.smtp_username and not settings.smtp_password:
            raise self.away(
                TroubleKind.SMTP_AUTH,
                "is to be logged in to without a password. Set RECONCAL_SMTP_PASSWORD, or leave RECONCAL_SMTP_USERNAME "
                "empty where no login is wanted.",
            )
        with self._or_away(self._unreachable):
            return Connection(
                hostname=settings.smtp_host,
                port=settings.smtp_port,
                timeout=settings.smtp_timeout_seconds,
                use_tls=settings.smtp_security == "tls",
                start_tls=False,  # that is ours to do: we want to know what failed
                tls_context=await self._tls_context(),
                local_hostname="localhost",  # until we know better; else DNS is asked for it
            )

    async def _tls_context(self) -> ssl.SSLContext | None:
        if self._settings.smtp_security == "none":
            return None
        file = self._settings.smtp_ca_file
        try:  # the system's authorities are a long list
            return await asyncio.to_thread(ssl.create_default_context, cafile=file or None)
        except OSError as error:
            raise self.away(
                TroubleKind.SMTP_TLS,
                f"cannot be checked: the file {plain(file)} with its certificate authority cannot be read "
                f"({type(error).__name__}). Look at RECONCAL_SMTP_CA_FILE.",
            ) from error

    async def _start_tls(self, connection: Connection) -> None:
        if not connection.supports_extension("starttls"):
            raise self.away(
                TroubleKind.SMTP_TLS,
                "does not offer STARTTLS, and without it nothing is sent. Look at RECONCAL_SMTP_PORT (587 as a rule), "
                "or set RECONCAL_SMTP_SECURITY=tls where the port (465 as a rule) speaks TLS from the start.",
            )
        await connection.starttls()
        await _greet(connection)

    async def _log_in(self, connection: Connection) -> None:
        """Try the ways that both sides know until one is taken; a refused password is not tried in another way."""
        ways = [way for way in _WAYS if way in connection.server_auth_methods]
        if not ways:
            raise self.away(
                TroubleKind.SMTP_AUTH,
                "offers no login that we know. Many offer it only after TLS: look at RECONCAL_SMTP_SECURITY; or leave "
                "RECONCAL_SMTP_USERNAME empty where no login is wanted.",
            )
        name, password = self._settings.smtp_username, self._settings.smtp_password
        known = {"plain": connection.auth_plain, "login": connection.auth_login, "cram-md5": connection.auth_crammd5}
        for way in ways[:-1]:
            try:
                await known[way](name, password)
            except SMTPResponseException as error:
                if error.code not in _ANOTHER_WAY:
                    raise
            else:
                return
        await known[ways[-1]](name, password)

    @contextmanager
    def _or_away(self, explain: Callable[[Exception], Undelivered]) -> Iterator[None]:
        try:
            yield
        except (SMTPException, OSError, ValueError) as error:
            raise explain(error) from error

    def _unreachable(self, error: Exception) -> Undelivered:
        cause = error.__cause__ or error
        if isinstance(cause, ssl.SSLError):
            return self._no_tls(cause)
        if isinstance(error, SMTPResponseException) and error.code != NOT_SMTP:
            detail = f"refuses our connection: {self.said(error.code, error.message)}. Look at RECONCAL_SMTP_HOST."
        elif isinstance(cause, ValueError | socket.gaierror):
            detail = "has a name that leads to no address. Look at RECONCAL_SMTP_HOST."
        elif isinstance(cause, SMTPTimeoutError | SMTPServerDisconnected | SMTPResponseException):
            detail = (
                f"{self.failed(cause)}, although it took the connection. Look at RECONCAL_SMTP_PORT; where the port "
                "speaks TLS from the start (465 as a rule), set RECONCAL_SMTP_SECURITY=tls."
            )
        elif isinstance(error, TimeoutError):
            detail = f"{self.failed(error)}. Look at RECONCAL_SMTP_HOST and RECONCAL_SMTP_PORT, and at firewalls."
        else:
            detail = f"cannot be connected to ({_why(cause)}). Look at RECONCAL_SMTP_HOST and RECONCAL_SMTP_PORT."
        return self.away(TroubleKind.SMTP_UNREACHABLE, detail)

    def _no_tls(self, error: Exception) -> Undelivered:
        if isinstance(error, ssl.SSLCertVerificationError):
            detail = (
                f"has a certificate that is not trusted: {plain(error.verify_message)}. RECONCAL_SMTP_HOST has to be "
                "the name in it, and RECONCAL_SMTP_CA_FILE its authority where that is one of your own."
            )
        elif isinstance(error, ssl.SSLError):
            detail = (
                f"does not speak TLS as we do ({plain(error.reason or 'no reason given')}). Look at RECONCAL_SMTP_PORT "
                "and RECONCAL_SMTP_SECURITY: starttls for 587, tls for 465, as a rule."
            )
        elif isinstance(error, SMTPResponseException) and error.code != NOT_SMTP:
            detail = f"refuses TLS: {self.said(error.code, error.message)}. Look at RECONCAL_SMTP_SECURITY."
        else:
            detail = f"{self.failed(error)} when TLS was to begin. Look at RECONCAL_SMTP_SECURITY."
        return self.away(TroubleKind.SMTP_TLS, detail)

    def _no_login(self, error: Exception) -> Undelivered:
        if not isinstance(error, SMTPResponseException):
            return self.away(TroubleKind.SMTP_AUTH, f"{self.failed(error)} when we logged in. {_LOOK_AT_LOGIN}")
        if error.code == CLOSING:
            return self.away(TroubleKind.SMTP_UNREACHABLE, f"{self.failed(error)}.")
        said = self.said(error.code, error.message)
        return self.away(TroubleKind.SMTP_AUTH, f"refuses our login: {said}. {_LOOK_AT_LOGIN}")


_LOOK_AT_LOGIN: Final = "Look at RECONCAL_SMTP_USERNAME and RECONCAL_SMTP_PASSWORD."


async def _greet(connection: Connection) -> None:
    connection.local_hostname = _our_name(connection)
    try:
        await connection.ehlo()
    except SMTPHeloError as error:
        if error.code == CLOSING:
            raise
        await connection.helo()


def _our_name(connection: Connection) -> str:
    """Give our name as RFC 5321 wants it, without asking DNS: with a domain, else the address of this connection."""
    name = socket.gethostname()
    if "." in name and name.isascii() and name.replace(".", "").replace("-", "").isalnum():
        return name
    address: str = connection.get_transport_info("sockname")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _secrets(username: str, password: str) -> tuple[str, ...]:
    """Give what must not come back out of a server's answer: the password, and as it goes over the wire."""
    if not password:
        return ()
    both = f"\0{username}\0{password}".encode()
    return b64encode(both).decode(), b64encode(password.encode()).decode(), password


def _why(error: BaseException) -> str:
    return plain(error.strerror if isinstance(error, OSError) and error.strerror else str(error))
