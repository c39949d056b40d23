"""The clinic's plan, played with the real stand-in, asker, decoder and core: without a broker, a socket or a wait."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import StringIO
from typing import Any, Final

import pytest
from rich.console import Console

from schemas.envelope import Envelope
from schemas.flags import Kind
from schemas.observations import Check
from schemas.topics import APP_APPOINTMENTS, CALCOM_BOOKINGS
from schemas.verification import ABSENT_APART_SECONDS, Priority, Question, Verdict
from services.embedded import acting, morning, report
from services.embedded.calcom import Calcom
from services.embedded.clinic import RECIPES, Plot, plan
from services.embedded.compare import Comparison, compare, mailed_in_vain
from services.embedded.morning import Case
from services.reconciler import rows
from services.reconciler.core.events import Checked, DeadlineReached
from services.reconciler.core.policy import Policy
from services.reconciler.decode import Ignored, decode
from services.reconciler.desk import Desk
from services.reconciler.ports import Changes, Loaded
from services.verifier import announce
from services.verifier.checks.asking import Asker
from services.verifier.ports import Account, Call, NotNow, Observed
from services.verifier.wire import calls, reading
from services.verifier.wire.reading import Reply
from tests.support.calcom import KEY, client
from tests.support.hand_clock import HandClock

OPENED: Final = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
COMPANY: Final = "klinik"
POLICY: Final = Policy(window_seconds=5, verify=True)
#: Longer than any round of questions, had every answer been unknown.
LONG_SECONDS: Final = 3600.0


class Gateway:
    """Asks the stand-in as the client does, over ASGI; nothing is limited, nothing reused."""

    def __init__(self, calcom: Calcom, clock: HandClock) -> None:
        self._http, self._clock = client(calcom), clock

    async def ask(
        self,
        account: Account,
        call: Call,
        *,
        priority: Priority,
        not_older_than: datetime | None = None,
        wait_seconds: float = 0.0,
    ) -> Observed | NotNow:
        asked, now = calls.spell(call), self._clock.now()
        got = await self._http.request(asked.method, asked.target)
        reply = Reply(got.status_code, dict(got.headers), got.content)
        return Observed(reading.by_head(reply, now) or reading.by_body(call, reply, now, ()), now)


class House:
    """A reconciler and a verifier in memory: what is put is folded at once; deadlines and questions come when due."""

    def __init__(self, seed: int) -> None:
        self.clock = HandClock(OPENED)
        self.calcom = Calcom(self.clock.now, post=self._take_webhook, seed=seed)
        self.account = self.calcom.join(COMPANY, KEY)
        self.calcom.subscribe(self.account, "http://door/webhooks/calcom/klinik", secret="secret")
        self.asked: list[Question] = []
        self.flags: list[tuple[Any, Kind, str]] = []
        self._changes = Changes.begin(OPENED, {})
        self._desk = Desk(Loaded({}, {}, {}), self._changes)
        self._asker = Asker(Gateway(self.calcom, self.clock))
        self._verdicts: dict[Any, str] = {}
        self._offset = 0

    async def _take_webhook(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        self._put(CALCOM_BOOKINGS, body)
        return 202

    async def _take_event(self, body: bytes) -> None:
        self._put(APP_APPOINTMENTS, body)

    def _put(self, topic: str, body: bytes, ce_type: str | None = None) -> None:
        now = self.clock.now()
        envelope = Envelope(
            topic=topic, partition=0, offset=self._offset, company_id=COMPANY, body=body, ce_type=ce_type,
            appended_at=now, received_at=now,
        )  # fmt: skip
        self._offset += 1
        for event in decode(envelope):
            assert not isinstance(event, Ignored)
            decision = self._desk.fold_envelope(envelope, event, POLICY)
            if isinstance(event, Checked):
                (record,) = decision.cluster.records
                self._verdicts[record.record_id] = event.answer.verdict.value

    async def play(self, plots: list[Plot]) -> list[Case]:
        """Do what the plan says, one plot after the other; then let time pass until nothing is due."""
        stage = acting.Stage(calcom=self.calcom, account=self.account, tell=self._take_event, clock=self.clock)
        planted = [await acting.act(plot, stage, lambda: None) for plot in plots]
        while self.clock.seconds < LONG_SECONDS:
            await self._answer()
            self._reach_deadlines()
            if not self._due():
                break
            self.clock.seconds += 1
        return planted

    def _due(self) -> bool:
        records = self._changes.records.values()
        return any(self._questions()) or any(record.deadline_at for record, _, _ in records)

    def _questions(self) -> Iterator[Question]:
        return (question for question in self._changes.questions.values() if question is not None)

    async def _answer(self) -> None:
        now = self.clock.now()
        account = Account(company_id=COMPANY, base_url="http://api.cal.test/v2", api_key=KEY, budget_id="budget")
        for question in [one for one in self._questions() if one.not_before <= now]:
            self.asked.append(question)
            outcome = await self._asker.ask(account, question, now)
            self._changes.questions[(COMPANY, question.record_id)] = None
            assert isinstance(outcome, Check)
            told = announce.check(COMPANY, outcome, now)
            self._put(told.topic, told.body, told.ce_type)

    def _reach_deadlines(self) -> None:
        now = self.clock.now()
        for record, _, _ in list(self._changes.records.values()):
            if record.deadline_at is not None and record.deadline_at < now:
                due = DeadlineReached(record_id=record.record_id, at=now, known_until=now)
                decision = self._desk.fold(COMPANY, due, POLICY, 0, now)
                self.flags += [(flag.record_id, flag.kind, flag.verdict) for flag in decision.flags]

    def records(self) -> list[dict[str, Any]]:
        """Give the records as the demo reads them."""
        names = [name for name, _ in rows.COLUMNS]
        shown = [
            rows.shown(dict(zip(names, rows.columns(*one), strict=True))) for one in self._changes.records.values()
        ]
        flagged = Counter(record_id for record_id, _, _ in self.flags)
        return [
            one | {"flags": flagged[one["record_id"]], "verdict": self._verdicts.get(one["record_id"])} for one in shown
        ]


def a_plan(seed: int = 1) -> list[Plot]:
    return plan(seed, OPENED, play_seconds=7)


async def played(seed: int = 1) -> tuple[House, list[Case], Comparison]:
    house = House(seed)
    planted = await house.play(a_plan(seed))
    return house, planted, compare(planted, house.records())


@pytest.mark.parametrize("seed", range(1, 6))
async def test_every_planted_case_ends_as_planned(seed: int) -> None:
    """All that the demo claims holds by what Cal.com answers alone: what a run shows otherwise comes from the pipes."""
    house, _, found = await played(seed)
    assert found.differences == []
    assert {line.kind: line.found for line in found.lines} == {recipe.kind: recipe.count for recipe in RECIPES}
    assert not any(question.number > 2 for question in house.asked)


async def test_flags_say_what_cal_com_said() -> None:
    house, _, _ = await played()
    assert Counter((kind, verdict) for _, kind, verdict in house.flags) == {
        (Kind.ORPHANED_LOCAL, Verdict.ABSENT): 2,
        (Kind.ORPHANED_CALCOM, Verdict.FOUND_EQUAL): 2,
        (Kind.DATA_MISMATCH, Verdict.FOUND_DIFFERENT): 2,
    }


async def test_only_what_cal_com_does_not_know_is_asked_for_twice_and_begins_first() -> None:
    house, planted, _ = await played()
    absent = [case.truth.appointment_id for case in planted if case.truth.verdict is Verdict.ABSENT]
    times = Counter(q.appointment.appointment_id for q in house.asked if q.appointment is not None)
    assert {name for name, count in times.items() if count > 1} == set(absent)
    assert [plot.visit.appointment_id for plot in a_plan() if plot.begins_seconds == 0][: len(absent)] == absent
    assert house.clock.seconds > ABSENT_APART_SECONDS


async def test_some_are_asked_for_by_uid_and_some_are_searched_for() -> None:
    house, _, _ = await played()
    questions = [q for q in house.asked if q.booking is None]
    assert {q.uid is None for q in questions} == {True, False}


async def test_what_goes_well_is_never_asked_for() -> None:
    house, planted, _ = await played()
    well = {case.truth.appointment_id for case in planted if case.truth.verdict is None}
    assert len(well) == 20
    assert not well & {q.appointment.appointment_id for q in house.asked if q.appointment is not None}


def test_the_same_seed_plans_the_same() -> None:
    assert a_plan(3) == a_plan(3)
    assert a_plan(3) != a_plan(4)


def test_no_two_are_of_the_same_person_or_at_the_same_time() -> None:
    """Else a search might find the other's."""
    visits = [plot.visit for plot in a_plan()]
    for field in ("email", "phone", "starts_at", "appointment_id", "uids"):
        assert len({getattr(visit, field) for visit in visits}) == len(visits)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda record: record | {"flags": 1}, "'flags': 1"),
        (lambda record: record | {"verdict": "found_different"}, "'verdict': 'found_different'"),
        (lambda record: record | {"verdict": None}, "'verdict': None"),
        (lambda record: record | {"calcom_sync_status": "orphaned_local"}, "'status': 'orphaned_local'"),
    ],
)
async def test_a_healed_record_that_was_flagged_or_not_asked_for_is_named(
    spoil: Callable[[dict[str, Any]], dict[str, Any]], said: str
) -> None:
    house, planted, _ = await played()
    healed = next(case.truth.appointment_id for case in planted if case.kind == "webhook lost")
    records = [
        spoil(one) if one["appointment"] and one["appointment"]["id"] == healed else one for one in house.records()
    ]
    (difference,) = compare(planted, records).differences
    assert difference.startswith(f"webhook lost: appointment {healed} must be")
    assert said in difference.partition(", is ")[2]


async def test_a_mail_about_what_was_healed_is_named_and_others_are_not() -> None:
    _, planted, _ = await played()
    healed = next(case.truth for case in planted if case.kind == "lost: a move")
    alone = next(case.truth for case in planted if case.kind == "never booked")
    texts = [f"Appointment: #{alone.appointment_id}, and 3 more", "Cal.com's webhook is silent.", ""]
    assert mailed_in_vain(planted, [{"text": text} for text in texts]) == []
    text = f"2 appointments:\n- #{alone.appointment_id}\n- #{healed.appointment_id}: no booking"
    assert mailed_in_vain(planted, [{"text": text}]) == [
        f"lost: a move: a mail went out about #{healed.appointment_id}"
    ]


async def test_the_tables_fit_on_a_terminal_of_80_columns() -> None:
    """Where a cell is too long for its column it goes on in a line below, and its beginning is not all of it."""
    _, _, clinic_found = await played()
    practice = compare(morning.plan(1, OPENED, play_seconds=7, late_seconds=8), [])
    paper = StringIO()
    report.show_tables(Console(width=80, file=paper, highlight=False), practice, clinic_found)
    cells = {cell.strip() for line in paper.getvalue().splitlines() for cell in line.split("  ")}
    lines = (*practice.lines, *clinic_found.lines)
    assert {text for line in lines for text in (line.kind, line.expected, line.verdict or "-")} <= cells
