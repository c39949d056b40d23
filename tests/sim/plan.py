"""What is planted in a simulated world: stories of appointments, each with how it must end. Pure.

The endings are the design's (sections 3 to 5), never the code's.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from random import Random
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schemas import topics
from services.reconciler.core.policy import Policy
from tests.sim import asked, many, usual, waiting, weak
from tests.sim.pen import BEGIN, DELAY_MAX_SECONDS, Case, Json, Message, Pen
from tests.support import builders

Kind = Callable[[Pen], Case]

USUAL: Final[tuple[Kind, ...]] = (
    usual.pair, usual.pair_by_metadata, usual.lost_webhook, usual.ghost, usual.ghost_that_moves, usual.late,
    usual.late_in_the_app, usual.cancelled_on_both, usual.clock_is_wrong, usual.cancelled_on_one, usual.cancel_first,
    usual.rejected, usual.moved_on_one, usual.chain, usual.chain, usual.chain_that_is_told_backwards,
    usual.chain_without_a_link, usual.chain_with_a_hole, usual.chain_without_its_beginning, usual.move_known_by_asking,
    usual.deleted, usual.restored, usual.restored_late, usual.booked_anew, usual.booked_twice, usual.longer,
)  # fmt: skip
MANY: Final[tuple[Kind, ...]] = (
    many.seats_taken, many.seat_left, many.seat_left_on_one, many.seats_called_off, many.seats_moved,
    many.only_the_first_fires, many.series, many.series_without_one_webhook, many.series_without_one_appointment,
    many.series_called_off, many.series_confirmed, many.occurrence_cancelled,
)  # fmt: skip
WAITING: Final[tuple[Kind, ...]] = (
    waiting.never_answered, waiting.never_answered_on_both, waiting.never_answered_but_told, waiting.answered,
    waiting.answered_alone, waiting.refused_alone, waiting.move_that_needs_an_answer, waiting.recalled_and_moved,
    waiting.recalled_for_good, waiting.never_paid, waiting.never_paid_on_both, waiting.paid, waiting.paid_alone,
    waiting.paid_and_answered,
)  # fmt: skip
#: These hold whether or not the third rung is on.
KEYLESS: Final[tuple[Kind, ...]] = (
    weak.met, weak.met_too_far_apart, weak.met_somebody_else, weak.met_and_cancelled, weak.key_comes_late,
)  # fmt: skip
THIRD_RUNG: Final[tuple[Kind, ...]] = (
    weak.met, weak.met_and_moved_on_one, weak.met_and_moved, weak.two_appointments_fit, weak.two_bookings_fit,
    weak.choice_made_by_a_key, weak.named_at_last, weak.corrected, weak.corrected_for_good, weak.differs_for_a_while,
    weak.same_time_again, weak.same_time_again_in_vain, waiting.recalled_and_booked_anew,
)  # fmt: skip

FACTS_SHARE: Final = 0.3


def kinds(policy: Policy) -> tuple[Kind, ...]:
    """Give the kinds of story that can be told of a company with these rules."""
    if policy.verify:
        return asked.ALL
    always = (*USUAL, *MANY, *WAITING, *KEYLESS)
    return always + THIRD_RUNG if policy.match_by_attendee else always


def plan(random: Random, companies: Mapping[str, Policy], cases: int) -> list[Case]:
    """Plant cases over companies."""
    planted: list[Case] = []
    for number in range(1, cases + 1):
        company_id = random.choice(sorted(companies))
        policy = companies[company_id]
        pen = Pen(random, company_id, policy, number)
        case = random.choice(kinds(policy))(pen)
        planted.append(_sprinkled(case, pen) if case.revealed and random.random() < FACTS_SHARE else case)
    return planted


def _sprinkled(case: Case, pen: Pen) -> Case:
    """Strew facts of the timeline over a case. They never change anything."""
    facts = [_fact(case, pen, n) for n in range(pen.random.randint(1, 3))]
    return replace(case, messages=(*case.messages, *facts))


def _fact(case: Case, pen: Pen, n: int) -> Message:
    uid, made = pen.random.choice(case.revealed)
    at = made + pen.random.uniform(1, 4000)
    arrives = at + pen.random.uniform(0, DELAY_MAX_SECONDS)
    fact = Fact(uid, pen.booking_id(uid[0]), BEGIN + timedelta(seconds=at), BEGIN + timedelta(seconds=made))
    raw = msgspec.json.encode(pen.random.choice([_meeting, _no_show, _paid])(pen, fact))
    return Message(arrives, topics.TYPE_CALCOM_WEBHOOK, case.company_id, f"{case.number}-fact-{n}", raw)


class Fact(Struct, frozen=True):
    """Something that happens to a booking without changing what it is."""

    uid: str
    booking_id: int
    at: datetime
    made_at: datetime  # the booking


def _meeting(pen: Pen, fact: Fact) -> Json:
    row = builders.meeting_started(fact.uid, booking_id=fact.booking_id, starts_at=pen.starts_at)
    row |= {"triggerEvent": pen.random.choice(["MEETING_STARTED", "MEETING_ENDED"])}
    return row | {"attendees": _somebody(pen), "createdAt": builders.z_ms(fact.made_at)}


def _no_show(pen: Pen, fact: Fact) -> Json:
    body = builders.no_show_updated(fact.uid, booking_id=fact.booking_id)
    marked = [{"email": pen.person().email, "noShow": True}]
    return builders.having(body, attendees=marked) | {"createdAt": builders.z_ms(fact.at)}


def _paid(pen: Pen, fact: Fact) -> Json:
    options: Json = {"booking_id": fact.booking_id, "starts_at": pen.starts_at, "created_at": fact.at}
    return builders.paid(fact.uid, attendees=_somebody(pen), **options)


def _somebody(pen: Pen) -> list[Json]:
    return [builders.attendee(pen.person().email, phone=None)]
