"""Hands a mail to the SMTP server, and says what its answer means for the mail.

MAIL, RCPT, DATA and the mail itself are sent one by one, so that it is known which of them an answer answers, and
whether a mail may have been taken although nobody said so.
"""

import asyncio
import re
from contextlib import suppress
from email.message import EmailMessage
from enum import StrEnum
from typing import Final

from aiosmtplib import SMTPException, SMTPResponse, SMTPResponseException, SMTPServerDisconnected
from msgspec import Struct

from services.notifier.mail.mailserver import CLOSING, LOGIN_WANTED, Connection, MailServer
from services.notifier.ports import Fate, Trouble, TroubleKind, Undelivered
from services.plumbing.settings import Settings
from services.words.plain import plain

IDLE_SECONDS: Final = 10.0
_GOODBYE_SECONDS: Final = 1.0
_GO_ON: Final = 354
_DONE: Final = range(200, 300)
_TEMPORARY: Final = range(400, 500)
_PERMANENT: Final = range(500, 600)
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_DOT: Final = re.compile(rb"^\.", re.MULTILINE)
#: What servers say at RCPT that would take the mail from others: no word about the address.
_NOT_FROM_US: Final = re.compile(r"relay|authenticat", re.IGNORECASE)


class _Step(StrEnum):
    RSET = "RSET"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "the mail"


class _Gone(Undelivered):
    """The connection ended before anything of this mail was taken: over a fresh one it may be."""


class Postman:
    """One connection, opened when it is needed and kept for the next mail; closed after some seconds without one.

    Several may send at once: they take turns.
    """

    def __init__(self, settings: Settings, *, idle_seconds: float = IDLE_SECONDS) -> None:
        """Opens nothing yet."""
        self._server = MailServer(settings)
        self._answer_seconds = settings.smtp_timeout_seconds
        self._idle_seconds = idle_seconds
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None
        self._begun = False  # a mail was begun on this connection and not ended: RSET comes before the next
        self._idle: asyncio.TimerHandle | None = None
        self._goodbyes: set[asyncio.Task[None]] = set()
        self._until = 0.0  # the loop's time by which the body has to be on its way

    async def send(self, mail: EmailMessage) -> str:
        """Hand over one mail to its one recipient; gives the server's final answer, in one harmless line.

        Raises Undelivered. Takes at most three times `smtp_timeout_seconds`: twice until the body is on its way, once
        for the answer to it. Cut short, it leaves no connection open.
        """
        letter = _Letter.of(mail)
        async with self._turn:
            self._until = asyncio.get_running_loop().time() + 2 * self._answer_seconds
            self._stay()
            try:
                return await self._send(letter)
            finally:
                self._leave_later()

    async def close(self) -> None:
        """Say goodbye, within a second; a mail that is under way is cut. The next mail opens a connection again."""
        self._stay()
        if self._turn.locked():
            self._drop()
        self._leave()
        if self._goodbyes:
            await asyncio.wait(self._goodbyes, timeout=_GOODBYE_SECONDS)

    async def _send(self, letter: "_Letter") -> str:
        """Servers end connections, after so many mails or minutes: where ours had been used, a fresh one is tried."""
        kept = self._connection
        if kept is not None and kept.is_connected:
            with suppress(_Gone):
                return await self._transfer(kept, letter)
        return await self._transfer(await self._connect(), letter)

    async def _connect(self) -> Connection:
        self._drop()
        try:
            async with asyncio.timeout_at(self._until):
                self._connection = await self._server.connect()
        except TimeoutError as error:
            detail = (
                "is too slow to greet us, begin TLS and log us in. Look at RECONCAL_SMTP_HOST, and at the server's log."
            )
            raise self._server.away(TroubleKind.SMTP_UNREACHABLE, detail) from error
        self._begun = False
        return self._connection

    async def _transfer(self, connection: Connection, letter: "_Letter") -> str:
        try:
            if self._begun:
                await self._ask(connection, _Step.RSET)
            self._begun = True
            await self._ask(connection, _Step.MAIL, b"FROM:<" + letter.sender + b">")
            await self._ask(connection, _Step.RCPT, b"TO:<" + letter.recipient + b">")
            await self._ask(connection, _Step.DATA)
            answer = await self._hand_over(connection, letter)
        except Undelivered:
            raise
        except BaseException:
            self._drop()
            raise
        self._begun = False
        return answer

    async def _ask(self, connection: Connection, step: _Step, *arguments: bytes) -> None:
        """Send a command; returns when the server says to go on. Raises Undelivered, never in doubt."""
        seconds = max(0.001, min(self._answer_seconds, self._until - asyncio.get_running_loop().time()))
        try:
            answer = await connection.execute_command(step.encode(), *arguments, timeout=seconds)
            self._check(step, answer)
        except (SMTPException, OSError) as error:
            self._drop()
            fate, reason, trouble = self._broken(step, error)
            raise _Gone(fate, reason, trouble=trouble) from error

    async def _hand_over(self, connection: Connection, letter: "_Letter") -> str:
        """Send the mail itself. From its first byte on it is in doubt, until the server has said something."""
        protocol, written = connection.protocol, False
        try:
            if protocol is None:
                raise SMTPServerDisconnected("Connection lost")
            protocol.write(letter.body)  # raises only where nothing was written
            written = True
            answer = await protocol.read_response(self._answer_seconds)
            self._check(_Step.BODY, answer)
        except (SMTPException, OSError) as error:
            self._drop()
            fate, reason, trouble = self._broken(_Step.BODY, error)
            if not written:
                raise _Gone(fate, reason, trouble=trouble) from error
            raise Undelivered(fate, reason, in_doubt=True, trouble=trouble) from error
        return self._said(answer)

    def _check(self, step: _Step, answer: SMTPResponse) -> None:
        """Let an answer that says yes pass. Raises Undelivered for a no, SMTPResponseException for what ends it all."""
        if answer.code in _DONE if step is not _Step.DATA else answer.code == _GO_ON:
            return
        if answer.code == CLOSING or step is _Step.RSET or answer.code not in {*_TEMPORARY, *_PERMANENT}:
            raise SMTPResponseException(answer.code, answer.message)
        raise self._judged(step, answer)

    def _judged(self, step: _Step, answer: SMTPResponse) -> Undelivered:
        """Judge a no. At MAIL it says nothing of this mail but the sender, who is always the same: it speaks of us."""
        said = self._said(answer)
        if answer.code in LOGIN_WANTED:
            detail = f"wants a login: {said}. Look at RECONCAL_SMTP_USERNAME, RECONCAL_SMTP_PASSWORD and "
            return self._server.away(TroubleKind.SMTP_AUTH, f"{detail}RECONCAL_SMTP_SECURITY.")
        if step is _Step.MAIL and answer.code in _TEMPORARY:
            detail = (
                f"puts off all mails: {said}. They wait. Where this stays, a quota may be used up: ask who runs it."
            )
            return self._server.away(TroubleKind.SMTP_PUTS_OFF, detail)
        if step is _Step.MAIL:
            detail = f"does not take mails from us: {said}. Look at RECONCAL_MAIL_FROM, and RECONCAL_SMTP_USERNAME."
            return self._server.away(TroubleKind.SMTP_SENDER, detail)
        if step is _Step.RCPT and answer.code in _PERMANENT and _NOT_FROM_US.search(answer.message):
            detail = (
                f"does not pass on mails for us: {said}. Look at RECONCAL_SMTP_HOST, and at RECONCAL_SMTP_USERNAME and "
                "RECONCAL_SMTP_PASSWORD if it wants a login."
            )
            return Undelivered(Fate.LATER, said, trouble=self._server.trouble(TroubleKind.SMTP_AUTH, detail))
        if answer.code in _TEMPORARY:
            return Undelivered(Fate.LATER, said)
        # Whoever mends the address has to know whether that is what was refused.
        return Undelivered(
            Fate.REFUSED, said if step is _Step.RCPT else f"{said} (said of the mail, not of the address)"
        )

    def _broken(self, step: _Step, error: Exception) -> tuple[Fate, str, Trouble]:
        """Judge a connection that failed. Where the mail or its recipient may be why, the others are tried.

        A 421 there, too: a server that says it of one recipient, again and again, must not hold up all.
        """
        ours = step in {_Step.RSET, _Step.MAIL}
        what = f"{self._server.failed(error)} (after {step})"
        trouble = self._server.trouble(TroubleKind.SMTP_UNREACHABLE, f"{what}. Where this stays, look at its log.")
        return Fate.AWAY if ours else Fate.LATER, plain(what, 300), trouble

    def _said(self, answer: SMTPResponse) -> str:
        return self._server.said(answer.code, answer.message)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _stay(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _leave_later(self) -> None:
        if self._connection is not None:
            self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._leave)

    def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            goodbye = asyncio.ensure_future(_goodbye(connection))
            self._goodbyes.add(goodbye)
            goodbye.add_done_callback(self._goodbyes.discard)


class _Letter(Struct, frozen=True):
    """A mail as it goes over the wire."""

    sender: bytes
    recipient: bytes
    body: bytes

    @classmethod
    def of(cls, mail: EmailMessage) -> "_Letter":
        """Read the envelope from the headers. Raises Undelivered where the recipient is none that every server takes.

        The bytes are ASCII, whatever the mail holds: no server has to know 8BITMIME or SMTPUTF8.
        """
        content = mail.as_bytes(policy=mail.policy.clone(linesep="\r\n", cte_type="7bit"))
        body = _DOT.sub(b"..", _LINE_END.sub(b"\r\n", content))
        ended = body if body.endswith(b"\r\n") else body + b"\r\n"
        try:
            recipient = _address(mail, "To")
        except (ValueError, IndexError) as error:
            raise Undelivered(Fate.REFUSED, f"not an address: {plain(str(mail['To']))}") from error
        return cls(_address(mail, "From"), recipient, ended + b".\r\n")


def _address(mail: EmailMessage, header: str) -> bytes:
    address: str = mail[header].addresses[0].addr_spec
    if not address.isprintable() or "@" not in address:
        raise ValueError(address)
    return address.encode("ascii")


async def _goodbye(connection: Connection) -> None:
    try:
        with suppress(SMTPException, OSError):
            await connection.quit(timeout=_GOODBYE_SECONDS)
    finally:
        connection.close()
