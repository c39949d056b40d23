"""Carry letters to their recipients: one a channel."""

from email.message import EmailMessage
from typing import Protocol

from services.notifier.hooks import slack
from services.notifier.mail.compose import Unaddressable, compose
from services.notifier.ports import Fate, Poster, Postman, Undelivered
from services.notifier.turns import Channel, Leased
from services.plumbing.clock import Clock
from services.plumbing.settings import Settings


class Courier(Protocol):
    """Carries the letters of one channel."""

    @property
    def channel(self) -> Channel:
        """Say which."""

    async def carry(self, leased: Leased) -> tuple[str, str | None]:
        """Hand a letter over; gives what was answered, and its subject. Raises Undelivered."""

    async def rest(self) -> None:
        """There is nothing to carry for now."""


class MailCourier:
    """Letters as mails."""

    channel = Channel.MAIL

    def __init__(self, settings: Settings, postman: Postman, clock: Clock) -> None:
        """The postman stays its owner's."""
        self._settings, self._postman, self._clock = settings, postman, clock

    async def carry(self, leased: Leased) -> tuple[str, str | None]:
        """See `Courier`."""
        try:
            mail = self._composed(leased)
        except Unaddressable as error:
            raise Undelivered(Fate.REFUSED, str(error)) from None
        return await self._postman.send(mail), str(mail["Subject"])

    async def rest(self) -> None:
        """Let the connection go."""
        await self._postman.close()

    def _composed(self, leased: Leased) -> EmailMessage:
        return compose(
            leased.letter,
            leased.company,
            leased.recipient,
            console_url=self._settings.console_url,
            mail_from=self._settings.mail_from,
            message_id=leased.message_id,
            sent_at=self._clock.now(),
        )


class SlackCourier:
    """Letters as Slack messages."""

    channel = Channel.SLACK

    def __init__(self, settings: Settings, poster: Poster) -> None:
        """The poster stays its owner's."""
        self._settings, self._poster = settings, poster

    async def carry(self, leased: Leased) -> tuple[str, str | None]:
        """See `Courier`."""
        to = leased.recipient
        url = self._settings.console_url
        body = slack.body(leased.letter, leased.company, language=to.language, console_url=url)
        return await self._poster.post(leased.company.company_id, str(to.recipient_id), body), None

    async def rest(self) -> None:
        """See `Courier`."""
