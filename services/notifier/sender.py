"""Sends the mails that are due, most urgent first."""

import asyncio
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Final

from services.notifier.compose import Unaddressable, compose
from services.notifier.mailbox import Leased, Mailbox
from services.notifier.smtp import Fate, Postman, Undeliverable
from services.plumbing import lifecycle, telemetry
from services.plumbing.backoff import Backoff
from services.plumbing.clock import Clock
from services.plumbing.health import Health
from services.plumbing.settings import Settings

BURST: Final = 20
#: Mails that another process queued are seen within this time.
POLL_SECONDS: Final = 5.0
#: What is due but held by somebody else is looked at again after this time.
_HELD_SECONDS: Final = 1.0
#: Between two attempts for one mail that the server put off; and between two at a server that is away.
_FIRST_SECONDS, _MOST_SECONDS = 30.0, 900.0
_AWAY_MOST_SECONDS: Final = 30.0


def retry_seconds(attempts: int) -> float:
    """Say how long a mail waits after so many attempts: doubling from 30 s to 15 min, with jitter."""
    backoff = Backoff(_FIRST_SECONDS, _MOST_SECONDS)
    for _ in range(min(attempts, 20) - 1):
        backoff.failed()
    return backoff.failed()


class Sender:
    """The loop that empties the mailbox. Several may run, here and elsewhere.

    A mail is leased, handed to the server, and noted as sent. A crash between the server's 250 and our commit lets the
    lease run out and sends the mail again under the same Message-ID: twice is possible there, never is not.
    """

    def __init__(
        self,
        settings: Settings,
        mailbox: Mailbox,
        clock: Clock,
        health: Health,
        queued: asyncio.Event,
        stop: asyncio.Event,
    ) -> None:
        """`queued` is set when mails were put into the mailbox."""
        self._settings = settings
        self._mailbox = mailbox
        self._clock = clock
        self._health = health
        self._queued = queued
        self._stop = stop
        self._backoff = Backoff(0.5, _AWAY_MOST_SECONDS)
        seconds = settings.smtp_timeout_seconds
        self._lease = timedelta(seconds=max(300.0, 8 * seconds))
        self._reserve = timedelta(seconds=4 * seconds)

    async def run(self) -> None:
        """Send until stop. Errors of the database go up; those of the mail server do not."""
        while not self._stop.is_set():
            self._queued.clear()
            if not await self.burst():
                await self._rest()

    async def burst(self) -> bool:
        """Send what is due, at most one burst of it; says whether there was anything to do."""
        at = self._clock.now()
        settled = await self._mailbox.settle(at)
        for state in settled:
            telemetry.mails.labels(state).inc()
        mails = await self._mailbox.lease(at, at + self._lease, limit=BURST)
        self._health.ready("mails")
        if not mails:
            return bool(settled)
        postman = Postman(self._settings)
        try:
            await self._send_all(postman, mails, latest=at + self._lease - self._reserve)
        except Undeliverable as error:
            await self._away(error)
        finally:
            await postman.close()
        return True

    async def _send_all(self, postman: Postman, mails: list[Leased], *, latest: datetime) -> None:
        """Send one after the other. Raises Undeliverable when the server is away; the rest is given back."""
        for number, mail in enumerate(mails):
            if self._stop.is_set() or self._clock.now() > latest:
                await self._mailbox.release(mails[number:], self._clock.now())
                return
            try:
                await self._send(postman, mail)
            except Undeliverable as error:
                await self._mailbox.release(mails[number:], self._clock.now(), error.reason)
                raise
            self._backoff.succeeded()
            self._health.ready("smtp")

    async def _send(self, postman: Postman, mail: Leased) -> None:
        """Send one mail and note what became of it. Raises Undeliverable only when the server is away."""
        try:
            await postman.send(self._composed(mail))
        except Undeliverable as error:
            if error.fate is Fate.AWAY:
                raise
            await self._not_taken(mail, error)
        except Unaddressable as error:
            await self._not_taken(mail, Undeliverable(Fate.REFUSED, str(error)))
        else:
            await self._mailbox.sent(mail, self._clock.now())
            self._said(mail, "sent", None)

    async def _not_taken(self, mail: Leased, error: Undeliverable) -> None:
        at = self._clock.now()
        if error.fate is Fate.REFUSED:
            await self._mailbox.refused(mail, at, error.reason)
        else:
            await self._mailbox.later(mail, at + timedelta(seconds=retry_seconds(mail.attempts)), error.reason)
        self._said(mail, error.fate.value, error.reason)

    async def _away(self, error: Undeliverable) -> None:
        seconds = self._backoff.failed()
        self._health.unready("smtp", error.reason)
        telemetry.mails.labels("away").inc()
        telemetry.log().warning(
            telemetry.NOTIFIER_MAIL, state="away", error=error.reason, retry_seconds=round(seconds, 2)
        )
        await lifecycle.pause(seconds, self._stop)

    async def _rest(self) -> None:
        telemetry.webhooks_silent.set(await self._mailbox.silent_companies())
        due = await self._mailbox.next_due()
        seconds = POLL_SECONDS if due is None else (due - self._clock.now()).total_seconds()
        await self._woken(min(seconds, POLL_SECONDS) if seconds > 0 else _HELD_SECONDS)

    async def _woken(self, seconds: float) -> None:
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._queued, self._stop)]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    def _composed(self, mail: Leased) -> EmailMessage:
        return compose(
            mail.flag,
            mail.company,
            mail.contact,
            console_url=self._settings.console_url,
            mail_from=self._settings.mail_from,
            sent_at=self._clock.now(),
            identity=mail.message_id,
            replies_to=mail.replies_to,
        )

    def _said(self, mail: Leased, state: str, reason: str | None) -> None:
        telemetry.mails.labels(state).inc()
        telemetry.log().info(
            telemetry.NOTIFIER_MAIL,
            state=state,
            company_id=mail.company.company_id,
            flag_id=str(mail.flag.id),
            contact_id=str(mail.contact.contact_id),
            message_id=mail.message_id,
            attempts=mail.attempts,
            error=reason,
        )
