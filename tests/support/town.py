"""A town in memory for one worker or several: broker, store and clock, all moved by hand."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from aiokafka.errors import KafkaConnectionError
from prometheus_client import REGISTRY

from schemas import topics
from schemas.envelope import Delivery, Envelope
from schemas.flags import Flag
from services.reconciler.core.frontier import Contact
from services.reconciler.core.policy import Policy
from services.reconciler.limits import Limits
from services.reconciler.ports import Ports
from services.reconciler.worker import Worker
from tests.support import builders
from tests.support.hand_clock import HandClock
from tests.support.invariants import check, of_memory
from tests.support.memory import MemoryBroker, MemoryDoors, MemoryEnds, MemoryPolicies, MemorySource, MemoryStore

BEGIN: Final = builders.NOW
WINDOW_SECONDS: Final = 300.0
#: A company a partition.
COMPANIES: Final = ("acme", "bern", "cork")
POLICY: Final = Policy(window_seconds=WINDOW_SECONDS)
LIMITS: Final = Limits(stall_after_seconds=5, stall_grace_seconds=30, brake_run=5, brake_of=1000)


class Town:
    """Where workers work. `real_seconds` is the door's and the broker's clock, `clock` the reconcilers'."""

    def __init__(self) -> None:
        """Everything is there, empty; the broker answers."""
        self.clock = HandClock(BEGIN)
        self.real_seconds = 0.0
        self.broker = MemoryBroker(len(COMPANIES), lambda company: COMPANIES.index(company) if company else 0)
        self.store = MemoryStore()
        self.policies = MemoryPolicies(dict.fromkeys(COMPANIES, POLICY))
        self.doors = MemoryDoors(self.store)
        self.away = False
        self.sources: list[MemorySource] = []

    def worker(self, numbers: Iterable[int] = range(len(COMPANIES)), *, log_id: str = "log", **options: Any) -> Worker:
        """Start a worker that owns these partitions; its source is the last of `sources`."""
        self.sources.append(MemorySource(self.broker, numbers, options.pop("hazard", self._answer)))
        return Worker(
            Ports(
                self.sources[-1],
                MemoryEnds(self.broker, self._answer),
                options.pop("store", self.store),
                self.policies,
                self.clock,
                self.doors,
            ),
            owner=f"worker-{len(self.sources)}",
            log_id=log_id,
            home_of=self.broker.home_of,
            limits=options.pop("limits", LIMITS),
            contact=options.pop("contact", Contact(self.clock.now())),
        )

    async def _answer(self, what: str) -> None:
        if self.away and what not in ("poll", "commit"):
            raise KafkaConnectionError("away")

    def pass_by(self, seconds: float) -> None:
        """Let time pass, everywhere."""
        self.clock.seconds += seconds
        self.real_seconds += seconds

    def put(self, topic: str, body: bytes, company: str = "acme") -> Envelope:
        """Let a message come through the door now."""
        at = BEGIN + timedelta(seconds=self.real_seconds)
        delivery = Delivery(
            topic=topic, company_id=company, ce_id=f"{len(self.broker.log)}", ce_source="town", ce_type="test",
            received_at=at, body=body,
        )  # fmt: skip
        return self.broker.append(delivery, at=at)

    def appointment(self, number: int = 1, company: str = "acme", kind: str = "created", **fields: Any) -> Envelope:
        """Let the app tell of an appointment that names the booking of the same number."""
        fields = {"starts_at": start(number), **fields}
        event = builders.appointment_event(kind, f"{number}", calcom_booking_uid=f"uid-{number}", **fields)
        return self.put(topics.APP_APPOINTMENTS, builders.body(event), company)

    def booking(self, number: int = 1, company: str = "acme", **fields: Any) -> Envelope:
        """Let Cal.com tell of a booking."""
        fields = {"starts_at": start(number), **fields}
        body = builders.booking_created(f"uid-{number}", booking_id=number, **fields)
        return self.put(topics.CALCOM_BOOKINGS, builders.body(body), company)

    @property
    def flags(self) -> list[Flag]:
        """Give every flag that was told, in order."""
        return self.store.outbox

    @property
    def told(self) -> list[tuple[str, str]]:
        """Give company and type of every flag that was told, in order."""
        return [(flag.company_id, flag.type.value) for flag in self.flags]

    def check(self, until_seconds: float) -> None:
        """Check the invariants; every deadline before this moment must have fired."""
        until = BEGIN + timedelta(seconds=until_seconds)
        check(of_memory(self.broker, self.store, dict.fromkeys(COMPANIES, POLICY), until))


def start(number: int) -> datetime:
    """Give the start of the appointment of a number: one a day, for all of them are of the same person."""
    return builders.STARTS_AT + timedelta(days=number)


def held(number: int) -> float:
    """Give the decisions that a partition holds, as `/metrics` says."""
    return REGISTRY.get_sample_value("reconcal_held_decisions", {"partition": str(number)}) or 0.0
