"""Where what was accepted goes."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from aiokafka.errors import KafkaError, OutOfOrderSequenceNumber, ProducerClosed, ProducerFenced

from schemas.envelope import Delivery
from services.plumbing.lifecycle import PASSING
from services.plumbing.publisher import Publisher


class Keeper(Protocol):
    """Keeps what was accepted. Nothing is acknowledged to a sender before `keep` has returned.

    This is the place of a spool: a keeper that writes to the disk while the broker is away, and drains in order.
    """

    async def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Return when all are durable, in order. Raises one of lifecycle.PASSING when they are not known to be."""
        ...


#: After these aiokafka's producer refuses everything for good. A plain KafkaError is what it gives when its
#: sender ended unexpectedly; all that passes is a subclass.
_SPENT: Final = (OutOfOrderSequenceNumber, ProducerClosed, ProducerFenced)


class NotConnectedError(ConnectionError):
    """No broker was reached yet."""


class KafkaKeeper:
    """Publishes, within a deadline. What was late may still be written: senders repeat, and ids make it once.

    `doubt` is set by every failure; who watches the broker clears it. `spent` is set when the client will never
    work again and has to be replaced; an outage alone does not do that.
    """

    def __init__(self, timeout_seconds: float) -> None:
        """Begin without a publisher: `keep` fails at once until `use`."""
        self._timeout_seconds = timeout_seconds
        self._publisher: Publisher | None = None
        self.doubt = asyncio.Event()
        self.spent = asyncio.Event()

    def use(self, publisher: Publisher | None) -> None:
        """Publish by this one from now on."""
        self._publisher = publisher
        self.spent.clear()

    async def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Publish; returns when the broker has them all. Raises KafkaError, TimeoutError or OSError."""
        publisher = self._publisher
        if publisher is None:
            raise NotConnectedError("no broker was reached yet")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await (publisher.publish(deliveries[0]) if len(deliveries) == 1 else publisher.publish_all(deliveries))
        except PASSING as error:
            self.doubt.set()
            if isinstance(error, _SPENT) or type(error) is KafkaError:
                self.spent.set()
            raise
