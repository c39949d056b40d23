"""What a store promises, in memory and in PostgreSQL: a fake earns its keep by passing what the real one does."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from msgspec.structs import replace

from schemas import topics
from schemas.commands import CommandOutcome, Resolve
from schemas.dead_letters import DeadLetter
from schemas.envelope import Delivery, Envelope
from schemas.rules import Waiting
from services.plumbing.postgres import Pool
from services.reconciler.core.events import Commanded, DeadlineReached, Event, Heard
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Record, record_id
from services.reconciler.ports import (
    NOBODY,
    WRONG_PARTITION,
    Applied,
    Astray,
    DeadRow,
    EventRow,
    Fenced,
    Incident,
    Progress,
    RecordRef,
    Unstorable,
)
from services.reconciler.store import PostgresStore
from tests.support import builders
from tests.support.history import NOW, POLICY, at, calcom, checked, fold, local
from tests.support.letters import histories
from tests.support.stores import InMemory, InPostgres, Teller, Written

LINKED: Final[dict[str, Any]] = {"calcom_booking_uid": "A"}
#: Nobody whom the bookings name.
STRANGER: Final[dict[str, Any]] = {"email": "else@example.com"}
OFFSETS = {topics.APP_APPOINTMENTS: 1, topics.CALCOM_BOOKINGS: 0, topics.SYNC_COMMANDS: 0}
Shape: TypeAlias = tuple[object, ...]


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    opened: Pool = await asyncpg.create_pool(dsn, min_size=1, max_size=3)
    yield opened
    await opened.close()


@pytest.fixture(params=["memory", "postgres"])
def written(request: pytest.FixtureRequest) -> Written:
    """Give a store that is empty, and what lies in it."""
    if request.param == "memory":
        return InMemory()
    return InPostgres(request.getfixturevalue("pool"))


async def shape(written: Written) -> Shape:
    """Give all that a save may write, to compare."""
    claims = await written.store.claim([], owner="nobody", at=NOW)
    return (
        claims,
        await written.records(),
        await written.aliases(),
        await written.flags(),
        await written.queued(),
        await written.outcomes(),
        await written.events(),
        await written.transitions(),
        await written.dead(),
        await written.reroutes(),
        await written.incidents(),
        await written.questions(),
    )


def event_row(offset: int) -> EventRow:
    """Give an event that changed nothing."""
    return EventRow(
        company_id="acme", received_at=NOW, topic=topics.APP_APPOINTMENTS, partition=0, offset=offset, record_id=None,
        event_id=f"evt-{offset}", kind="PING", occurred_at=None, disposition="ignored",
    )  # fmt: skip


def dead_row(offset: int = 0, reason: str = "invalid_json") -> DeadRow:
    """Give a dead letter with bytes that are no text."""
    letter = DeadLetter(
        company_id="", topic=topics.CALCOM_BOOKINGS, partition=0, offset=offset, reason=reason, detail="No.",
        received_at=NOW,
    )  # fmt: skip
    return DeadRow(letter, b"\x00\xff{", {"ce_id": None, "ce_type": "\u00fc"})


# --- claims and epochs ------------------------------------------------------------------------------------------


async def test_a_claim_raises_the_epoch_of_each_partition_that_it_asks_for(written: Written) -> None:
    first = await written.store.claim([0, 1], owner="one", at=NOW)
    second = await written.store.claim([1, 2], owner="two", at=NOW)
    assert {n: claim.epoch for n, claim in first.items()} == {0: 1, 1: 1}
    assert {n: claim.epoch for n, claim in second.items()} == {1: 2, 2: 1}
    assert first[0].next_offsets == {}
    assert first[0].log_id is None


async def test_a_claim_gives_the_log_and_the_offsets_that_were_adopted(written: Written) -> None:
    await written.store.claim([0], owner="one", at=NOW)
    await written.store.adopt({0: 1}, "log", {0: OFFSETS})
    claim = (await written.store.claim([0], owner="two", at=NOW))[0]
    assert (claim.epoch, claim.log_id, claim.next_offsets) == (2, "log", OFFSETS)


async def test_adopting_replaces_what_was_known_of_another_log(written: Written) -> None:
    await written.store.claim([0], owner="one", at=NOW)
    await written.store.adopt({0: 1}, "old", {0: {topics.SYNC_COMMANDS: 70}})
    await written.store.adopt({0: 1}, "new", {0: {topics.CALCOM_BOOKINGS: 0}})
    claim = (await written.store.claim([0], owner="two", at=NOW))[0]
    assert (claim.log_id, claim.next_offsets) == ("new", {topics.CALCOM_BOOKINGS: 0})


@pytest.mark.parametrize("epoch", [1, 3])
async def test_adopting_under_another_epoch_is_fenced(written: Written, epoch: int) -> None:
    for owner in ("one", "two"):
        await written.store.claim([0], owner=owner, at=NOW)
    with pytest.raises(Fenced):
        await written.store.adopt({0: epoch}, "log", {0: OFFSETS})
    claim = (await written.store.claim([0], owner="three", at=NOW))[0]
    assert (claim.log_id, claim.next_offsets) == (None, {})


async def test_a_save_under_an_old_epoch_is_fenced_and_writes_nothing(written: Written) -> None:
    sleeper = await Teller.claim(written.store)
    changes = await sleeper.sheet(local(**LINKED))
    changes.next_offsets = {0: {topics.APP_APPOINTMENTS: 1}}
    changes.events, changes.dead = [event_row(0)], [dead_row()]
    changes.reroutes, changes.incidents = [astray()], [Incident("acme", "wrong_partition", "No.", 1)]
    await Teller.claim(written.store)
    before = await shape(written)
    with pytest.raises(Fenced):
        await written.store.save(changes)
    assert await shape(written) == before
    assert (await written.store.claim([0], owner="x", at=NOW))[0].next_offsets == {}


async def test_one_partition_that_is_lost_fences_the_whole_save(written: Written) -> None:
    await written.store.claim([0, 1], owner="one", at=NOW)
    await written.store.claim([1], owner="two", at=NOW)
    changes = Teller(written.store, 1).blank(epochs={0: 1, 1: 1}, next_offsets={0: {topics.SYNC_COMMANDS: 9}})
    with pytest.raises(Fenced):
        await written.store.save(changes)
    assert (await written.store.claim([0], owner="x", at=NOW))[0].next_offsets == {}


async def test_a_partition_that_nobody_ever_claimed_is_fenced(written: Written) -> None:
    with pytest.raises(Fenced):
        await written.store.save(Teller(written.store, 1).blank())


async def test_offsets_move_with_what_they_led_to_and_others_stay(written: Written) -> None:
    teller = await Teller.claim(written.store)
    await written.store.adopt({0: 1}, "log", {0: OFFSETS})
    changes = await teller.sheet(local(**LINKED))
    changes.next_offsets = {0: {topics.APP_APPOINTMENTS: 8}}
    await written.store.save(changes)
    claim = (await written.store.claim([0], owner="x", at=NOW))[0]
    assert claim.next_offsets == OFFSETS | {topics.APP_APPOINTMENTS: 8}
    assert len(await written.records()) == 1


# --- records, keys and clusters ---------------------------------------------------------------------------------


async def test_a_record_is_loaded_by_any_of_its_keys_and_by_itself(written: Written) -> None:
    teller = await Teller.claim(written.store)
    await teller.tell(local(**LINKED), calcom(seconds=2, booking_id=77))
    record = fold([local(**LINKED), calcom(seconds=2, booking_id=77)]).record
    for key in ("a:4711", "u:A", "i:77"):
        loaded = await written.store.load([("acme", key)])
        assert loaded.clusters == {("acme", key): record.cluster_id}
        assert loaded.records == {("acme", record.cluster_id): (record,)}
        assert loaded.of_record == {("acme", record.record_id): record.cluster_id}
    by_itself = await written.store.load((), [("acme", record.record_id)])
    assert by_itself.records == {("acme", record.cluster_id): (record,)}
    assert by_itself.clusters == {}


async def test_what_is_not_there_is_left_out(written: Written) -> None:
    loaded = await written.store.load([("acme", "u:A")], [("acme", uuid4())])
    assert (loaded.clusters, loaded.records, loaded.of_record) == ({}, {}, {})
    assert (await written.store.load(())).records == {}


async def test_the_same_keys_in_two_companies_are_two_records(written: Written) -> None:
    for number, company in enumerate(("acme", "bern")):
        teller = await Teller.claim(written.store, company_id=company, partition=number)
        await teller.tell(local(**LINKED))
    loaded = await written.store.load([("acme", "u:A")])
    assert {company for company, _ in loaded.records} == {"acme"}
    assert len(await written.records()) == 2


async def test_a_cluster_is_loaded_whole(written: Written) -> None:
    """Two appointments that claim one booking: whoever asks for one key gets all three."""
    teller = await Teller.claim(written.store)
    history: list[Event] = [local(appointment="1", **LINKED), local(appointment="2", **LINKED), calcom(seconds=2)]
    await teller.tell(*history)
    loaded = await written.store.load([("acme", "a:1")])
    ((records),) = loaded.records.values()
    assert {r.record_id for r in records} == {r.record_id for r in fold(history).records}
    assert len(records) == 3
    assert set(loaded.of_record.values()) == {records[0].cluster_id}


async def test_merging_clusters_points_their_keys_to_the_one_that_is_left(written: Written) -> None:
    teller = await Teller.claim(written.store)
    await teller.tell(local(**STRANGER), calcom(seconds=1, uid="X", booking_id=5))
    apart = await written.store.load([("acme", "a:4711"), ("acme", "u:X"), ("acme", "i:5")])
    assert len(set(apart.clusters.values())) == 2
    await teller.tell(calcom(seconds=2, uid="X", booking_id=5, appointment_id="4711"))
    together = await written.store.load([("acme", "a:4711"), ("acme", "u:X"), ("acme", "i:5")])
    assert len(together.clusters) == 3
    assert len(set(together.clusters.values())) == 1
    ((record,),) = together.records.values()
    assert record == (await written.records())[("acme", record.record_id)]


async def test_a_record_that_became_part_of_another_leaves_an_alias_and_no_row(written: Written) -> None:
    teller = await Teller.claim(written.store)
    await teller.tell(local(**STRANGER), calcom(seconds=1, uid="X"), calcom(seconds=2, uid="X", appointment_id="4711"))
    kept, gone = record_id("acme", "a:4711"), record_id("acme", "b:X")
    assert list(await written.records()) == [("acme", kept)]
    assert await written.aliases() == {("acme", gone): kept}
    assert (await written.store.load((), [("acme", gone)])).records == {}


async def test_a_record_that_stands_alone_again_is_no_alias(written: Written) -> None:
    teller = await Teller.claim(written.store)
    await teller.tell(local(**STRANGER), calcom(seconds=1, uid="X"), calcom(seconds=2, uid="X", appointment_id="4711"))
    await teller.tell(local("updated", 5, calcom_booking_uid="Y", **STRANGER), calcom(seconds=6, uid="Y"))
    names = {record_id("acme", "a:4711"), record_id("acme", "b:X")}
    assert {ref[1] for ref in await written.records()} == names
    assert not any(ref[1] in names for ref in await written.aliases())


async def test_what_came_and_went_within_one_save_leaves_nothing_behind(written: Written) -> None:
    """A record that was never written needs no alias, and one that is back again is a record."""
    teller = await Teller.claim(written.store)
    history: list[Event] = [
        local(**STRANGER),
        calcom(seconds=1, uid="X"),
        calcom(seconds=2, uid="X", appointment_id="4711"),
        local("updated", 5, calcom_booking_uid="Y", **STRANGER),
        calcom(seconds=6, uid="Y"),
    ]
    await teller.tell_at_once(history)
    assert {ref[1] for ref in await written.records()} == {r.record_id for r in fold(history).records}
    assert await written.aliases() == {}


# --- deadlines --------------------------------------------------------------------------------------------------


async def deadlines(written: Written) -> Teller:
    """Leave four open windows in partition 0 (at 300 to 303) and one in partition 1 (at 310)."""
    teller = await Teller.claim(written.store)
    for seconds in (2, 0, 3, 1):
        await teller.tell(local(seconds=seconds, appointment=f"{seconds}", minutes=10 * seconds))
    other = await Teller.claim(written.store, company_id="bern", partition=1)
    await other.tell(local(seconds=10))
    return teller


async def test_due_is_what_lies_strictly_before_the_moment_given_oldest_first(written: Written) -> None:
    await deadlines(written)
    due = await written.store.due({0: at(302)}, limit=10)
    assert [d.deadline_at for d in due] == [at(300), at(301)]
    assert {(d.company_id, d.partition) for d in due} == {("acme", 0)}
    assert await written.store.due({0: at(300)}, limit=10) == []
    assert [d.deadline_at for d in await written.store.due({0: at(302) + timedelta(microseconds=1)}, limit=10)][
        -1
    ] == at(302)


async def test_due_asks_each_partition_for_its_own_moment_and_no_other(written: Written) -> None:
    await deadlines(written)
    assert [d.partition for d in await written.store.due({0: at(301), 1: at(311)}, limit=10)] == [0, 1]
    assert [d.partition for d in await written.store.due({1: at(311), 7: at(999)}, limit=10)] == [1]
    assert await written.store.due({}, limit=10) == []


async def test_due_gives_the_oldest_over_all_partitions_when_there_are_too_many(written: Written) -> None:
    await deadlines(written)
    due = await written.store.due({0: at(999), 1: at(999)}, limit=3)
    assert [d.deadline_at for d in due] == [at(300), at(301), at(302)]


async def test_the_next_deadline_is_the_earliest_of_each_partition_that_has_one(written: Written) -> None:
    await deadlines(written)
    assert await written.store.next_deadlines([0, 1, 2]) == {0: at(300), 1: at(310)}
    assert await written.store.next_deadlines([1]) == {1: at(310)}


async def test_a_deadline_counts_as_passed_at_its_own_moment(written: Written) -> None:
    await deadlines(written)
    assert await written.store.count_due([0, 1], at=at(302)) == {0: 3}
    assert await written.store.count_due([1], at=at(999)) == {1: 1}


async def test_a_deadline_that_fired_is_due_no_more(written: Written) -> None:
    teller = await deadlines(written)
    (first,) = await written.store.due({0: at(301)}, limit=10)
    await teller.tell(DeadlineReached(record_id=first.record_id, at=at(400), known_until=at(400)))
    assert (await written.store.next_deadlines([0]))[0] == at(301)
    assert await written.store.count_due([0], at=at(400)) == {0: 3}


# --- flags, outcomes, history -----------------------------------------------------------------------------------


def fired(seconds: float = 400) -> DeadlineReached:
    """Say that the window of the appointment 4711 is over."""
    return DeadlineReached(record_id=record_id("acme", "a:4711"), at=at(seconds), known_until=at(seconds))


async def test_a_flag_is_raised_once_and_queued_once(written: Written) -> None:
    teller = await Teller.claim(written.store)
    await teller.tell(local(**LINKED), fired(), fired(500))
    ((flag_id, ended),) = (await written.flags()).items()
    assert not ended
    assert await written.queued() == [str(flag_id)]


async def test_a_resolution_ends_its_flag_and_is_queued_behind_it(written: Written) -> None:
    teller = await Teller.claim(written.store)
    changes = await teller.tell(local(**LINKED), fired(), calcom(seconds=500))
    ((flag_id, ended),) = (await written.flags()).items()
    assert ended
    assert await written.queued() == [str(flag_id), str(changes.flags[0][0].id)]


async def test_a_flag_may_be_raised_and_resolved_within_one_save(written: Written) -> None:
    teller = await Teller.claim(written.store)
    await teller.tell(local(**LINKED))
    changes = await teller.tell_at_once([fired(), calcom(seconds=500), local("cancelled", 600, **LINKED), fired(2000)])
    assert [flag.type for flag, _ in changes.flags] == ["sync.orphaned_local", "sync.resolved", "sync.data_mismatch"]
    assert sorted((await written.flags()).values()) == [False, True]
    assert await written.queued() == [str(flag.id) for flag, _ in changes.flags]


async def test_a_flag_that_exists_already_is_refused_and_nothing_of_its_save_is_written(written: Written) -> None:
    """The middle of a save fails: what was written before it in the same transaction goes, too."""
    teller = await Teller.claim(written.store)
    first = await teller.tell(local(**LINKED), fired())
    before = await shape(written)
    changes = await teller.sheet(local(appointment="4712"), calcom(seconds=9, uid="Z"))
    changes.flags, changes.events, changes.dead = first.flags, [event_row(3)], [dead_row()]
    changes.next_offsets = {0: {topics.APP_APPOINTMENTS: 4}}
    with pytest.raises(Unstorable):
        await written.store.save(changes)
    assert await shape(written) == before
    assert (await written.store.claim([0], owner="x", at=NOW))[0].next_offsets == {}


async def test_a_second_open_flag_of_a_kind_on_a_record_is_refused(written: Written) -> None:
    teller = await Teller.claim(written.store)
    ((flag, number),) = (await teller.tell(local(**LINKED), fired())).flags
    with pytest.raises(Unstorable):
        await written.store.save(teller.blank(flags=[(replace(flag, id=uuid4(), generation=2), number)]))
    assert list(await written.flags()) == [flag.id]


async def test_the_first_outcome_of_a_command_stands(written: Written) -> None:
    teller = await Teller.claim(written.store)
    await teller.tell(local(**LINKED), fired())
    resolve = Resolve(
        id="cmd-1", record_id=record_id("acme", "a:4711"), version=2, actor="Ada", issued_at=at(500), reason="by phone"
    )
    await teller.tell(Commanded(at(500), resolve), Commanded(at(501), resolve))
    (outcome,) = (await written.outcomes()).values()
    assert outcome == CommandOutcome(
        command_id="cmd-1", record_id=resolve.record_id, applied=True, reason="applied", version=3, decided_at=at(500)
    )
    other = replace(outcome, applied=False, reason="newer_version")
    await written.store.save(teller.blank(outcomes=[("acme", other), ("bern", other)]))
    assert await written.outcomes() == {("acme", "cmd-1"): outcome, ("bern", "cmd-1"): other}


async def test_events_transitions_and_dead_letters_are_kept(written: Written) -> None:
    teller = await Teller.claim(written.store)
    changes = await teller.sheet(local(**LINKED))
    changes.events = [event_row(0), event_row(1)]
    changes.dead = [dead_row(5)]
    await written.store.save(changes)
    assert await written.events() == [(topics.APP_APPOINTMENTS, 0, n, "ignored") for n in (0, 1)]
    assert await written.transitions() == len(changes.transitions) == 1
    assert await written.dead() == [(topics.CALCOM_BOOKINGS, 0, 5, "invalid_json", b"\x00\xff{")]


async def test_what_was_remarkable_about_an_event_is_kept(pool: Pool) -> None:
    teller = await Teller.claim(PostgresStore(pool))
    notes = [None, "late", "clock_ahead", "clock_behind"]
    rows = [replace(event_row(offset), note=note) for offset, note in enumerate(notes)]
    await teller.store.save(teller.blank(events=rows))
    found = await pool.fetch("SELECT note FROM events ORDER BY kafka_offset")
    assert [row["note"] for row in found] == notes


# --- envelopes that are sent on ---------------------------------------------------------------------------------


def astray(offset: int = 0, **fields: Any) -> Envelope:
    """Give an envelope that lies on a partition that is not its company's."""
    kept = builders.from_app(b"\x00\xff{", company_id="acme", partition=0, offset=offset, received_at=at(offset))
    return replace(kept, **fields)


async def test_what_is_found_astray_waits_to_be_sent_on_as_it_was(written: Written) -> None:
    teller = await Teller.claim(written.store)
    headers: dict[str, Any] = {
        "ce_id": "evt-1", "ce_source": "shop", "ce_type": "shop.made", "content_type": "text/plain",
        "traceparent": "00-1", "webhook_version": "2021-10-20",
    }  # fmt: skip
    bare, long = astray(1), astray(2, ce_id="x" * 2000, ce_type="y" * 2000, traceparent="z" * 2000)
    await written.store.save(teller.blank(reroutes=[astray(0, **headers), bare, long]))
    full, *plain = await written.reroutes()
    assert full == Delivery(
        topic=topics.APP_APPOINTMENTS, company_id="acme", received_at=at(0), body=b"\x00\xff{", **headers
    )
    for offset, sent in enumerate(plain, 1):
        assert (sent.ce_id, sent.ce_type) == (f"reroute:app.appointments.v1/0/{offset}", topics.TYPE_APPOINTMENT)
        assert (sent.received_at, sent.body, sent.traceparent) == (at(offset), b"\x00\xff{", None)


async def test_an_incident_is_one_row_a_company_and_kind_that_counts(written: Written) -> None:
    teller = await Teller.claim(written.store)
    first = [Incident("acme", "wrong_partition", "One.", 3), Incident("bern", "wrong_partition", "Two.", 1)]
    await written.store.save(teller.blank(incidents=first))
    await written.store.save(teller.blank(incidents=[Incident("acme", "wrong_partition", "Three.", 4)]))
    assert await written.incidents() == {
        ("acme", "wrong_partition"): ("Three.", 7),
        ("bern", "wrong_partition"): ("Two.", 1),
    }


# --- rules ------------------------------------------------------------------------------------------------------


async def test_the_rules_that_were_applied_are_read_back_with_how_far_they_have_come(written: Written) -> None:
    teller = await Teller.claim(written.store)
    rules, other = Policy(window_seconds=60, compared=("starts_at",)), Policy(country="AT", unpaid=Waiting.FLAG)
    somewhere = uuid4()
    await written.store.save(teller.blank(applied=[Applied("acme", rules, somewhere), Applied("bern", other, None)]))
    assert await written.store.applied(["acme", "bern", "cork"]) == {
        "acme": Applied("acme", rules, somewhere),
        "bern": Applied("bern", other, None),
    }
    await written.store.save(teller.blank(applied=[Applied("acme", rules, None)]))
    assert (await written.store.applied(["acme"]))["acme"].after_record_id is None
    assert await written.store.applied([]) == {}


async def test_rules_under_an_old_epoch_are_not_noted(written: Written) -> None:
    sleeper = await Teller.claim(written.store)
    await Teller.claim(written.store)
    with pytest.raises(Fenced):
        await written.store.save(sleeper.blank(applied=[Applied("acme", POLICY, None)]))
    assert await written.store.applied(["acme"]) == {}


async def test_rules_of_another_version_count_as_unknown(pool: Pool) -> None:
    await pool.execute("INSERT INTO applied_policies VALUES ('acme', '{\"window_seconds\": \"long\"}', NULL, now())")
    assert await PostgresStore(pool).applied(["acme"]) == {"acme": Applied("acme", None, None)}


async def test_pages_give_every_record_of_a_company_once(written: Written) -> None:
    teller = await Teller.claim(written.store)
    await teller.tell_at_once([local(appointment=f"{n}") for n in range(7)])
    other = await Teller.claim(written.store, company_id="bern", partition=1)
    await other.tell(local())
    assert await written.store.having_records(["acme", "bern", "cork"]) == {"acme", "bern"}
    after: UUID | None = UUID(int=0)
    seen = list[UUID]()
    for length in (3, 3, 1):
        assert after is not None
        page = await written.store.page("acme", after=after, limit=3, open_only=False)
        assert len(page.record_ids) == length
        seen.extend(page.record_ids)
        after = page.last
    assert after is None
    assert seen == sorted(ref[1] for ref in await written.records() if ref[0] == "acme")


async def test_a_page_of_open_records_leaves_out_those_that_are_in_order(written: Written) -> None:
    teller = await Teller.claim(written.store)
    await teller.tell(local(**LINKED), calcom(seconds=1))
    await teller.tell(local(appointment="waits"), local(appointment="flagged"))
    flagged = DeadlineReached(record_id=record_id("acme", "a:flagged"), at=at(400), known_until=at(400))
    await teller.tell(flagged)
    page = await written.store.page("acme", after=UUID(int=0), limit=9, open_only=True)
    assert set(page.record_ids) == {record_id("acme", f"a:{name}") for name in ("waits", "flagged")}
    assert page.last is None


async def test_a_report_is_taken_under_any_epoch_and_disturbs_nothing(written: Written) -> None:
    await Teller.claim(written.store)
    progress = Progress(frontiers={topics.CALCOM_BOOKINGS: at(1)}, held=3, stopped_reason="5 dead letters in a row")
    for epoch in (1, 9):
        await written.store.report({0: epoch}, {0: progress}, at=NOW)
    assert (await written.store.claim([0], owner="x", at=NOW))[0].epoch == 2


# --- what is read back ------------------------------------------------------------------------------------------


@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories())
async def test_any_record_that_is_saved_is_loaded_as_it_was(written: Written, history: list[Heard]) -> None:
    """Event by event or all at once: the store never makes a difference. Each history gets a company of its own."""
    singly = await Teller.claim(written.store, company_id=f"c{uuid4().hex}")
    await singly.tell(*history)
    at_once = await Teller.claim(written.store, company_id=f"c{uuid4().hex}")
    await at_once.tell_at_once(history)
    expected = {(r.anchor, r.appointment, r.chain, r.status, r.rule, r.finding) for r in fold(history).records}
    for teller in (singly, at_once):
        loaded = [r for (company, _), r in (await written.records()).items() if company == teller.company_id]
        assert {(r.anchor, r.appointment, r.chain, r.status, r.rule, r.finding) for r in loaded} == expected
        by_record = await written.store.load((), [(r.company_id, r.record_id) for r in loaded])
        assert {r.record_id: r for found in by_record.records.values() for r in found} == {
            r.record_id: r for r in loaded
        }


ASKS: Final = Policy(window_seconds=300, verify=True)


async def asked(teller: Teller) -> tuple[RecordRef, Record]:
    """Tell of an appointment alone until Cal.com is being asked; gives the record."""
    await teller.tell(local(**LINKED))
    ((ref, record),) = fold_of(local(**LINKED))
    reached = DeadlineReached(record_id=record.record_id, at=at(301), known_until=at(301))
    await teller.store.save(await teller.sheet(reached, policy=ASKS))
    return ref, record


def fold_of(*events: Heard) -> list[tuple[RecordRef, Record]]:
    return [((r.company_id, r.record_id), r) for r in fold(events).records]


async def test_a_question_is_written_with_the_record_that_it_is_about(written: Written) -> None:
    ref, _ = await asked(await Teller.claim(written.store))
    ((where, question),) = (await written.questions()).items()
    assert (where, question.record_id, question.number, question.uid) == (ref, ref[1], 1, "A")
    record = (await written.records())[ref]
    assert (record.asked, record.round is not None) == (1, True)


async def test_the_next_question_takes_the_place_of_the_one_before(written: Written) -> None:
    teller = await Teller.claim(written.store)
    ref, _ = await asked(teller)
    record = (await written.records())[ref]
    await teller.store.save(await teller.sheet(checked(record, "absent_once", 302), policy=ASKS))
    ((_, question),) = (await written.questions()).items()
    assert (question.number, question.absent_at) == (2, at(302))


async def test_a_question_that_is_answered_by_a_webhook_is_taken_back(written: Written) -> None:
    teller = await Teller.claim(written.store)
    await asked(teller)
    await teller.store.save(await teller.sheet(calcom(seconds=310), policy=ASKS))
    assert await written.questions() == {}


async def test_answers_and_the_round_of_questions_come_back_as_they_were(written: Written) -> None:
    teller = await Teller.claim(written.store)
    ref, _ = await asked(teller)
    record = (await written.records())[ref]
    sheet = await teller.sheet(checked(record, "unknown", 302, reason="timeout"), policy=ASKS)
    await teller.store.save(sheet)
    assert (await written.records())[ref] == sheet.records[ref][0]


async def test_a_fenced_save_asks_nothing(written: Written) -> None:
    teller = await Teller.claim(written.store)
    await teller.tell(local(**LINKED))
    ((_, record),) = fold_of(local(**LINKED))
    reached = DeadlineReached(record_id=record.record_id, at=at(301), known_until=at(301))
    sheet = await teller.sheet(reached, policy=ASKS)
    await Teller.claim(written.store)
    with pytest.raises(Fenced):
        await teller.store.save(sheet)
    assert await written.questions() == {}


STRAY: Final = Incident("acme", WRONG_PARTITION, "Its producer writes elsewhere.", 1)


async def test_of_a_company_that_is_astray_nothing_fires_before_all_partitions_are_read(written: Written) -> None:
    store = written.store
    teller = await Teller.claim(store)
    other = await Teller.claim(store, company_id="bern", partition=1)
    await teller.tell(local(**LINKED))
    assert await store.astray([0], since=NOW) == NOBODY
    await store.save(teller.blank(incidents=[STRAY], reroutes=[astray()]))
    assert await store.astray([0], since=NOW) == Astray(frozenset({"acme"}), None), "of the other nothing is known"
    for seconds, due in [(300, 0), (301, 1)]:
        frontiers = {topics.APP_APPOINTMENTS: at(seconds), topics.CALCOM_BOOKINGS: at(400)}
        await store.report({1: other.epoch}, {1: Progress(frontiers=frontiers, held=0)}, at=NOW)
        found = await store.astray([0], since=NOW)
        assert found.read_until == at(seconds)
        assert len(await store.due({0: at(999)}, limit=10, astray=found)) == due


async def test_who_owns_every_partition_knows_by_himself_how_far_they_are_read(written: Written) -> None:
    teller = await Teller.claim(written.store)
    await written.store.save(teller.blank(incidents=[STRAY], reroutes=[astray()]))
    found = await written.store.astray([0], since=NOW)
    assert found.read_until is not None
    assert found.read_until > at(10**9)


async def test_others_go_on_meanwhile(written: Written) -> None:
    teller = await Teller.claim(written.store)
    await teller.tell(local(**LINKED))
    held = Astray(frozenset({"bern"}), None)
    assert len(await written.store.due({0: at(999)}, limit=10, astray=held)) == 1
