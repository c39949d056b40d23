"""Hands a mail to the SMTP server, and says what its answer means for the mail."""

from contextlib import suppress
from email.message import EmailMessage
from enum import StrEnum
from typing import Final

import aiosmtplib
from aiosmtplib import SMTPException, SMTPRecipientsRefused, SMTPResponseException, SMTPSenderRefused

from services.notifier.words import plain
from services.plumbing.lifecycle import bounded
from services.plumbing.settings import Settings

_CLOSING: Final = 421
#: Answers that speak of how we log in, not of the address.
_OURS: Final = frozenset({530, 534, 535, 538})
_PERMANENT: Final = 500


class Fate(StrEnum):
    """What becomes of a mail that was not taken."""

    REFUSED = "refused"  # the server will never take it for this address
    LATER = "later"  # this mail not now
    AWAY = "away"  # no mail at all can be sent now


class Undeliverable(Exception):  # noqa: N818 - says what the mail is
    """A mail was not taken; `fate` says what to do, `reason` why, in one line."""

    def __init__(self, fate: Fate, reason: str) -> None:
        """Keep the decision with the error."""
        super().__init__(reason)
        self.fate = fate
        self.reason = plain(reason, 300)


class Postman:
    """One connection for a burst of mails, opened when it is needed."""

    def __init__(self, settings: Settings) -> None:
        """Opens nothing yet."""
        self._settings = settings
        self._connection: aiosmtplib.SMTP | None = None
        self._used = False

    async def send(self, mail: EmailMessage) -> None:
        """Send one mail to its one recipient; returns when the server has it. Raises Undeliverable.

        Servers end connections after so many mails: where ours had been used, a fresh one is tried at once.
        """
        try:
            await self._send(mail)
        except Undeliverable as error:
            if error.fate is Fate.REFUSED or self._connection is not None or not self._used:
                raise
            self._used = False
            await self._send(mail)
        self._used = True

    async def close(self) -> None:
        """Say goodbye, within a second."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SMTPException, OSError):
                await bounded(connection.quit(), 1)
            connection.close()

    async def _send(self, mail: EmailMessage) -> None:
        connection = await self._connected()
        try:
            await connection.sendmail(_address(mail, "From"), [_address(mail, "To")], mail.as_bytes())
        except SMTPRecipientsRefused as error:
            raise self._judged(error.recipients[0].code, error.recipients[0].message) from error
        except SMTPSenderRefused as error:
            raise Undeliverable(Fate.AWAY, f"sender refused: {error.code} {error.message}") from error
        except SMTPResponseException as error:
            raise self._judged(error.code, error.message) from error
        except (SMTPException, OSError) as error:
            self._drop()
            raise Undeliverable(Fate.LATER, f"{type(error).__name__}: {error}") from error

    async def _connected(self) -> aiosmtplib.SMTP:
        if self._connection is not None:
            return self._connection
        connection = _connection(self._settings)
        try:
            await connection.connect()
        except (SMTPException, OSError, ValueError) as error:
            connection.close()
            raise Undeliverable(Fate.AWAY, f"{type(error).__name__}: {error}") from error
        self._connection = connection
        return connection

    def _judged(self, code: int, message: str) -> Undeliverable:
        reason = f"{code} {message}"
        if code == _CLOSING:
            self._drop()
        if code in _OURS:
            return Undeliverable(Fate.AWAY, reason)
        return Undeliverable(Fate.REFUSED if code >= _PERMANENT else Fate.LATER, reason)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _connection(settings: Settings) -> aiosmtplib.SMTP:
    return aiosmtplib.SMTP(
        hostname=settings.smtp_host,
        port=settings.smtp_port,
        username=settings.smtp_username or None,
        password=settings.smtp_password or None,
        timeout=settings.smtp_timeout_seconds,
        use_tls=settings.smtp_security == "tls",
        start_tls=settings.smtp_security == "starttls",
    )


def _address(mail: EmailMessage, header: str) -> str:
    address: str = mail[header].addresses[0].addr_spec
    return address
