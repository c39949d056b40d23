"""Where what was accepted goes."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol

from aiokafka.errors import KafkaError, OutOfOrderSequenceNumber, ProducerClosed, ProducerFenced
from msgspec import Struct

from schemas.envelope import Delivery
from services.plumbing.lifecycle import PASSING


class Keeper(Protocol):
    """Keeps what was accepted. Nothing is acknowledged to a sender before `keep` has returned."""

    async def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Return when all are durable, in order. Raises one of lifecycle.PASSING when they are not known to be.

        They are of one topic and one company, as a door gives them.
        """
        ...


class Unsent(Struct, frozen=True):
    """What Kafka does not have yet, waiting in memory or on the disk. `oldest_at`: when its oldest was received."""

    oldest_at: datetime | None = None
    messages: int = 0
    bytes: int = 0


class Sender(Protocol):
    """What publishes: plumbing's Publisher, or a list in tests."""

    def put(self, delivery: Delivery) -> "asyncio.Future[None]":
        """Queue a message; the future is done when the broker has it, and cancelling it takes the message out again.

        In order by partition; when one fails, what waits behind it fails, too. Raises one of lifecycle.PASSING.
        """
        ...


#: After these aiokafka's producer refuses everything for good. A plain KafkaError is what it gives when its
#: sender ended unexpectedly; all that passes is a subclass.
_SPENT: Final = (OutOfOrderSequenceNumber, ProducerClosed, ProducerFenced)


class NotConnectedError(ConnectionError):
    """No broker was reached yet."""


class Broker:
    """The way to Kafka, which comes and goes.

    `doubt` is set by every failure and cleared by every sign of life. `spent` is set when the client will never
    work again and has to be replaced; an outage alone does not do that.
    """

    def __init__(self) -> None:
        """No broker was reached yet."""
        self.sender: Sender | None = None
        self.partitions: Mapping[str, int] = {}
        self.doubt = asyncio.Event()
        self.spent = asyncio.Event()

    def use(self, sender: Sender | None, partitions: Mapping[str, int] | None = None) -> None:
        """Publish by this one from now on. `partitions`: how many each topic has, where that is known."""
        self.sender = sender
        self.partitions = self.partitions if partitions is None else partitions
        self.spent.clear()

    @property
    def trouble(self) -> str | None:
        """Tell why it would not take a message now; None: as far as is known, it would."""
        if self.sender is None:
            return "the client is being replaced" if self.partitions else "not reached yet"
        return "the broker did not acknowledge" if self.doubt.is_set() else None

    def failed(self, error: BaseException) -> None:
        """Take note of a failure."""
        self.doubt.set()
        self.examine(error)

    def examine(self, error: BaseException) -> None:
        """See whether an error means that the client has to be replaced."""
        if isinstance(error, _SPENT) or type(error) is KafkaError:
            self.spent.set()

    def answered(self) -> None:
        """Take note of a sign of life."""
        self.doubt.clear()


class KafkaKeeper:
    """Publishes, within a deadline. What was late may still be written: senders repeat, and ids make it once."""

    def __init__(self, broker: Broker, timeout_seconds: float) -> None:
        """Fails at once while the broker has no sender."""
        self._broker, self._timeout_seconds = broker, timeout_seconds
        self._pending: dict[int, datetime] = {}
        self._next = 0

    @property
    def trouble(self) -> str | None:
        """Tell why nothing would be taken now."""
        return self._broker.trouble

    def unsent(self) -> Unsent:
        """Tell what waits; nothing that was accepted before this call is missing."""
        return Unsent(min(self._pending.values(), default=None))

    async def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Publish; returns when the broker has them all. Raises KafkaError, TimeoutError or OSError."""
        self._next += 1
        token = self._next
        self._pending[token] = deliveries[0].received_at  # before the first await: no report may overlook it
        try:
            await self._publish(deliveries)
        finally:
            del self._pending[token]

    async def _publish(self, deliveries: Sequence[Delivery]) -> None:
        sender = self._broker.sender
        if sender is None:
            raise NotConnectedError("no broker was reached yet")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await _all(_put(sender, deliveries))
        except PASSING as error:
            self._broker.failed(error)
            raise


def _put(sender: Sender, deliveries: Sequence[Delivery]) -> "list[asyncio.Future[None]]":
    """Queue all, or none."""
    sending: list[asyncio.Future[None]] = []
    try:
        for delivery in deliveries:
            sending.append(sender.put(delivery))  # noqa: PERF401 - what was queued before one raises is to be known
    except BaseException:
        for one in sending:
            one.cancel()
        raise
    return sending


async def _all(sending: "list[asyncio.Future[None]]") -> None:
    """Wait for all; raises the first error."""
    if len(sending) == 1:
        await sending[0]
        return
    for result in await asyncio.gather(*sending, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
