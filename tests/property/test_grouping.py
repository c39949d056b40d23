"""Grouping, lived through: flags come and go, a turn is looked at, and what was told is noted as the tables do it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from services.companies.model import Delivery
from services.notifier.grouping import URGENT_WAIT_SECONDS, Board, Past, Plan, Policy, next_time, plan
from services.notifier.letter import Occasion

#: The night before the clocks go back in Berlin.
BEGAN: Final = datetime(2026, 10, 24, 20, 0, tzinfo=UTC)
BERLIN: Final = ZoneInfo("Europe/Berlin")
#: After the last change, until everything that waits was told.
AFTERWARDS: Final = timedelta(days=3)
#: While the mail server is away, a letter is tried anew so often.
AGAIN: Final = timedelta(seconds=30)


@dataclass(eq=False, kw_only=True)
class Raised:
    """A flag as the tables know it: an alert with its telling."""

    at: datetime
    resolved_at: datetime | None = None
    starts_at: datetime | None = None
    told_at: datetime | None = None
    end_told: list[datetime] = field(default_factory=list)

    def open(self, now: datetime) -> bool:
        return self.at <= now and not self.resolved(now)

    def resolved(self, now: datetime) -> bool:
        return self.resolved_at is not None and self.resolved_at <= now

    def new(self, now: datetime) -> bool:
        return self.told_at is None and self.open(now)

    def over(self, now: datetime) -> bool:
        return self.told_at is not None and not self.end_told and self.resolved(now)

    def near_at(self, policy: Policy) -> datetime:
        assert self.starts_at is not None
        return max(self.at, self.starts_at - timedelta(seconds=policy.urgent_within_seconds))


@dataclass(frozen=True, kw_only=True)
class Written:
    """A letter that was taken."""

    at: datetime
    occasion: Occasion
    urgent: bool
    told: list[Raised]
    ended: list[Raised]


@dataclass(kw_only=True)
class Turn:
    """One recipient. `away`: when the mail server took nothing."""

    flags: list[Raised]
    policy: Policy
    delivery: Delivery = Delivery.IMMEDIATE
    away: tuple[datetime, datetime] = (BEGAN, BEGAN)
    past: Past = field(default_factory=Past)
    letters: list[Written] = field(default_factory=list)

    def board(self, now: datetime) -> Board:
        """Count, as the tables would."""
        new = [flag for flag in self.flags if flag.new(now)]
        over = [flag for flag in self.flags if flag.over(now)]
        coming = [flag for flag in new if flag.starts_at is not None and flag.starts_at > now]
        return Board(
            news=len(new),
            oldest_at=min((flag.at for flag in new), default=None),
            near_at=min((flag.near_at(self.policy) for flag in coming), default=None),
            ended=len(over),
            ended_at=min((flag.resolved_at for flag in over if flag.resolved_at), default=None),
            open=sum(flag.told_at is not None and flag.open(now) for flag in self.flags),
        )

    def ask(self, now: datetime) -> Plan:
        return plan(self.board(now), self.past, self.policy, self.delivery, time(2, 30), BERLIN, now)

    def live(self, curious: float = 0.5) -> list[Written]:
        """Look whenever something changes and whenever a plan says so; gives the letters.

        In between somebody asks who need not: so far on the way to the next look as `curious` says.
        """
        changes = sorted({at for flag in self.flags for at in (flag.at, flag.resolved_at) if at is not None})
        now, end = changes[0], changes[-1] + AFTERWARDS
        while now <= end:
            look_at = self._look(now)
            following = min([at for at in (look_at, *changes) if at is not None and at > now], default=None)
            if following is None:
                break
            assert self.ask(now + (following - now) * curious).write is None or self._is_away(now)
            now = following
        return self.letters

    def _look(self, now: datetime) -> datetime | None:
        planned = self.ask(now)
        if planned.write is not None:
            if self._is_away(now):
                return now + AGAIN
            self._write(planned, now)
            planned = self.ask(now)
        assert planned.write is None, "what was told is told again"
        assert planned.look_at is None or planned.look_at > now
        return planned.look_at

    def _is_away(self, now: datetime) -> bool:
        return self.away[0] <= now < self.away[1]

    def _write(self, planned: Plan, now: datetime) -> None:
        assert planned.write is not None
        told, ended = [f for f in self.flags if f.new(now)], [f for f in self.flags if f.over(now)]
        for flag in told:
            flag.told_at = now
        for flag in ended:
            flag.end_told.append(now)
        self.letters.append(Written(at=now, occasion=planned.write, urgent=planned.urgent, told=told, ended=ended))
        self.past = Past(
            last_at=now,
            last_urgent_at=now if planned.urgent else self.past.last_urgent_at,
            reminders=self.past.reminders + 1 if planned.write is Occasion.REMINDER else 0,
        )


def moment(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=round(seconds, 1))


#: Bursts of a second and the quiet of a day are both usual.
_spans = st.one_of(st.floats(0, 5), st.floats(0, 400), st.floats(0, 90_000))
policies = st.builds(
    Policy,
    group_wait_seconds=st.sampled_from([0.0, 1.0, 30.0, 600.0]),
    group_interval_seconds=st.sampled_from([1.0, 60.0, 300.0, 3600.0]),
    reminder_seconds=st.sampled_from([10.0, 3600.0, 14_400.0, 100_000.0]),
    urgent_within_seconds=st.sampled_from([0.0, 600.0, 7200.0]),
)


@st.composite
def flags(draw: st.DrawFn) -> Raised:
    raised = draw(_spans)
    lasts, begins = draw(st.none() | _spans), draw(st.none() | st.floats(-3600, 20_000))
    return Raised(
        at=moment(raised),
        resolved_at=None if lasts is None else moment(raised + lasts),
        starts_at=None if begins is None else moment(raised + begins),
    )


@st.composite
def outages(draw: st.DrawFn) -> tuple[datetime, datetime]:
    begins, lasts = draw(_spans), draw(st.sampled_from([0.0, 200.0, 7200.0]))
    return moment(begins), moment(begins + lasts)


turns = st.builds(Turn, flags=st.lists(flags(), min_size=1, max_size=12), policy=policies)
troubled = st.builds(Turn, flags=st.lists(flags(), min_size=1, max_size=12), policy=policies, away=outages())
digests = st.builds(
    Turn, flags=st.lists(flags(), min_size=1, max_size=12), policy=policies, delivery=st.just(Delivery.DAILY)
)
shares = st.floats(0.001, 0.999)


def gaps(letters: Iterable[Written]) -> Iterator[tuple[Written, float]]:
    """Give each letter but the first, and how many seconds after the one before it came."""
    for before, letter in pairwise(letters):
        yield letter, (letter.at - before.at).total_seconds()


def check_intervals(letters: list[Written], policy: Policy) -> None:
    least = policy.group_interval_seconds
    assert all(gap >= least for letter, gap in gaps(letters) if not letter.urgent)
    assert all(gap >= least for _, gap in gaps(letter for letter in letters if letter.urgent))


@given(troubled, shares)
def test_letters_lie_an_interval_apart_and_an_urgent_one_may_come_between(turn: Turn, curious: float) -> None:
    check_intervals(turn.live(curious), turn.policy)


@given(turns)
def test_what_stays_open_is_told_after_the_wait_or_the_rest_of_the_interval(turn: Turn) -> None:
    letters = turn.live()
    for flag in turn.flags:
        before = max((letter.at for letter in letters if letter.at < flag.at), default=BEGAN - AFTERWARDS)
        wait, interval = turn.policy.group_wait_seconds, turn.policy.group_interval_seconds
        latest = max(flag.at + timedelta(seconds=wait), before + timedelta(seconds=interval))
        if flag.resolved_at is None or flag.resolved_at > latest:
            assert flag.told_at is not None
            assert flag.told_at <= latest


@given(turns)
def test_what_is_urgent_is_told_nearly_at_once_or_an_interval_after_the_last_urgent_letter(turn: Turn) -> None:
    letters = turn.live()
    wait = timedelta(seconds=min(turn.policy.group_wait_seconds, URGENT_WAIT_SECONDS))
    for flag in [flag for flag in turn.flags if flag.starts_at is not None]:
        near_at = flag.near_at(turn.policy)
        before = [letter.at for letter in letters if letter.urgent and letter.at < near_at]
        again = before[-1] + timedelta(seconds=turn.policy.group_interval_seconds) if before else near_at
        latest = max(near_at + wait, again)
        assert flag.starts_at is not None
        if flag.starts_at > latest and (flag.resolved_at is None or flag.resolved_at > latest):
            assert flag.told_at is not None
            assert flag.told_at <= latest


@given(troubled, shares)
def test_what_was_over_before_its_letter_is_never_told_nor_the_end_of_what_was_not(turn: Turn, curious: float) -> None:
    for letter in turn.live(curious):
        assert all(flag.open(letter.at) for flag in letter.told)
        assert all(flag.told_at is not None and flag.told_at < letter.at for flag in letter.ended)


@given(troubled, shares)
def test_of_all_that_was_told_the_end_is_told_once(turn: Turn, curious: float) -> None:
    letters = turn.live(curious)
    for flag in turn.flags:
        assert sum(flag in letter.told for letter in letters) == (flag.told_at is not None)
        assert len(flag.end_told) == (flag.told_at is not None and flag.resolved_at is not None)
    assert all(letter.told or letter.ended for letter in letters if letter.occasion is Occasion.NEWS)


@given(troubled)
def test_reminders_come_only_while_something_is_open_and_ever_rarer(turn: Turn) -> None:
    reminders, least = 0, turn.policy.reminder_seconds
    for letter, gap in gaps(turn.live()):
        if letter.occasion is not Occasion.REMINDER:
            reminders = 0
            continue
        assert any(flag.told_at is not None and flag.open(letter.at) for flag in turn.flags)
        assert not letter.told
        assert not letter.ended
        assert gap >= min(least * 2**reminders, max(least, 86_400))
        reminders += 1


@given(digests, shares)
def test_who_wants_a_digest_has_at_most_one_a_day_and_it_has_everything(turn: Turn, curious: float) -> None:
    letters = turn.live(curious)
    days = [letter.at.astimezone(BERLIN).date() for letter in letters]
    assert len(set(days)) == len(days)
    assert {letter.at.astimezone(BERLIN).time() for letter in letters} <= {time(2, 30)}
    for flag in turn.flags:
        latest = next_time(flag.at, time(2, 30), BERLIN)
        if flag.resolved_at is None or flag.resolved_at > latest:
            assert flag.told_at == latest


@settings(max_examples=10)
@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 20_000)), min_size=5, max_size=30), outages())
def test_five_thousand_flags_in_a_minute_are_one_letter_an_interval(
    batches: list[tuple[float, float]], away: tuple[datetime, datetime]
) -> None:
    each = 5000 // len(batches)
    storm = [
        Raised(at=moment(raised), starts_at=moment(raised + begins + number))
        for raised, begins in batches
        for number in range(each)
    ]
    turn = Turn(flags=storm, policy=Policy(), away=away)
    letters = [letter for letter in turn.live() if letter.occasion is Occasion.NEWS]
    check_intervals(letters, turn.policy)
    assert sum(len(letter.told) for letter in letters) == len(storm)
    assert len(letters) <= 3  # all that came after the first is in the next, but that an urgent one may come between


_days = st.sampled_from(["2026-03-29", "2026-10-25", "2026-11-01", "2026-04-05", "2026-10-04", "2026-06-01"])
_zones = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"])


@given(_days, _zones, st.integers(-3000, 3000), st.integers(0, 1439))
def test_the_next_time_of_day_is_the_first_at_which_the_clock_shows_it(
    day: str, name: str, minutes: int, minute: int
) -> None:
    zone, wanted = ZoneInfo(name), time(minute // 60, minute % 60)
    after = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(minutes=minutes)
    found = next_time(after, wanted, zone)
    assert after < found <= after + timedelta(hours=25)
    instants = (after + timedelta(minutes=n) for n in range(1, 60 * 25))
    shows = (at for at in instants if at.astimezone(zone).time() == wanted)
    first = next((at for at in shows if _is_its_first(at, zone)), None)
    if found != first:  # a day on which the clock does not show it
        assert first is None or first > found
        assert (found.astimezone(zone).time() != wanted) or first is None


def _is_its_first(at: datetime, zone: ZoneInfo) -> bool:
    return at.astimezone(zone).fold == 0
