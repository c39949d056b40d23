"""What is proved of a partition, question by question: moment, doors, ends."""

from collections.abc import Iterable
from datetime import datetime

from schemas import topics
from services.reconciler.core.frontier import Contact
from services.reconciler.frontiers import ASKED_MAX, Frontiers
from services.reconciler.limits import Limits
from services.reconciler.ports import Horizon, Position
from tests.support.history import at

PLACES = [(topic, 0) for topic in topics.SIDES]
BUSY, QUIET = PLACES


class Log:
    """Says how far both sides go."""

    def __init__(self) -> None:
        """Nothing is there."""
        self.length = dict.fromkeys(PLACES, 0)

    async def ends(self, names: Iterable[str], numbers: Iterable[int]) -> dict[Position, int]:
        """See `ports.Ends`."""
        return dict(self.length)

    async def starts(self, names: Iterable[str], numbers: Iterable[int]) -> dict[Position, int]:
        """See `ports.Ends`."""
        return dict.fromkeys(PLACES, 0)


class Reading:
    """Frontiers of one partition, which is read up to where a test says."""

    def __init__(self) -> None:
        """At the beginning."""
        self.log = Log()
        self.frontiers = Frontiers(self.log, Limits(stall_after_seconds=1e9), Contact(at(0)))
        self.frontiers.begin(dict.fromkeys(PLACES, 0))

    async def ask(self, seconds: float, horizon: float | None = None) -> "Reading":
        """Ask doors and broker at a moment."""
        self.frontiers.hear(Horizon(None if horizon is None else at(horizon)), at(seconds))
        self.frontiers.prove(await self.frontiers.ask([0], at(seconds)), {})
        return self

    def read(self, position: int, appended: float) -> "Reading":
        """Read the busy side up to a position."""
        self.frontiers.applied(BUSY, position=position, appended_at=at(appended))
        self.frontiers.advance()
        return self

    @property
    def known_until(self) -> datetime | None:
        """Give what is known of the partition."""
        return self.frontiers.known_until(0)


async def test_before_anybody_was_asked_nothing_is_known() -> None:
    reading = Reading()
    assert reading.read(5, 100).known_until is None


async def test_who_stands_at_the_end_has_read_all_that_came_before_the_question() -> None:
    assert (await Reading().ask(10)).known_until == at(10)


async def test_what_was_appended_late_says_nothing_of_what_came_in_early() -> None:
    reading = await Reading().ask(10)
    reading.log.length[BUSY] = 100
    await reading.ask(20)
    assert reading.read(99, 500).known_until == at(10)
    assert reading.read(100, 501).known_until == at(20)


async def test_a_question_counts_when_its_ends_are_reached_however_much_has_come_since() -> None:
    """A partition that is always a little behind is known up to a little ago."""
    reading = Reading()
    for second in range(1, 50):
        reading.log.length[BUSY] = 10 * second
        await reading.ask(second)
        reading.read(10 * max(0, second - 3), second)
    assert reading.known_until == at(46)


async def test_a_question_counts_no_further_than_what_the_doors_had_sent_by_then() -> None:
    reading = await Reading().ask(10, horizon=4)
    assert reading.known_until == at(4)
    reading.log.length[BUSY] = 1
    await reading.ask(20, horizon=20)
    assert reading.known_until == at(4), "what the doors have sent since lies behind, unread"
    assert reading.read(1, 19).known_until == at(20)


async def test_what_turns_up_late_takes_back_what_was_proved_without_it() -> None:
    reading = await Reading().ask(100)
    reading.log.length[BUSY] = 1
    assert (await reading.ask(101, horizon=30)).known_until == at(30)
    assert (await reading.ask(102)).known_until == at(30)
    assert reading.read(1, 101.5).known_until == at(102)


async def test_questions_that_are_never_reached_do_not_pile_up_and_the_latest_is_kept() -> None:
    reading = Reading()
    for second in range(1, 5 * ASKED_MAX):
        reading.log.length[BUSY] = second
        await reading.ask(second)
    assert len(reading.frontiers._asked) <= ASKED_MAX
    assert reading.read(5 * ASKED_MAX - 1, 1).known_until == at(5 * ASKED_MAX - 1)


async def test_a_clock_that_steps_back_proves_nothing_any_more() -> None:
    reading = await Reading().ask(100)
    reading.frontiers.unprove(at(50))
    assert reading.known_until is None
    assert (await reading.ask(51)).known_until == at(51)
