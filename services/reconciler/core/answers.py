"""What Cal.com answered when it was asked about a record, and what that amounts to.

A record keeps its answers as a set, as a side keeps its events: whatever is concluded is computed from all of them, so
that neither order nor repetition can matter.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, final

from msgspec import Struct

from schemas.verification import ABSENT_APART_SECONDS, Verdict

#: A record remembers its latest answers.
KEPT: Final = 32
#: After an answer that says nothing Cal.com is asked again after so long (design, section 7); after the last, a human.
RETRY_SECONDS: Final = (60.0, 300.0, 900.0)
_APART: Final = timedelta(seconds=ABSENT_APART_SECONDS)
#: An answer is as old as its question: a second more, and the next one is surely far enough from it.
_ABSENT_AGAIN: Final = _APART + timedelta(seconds=1)


@final
class Answer(Struct, frozen=True, array_like=True):
    """One answer of Cal.com's API: given at `observed_at`, heard of at `received_at`.

    `subject` is the name of the side that was asked about; `uid` is what was asked for (None: it was searched for).
    """

    id: str
    subject: str
    number: int
    observed_at: datetime
    received_at: datetime
    verdict: Verdict
    reason: str
    uid: str | None = None


@final
class Judgement(Struct, frozen=True):
    """What the answers amount to; `answer` is the one that settled it. `unknown`: Cal.com could not be asked."""

    answer: Answer

    @property
    def unknown(self) -> bool:
        """Tell whether nothing is known in the end."""
        return self.answer.verdict is Verdict.UNKNOWN

    @property
    def verdict(self) -> Verdict:
        """Give it in one word: what was not there twice is absent, whatever the second answer was called."""
        return Verdict.ABSENT if self.answer.verdict.missing else self.answer.verdict


def add(answers: tuple[Answer, ...], new: Answer) -> tuple[Answer, ...]:
    """Add an answer; the same object comes back if that changes nothing.

    A verifier that died after it had told may have asked again: of two answers to one question the first counts.
    """
    known = next((one for one in answers if one.id == new.id), None)
    if known is not None and _place(known) <= _place(new):
        return answers
    return tuple(sorted([*(one for one in answers if one is not known), new], key=_place)[-KEPT:])


def _place(answer: Answer) -> tuple[datetime, str, datetime, str, str]:
    return (answer.observed_at, answer.id, answer.received_at, answer.verdict.value, answer.reason)


def since(answers: Iterable[Answer], moment: datetime) -> list[Answer]:
    """Give the answers of that moment and later, in order."""
    return [one for one in answers if one.observed_at >= moment]


def judge(answers: Sequence[Answer], after: datetime) -> Judgement | None:
    """Say what the answers from a moment on amount to; None: Cal.com has to be asked (again).

    | answers | amounts to |
    |---|---|
    | the booking was found, in whatever state | that |
    | not there, and not there again at least 30 s later, nothing found in between | absent |
    | as many without any meaning as there are tries | unknown |
    """
    settled: Judgement | None = None
    missed_at: datetime | None = None
    unknown = 0
    for one in since(answers, after):
        if one.verdict.found:
            settled, missed_at = Judgement(one), None
        elif one.verdict.missing:
            if missed_at is None:
                missed_at = one.observed_at
            elif one.observed_at - missed_at >= _APART:
                settled = Judgement(one)
        elif settled is None:
            unknown += 1
            if unknown > len(RETRY_SECONDS):
                settled = Judgement(one)
    return settled


def missed_since(answers: Sequence[Answer], after: datetime) -> datetime | None:
    """Say when Cal.com first answered that there is none, with nothing found since."""
    missed_at: datetime | None = None
    for one in since(answers, after):
        if one.verdict.found:
            missed_at = None
        elif one.verdict.missing and missed_at is None:
            missed_at = one.observed_at
    return missed_at


def ask_again_at(answers: Sequence[Answer], after: datetime) -> datetime:
    """Say when Cal.com may be asked next, in a round of questions that began at a moment."""
    given = since(answers, after)
    if not given:
        return after
    newest = given[-1]
    if newest.verdict.missing:
        return newest.observed_at + _ABSENT_AGAIN
    tried = sum(one.verdict is Verdict.UNKNOWN for one in given)
    return newest.observed_at + timedelta(seconds=RETRY_SECONDS[min(max(tried, 1), len(RETRY_SECONDS)) - 1])


def is_gone(answers: Sequence[Answer], names: Iterable[str], after: datetime) -> bool:
    """Tell whether Cal.com said twice, since a moment, that it has no booking of these uids."""
    asked = set(names)
    settled = judge([one for one in answers if one.uid in asked], after)
    return settled is not None and settled.verdict is Verdict.ABSENT
