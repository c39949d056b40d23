"""The worker with its ports in memory and a clock that is moved by hand. Numbers are those of the scenarios."""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
import structlog
from aiokafka.errors import KafkaConnectionError
from msgspec.structs import replace

from schemas import topics
from schemas.envelope import Envelope
from services.plumbing.lifecycle import PASSING
from services.reconciler.core.frontier import Contact
from services.reconciler.core.policy import Policy
from services.reconciler.limits import Limits
from services.reconciler.ports import Applied, Changes, Unstorable
from services.reconciler.worker import RECLAIM_SECONDS, Worker
from tests.sim.world import quiet
from tests.support import builders
from tests.support.invariants import check, of_memory
from tests.support.memory import MemoryStore
from tests.support.town import BEGIN, COMPANIES, LIMITS, POLICY, WINDOW_SECONDS, Town, held, start

ORPHAN = "sync.orphaned_local"


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """Keep the worker's log lines out of the way."""
    quiet()
    yield
    structlog.reset_defaults()


@pytest.fixture
def town() -> Town:
    """Give a town in which nothing has happened yet."""
    return Town()


async def turn(town: Town, worker: Worker, *, seconds: float, step: float = 2.0) -> None:
    """Let time pass while a worker turns, as a process does that is well."""
    for _ in range(round(seconds / step)):
        town.pass_by(step)
        await worker.turn()


async def test_what_has_come_on_both_sides_is_a_record_that_is_synced(town: Town) -> None:
    worker = town.worker()
    town.appointment()
    town.booking()
    assert await worker.turn() == 2
    ((record, number),) = town.store.records.values()
    assert (record.status, number) == ("synced", 0)
    await turn(town, worker, seconds=400)
    assert town.told == []
    town.check(400)


async def test_20_while_one_topic_lags_two_hours_nothing_is_flagged_and_the_held_are_counted(town: Town) -> None:
    worker = town.worker()
    await worker.turn()
    town.sources[-1].behind = {(topics.CALCOM_BOOKINGS, n) for n in range(len(COMPANIES))}
    for number in range(1, 21):
        town.appointment(number)
        if number % 4:
            town.booking(number)
    await turn(town, worker, seconds=7200, step=4)
    assert (town.told, held(0)) == ([], 20)
    town.sources[-1].behind = set()
    await turn(town, worker, seconds=2)
    assert town.told == [("acme", ORPHAN)] * 5, "the true orphans, within one tick"
    await worker.turn()
    assert held(0) == 0
    town.check(7200)


async def test_21_a_partition_that_lags_holds_its_own_and_the_others_are_flagged_on_time(town: Town) -> None:
    worker = town.worker()
    await worker.turn()
    town.sources[-1].behind = {(topics.CALCOM_BOOKINGS, 0)}
    for company in COMPANIES:
        town.appointment(1, company)
    town.booking(1, "acme")
    await turn(town, worker, seconds=304)
    assert sorted(town.told) == [("bern", ORPHAN), ("cork", ORPHAN)]
    town.sources[-1].behind = set()
    await turn(town, worker, seconds=4)
    assert len(town.told) == 2
    town.check(304)


async def test_22_and_24_the_last_event_ever_is_flagged_on_time_by_proof_alone(town: Town) -> None:
    worker = town.worker()
    await worker.turn()
    town.appointment()
    await turn(town, worker, seconds=WINDOW_SECONDS)
    assert town.told == [], "the window includes its last moment"
    await turn(town, worker, seconds=0.5, step=0.1)
    assert town.told == [("acme", ORPHAN)]
    (flag,) = town.flags
    assert flag.deadline_at is not None
    assert min(flag.why.frontiers.values()) > flag.deadline_at
    assert flag.why.offsets == {topics.APP_APPOINTMENTS: 1, topics.CALCOM_BOOKINGS: 0}


async def test_23_a_broker_that_does_not_answer_holds_every_decision(town: Town) -> None:
    worker = town.worker()
    town.appointment()
    await worker.turn()
    town.away = True
    await turn(town, worker, seconds=3600, step=4)
    assert (town.told, held(0)) == ([], 1)


async def test_after_a_stall_the_grace_passes_before_now_counts(town: Town) -> None:
    """What waited in a spool comes within the grace, and is in time by the door's clock."""
    worker = town.worker()
    town.appointment(1)
    town.appointment(2)
    await worker.turn()
    town.away = True
    await turn(town, worker, seconds=320)
    town.away = False
    await turn(town, worker, seconds=20)
    assert town.told == []
    town.booking(1)
    await turn(town, worker, seconds=20)
    assert town.told == [("acme", ORPHAN)]
    town.check(360)


async def test_a_start_that_had_to_wait_for_the_broker_is_a_stall_too(town: Town) -> None:
    began = Contact(town.clock.now())
    town.appointment()
    town.pass_by(310)
    worker = town.worker(contact=began)
    await turn(town, worker, seconds=28)
    assert town.told == []
    await turn(town, worker, seconds=6)
    assert town.told == [("acme", ORPHAN)]


async def test_29_a_clock_that_steps_back_ten_minutes_fires_nothing_twice_and_loses_nothing(town: Town) -> None:
    worker = town.worker()
    town.appointment(1)
    await turn(town, worker, seconds=310)
    town.appointment(2)
    await turn(town, worker, seconds=10)
    assert len(town.told) == 1
    town.clock.seconds -= 600
    await turn(town, worker, seconds=200)
    town.appointment(3)
    await turn(town, worker, seconds=1200)
    assert town.told == [("acme", ORPHAN)] * 3
    assert len({flag.record_id for flag in town.flags}) == 3
    town.check(1700)


async def test_29_what_a_clock_proved_before_it_stepped_back_proves_nothing(town: Town) -> None:
    """A clock that ran ahead said "read until then" of a moment that was still to come."""
    town.clock.seconds = 600
    worker = town.worker()
    await turn(town, worker, seconds=10)
    town.clock.seconds = town.real_seconds
    town.sources[-1].behind = {(topics.CALCOM_BOOKINGS, 0)}
    town.appointment()
    town.booking()
    await turn(town, worker, seconds=400)
    assert town.told == []
    town.sources[-1].behind = set()
    await turn(town, worker, seconds=700)
    assert town.told == []
    town.check(1000)


async def test_30_a_process_that_dies_between_the_two_commits_does_nothing_again(town: Town) -> None:
    async def dies(what: str) -> None:
        if what == "commit":
            raise SystemExit

    worker = town.worker(hazard=dies)
    town.appointment()
    town.booking()
    with pytest.raises(SystemExit):
        await worker.turn()
    assert len(town.store.events) == 2
    again = town.worker()
    assert await again.turn() == 0
    await turn(town, again, seconds=400)
    assert (len(town.store.events), town.told) == (2, [])
    town.check(400)


@pytest.mark.parametrize("moment", ["save", "saved"])
async def test_31_a_save_of_unknown_outcome_is_looked_up_and_its_batch_done_once(town: Town, moment: str) -> None:
    """Before the save nothing was written, and the batch is done again; after it all was, and it is not."""
    worker = town.worker()
    await worker.turn()
    left = [moment]

    async def fails(what: str) -> None:
        if what in left:
            left.remove(what)
            raise ConnectionResetError

    town.store.hazard = fails
    town.appointment()
    town.booking()
    with pytest.raises(ConnectionResetError):
        await worker.turn()
    worker.doubt()
    await turn(town, worker, seconds=10)
    assert (len(town.store.events), len(town.store.records)) == (2, 1)
    town.check(10)


async def test_33_a_worker_that_slept_while_its_partitions_moved_writes_nothing_when_it_wakes(town: Town) -> None:
    sleeper = town.worker()
    await sleeper.turn()
    wake, asleep = asyncio.Event(), asyncio.Event()

    async def sleeps(what: str) -> None:
        if what == "save" and not wake.is_set():
            asleep.set()
            await wake.wait()

    town.store.hazard = sleeps
    town.appointment()
    turning = asyncio.create_task(sleeper.turn())
    await asleep.wait()
    town.pass_by(600)
    other = town.worker()
    wake.set()
    epochs = await town.store.claim(range(len(COMPANIES)), owner="other", at=town.clock.now())
    assert await turning == 0
    assert (town.store.records, town.store.events, town.store.claims) == ({}, [], epochs)
    assert sleeper.owned == frozenset()
    assert await other.turn() == 1
    town.check(600)


async def test_33_who_was_fenced_by_a_mistake_claims_again_after_a_while(town: Town) -> None:
    """The other may have been a sleeper that learnt only then that its place was gone: nothing is assigned anew."""
    worker = town.worker()
    await worker.turn()
    await town.store.claim(range(len(COMPANIES)), owner="sleeper", at=town.clock.now())
    town.appointment()
    await worker.turn()
    assert worker.owned == frozenset()
    await turn(town, worker, seconds=RECLAIM_SECONDS - 1, step=1)
    assert town.store.events == []
    await turn(town, worker, seconds=2, step=1)
    assert len(town.store.events) == 1
    town.check(0)


async def test_35_two_workers_that_expire_the_same_deadline_raise_one_flag(town: Town) -> None:
    one, other = town.worker(), town.worker()
    town.appointment()
    await turn(town, one, seconds=300)
    reached, waiting = asyncio.Event(), asyncio.Event()

    async def meets(what: str) -> None:
        if what == "due" and not reached.is_set():
            reached.set()
            await waiting.wait()

    town.store.hazard = meets
    turning = asyncio.create_task(turn(town, one, seconds=2))
    await reached.wait()
    await turn(town, other, seconds=40)
    waiting.set()
    await turning
    await turn(town, other, seconds=40)
    await turn(town, one, seconds=40)
    assert town.told == [("acme", ORPHAN)]
    town.check(310)


async def test_34_what_was_read_under_an_earlier_assignment_is_passed_over(town: Town) -> None:
    worker = town.worker([0, 1])
    for company in ("acme", "bern"):
        town.appointment(1, company)
    await worker.turn()
    town.sources[-1].assign([1, 2])
    town.appointment(2, "acme")
    town.appointment(2, "bern")
    town.appointment(2, "cork")
    await worker.turn()
    assert worker.owned == {1, 2}
    assert sorted(e.company_id for e in town.store.events) == ["acme", "bern", "bern", "cork"]


async def test_34_what_was_read_and_dropped_in_a_rebalance_proves_nothing(town: Town) -> None:
    """The place in the log is past the partner that was dropped; until it is read again its deadline waits."""
    worker = town.worker()
    town.appointment()
    await turn(town, worker, seconds=300)
    town.booking()
    source = town.sources[-1]

    async def revoked(what: str) -> None:
        if what == "poll":
            source._assigned = (source.assigned[0] + 1, source.assigned[1])

    source._hazard = revoked
    town.pass_by(2)
    await worker.turn()
    assert town.told == []
    source._hazard = town._answer
    await turn(town, worker, seconds=60)
    assert (town.told, len(town.store.events)) == ([], 2)
    town.check(360)


async def test_54_an_envelope_that_the_store_refuses_is_set_aside_alone(town: Town) -> None:
    class Picky(MemoryStore):
        async def save(self, changes: Changes) -> None:
            if any(event.event_id == "poison" for event in changes.events):
                raise Unstorable("it has no room for that")
            await super().save(changes)

    town.store = Picky()
    worker = town.worker()
    for number in range(1, 10):
        town.appointment(number, event_id="poison" if number == 6 else None)
    assert await worker.turn() == 9
    (row,) = town.store.dead.values()
    assert (row.letter.offset, row.letter.reason) == (5, "unstorable")
    assert sorted(e.offset for e in town.store.events) == [0, 1, 2, 3, 4, 6, 7, 8]
    await turn(town, worker, seconds=304)
    assert len(town.told) == 8


async def test_while_one_batch_is_saved_the_next_is_read_and_none_is_lost_when_the_save_fails(town: Town) -> None:
    worker = town.worker(limits=Limits(batch_max_records=2))
    await worker.turn()
    for number in range(8):
        town.appointment(number)
    left = ["saved", "save", "save"]

    async def fails(what: str) -> None:
        await asyncio.sleep(0)
        if left and what == left[-1]:
            left.pop()
            raise ConnectionResetError

    town.store.hazard = fails
    for _ in range(12):
        try:
            await worker.turn()
        except ConnectionResetError:
            worker.doubt()
    assert (left, len(town.store.events)) == ([], 8)
    town.check(0)


async def test_38_the_brake_stops_one_partition_says_so_and_loses_nothing(town: Town) -> None:
    worker = town.worker()
    for _ in range(8):
        town.put(topics.CALCOM_BOOKINGS, b"{", "acme")
    town.booking(1, "acme")
    town.booking(1, "bern")
    await turn(town, worker, seconds=4)
    assert worker.stopped == {0: "5 dead letters in a row"}
    assert len(town.store.dead) == 5
    assert [e.company_id for e in town.store.events] == ["bern"]
    mended = town.worker(limits=Limits(brake_run=100))
    await turn(town, mended, seconds=4)
    assert len(town.store.dead) == 8
    town.check(0)


async def test_a_partition_that_is_stopped_fires_no_deadlines(town: Town) -> None:
    worker = town.worker()
    town.appointment(1, "acme")
    town.appointment(1, "bern")
    await worker.turn()
    for _ in range(5):
        town.put(topics.CALCOM_BOOKINGS, b"{", "acme")
    await turn(town, worker, seconds=400)
    assert town.told == [("bern", ORPHAN)]


async def test_37_what_cannot_be_understood_is_set_aside_and_the_partition_goes_on(town: Town) -> None:
    worker = town.worker()
    town.put(topics.APP_APPOINTMENTS, b'{"id": "\\ud800"', "acme")
    town.appointment()
    await worker.turn()
    ((place, row),) = town.store.dead.items()
    assert (place, row.body) == ((topics.APP_APPOINTMENTS, 0, 0), b'{"id": "\\ud800"')
    assert len(town.store.events) == 1
    town.check(0)


async def test_a_company_of_which_nobody_knew_is_looked_up_before_it_is_called_unknown(town: Town) -> None:
    class Late(type(town.policies)):  # type: ignore[misc]
        async def refresh(self) -> None:
            self._policies["acme"] = POLICY

    town.policies = Late({})
    worker = town.worker()
    town.appointment()
    await worker.turn()
    assert (len(town.store.events), town.store.dead) == (1, {})


async def test_a_company_that_nobody_knows_is_a_dead_letter(town: Town) -> None:
    town.policies = type(town.policies)({"bern": Policy()})
    worker = town.worker()
    town.appointment()
    await worker.turn()
    assert [row.letter.reason for row in town.store.dead.values()] == ["unknown_company"]


# --- several events an envelope ---------------------------------------------------------------------------------


def _several(town: Town, *numbers: int, **broken: object) -> None:
    """Let the app write several events at once straight to its topic; what is `broken` cannot be understood."""
    events = [
        builders.appointment_event("created", f"{n}", calcom_booking_uid=f"uid-{n}", starts_at=start(n))
        for n in numbers
    ]
    town.put(topics.APP_APPOINTMENTS, builders.body([*events, broken] if broken else events), "acme")


async def test_every_event_of_an_envelope_counts_at_the_envelopes_place(town: Town) -> None:
    worker = town.worker()
    _several(town, 1, 2, 3)
    town.booking(2)
    assert await worker.turn() == 2
    assert [e.offset for e in town.store.events if e.topic == topics.APP_APPOINTMENTS] == [0, 0, 0]
    assert len(town.store.records) == 3
    await turn(town, worker, seconds=304)
    assert town.told == [("acme", ORPHAN)] * 2
    town.check(304)


async def test_what_is_valid_beside_what_is_not_is_folded_and_the_envelope_is_a_dead_letter(town: Town) -> None:
    worker = town.worker()
    _several(town, 1, 2, type="appointment.created")
    await worker.turn()
    assert (len(town.store.events), len(town.store.records), len(town.store.dead)) == (2, 2, 1)
    town.check(0)


async def test_the_brake_counts_envelopes_not_their_events(town: Town) -> None:
    worker = town.worker()
    for number in range(4):
        _several(town, 2 * number, 2 * number + 1, type="appointment.created")
    _several(town, 90, 91)
    _several(town, 92, type="appointment.created")
    await worker.turn()
    assert (worker.stopped, len(town.store.dead)) == ({}, 5)
    town.check(0)


async def test_54_an_envelope_of_many_events_that_the_store_refuses_is_set_aside_as_one(town: Town) -> None:
    class Picky(MemoryStore):
        async def save(self, changes: Changes) -> None:
            if any(event.offset == 1 and event.topic == topics.APP_APPOINTMENTS for event in changes.events):
                raise Unstorable("it has no room for that")
            await super().save(changes)

    town.store = Picky()
    worker = town.worker()
    for first in (1, 4, 7):
        _several(town, first, first + 1, first + 2)
    assert await worker.turn() == 3
    ((place, row),) = town.store.dead.items()
    assert (place[2], row.letter.reason) == (1, "unstorable")
    assert [e.offset for e in town.store.events] == [0, 0, 0, 2, 2, 2]
    town.check(0)


# --- envelopes on the wrong partition ---------------------------------------------------------------------------


def _astray(town: Town, topic: str, body: object, company: str = "bern", **fields: Any) -> Envelope:
    """Let a producer with another partitioner write to the partition 0, which is acme's."""
    kept = town.broker.log[(topic, 0)]
    at = BEGIN + timedelta(seconds=town.real_seconds)
    stray = builders.envelope(topic, body, company_id=company, partition=0, offset=len(kept), received_at=at)
    kept.append(replace(stray, appended_at=at, **fields))
    return kept[-1]


def _send_on(town: Town) -> None:
    """Let the relay work."""
    town.store.send_on(town.broker, at=BEGIN + timedelta(seconds=town.real_seconds))


async def test_an_envelope_on_a_partition_that_is_not_its_own_is_folded_at_home_alone(town: Town) -> None:
    worker = town.worker()
    event = builders.appointment_event("created", "1", calcom_booking_uid="uid-1", starts_at=start(1))
    stray = _astray(town, topics.APP_APPOINTMENTS, event, ce_id=None, ce_type=None)
    await worker.turn()
    assert (town.store.records, town.store.events, town.store.dead) == ({}, [], {})
    assert town.store.incidents["bern", "wrong_partition"].seen == 1
    assert "murmur2_random" in town.store.incidents["bern", "wrong_partition"].detail
    _send_on(town)
    (home,) = town.broker.log[(topics.APP_APPOINTMENTS, 1)]
    assert (home.ce_id, home.body, home.received_at) == (
        "reroute:app.appointments.v1/0/0",
        stray.body,
        stray.received_at,
    )
    await worker.turn()
    ((_, number),) = town.store.records.values()
    assert number == 1
    town.check(0)


async def test_what_is_sent_on_keeps_what_its_producer_said_of_it(town: Town) -> None:
    said: dict[str, Any] = {
        "ce_id": "evt-1",
        "ce_source": "shop",
        "ce_type": "shop.appointment",
        "traceparent": "00-1",
        "webhook_version": "2021-10-20",
        "content_type": "text/plain",
    }
    stray = _astray(town, topics.CALCOM_BOOKINGS, builders.booking_created("uid-1"), **said)
    await town.worker().turn()
    _send_on(town)
    (home,) = town.broker.log[(topics.CALCOM_BOOKINGS, 1)]
    assert home == replace(stray, partition=1)


async def test_a_company_that_nobody_knows_is_a_dead_letter_on_any_partition(town: Town) -> None:
    _astray(town, topics.APP_APPOINTMENTS, builders.appointment_event(), "none")
    await town.worker().turn()
    assert [row.letter.reason for row in town.store.dead.values()] == ["unknown_company"]
    assert (town.store.reroutes, town.store.incidents) == ([], {})


async def test_no_decision_overtakes_an_envelope_that_waits_to_be_sent_on(town: Town) -> None:
    """Its window counts from when it first came in, and it came in time."""
    worker = town.worker()
    town.appointment(1, "bern")
    town.appointment(2, "bern")
    await turn(town, worker, seconds=200)
    _astray(town, topics.CALCOM_BOOKINGS, builders.booking_created("uid-1", booking_id=1, starts_at=start(1)))
    await turn(town, worker, seconds=600)
    assert (town.told, held(1)) == ([], 2), "the relay cannot send it"
    _send_on(town)
    await turn(town, worker, seconds=4)
    assert town.told == [("bern", ORPHAN)], "only the one that has no booking"
    town.check(804)


# --- doors ------------------------------------------------------------------------------------------------------


async def test_no_decision_overtakes_what_waits_in_a_spool(town: Town) -> None:
    worker = town.worker()
    since = BEGIN + timedelta(seconds=100)
    town.doors.living["door"] = lambda: since
    for number, company in enumerate(COMPANIES):
        town.appointment(number, company)
    await turn(town, worker, seconds=2000)
    assert (town.told, [held(number) for number in range(3)]) == ([], [1, 1, 1])
    booking = town.booking(0, "acme")
    town.broker.log[(topics.CALCOM_BOOKINGS, 0)][0] = replace(booking, received_at=since)
    del town.doors.living["door"]
    town.doors.report("door", at=town.clock.now())
    await turn(town, worker, seconds=4)
    assert sorted(town.told) == [("bern", ORPHAN), ("cork", ORPHAN)]


async def test_what_was_drained_from_a_spool_must_be_read_before_anything_is_decided(town: Town) -> None:
    """It lies in the log behind others that came in after it: how far one has read there does not say it."""
    worker = town.worker(limits=Limits(batch_max_records=1))
    waits: list[datetime] = [BEGIN + timedelta(seconds=100)]
    town.doors.living["door"] = lambda: waits[0] if waits else None
    town.appointment(1)
    await turn(town, worker, seconds=600)
    for number in range(2, 40):
        town.booking(number)
        town.appointment(number)
    kept = town.broker.log[(topics.CALCOM_BOOKINGS, 0)]
    town.booking(1)
    kept[-1] = replace(kept[-1], received_at=waits.pop())
    await turn(town, worker, seconds=100, step=0.2)
    assert town.told == []
    town.check(700)


async def test_a_door_that_turns_up_again_with_a_spool_takes_back_what_was_proved_without_it(town: Town) -> None:
    worker = town.worker()
    town.doors.report("door", at=town.clock.now())
    town.appointment(1)
    await turn(town, worker, seconds=1000)
    assert len(town.told) == 1, "after ten minutes nobody waits for it"
    town.appointment(2)
    await turn(town, worker, seconds=298)
    waits = town.clock.now() - timedelta(seconds=100)
    town.doors.living["door"] = lambda: waits
    await turn(town, worker, seconds=400)
    assert (len(town.told), held(0)) == (1, 1)


async def test_a_door_that_fell_silent_holds_for_ten_minutes_and_marks_what_is_decided_without_it(town: Town) -> None:
    worker = town.worker()
    town.doors.report("gone", at=town.clock.now())
    town.doors.living["here"] = lambda: None
    town.appointment()
    await turn(town, worker, seconds=598)
    assert (town.told, held(0)) == ([], 1)
    await turn(town, worker, seconds=6)
    (flag,) = town.flags
    assert flag.why.silent_doors == ("gone",)
    await turn(town, worker, seconds=90_000, step=600)
    town.appointment(2)
    await turn(town, worker, seconds=304)
    assert town.flags[-1].why.silent_doors == (), "after a day it is forgotten"


async def test_a_door_that_said_goodbye_holds_nothing(town: Town) -> None:
    worker = town.worker()
    town.doors.report("door", at=town.clock.now())
    town.appointment()
    await turn(town, worker, seconds=100)
    town.doors.close("door")
    await turn(town, worker, seconds=204)
    (flag,) = town.flags
    assert flag.why.silent_doors == ()


# --- rules that change ------------------------------------------------------------------------------------------


async def _settled(town: Town, worker: Worker) -> None:
    """Let a change of rules come to its end, some records a turn."""
    for _ in range(50):
        town.pass_by(0.1)
        await worker.turn()


async def test_70_a_longer_window_moves_the_deadlines_that_are_open(town: Town) -> None:
    worker = town.worker()
    for number in range(450):
        town.appointment(number)
    town.appointment(1, "bern")
    await turn(town, worker, seconds=100)
    town.policies["acme"] = Policy(window_seconds=3600)
    await _settled(town, worker)
    deadlines = {record.deadline_at for (company, _), (record, _) in town.store.records.items() if company == "acme"}
    assert deadlines == {BEGIN + timedelta(seconds=3600)}
    await turn(town, worker, seconds=3400)
    assert town.told == [("bern", ORPHAN)]
    await turn(town, worker, seconds=200)
    assert len(town.told) == 451


async def test_70_a_shorter_window_fires_what_is_over_by_it(town: Town) -> None:
    worker = town.worker()
    town.appointment()
    await turn(town, worker, seconds=100)
    town.policies["acme"] = Policy(window_seconds=60)
    await turn(town, worker, seconds=6)
    assert town.told == [("acme", ORPHAN)]
    assert town.flags[0].why.window_seconds == 60


async def test_70_a_change_goes_on_where_the_one_before_was_stopped(town: Town) -> None:
    worker = town.worker()
    for number in range(450):
        town.appointment(number)
    await turn(town, worker, seconds=10)
    town.policies["acme"] = rules = Policy(window_seconds=3600)
    await worker.turn()
    await worker.turn()
    assert town.store.rules["acme"].after_record_id is not None
    other = town.worker()
    versions = {ref: record.version for ref, (record, _) in town.store.records.items()}
    await _settled(town, other)
    assert town.store.rules["acme"] == Applied("acme", rules, None)
    changed = [ref for ref, (record, _) in town.store.records.items() if record.version != versions[ref]]
    assert 0 < len(changed) < 300
    assert {record.deadline_at for record, _ in town.store.records.values()} == {BEGIN + timedelta(seconds=3600)}


async def test_70_live_work_goes_on_in_between(town: Town) -> None:
    worker = town.worker(limits=Limits(batch_max_records=300))
    for number in range(900):
        town.appointment(number)
    await turn(town, worker, seconds=10)
    town.policies["acme"] = Policy(window_seconds=3600)
    await worker.turn()
    for number in range(1000, 1900):
        town.appointment(number)
    await worker.turn()
    assert len(town.store.records) > 900, "the change is not through, and new ones come in"
    await _settled(town, worker)
    waits = [(record.first_received_at, record.deadline_at) for record, _ in town.store.records.values()]
    assert all(deadline_at == since + timedelta(seconds=3600) for since, deadline_at in waits)


async def test_70_any_rule_that_changes_decides_anew_what_is_in_order_too(town: Town) -> None:
    """The third rung is switched off: what only person and time had brought together falls apart."""
    worker = town.worker()
    town.put(topics.APP_APPOINTMENTS, builders.body(builders.appointment_event()))
    town.put(topics.CALCOM_BOOKINGS, builders.body(builders.booking_created("uid-1", metadata=None)))
    await turn(town, worker, seconds=10)
    assert [record.status for record, _ in town.store.records.values()] == ["synced"]
    rules = Policy(window_seconds=WINDOW_SECONDS, match_by_attendee=False)
    town.policies["acme"] = rules
    await _settled(town, worker)
    assert [record.status for record, _ in town.store.records.values()] == ["pending"] * 2
    check(of_memory(town.broker, town.store, {"acme": rules}, BEGIN))


async def test_70_in_another_country_people_have_other_numbers(town: Town) -> None:
    worker = town.worker()
    phone = {"name": "Mia", "email": None, "phone": "0664 1234567"}
    town.put(topics.APP_APPOINTMENTS, builders.body(builders.appointment_event(customer=phone)))
    guest = builders.attendee(email="436641234567@sms.cal.com")
    town.put(topics.CALCOM_BOOKINGS, builders.body(builders.booking_created("uid-1", attendees=[guest], metadata=None)))
    await turn(town, worker, seconds=10)
    assert len(town.store.records) == 2
    rules = Policy(window_seconds=WINDOW_SECONDS, country="AT")
    town.policies["acme"] = rules
    await _settled(town, worker)
    assert [record.status for record, _ in town.store.records.values()] == ["synced"]
    check(of_memory(town.broker, town.store, {"acme": rules}, BEGIN))


async def test_70_rules_that_nobody_changed_decide_nothing_anew(town: Town) -> None:
    worker = town.worker()
    town.appointment()
    await turn(town, worker, seconds=10)
    before = dict(town.store.records)
    for _ in range(2):
        worker = town.worker()
        await turn(town, worker, seconds=10)
    assert town.store.records == before
    assert {rules.company_id for rules in town.store.rules.values()} == set(COMPANIES)


# --- notes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("occurred_seconds", "note"),
    [
        (0, None),
        (-WINDOW_SECONDS - 30, None),
        (-WINDOW_SECONDS - 31, "late"),
        (-366 * 86_400 - 1, "clock_behind"),
        (600, None),
        (3 * 86_400, "clock_ahead"),
    ],
)
async def test_26_and_27_an_event_whose_time_is_remarkable_is_kept_with_a_note(
    town: Town, occurred_seconds: float, note: str | None
) -> None:
    worker = town.worker()
    town.appointment(occurred_at=BEGIN + timedelta(seconds=occurred_seconds))
    await worker.turn()
    assert [(e.disposition, e.note) for e in town.store.events] == [("applied", note)]


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ReadOnlySQLTransactionError("cannot execute UPDATE in a read-only transaction"),
        asyncpg.DiskFullError("could not extend file"),
        asyncpg.SerializationError("could not serialize access"),
        asyncpg.DeadlockDetectedError("deadlock detected"),
        asyncpg.AdminShutdownError("terminating connection"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.InternalClientError("got result for unknown protocol state 3"),
        asyncpg.QueryCanceledError("canceling statement due to statement timeout"),
        asyncpg.TooManyConnectionsError("sorry, too many clients already"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        ConnectionResetError(),
        TimeoutError(),
    ],
)
async def test_52_to_54_what_passes_is_tried_again_and_done_once(town: Town, error: Exception) -> None:
    worker = town.worker()
    await worker.turn()
    left = ["save"]

    async def fails(what: str) -> None:
        if what in left:
            left.remove(what)
            raise error

    town.store.hazard = fails
    town.appointment()
    with pytest.raises(PASSING):
        await worker.turn()
    worker.doubt()
    await turn(town, worker, seconds=4)
    assert (left, len(town.store.events)) == ([], 1)
    town.check(4)


async def test_offsets_of_another_log_mean_nothing(town: Town) -> None:
    first = town.worker(log_id="old")
    town.appointment(1)
    town.appointment(2)
    await first.turn()
    for kept in town.broker.log.values():
        kept.clear()
    town.appointment(3)
    second = town.worker(log_id="new")
    await second.turn()
    assert len(town.store.records) == 3


async def test_an_offset_beyond_the_end_of_the_log_begins_at_its_start(town: Town) -> None:
    first = town.worker()
    town.appointment(1)
    town.appointment(2)
    await first.turn()
    for kept in town.broker.log.values():
        kept.clear()
    town.appointment(3)
    await town.worker().turn()
    assert len(town.store.records) == 3


async def test_more_deadlines_than_one_transaction_takes_all_fire_in_one_turn(town: Town) -> None:
    worker = town.worker(limits=LIMITS)
    for number in range(1100):
        town.appointment(number)
    await turn(town, worker, seconds=300)
    await turn(town, worker, seconds=2)
    assert len(town.told) == 1100
    town.check(302)


async def test_a_batch_is_never_larger_than_allowed(town: Town) -> None:
    worker = town.worker(limits=Limits(batch_max_records=3))
    for number in range(7):
        town.appointment(number)
    assert [await worker.turn() for _ in range(4)] == [3, 3, 1, 0]
    town.check(0)


async def test_a_broker_that_is_away_at_the_take_over_is_asked_again(town: Town) -> None:
    town.away = True
    worker = town.worker()
    town.appointment()
    with pytest.raises(KafkaConnectionError):
        await worker.turn()
    worker.doubt()
    assert worker.owned == frozenset()
    town.away = False
    assert await worker.turn() == 1
