"""The embedded mail sink: takes any mail by SMTP and shows it over HTTP instead of delivering it."""

import asyncio
from collections import deque
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Any, Final, Self

from aiosmtpd.smtp import SMTP, Envelope, Session
from msgspec import Struct

from services.embedded.ports import HOST
from services.plumbing.clock import Clock, WallClock

KEPT_MAILS: Final = 1000
MAX_MAIL_BYTES: Final = 1024 * 1024


class Mail(Struct, frozen=True, kw_only=True):
    """A mail as it came. `to` are the recipients of the envelope, so those in Bcc too; addresses are bare."""

    sender: str
    to: list[str]
    subject: str
    message_id: str | None
    in_reply_to: str | None
    text: str
    html: str | None
    raw: str
    received_at: datetime


class MailSink:
    """An SMTP server on 127.0.0.1 that keeps the newest 1000 mails in memory."""

    def __init__(self, smtp_port: int = 0, clock: Clock | None = None) -> None:
        """Port 0: a free one. Opens nothing yet."""
        self.smtp_port = smtp_port
        self._clock = clock or WallClock()
        self.mails: deque[Mail] = deque(maxlen=KEPT_MAILS)
        self._server: asyncio.Server | None = None
        self._sessions: set[_Smtp] = set()

    @property
    def smtp_address(self) -> str:
        """Give `host:port`, once started."""
        return f"{HOST}:{self.smtp_port}"

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Smtp(self, self._sessions, loop), HOST, self.smtp_port)
        self.smtp_port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more and hang up, at once."""
        if self._server is not None:
            self._server.close()
        for session in list(self._sessions):
            session.hang_up()
        self._server = None

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        """Keep a mail; whatever its form, it is accepted."""
        content = envelope.original_content or b""
        self.mails.append(read(content, envelope.mail_from or "", envelope.rcpt_tos, self._clock.now()))
        return "250 OK"


class _Smtp(SMTP):
    """One connection; it can be hung up from our side."""

    def __init__(
        self,
        sink: MailSink,
        sessions: "set[_Smtp]",
        loop: asyncio.AbstractEventLoop,
        **more: Any,  # noqa: ANN401 - aiosmtpd's own options
    ) -> None:
        super().__init__(
            sink,
            data_size_limit=MAX_MAIL_BYTES,
            enable_SMTPUTF8=True,
            hostname="localhost",
            ident="Reconcal mail sink",
            loop=loop,
            **more,
        )
        self._sessions = sessions

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sessions.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._sessions.discard(self)
        super().connection_lost(error)

    def hang_up(self) -> None:
        if self.transport is not None:
            self.transport.close()


def read(content: bytes, mail_from: str, rcpt_tos: list[str], received_at: datetime) -> Mail:
    """Read a mail, however malformed; what cannot be read is empty."""
    message = message_from_bytes(content, policy=policy.default.clone(utf8=True))
    return Mail(
        sender=parseaddr(_header(message, "From") or "")[1] or mail_from,
        to=list(rcpt_tos),
        subject=_header(message, "Subject") or "",
        message_id=_header(message, "Message-ID"),
        in_reply_to=_header(message, "In-Reply-To"),
        text=_part(message, "plain") or "",
        html=_part(message, "html"),
        raw=content.decode(errors="replace"),
        received_at=received_at,
    )


def _header(message: EmailMessage, name: str) -> str | None:
    try:
        value: Any = message[name]
    except (ValueError, IndexError, AttributeError):  # the standard parser on what is no header
        return None
    return None if value is None else str(value).strip()


def _part(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body((kind,))
    if part is None:
        return None
    try:
        return str(part.get_content()).replace("\r\n", "\n")
    except (LookupError, ValueError):  # a charset that nobody knows
        return bytes(part.get_payload(decode=True) or b"").decode(errors="replace")
