"""A real SMTP server (aiosmtpd, over TCP) that a test can tell what to do.

async with PostOffice() as office:
    office.at_rcpt["mia@example.com"] = "550 no such user"       # by address
    office.tell(Step.KEPT, CUT)                                  # once: keeps the mail, answers nothing
    office.always[Step.MAIL] = "451 come back later"             # each time
    office.tell(Step.BODY, event := asyncio.Event())             # waits until the test sets it
"""

import asyncio
import ssl
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any, Final, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from services.embedded.mailsink import MailSink, _Smtp
from services.embedded.ports import HOST
from services.plumbing.clock import Clock


class Step(StrEnum):
    """Where a connection is when it does as told: before the command is worked on."""

    GREETING = "GREETING"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    RSET = "RSET"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "BODY"  # all of the mail is there; it is not kept yet
    KEPT = "KEPT"  # it is kept; nothing was answered yet
    QUIT = "QUIT"


class Cut:
    """The order to cut the connection without a word."""


CUT: Final = Cut()
#: An answer in place of the usual one (a 421 hangs up after it), a cut, an event that is waited for, or what is done.
Order = str | Cut | asyncio.Event | Callable[[], Awaitable[None]]


class PostOffice(MailSink):
    """A mail server that does as it is told.

    `security`: "none", "starttls" (required) or "tls", with the context of its certificate. `users`: name to password;
    given, a login is required. `mails_per_connection`: after so many it ends the connection, with a 421 at the next
    MAIL, or without a word where `quiet`.
    """

    def __init__(
        self,
        smtp_port: int = 0,
        *,
        clock: Clock | None = None,
        security: str = "none",
        tls: ssl.SSLContext | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(smtp_port, clock)
        self.mails = deque()
        self.at_rcpt: dict[str, str] = {}
        self.at_data: dict[str, str] = {}
        self.before_answer: list[Callable[[], Awaitable[object]]] = []
        self.always: dict[Step, Order] = {}
        self.mails_per_connection: int | None = None
        self.quiet = False
        self.connections = 0
        self.visits: list[Step] = []
        self.logins: list[str] = []
        self.raw: list[bytes] = []
        self.users = users
        self._security, self._tls = security, tls
        self._once: defaultdict[Step, deque[Order]] = defaultdict(deque)

    @property
    def open_connections(self) -> int:
        """Give how many connections stand at this moment."""
        return len(self._sessions)

    def tell(self, step: Step, *orders: Order) -> None:
        """Give orders for a step: each is followed once, one a visit, before those of `always`."""
        self._once[step].extend(orders)

    def took(self) -> list[str]:
        """Give the recipients of the mails that were kept."""
        return [mail.to[0] for mail in self.mails]

    def message_ids(self) -> list[str]:
        """Give the Message-IDs of the mails that were kept; a mail that came twice is there twice."""
        return [mail.message_id or "" for mail in self.mails]

    async def start(self) -> None:
        """Listen, on the same port as before where it was started before."""
        loop = asyncio.get_running_loop()
        implicit = self._tls if self._security == "tls" else None
        self._server = await loop.create_server(
            lambda: _Counter(self, loop, self._options()), HOST, self.smtp_port, ssl=implicit
        )
        self.smtp_port = self._server.sockets[0].getsockname()[1]

    def _options(self) -> dict[str, Any]:
        starttls = self._security == "starttls"
        return {
            "tls_context": self._tls if starttls else None,
            "require_starttls": starttls,
            "auth_require_tls": starttls,
            "authenticator": self._authenticate,
        }

    def _authenticate(self, _server: SMTP, _session: Session, _envelope: Envelope, _way: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        name = given.login.decode()
        known = self.users is not None and self.users.get(name) == given.password.decode()
        if known:
            self.logins.append(name)
        return AuthResult(success=known, handled=False, auth_data=given)

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, answers: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [answer for answer in answers if self.users is not None or not answer.startswith("250-AUTH")]

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.at_rcpt:
            return self.at_rcpt[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(server, _Counter)
        if answer := self.at_data.get(envelope.rcpt_tos[0]) or await server.told(Step.BODY):
            return answer
        for act in self.before_answer:
            await act()
        answer = await super().handle_DATA(server, session, envelope)
        self.raw.append(envelope.original_content or b"")
        server.taken += 1
        return await server.told(Step.KEPT) or answer

    def order(self, step: Step) -> Order | None:
        """Give what is to be done at a step, and note the visit."""
        self.visits.append(step)
        return self._once[step].popleft() if self._once[step] else self.always.get(step)


class _Counter(_Smtp):
    """One connection to the office."""

    def __init__(self, office: PostOffice, loop: asyncio.AbstractEventLoop, options: dict[str, Any]) -> None:
        super().__init__(office, office._sessions, loop, **options)
        self._office = office
        self.taken = 0
        self._counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._counted:  # STARTTLS makes it anew
            self._counted = True
            self._office.connections += 1
        super().connection_made(transport)

    async def told(self, step: Step) -> str | None:
        """Do as told; gives the answer where one was told. Does not come back from a cut."""
        order = self._office.order(step)
        if isinstance(order, str):
            return order
        if isinstance(order, Cut):
            await self._cut()
        elif order is not None:
            await (order.wait() if isinstance(order, asyncio.Event) else order())
        return None

    async def push(self, status: Any) -> None:
        """Answer; hang up after 421."""
        await super().push(status)
        if str(status).startswith("421"):
            self.hang_up()

    async def _handle_client(self) -> None:
        try:
            answer = await self.told(Step.GREETING)
        except asyncio.CancelledError:
            self.hang_up()
            raise
        if answer:
            await self.push(answer)
            self.hang_up()
        else:
            await super()._handle_client()

    async def smtp_EHLO(self, hostname: str) -> None:  # noqa: N802 - aiosmtpd's, as those below
        await self._unless_told(Step.EHLO, super().smtp_EHLO, hostname)

    async def smtp_STARTTLS(self, arg: str) -> None:  # noqa: N802
        await self._unless_told(Step.STARTTLS, super().smtp_STARTTLS, arg)

    async def smtp_AUTH(self, arg: str) -> None:  # noqa: N802
        await self._unless_told(Step.AUTH, super().smtp_AUTH, arg)

    async def smtp_RSET(self, arg: str) -> None:  # noqa: N802
        await self._unless_told(Step.RSET, super().smtp_RSET, arg)

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802
        assert self.session is not None
        if self.taken == self._office.mails_per_connection:
            await (self._cut() if self._office.quiet else self.push("421 4.7.0 Too many mails in one connection"))
        elif self._office.users is not None and not self.session.authenticated:
            await self.push("530 5.7.0 Authentication required")
        else:
            await self._unless_told(Step.MAIL, super().smtp_MAIL, arg)

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        await self._unless_told(Step.RCPT, super().smtp_RCPT, arg)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        await self._unless_told(Step.DATA, super().smtp_DATA, arg)

    async def smtp_QUIT(self, arg: str) -> None:  # noqa: N802
        await self._unless_told(Step.QUIT, super().smtp_QUIT, arg)

    async def _unless_told(self, step: Step, work: Callable[[Any], Awaitable[None]], argument: str | None) -> None:
        if answer := await self.told(step):
            await self.push(answer)
        else:
            await work(argument)

    async def _cut(self) -> None:
        cast(asyncio.WriteTransport, self.transport).abort()
        await asyncio.Event().wait()  # until connection_lost cancels us
