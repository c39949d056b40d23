"""Asks Cal.com one question: the booking by its uid through all of its reschedules, or a search."""

from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from schemas.observations import Check
from schemas.verification import Question, Verdict, check_id
from services.verifier.answers import Answer, Bookings, NotThere, Reason, Row, Unauthorised, Unknown
from services.verifier.checks import verdict
from services.verifier.checks.search import Halt, Searcher, Talk
from services.verifier.ports import Account, Gateway, GetBooking, NotNow

#: A chain of reschedules that is longer is none that a person made.
HOPS_MAX: Final = 10
#: After a 429 that does not say how long: Cal.com blocks for a minute.
_LIMITED_SECONDS: Final = 60.0


class Refused(Struct, frozen=True):
    """The key was refused: that says nothing of any booking."""

    answer: Unauthorised


Outcome = Check | NotNow | Refused


class Asker:
    """Asks through the gateway; remembers which account's searches work."""

    def __init__(self, gateway: Gateway) -> None:
        """The gateway stays its owner's."""
        self._gateway = gateway
        self._searcher = Searcher()

    async def ask(self, account: Account, question: Question, now: datetime) -> Outcome:
        """Ask, and say what came of it. Takes several calls; errors of the gateway's database go up as they are."""
        talk = Talk(self._gateway, account, question.priority, now)
        found: list[Row] = []
        try:
            answer = await self._answer(talk, question, found)
        except Halt as halt:
            if isinstance(halt.outcome, NotNow):
                return halt.outcome
            answer = halt.outcome
        if isinstance(answer, Unknown) and answer.reason is Reason.LIMITED:
            return NotNow(_later(talk, answer), "limited")
        if isinstance(answer, Unauthorised):
            return Refused(answer)
        return _check(question, talk, answer, found)

    async def _answer(self, talk: Talk, question: Question, found: list[Row]) -> Answer:
        """Give the answer to judge; `found` gets every booking of the way. Raises Halt."""
        uid = known_uid(question)
        if uid is not None:
            answer = await talk.ask(GetBooking(uid), question.not_older_than)
            if isinstance(answer, NotThere):
                return answer
            found += answer.rows
            row = verdict.occurrence(question, uid, answer.rows)
            return _unknown(Reason.NO_OCCURRENCE) if row is None else await self._walk(talk, question, row, found)
        listed = await self._searcher.search(talk, question)
        if not isinstance(listed, list):
            return listed
        found += listed
        return await self._walk(talk, question, listed[0], found)

    async def _walk(self, talk: Talk, question: Question, row: Row, found: list[Row]) -> Answer:
        """Follow a booking through its reschedules to the one in force. Raises Halt."""
        chain = [row]
        seen = {row.get("uid")}
        while (uid := verdict.heir(chain[-1])) is not None:
            if uid in seen or len(chain) > HOPS_MAX:
                return _unknown(Reason.LOOP)
            answer = await talk.ask(GetBooking(uid), question.not_older_than)
            if isinstance(answer, NotThere):
                return _unknown(Reason.BROKEN_CHAIN)
            seen.add(uid)
            found += answer.rows
            following = verdict.occurrence(question, uid, answer.rows)
            if following is None:
                return _unknown(Reason.NO_OCCURRENCE)
            chain.append(following)
        return Bookings(rows=tuple(chain))


def known_uid(question: Question) -> str | None:
    """Give the uid to ask for; None where there is none, or only a number, for which Cal.com always answers 404."""
    uid = question.uid
    return None if uid is None or uid.isdecimal() or uid.startswith("id:") else uid


def _check(question: Question, talk: Talk, answer: Answer, found: list[Row]) -> Check:
    # What there is may be older than the last answer; what there is not was looked for until then.
    observed_at = (min if found else max)(talk.heard, default=talk.now)
    ruling, reason = verdict.judge(question, answer, min(talk.heard, default=talk.now))
    assert ruling is not Verdict.UNAUTHORISED  # noqa: S101 - it has left as Refused
    return Check(
        id=check_id(question.record_id, question.number),
        observed_at=observed_at,
        record_id=question.record_id,
        subject=question.subject,
        number=question.number,
        verdict=ruling,
        reason=reason,
        uid=known_uid(question),
        bookings=_each_once(found),
    )


def _each_once(rows: list[Row]) -> list[Row]:
    """Drop what a walk came by twice."""
    return list({str(row.get("uid")): row for row in rows}.values())


def _later(talk: Talk, limited: Unknown) -> datetime:
    seconds = _LIMITED_SECONDS if limited.retry_after_seconds is None else limited.retry_after_seconds
    return talk.now + timedelta(seconds=seconds)


def _unknown(reason: Reason) -> Unknown:
    return Unknown(reason=reason, detail=f"a booking's chain: {reason.value}")
