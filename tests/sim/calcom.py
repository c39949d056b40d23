"""Cal.com's API in a simulated world, and the verifiers that ask it: the real pure parts, the real asking."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

from schemas.envelope import Delivery
from schemas.verification import PRIORITIES, Priority, Question
from services.verifier import announce
from services.verifier.answers import Answer, Bookings, NotThere, Reason, Row, Unknown
from services.verifier.checks.asking import Asker, Refused
from services.verifier.checks.verdict import starts_at
from services.verifier.gate.budget import Budget, Limits, fresh, learn, take
from services.verifier.ports import Account, Call, GetBooking, ListQuery, NotNow, Observed
from tests.sim.pen import Truth
from tests.support import builders
from tests.support.hand_clock import HandClock
from tests.support.memory import MemoryStore

LIMITS: Final = Limits.of(120)
#: Of no case: what proves that a search works.
CANARY: Final = "canary"


class SimCalcom:
    """Answers by what is true at the moment, as long as it answers at all."""

    def __init__(self, truths: Iterable[Truth], clock: HandClock, random: Random) -> None:
        """`away_until`: until then nobody answers."""
        self._truths, self._clock, self._random = sorted(truths, key=lambda truth: truth.since), clock, random
        self.away_until = -1.0
        self._budgets: dict[str, Budget] = {}

    async def ask(
        self,
        account: Account,
        call: Call,
        *,
        priority: Priority,
        not_older_than: datetime | None = None,
        wait_seconds: float = 0.0,
    ) -> Observed | NotNow:
        """See `ports.Gateway`: the bucket and the breaker are the real ones."""
        now = self._clock.now()
        budget, grant = take(self._budgets.get(account.budget_id) or fresh(LIMITS, now), priority, LIMITS, now)
        if isinstance(grant, NotNow):
            return grant
        answer = self._answer(account.company_id, call)
        lesson = learn(budget, grant, answer, LIMITS, now)
        self._budgets[account.budget_id] = lesson.budget
        return lesson.not_now or Observed(answer, now)

    def _answer(self, company_id: str, call: Call) -> Answer:
        if self._clock.seconds < self.away_until:
            return Unknown(reason=self._random.choice([Reason.TIMEOUT, Reason.SERVER_ERROR]), detail="away")
        rows = self._rows(company_id)
        if isinstance(call, GetBooking):
            return Bookings(rows=(rows[call.uid],)) if call.uid in rows else NotThere()
        assert isinstance(call, ListQuery)
        found = [row for row in rows.values() if _passes(call, row)]
        return Bookings(
            rows=tuple(found[call.skip : call.skip + call.take]), has_more=len(found) > call.skip + call.take
        )

    def _rows(self, company_id: str) -> dict[str, Row]:
        rows: dict[str, Row] = {CANARY: _canary()}
        for truth in self._truths:
            if truth.company_id == company_id and truth.since <= self._clock.seconds:
                rows.pop(truth.uid, None)
                if truth.row is not None:
                    rows[truth.uid] = truth.row
        return rows


def _passes(query: ListQuery, row: Row) -> bool:
    begins = starts_at(row) or datetime.max.replace(tzinfo=UTC)
    if query.attendee_email is not None and query.attendee_email not in [one["email"] for one in row["attendees"]]:
        return False
    if query.after_start is not None and begins < query.after_start:
        return False
    return query.before_end is None or begins <= query.before_end


def _canary() -> dict[str, Any]:
    person = {"name": "Otto Always", "email": "otto.always@example.org"}
    return builders.api_booking(
        CANARY, starts_at=datetime(2027, 3, 1, tzinfo=UTC), attendees=[person], metadata={}, id=1
    )


class Verifiers:
    """Take up questions as the verifier does, and tell what came of them; now and then one dies on the way."""

    def __init__(
        self,
        calcom: SimCalcom,
        store: MemoryStore,
        clock: HandClock,
        random: Random,
        publish: Callable[[Delivery], bool],
    ) -> None:
        """`publish` gives an envelope to Kafka, if it can be reached."""
        self._calcom, self._store, self._clock, self._random, self._publish = calcom, store, clock, random, publish
        self._asker = Asker(calcom)
        self._later: dict[tuple[str, Any, int], datetime] = {}

    async def work(self, *, most: int, danger: float) -> None:
        """Ask some of what is due, humans first, then the soonest appointment."""
        now = self._clock.now()
        due = [
            (ref, q) for ref, q in self._store.questions.items() if q.not_before <= now and not self._put_off(q, now)
        ]
        far = datetime.max.replace(tzinfo=UTC)
        due.sort(key=lambda one: (PRIORITIES.index(one[1].priority), one[1].starts_at or far))
        for ref, question in due[:most]:
            account = Account(company_id=ref[0], base_url="https://calcom.example/v2", api_key="key", budget_id=ref[0])
            outcome = await self._asker.ask(account, question, now)
            if isinstance(outcome, NotNow):
                self._later[_name(question)] = outcome.until
                continue
            assert not isinstance(outcome, Refused)
            if self._random.random() < danger or not self._publish(announce.check(ref[0], outcome, now)):
                continue  # it died before it had told, or Kafka is away: another asks again
            if self._random.random() >= danger and self._store.questions.get(ref) is question:
                del self._store.questions[ref]  # else it died after it had told: another asks again

    def _put_off(self, question: Question, now: datetime) -> bool:
        return self._later.get(_name(question), now - timedelta(seconds=1)) > now


def _name(question: Question) -> tuple[str, Any, int]:
    return (question.company_id, question.record_id, question.number)
