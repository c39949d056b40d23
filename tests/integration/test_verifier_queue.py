"""The queue of questions, and who takes them up: on a real PostgreSQL, with a Cal.com and a broker in memory."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError

from schemas.envelope import Delivery
from schemas.observations import Check
from schemas.topics import CALCOM_BOOKINGS, TYPE_CHECK
from schemas.verification import QUESTIONS, Priority, Question
from services.plumbing import postgres
from services.plumbing.postgres import Pool
from services.plumbing.settings import Settings, load
from services.verifier.answers import Answer, Bookings, NotThere, Unauthorised
from services.verifier.checks.asking import Asker
from services.verifier.checks.queue import Leased, Queue, listen
from services.verifier.checks.worker import HUMANS, Worker
from services.verifier.ports import Account, Call, GetBooking, NotNow, Observed
from tests.support.builders import NOW, STARTS_AT, api_booking
from tests.support.hand_clock import HandClock
from tests.support.wait import until

LEASE = timedelta(seconds=60)
_NUMBERS = {priority: number for number, priority in enumerate(Priority)}
_PUT = """
INSERT INTO verifications (company_id, record_id, number, priority, starts_at, not_before, question)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (company_id, record_id) DO UPDATE SET number = excluded.number,
  priority = excluded.priority, not_before = excluded.not_before, question = excluded.question"""


def ask(name: int = 1, company_id: str = "acme", **over: Any) -> Question:
    given: dict[str, Any] = {"subject": f"a:{name}", "number": 1, "priority": Priority.DEADLINE, "not_before": NOW}
    given |= {"not_older_than": NOW, "uid": f"uid-{name}", "starts_at": STARTS_AT + timedelta(hours=name)}
    return Question(company_id=company_id, record_id=UUID(int=name), **(given | over))


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    settings = load({"RECONCAL_POSTGRES_DSN": dsn})
    made = await postgres.connect(settings, name="tests", size=8)
    yield made
    await postgres.close(made)


async def put(pool: Pool, *questions: Question) -> None:
    for one in questions:
        body = msgspec.json.encode(one).decode()
        place = (one.company_id, one.record_id, one.number, _NUMBERS[one.priority], one.starts_at, one.not_before)
        await pool.execute(_PUT, *place, body)
    await pool.execute(f"NOTIFY {QUESTIONS}")


async def take(queue: Queue, now: datetime = NOW, **over: Any) -> Leased | None:
    given: dict[str, Any] = {"shut": [], "crowded": [], "humans_only": False} | over
    return await queue.lease(now, now + LEASE, **given)


async def taken(queue: Queue, now: datetime = NOW, **over: Any) -> list[str]:
    found = []
    while leased := await take(queue, now, **over):
        found.append(leased.question.subject)
    return found


async def waiting(pool: Pool) -> int:
    return int(await pool.fetchval("SELECT count(*) FROM verifications"))


# --- the table


async def test_humans_come_first_then_the_soonest_that_has_not_begun(pool: Pool) -> None:
    await put(
        pool,
        ask(1, starts_at=NOW - timedelta(hours=1)),
        ask(2, starts_at=None),
        ask(3, starts_at=NOW + timedelta(days=2)),
        ask(4, starts_at=NOW + timedelta(days=1)),
        ask(5, priority=Priority.SWEEP, starts_at=NOW + timedelta(hours=1)),
        ask(6, priority=Priority.HUMAN, starts_at=NOW + timedelta(days=9)),
        ask(7, not_before=NOW + timedelta(seconds=1)),
    )
    assert await taken(Queue(pool, "one")) == ["a:6", "a:4", "a:3", "a:1", "a:2", "a:5"]


async def test_a_question_says_all_that_it_said(pool: Pool) -> None:
    question = ask(seat="nora@example.org", absent_at=NOW, booking_id=5)
    await put(pool, question)
    leased = await take(Queue(pool, "one"))
    assert leased is not None
    assert (leased.question, leased.until) == (question, NOW + LEASE)


async def test_two_never_lease_the_same(pool: Pool) -> None:
    await put(pool, *(ask(n) for n in range(60)))
    lots = await asyncio.gather(*(taken(Queue(pool, f"{n}")) for n in range(6)))
    found = Counter(subject for lot in lots for subject in lot)
    assert found == Counter(f"a:{n}" for n in range(60))


async def test_what_was_leased_by_one_who_died_is_asked_again_when_the_lease_is_over(pool: Pool) -> None:
    await put(pool, ask())
    assert await taken(Queue(pool, "dead")) == ["a:1"]
    heir = Queue(pool, "heir")
    assert await heir.next_due(shut=[], crowded=[], humans_only=False) == NOW + LEASE
    assert await taken(heir, NOW + LEASE - timedelta(seconds=1)) == []
    assert await taken(heir, NOW + LEASE) == ["a:1"]


async def test_one_who_was_taken_for_dead_ends_and_frees_nothing(pool: Pool) -> None:
    await put(pool, ask())
    late = Queue(pool, "late")
    leased = await take(late)
    assert leased is not None
    assert await take(Queue(pool, "heir"), NOW + LEASE) is not None
    await late.done(leased)
    await late.put_back(leased, NOW)
    assert await waiting(pool) == 1
    assert await taken(late, NOW + LEASE) == []


async def test_what_is_put_back_waits_until_then(pool: Pool) -> None:
    await put(pool, ask())
    queue = Queue(pool, "one")
    leased = await take(queue)
    assert leased is not None
    await queue.put_back(leased, NOW + timedelta(seconds=5))
    assert await queue.next_due(shut=[], crowded=[], humans_only=False) == NOW + timedelta(seconds=5)
    assert await taken(queue, NOW + timedelta(seconds=4)) == []
    assert await taken(queue, NOW + timedelta(seconds=5)) == ["a:1"]


@pytest.mark.parametrize("answered", [True, False])
async def test_a_question_that_was_replaced_meanwhile_stays_and_waits_for_its_predecessor(
    pool: Pool, *, answered: bool
) -> None:
    await put(pool, ask())
    queue, other = Queue(pool, "one"), Queue(pool, "other")
    leased = await take(queue)
    assert leased is not None
    await put(pool, ask(number=2, priority=Priority.HUMAN))
    assert await take(other) is None, "nobody asks about a record that is being asked about"
    await (queue.done(leased) if answered else queue.put_back(leased, NOW + timedelta(hours=1)))
    following = await take(other)
    assert following is not None
    assert following.question.number == 2


async def test_a_company_that_is_shut_holds_up_nobody(pool: Pool) -> None:
    await put(pool, ask(1), ask(2, priority=Priority.HUMAN), ask(3, "other"))
    queue = Queue(pool, "one")
    assert await queue.next_due(shut=["acme", "other"], crowded=[], humans_only=False) is None
    assert await taken(queue, shut=["acme"]) == ["a:3"]
    assert await taken(queue, crowded=["acme"]) == ["a:2"]
    assert await queue.next_due(shut=[], crowded=["acme"], humans_only=True) == NOW + LEASE
    assert await taken(queue, humans_only=True) == []
    assert await taken(queue) == ["a:1"]


async def test_news_wake_who_listens(pool: Pool, dsn: str) -> None:
    heard, stop = asyncio.Event(), asyncio.Event()
    listening = asyncio.ensure_future(listen(load({"RECONCAL_POSTGRES_DSN": dsn}), heard, stop))
    await asyncio.wait_for(heard.wait(), 10)  # what came while nobody listened
    heard.clear()
    await put(pool, ask())
    await asyncio.wait_for(heard.wait(), 10)
    stop.set()
    await asyncio.wait_for(listening, 5)


# --- who takes them up


class Line:
    """A gateway of which the test says what it answers, and when; counts who asks at once."""

    def __init__(self) -> None:
        self.answer: Callable[[Account, Call], Answer | NotNow] = lambda *_: Bookings(rows=(api_booking(),))
        self.asked: list[tuple[str, str]] = []
        self.at_once: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.open = asyncio.Event()
        self.open.set()

    async def ask(self, account: Account, call: Call, **_: Any) -> Observed | NotNow:
        assert isinstance(call, GetBooking)
        self.asked.append((account.company_id, call.uid))
        for name in (account.company_id, f"{account.company_id}/{call.uid}", "all"):
            self.at_once[name] += 1
            self.most[name] = max(self.most[name], self.at_once[name])
        try:
            await self.open.wait()
        finally:
            for name in (account.company_id, f"{account.company_id}/{call.uid}", "all"):
                self.at_once[name] -= 1
        said = self.answer(account, call)
        return said if isinstance(said, NotNow) else Observed(said, NOW)


class Log:
    """A broker in memory, which may be away."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.away = False

    async def publish(self, delivery: Delivery) -> None:
        if self.away:
            raise KafkaConnectionError
        self.deliveries.append(delivery)

    @property
    def checks(self) -> list[Check]:
        return [msgspec.json.decode(one.body, type=Check) for one in self.deliveries]


class Keys(dict[str, str]):
    """Keys by company."""

    def of(self, company_id: str) -> Account | None:
        key = self.get(company_id)
        if key is None:
            return None
        return Account(company_id=company_id, base_url="http://api.cal.test/v2", api_key=key, budget_id=key)


class Office:
    """Workers over one queue."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self.pool, self.settings = pool, settings
        self.line, self.log, self.clock = Line(), Log(), HandClock(NOW)
        self.keys = Keys(acme="k1", other="k2")

    @asynccontextmanager
    async def working(self, count: int = 1) -> AsyncIterator[list["asyncio.Task[None]"]]:
        stop = asyncio.Event()
        tasks = []
        for number in range(count):
            queue, asker = Queue(self.pool, f"w{number}"), Asker(self.line)
            worker = Worker(self.settings, queue, asker, self.log, self.keys, self.clock)
            tasks.append(asyncio.ensure_future(worker.run(stop)))
            tasks.append(asyncio.ensure_future(listen(self.settings, worker.wake, stop)))
        try:
            yield tasks
        finally:
            stop.set()
            done, late = await asyncio.wait(tasks, timeout=9)
            assert not late
            for task in done:
                if task.exception():
                    assert isinstance(task.exception(), KafkaConnectionError)

    async def told(self, count: int) -> list[Check]:
        """Wait for so many answers."""

        async def there() -> bool:
            return len(self.log.deliveries) >= count

        await until(there, 20)
        return self.log.checks

    async def emptied(self) -> None:
        """Wait until nothing waits."""

        async def empty() -> bool:
            return await waiting(self.pool) == 0

        await until(empty, 20)

    async def given_back(self, company_id: str = "acme") -> None:
        """Wait until questions were asked and none is leased."""

        async def idle() -> bool:
            leased = await self.pool.fetchval("SELECT count(leased_by) FROM verifications")
            return leased == 0 and any(one == company_id for one, _ in self.line.asked)

        await until(idle, 20)


@pytest.fixture
def office(pool: Pool, dsn: str) -> Office:
    return Office(pool, load({"RECONCAL_POSTGRES_DSN": dsn}))


async def test_an_answer_is_told_once_and_its_question_ends(office: Office) -> None:
    question = ask()
    await put(office.pool, question)
    async with office.working():
        (check,) = await office.told(1)
        await office.emptied()
    (delivery,) = office.log.deliveries
    assert (delivery.topic, delivery.ce_type, delivery.company_id) == (CALCOM_BOOKINGS, TYPE_CHECK, "acme")
    assert delivery.ce_id == check.id == f"check-{question.record_id}-1"
    assert (check.record_id, check.number, check.subject) == (question.record_id, 1, "a:1")


async def test_two_verifiers_ask_each_question_once_and_never_two_about_one_record(office: Office) -> None:
    async with office.working(2):
        await put(office.pool, *(ask(n) for n in range(80)))
        await put(office.pool, *(ask(n, number=2) for n in range(0, 80, 2)))
        await office.emptied()
    told = Counter(check.id for check in office.log.checks)
    assert set(told.values()) == {1}
    assert {f"check-{UUID(int=n)}-{2 if n % 2 == 0 else 1}" for n in range(80)} <= set(told)
    assert max(count for name, count in office.line.most.items() if "/" in name) == 1


async def test_what_kafka_does_not_take_is_asked_again(office: Office) -> None:
    await put(office.pool, ask())
    office.log.away = True
    async with office.working() as (working, _):
        await asyncio.wait({working}, timeout=20)
        assert isinstance(working.exception(), KafkaConnectionError)
    assert await office.pool.fetchval("SELECT leased_by IS NULL FROM verifications")
    office.log.away = False
    async with office.working():
        await office.told(1)
        await office.emptied()


async def test_a_stop_gives_back_what_is_under_way(office: Office) -> None:
    await put(office.pool, ask())
    office.line.open.clear()
    async with office.working():
        await until(lambda: asyncio.sleep(0, office.line.asked), 20)
    assert await office.pool.fetchval("SELECT leased_by IS NULL FROM verifications")
    assert office.log.deliveries == []


async def test_a_human_does_not_wait_for_others(office: Office) -> None:
    """All slots but those of humans hang; what a human wants to know is asked beside them."""
    office.line.open.clear()
    others = office.settings.verifier_slots - HUMANS
    office.keys |= {f"firm{n}": f"key{n}" for n in range(99)}
    async with office.working():
        await put(office.pool, *(ask(n, f"firm{n}") for n in range(others * 2)))
        await until(lambda: asyncio.sleep(0, len(office.line.asked) >= others), 20)
        await put(office.pool, ask(500, priority=Priority.HUMAN))
        await until(lambda: asyncio.sleep(0, ("acme", "uid-500") in office.line.asked), 20)
        assert office.line.most["all"] == others + 1
        office.line.open.set()
        await office.emptied()


async def test_one_company_does_not_take_all_slots(office: Office) -> None:
    office.line.open.clear()
    async with office.working():
        await put(office.pool, *(ask(n) for n in range(20)))
        await put(office.pool, ask(99, "other", starts_at=STARTS_AT + timedelta(days=300)))
        await until(lambda: asyncio.sleep(0, ("other", "uid-99") in office.line.asked), 20)
        office.line.open.set()
        await office.emptied()
    assert office.line.most["acme"] <= (office.settings.verifier_slots - HUMANS) * 2 // 3


@pytest.mark.parametrize("word", ["breaker", "limited", "bucket", "unauthorised", "refused"])
async def test_a_company_that_cannot_be_asked_for_waits_untold_and_holds_up_nobody(office: Office, word: str) -> None:
    later = NOW + timedelta(seconds=300)
    refusal = Unauthorised(status=401, detail="")

    def answer(account: Account, _: Call) -> Answer | NotNow:
        if account.company_id == "other":
            return NotThere()
        return refusal if word == "refused" else NotNow(later, word)

    office.line.answer = answer
    await put(office.pool, *(ask(n) for n in range(30)), *(ask(n, "other") for n in range(100, 110)))
    async with office.working():
        assert {check.subject for check in await office.told(10)} == {f"a:{n}" for n in range(100, 110)}
        await office.given_back()
        asked = Counter(company_id for company_id, _ in office.line.asked)
        assert asked["acme"] <= office.settings.verifier_slots, "the queue is not spun over"
        assert await waiting(office.pool) == 30
        office.line.answer = lambda *_: NotThere()
        office.keys["acme"] = "a new key"  # at once, whatever the old one had to wait for
        await put(office.pool)
        await office.emptied()


async def test_when_its_time_has_come_a_company_is_asked_for_again(office: Office) -> None:
    office.line.answer = lambda *_: NotNow(NOW + timedelta(seconds=300), "breaker")
    await put(office.pool, ask())
    async with office.working():
        await office.given_back()
        office.line.answer = lambda *_: NotThere()
        office.clock.seconds = 300
        await put(office.pool)
        await office.emptied()


async def test_a_human_may_use_the_reserve_that_others_may_not(office: Office) -> None:
    office.line.answer = lambda *_: NotNow(NOW + timedelta(seconds=300), "bucket")
    await put(office.pool, ask(1))
    async with office.working():
        await office.given_back()
        office.line.answer = lambda *_: NotThere()
        await put(office.pool, ask(2, priority=Priority.HUMAN))
        assert [check.subject for check in await office.told(1)] == ["a:2"]


async def test_without_a_key_a_question_is_left_alone(office: Office) -> None:
    await put(office.pool, ask(1, "keyless"), ask(2))
    async with office.working():
        await office.told(1)
        assert await waiting(office.pool) >= 1
        office.keys["keyless"] = "k3"
        await put(office.pool)
        await office.emptied()
    assert [company_id for company_id, _ in office.line.asked] == ["acme", "keyless"]


async def test_a_question_that_takes_too_long_is_put_back(office: Office) -> None:
    office.settings = msgspec.structs.replace(office.settings, verifier_lease_seconds=0.4)
    office.line.open.clear()
    await put(office.pool, ask())
    async with office.working():
        await office.given_back()
    assert await office.pool.fetchval("SELECT not_before FROM verifications") == NOW + timedelta(seconds=60)


async def test_a_database_that_goes_away_ends_the_loop_and_loses_nothing(office: Office, dsn: str) -> None:
    await put(office.pool, ask())
    await office.pool.execute("ALTER TABLE verifications RENAME TO hidden")
    worker = Worker(
        office.settings, Queue(office.pool, "w"), Asker(office.line), office.log, office.keys, office.clock
    )  # fmt: skip
    with pytest.raises(asyncpg.PostgresError):
        await asyncio.wait_for(worker.run(asyncio.Event()), 20)
    await office.pool.execute("ALTER TABLE hidden RENAME TO verifications")
    async with office.working():
        await office.told(1)
