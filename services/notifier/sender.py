"""Sends the letters whose turn it is, most urgent first: one loop a channel."""

import asyncio
from datetime import timedelta
from typing import Final

from services.notifier.couriers import Courier
from services.notifier.ports import SMTP, Fate, Trouble, TroubleKind, Troubles, Undelivered
from services.notifier.turns import Channel, Leased, Turns
from services.plumbing import lifecycle, telemetry
from services.plumbing.backoff import Backoff
from services.plumbing.clock import Clock
from services.plumbing.health import Health
from services.words.plain import plain

#: What another process took in is seen within this time.
POLL_SECONDS: Final = 2.0
#: Between two attempts for a letter that was put off; and between two at a server that is away.
_FIRST_SECONDS, _MOST_SECONDS = 30.0, 900.0
_AWAY_MOST_SECONDS: Final = 30.0


def retry_seconds(attempts: int) -> float:
    """Say how long a letter waits after so many attempts: doubling from 30 s to 15 min, with jitter."""
    return Backoff(_FIRST_SECONDS, _MOST_SECONDS, failures=attempts - 1).failed()


class Sender:
    """The loop that empties the turns of a channel. Several may run, here and elsewhere.

    A letter is taken, handed over, and noted as sent. A crash between the server's 250 and our commit sends it again,
    as it was and under the same Message-ID: twice is possible there, never is not, and two Message-IDs neither.
    """

    def __init__(
        self,
        courier: Courier,
        turns: Turns,
        troubles: Troubles,
        clock: Clock,
        health: Health,
        news: asyncio.Event,
        stop: asyncio.Event,
    ) -> None:
        """`news` is set when there may be something to tell."""
        self._courier, self._turns, self._troubles = courier, turns, troubles
        self._clock, self._health = clock, health
        self._news, self._stop = news, stop
        self._backoff = Backoff(0.5, _AWAY_MOST_SECONDS)
        self.away_seconds = 0.0  # how long nothing is to be sent at all, from the last attempt on

    async def run(self) -> None:
        """Send until stop. Errors of the database go up; those of servers do not."""
        while not self._stop.is_set():
            self._news.clear()
            if not await self.send_one():
                await self._courier.rest()
                await self._rest()
            elif self.away_seconds:
                await lifecycle.pause(self.away_seconds, self._stop)

    async def send_one(self) -> bool:
        """Send the letter whose turn it is; says whether there was one."""
        leased = await self._turns.take(self._clock.now())
        self._health.ready(self._courier.channel.value)
        self.away_seconds = 0.0
        if leased is None:
            return False
        try:
            answer, subject = await self._carried(leased)
        except Undelivered as error:
            await self._undelivered(leased, error)
        else:
            await self._sent(leased, answer, subject)
        return True

    async def _carried(self, leased: Leased) -> tuple[str, str | None]:
        """One letter that nobody has thought of must not stop all others. Raises Undelivered."""
        try:
            return await self._courier.carry(leased)
        except (Undelivered, *lifecycle.PASSING):
            raise
        except Exception as error:
            telemetry.log().exception(telemetry.NOTIFIER_LETTER, state="failed", **_who(leased))
            raise Undelivered(Fate.LATER, f"our own error: {type(error).__name__}", in_doubt=True) from error

    async def _sent(self, leased: Leased, answer: str, subject: str | None) -> None:
        late = await self._turns.sent(leased, subject, self._clock.now())
        if self._courier.channel is Channel.MAIL:
            for seconds in late:
                telemetry.mail_seconds.observe(seconds)
            self._health.ready("smtp")
            await self._troubles.over("", *SMTP)
        self._backoff.succeeded()
        self._said(leased, "sent", answer)

    async def _undelivered(self, leased: Leased, error: Undelivered) -> None:
        at = self._clock.now()
        if error.fate is Fate.REFUSED:
            await self._turns.refused(leased, at, error.reason)
        else:
            seconds = 0.0 if error.fate is Fate.AWAY else retry_seconds(leased.tries)
            await self._turns.later(leased, error, at, due_at=at + timedelta(seconds=seconds))
        trouble = error.trouble or self._refusal(leased, error)
        if trouble is not None:
            await self._troubles.seen(_whose(leased, trouble.kind), trouble)
        self._said(leased, error.fate.value, error.reason)
        if error.fate is Fate.AWAY:
            self._health.unready("smtp", error.reason)
            self.away_seconds = self._backoff.failed()

    def _refusal(self, leased: Leased, error: Undelivered) -> Trouble | None:
        """Say who has to be given another address, where a contact's was refused."""
        if error.fate is not Fate.REFUSED or self._courier.channel is not Channel.MAIL:
            return None
        company_id, address = leased.company.company_id, plain(leased.recipient.address)
        mend = f"`reconcal companies contacts set {company_id} {address} --deliver-again`"
        detail = f"Mail to {address} is refused: {error.reason}. Mend the address, or have it mended, then {mend}."
        return Trouble(TroubleKind.ADDRESS_REFUSED, detail)

    async def _rest(self) -> None:
        due = await self._turns.next_due()
        seconds = POLL_SECONDS if due is None else (due - self._clock.now()).total_seconds()
        await lifecycle.first_of(self._news, self._stop, seconds=min(max(seconds, 0.01), POLL_SECONDS))

    def _said(self, leased: Leased, state: str, answer: str) -> None:
        telemetry.letters.labels(self._courier.channel.value, state).inc()
        letter = leased.letter
        telemetry.log().info(
            telemetry.NOTIFIER_LETTER,
            state=state,
            occasion=letter.occasion.value,
            notices=len(letter.notices),
            news=letter.news_total,
            ended=letter.ended_total + len(letter.notices_over),
            open=letter.open_total,
            attempts=leased.attempts,
            answer=answer,
            **_who(leased),
        )


def _who(leased: Leased) -> dict[str, str]:
    return {
        "company_id": leased.company.company_id,
        "recipient_id": str(leased.recipient.recipient_id),
        "message_id": leased.message_id,
    }


def _whose(leased: Leased, kind: TroubleKind) -> str:
    """Give whose trouble it is: the mail server is every company's."""
    return "" if kind in SMTP else leased.company.company_id
