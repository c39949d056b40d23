"""The demo's plan, folded by the real decoder and the real core, without a broker."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.envelope import Envelope
from schemas.topics import APP_APPOINTMENTS, CALCOM_BOOKINGS
from services.embedded.compare import compare
from services.embedded.morning import RECIPES, Case, plan
from services.reconciler import rows
from services.reconciler.core.events import DeadlineReached
from services.reconciler.core.policy import Policy
from services.reconciler.decode import Ignored
from services.reconciler.desk import Desk
from services.reconciler.ports import Changes, Loaded
from tests.support.builders import decoded

BEGAN = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
OPENED = BEGAN + timedelta(hours=4)


def a_morning(seed: int = 7) -> list[Case]:
    return plan(seed, BEGAN, play_seconds=6, late_seconds=8)


def envelopes(cases: list[Case]) -> list[Envelope]:
    told = sorted(
        ((t.after_seconds, index, t) for case in cases for index, t in enumerate(case.told)), key=lambda x: x[:2]
    )
    return [
        Envelope(
            topic=CALCOM_BOOKINGS if message.door == "calcom" else APP_APPOINTMENTS,
            partition=0,
            offset=offset,
            company_id="praxis",
            body=message.body,
            appended_at=OPENED + timedelta(seconds=after),
            received_at=OPENED + timedelta(seconds=after),
        )
        for offset, (after, _, message) in enumerate(told)
    ]


def folded(cases: list[Case]) -> list[dict[str, Any]]:
    """Give the records that the plan comes to, in the shape of `records --json`; every deadline has been reached."""
    changes = Changes.begin(OPENED, {})
    desk, policy = Desk(Loaded({}, {}, {}), changes), Policy(window_seconds=5)
    for envelope in envelopes(cases):
        event = decoded(envelope)
        assert not isinstance(event, Ignored)
        desk.fold_envelope(envelope, event, policy)
    later = OPENED + timedelta(hours=1)
    for company_id, record_id in list(changes.records):
        desk.fold(company_id, DeadlineReached(record_id=record_id, at=later, known_until=later), policy, 0, later)
    names = [name for name, _ in rows.COLUMNS]
    empty = dict.fromkeys(("last_sync_attempt_at", "sync_attempt_count", "sync_verified_at"))
    return [
        rows.shown(empty | dict(zip(names, rows.columns(*entry), strict=True))) for entry in changes.records.values()
    ]


def test_every_planted_case_ends_as_planned() -> None:
    """All that the demo claims holds by the core alone: whatever a run shows otherwise comes from the pipes."""
    cases = a_morning()
    comparison = compare(cases, folded(cases))
    assert comparison.differences == []
    assert comparison.agrees
    assert {line.kind: line.found for line in comparison.lines} == {recipe.kind: recipe.count for recipe in RECIPES}


def test_other_seeds_end_as_planned_too() -> None:
    for seed in range(5):
        cases = a_morning(seed)
        assert compare(cases, folded(cases)).differences == []


def test_the_same_seed_plans_the_same_morning() -> None:
    assert a_morning(3) == a_morning(3)
    assert a_morning(3) != a_morning(4)


def test_a_morning_has_some_three_hundred_records_and_every_kind_of_trouble() -> None:
    cases = a_morning()
    assert 300 <= len(cases) <= 330
    assert len({case.truth.appointment_id for case in cases} | {case.truth.uid for case in cases}) > len(cases)
    assert Counter(case.truth.code for case in cases).keys() == {
        None, "ORPHANED_LOCAL", "ORPHANED_CALCOM", "DATA_MISMATCH"
    }  # fmt: skip


def test_what_is_late_comes_after_its_window_and_nothing_else_waits() -> None:
    for case in a_morning():
        spans = [told.after_seconds - case.told[0].after_seconds for told in case.told]
        assert spans == sorted(spans)
        assert (spans[-1] > 5) == (case.kind == "webhook after the window")


def test_a_record_that_ends_otherwise_is_named() -> None:
    cases = a_morning()
    records = folded(cases)
    records[0]["calcom_sync_status"] = "pending"
    comparison = compare(cases, records)
    assert not comparison.agrees
    assert len(comparison.differences) == 1
    assert "'status': 'pending'" in comparison.differences[0]


def test_a_record_that_is_missing_and_one_that_nobody_planted_are_named() -> None:
    cases = a_morning()
    records = folded(cases)
    stranger = records[0] | {"appointment": None, "booking": {"uid": "stranger"}}
    lost = next(record for record in records[1:] if record["appointment"])
    differences = compare(cases, [*(r for r in records if r is not lost), stranger]).differences
    assert any(f"appointment {lost['appointment']['id']} must be" in said for said in differences)
    assert any(said.startswith("nobody planted booking stranger") for said in differences)
