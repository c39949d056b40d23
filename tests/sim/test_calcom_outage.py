"""Cal.com is away for half an hour while 5,000 records are due: nobody is accused, and afterwards all is decided."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

import msgspec
import pytest
import structlog

from schemas import topics
from schemas.commands import Retry
from schemas.envelope import Delivery
from schemas.flags import FlagType, SyncStatus
from services.reconciler.core.frontier import Contact
from services.reconciler.core.policy import Policy
from services.reconciler.limits import Limits
from services.reconciler.ports import Ports
from services.reconciler.worker import Worker
from tests.sim.calcom import SimCalcom, Verifiers
from tests.sim.pen import BEGIN, Truth
from tests.sim.world import quiet
from tests.support import builders
from tests.support.hand_clock import HandClock
from tests.support.memory import MemoryBroker, MemoryDoors, MemoryEnds, MemoryPolicies, MemorySource, MemoryStore

pytestmark = pytest.mark.disable_socket

RECORDS: Final = 5_000
TRUE_ORPHANS: Final = 50
WINDOW_SECONDS: Final = 300.0
AWAY_SECONDS: Final = 1_800.0
STEP_SECONDS: Final = 10.0
#: A page of questions; the bucket is what bounds them.
AT_ONCE: Final = 40


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """Keep the worker's log lines out of the way."""
    quiet()
    yield
    structlog.reset_defaults()


async def nothing(_: str) -> None:
    """Let everything go well but Cal.com."""


class Morning:
    """A reconciler, a verifier and 5,000 appointments whose webhooks were lost; 50 were never booked."""

    def __init__(self) -> None:
        random = Random(5)
        self.clock = HandClock(BEGIN)
        self.broker = MemoryBroker(1, lambda _: 0)
        self.store = MemoryStore(nothing)
        orphans = set(random.sample(range(RECORDS), TRUE_ORPHANS))
        self.starts = [BEGIN + timedelta(days=1, minutes=n) for n in random.sample(range(RECORDS), RECORDS)]
        truths = [Truth(0, "dorf", f"U{n}", self._booking(n)) for n in range(RECORDS) if n not in orphans]
        self.calcom = SimCalcom(truths, self.clock, random)
        self.verifiers = Verifiers(self.calcom, self.store, self.clock, random, self._publish)
        source = MemorySource(self.broker, [0], nothing)
        self.worker = Worker(
            Ports(
                source,
                MemoryEnds(self.broker, nothing),
                self.store,
                MemoryPolicies({"dorf": Policy(window_seconds=WINDOW_SECONDS, verify=True)}),
                self.clock,
                MemoryDoors(self.store, silence_seconds=600, hazard=nothing),
            ),
            owner="one",
            log_id="sim",
            home_of=lambda _: 0,
            limits=Limits(batch_max_records=1000, stall_grace_seconds=0),
            contact=Contact(self.clock.now()),
        )

    def _booking(self, n: int) -> dict[str, Any]:
        person = {"name": "Mia Patient", "email": f"p{n}@example.org"}
        return builders.api_booking(
            f"U{n}", id=n, starts_at=self.starts[n], metadata={}, attendees=[person], icsUid=None
        )

    def _publish(self, delivery: Delivery) -> bool:
        self.broker.append(delivery, at=self.clock.now())
        return True

    def tell(self) -> None:
        """Let the app tell of every appointment."""
        for n, starts_at in enumerate(self.starts):
            body = builders.appointment_event(
                "created", str(n), event_id=f"e{n}", occurred_at=BEGIN, starts_at=starts_at, event_type_id=5150,
                calcom_booking_uid=f"U{n}", customer=None,
            )  # fmt: skip
            self._deliver(topics.APP_APPOINTMENTS, topics.TYPE_APPOINTMENT, f"e{n}", msgspec.json.encode(body))

    def retry(self, n: int) -> None:
        """Let a human ask about one record."""
        record = next(r for r, _ in self.store.records.values() if r.anchor == f"a:{n}")
        command = Retry(
            id=f"human-{n}", record_id=record.record_id, version=record.version, actor="Ada", issued_at=BEGIN
        )
        self._deliver(topics.SYNC_COMMANDS, topics.TYPE_COMMAND, command.id, msgspec.json.encode(command))

    def _deliver(self, topic: str, ce_type: str, name: str, body: bytes) -> None:
        delivery = Delivery(
            topic=topic, company_id="dorf", ce_id=name, ce_source="sim", ce_type=ce_type,
            received_at=self.clock.now(), body=body,
        )  # fmt: skip
        self._publish(delivery)

    def status(self, n: int) -> SyncStatus:
        return next(r.status for r, _ in self.store.records.values() if r.anchor == f"a:{n}")

    async def step(self, seconds: float = STEP_SECONDS) -> None:
        self.clock.seconds += seconds
        await self.verifiers.work(most=AT_ONCE, danger=0)
        await self.worker.turn()

    async def until(self, seconds: float) -> None:
        while self.clock.seconds < seconds:
            await self.step()

    def healed(self) -> list[datetime]:
        """Give the starts of the appointments that were healed, in the order of healing."""
        starts = {f"a:{n}": starts_at for n, starts_at in enumerate(self.starts)}
        transitions: list[tuple[str, Any]] = list(self.store.transitions)
        anchors = {record.record_id: record.anchor for record, _ in self.store.records.values()}
        return [starts[anchors[t.record_id]] for _, t in transitions if t.note == "webhook_lost"]


@pytest.mark.timeout(300)
async def test_half_an_hour_without_cal_com_accuses_nobody_and_all_is_decided_afterwards() -> None:
    morning = Morning()
    morning.calcom.away_until = WINDOW_SECONDS + AWAY_SECONDS
    morning.tell()
    for _ in range(12):
        await morning.step(1)
    await morning.until(WINDOW_SECONDS + AWAY_SECONDS)
    assert morning.store.outbox == []
    waiting = sum(r.status is SyncStatus.VERIFICATION_PENDING for r, _ in morning.store.records.values())
    assert waiting == RECORDS

    latest = max(range(RECORDS), key=morning.starts.__getitem__)
    await morning.until(WINDOW_SECONDS + AWAY_SECONDS + 120)
    morning.retry(latest)
    for _ in range(3):
        await morning.step(2)
    assert morning.status(latest) in (SyncStatus.SYNCED, SyncStatus.VERIFICATION_PENDING)
    asked = [a for r, _ in morning.store.records.values() if r.anchor == f"a:{latest}" for a in r.answers]
    assert asked, "a human is answered at once, whoever waits"

    begun = morning.clock.seconds
    while morning.store.questions and morning.clock.seconds < begun + 3 * 3600:
        await morning.step()
    for _ in range(5):
        await morning.step()
    assert not morning.store.questions
    flags = [(flag.type, flag.verdict) for flag in morning.store.outbox]
    assert flags == [(FlagType.ORPHANED_LOCAL, "absent")] * TRUE_ORPHANS
    healed = [starts_at for starts_at in morning.healed() if starts_at != morning.starts[latest]]
    assert len(healed) == RECORDS - TRUE_ORPHANS - 1
    tenth = len(healed) // 10
    assert max(healed[:tenth]) < sorted(healed)[3 * tenth], "the soonest appointments come first"
    most = max(_in_any_minute(morning))
    assert most <= 120


def _in_any_minute(morning: Morning) -> list[int]:
    """Count the answers of each minute: no more than may be asked."""
    moments = sorted(a.observed_at for r, _ in morning.store.records.values() for a in r.answers)
    counts, first = [], 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= timedelta(seconds=60):
            first += 1
        counts.append(last - first + 1)
    return counts
