"""How much may be asked with one API key, and whether there is anybody to answer. Pure: times are handed in.

Three things stand between a question and Cal.com: a bucket of tokens, a block that Cal.com itself has spoken, and a
breaker that opens when the API fails (or refuses the key) and then lets one probe at a time through. One `Budget` a
key, shared by all processes: whoever changes it holds its row.

Why no minute sees more than was allowed: in any `s` seconds the bucket grants at most `burst + per_second * s`. A
request arrives at the latest when its own time is over, `timeout_seconds` after its grant, so that those which arrive
within a minute were granted within `60 + timeout_seconds`. `Limits.of` makes these come to no more than the limit.
"""

from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from schemas.verification import Priority
from services.verifier.answers import Answer, Reason, Unauthorised, Unknown
from services.verifier.ports import NotNow

#: Why not now. An operator sees these words.
BUCKET: Final = "bucket"
LIMITED: Final = "limited"
BREAKER: Final = "breaker"
UNAUTHORISED: Final = "unauthorised"

#: So many failures in a row open the breaker ...
FAILURES_TO_OPEN: Final = 5
#: ... for so long; then one may try.
OPEN_SECONDS: Final = 60.0
#: A key that was refused is left alone for so long; then one may try.
REFUSED_SECONDS: Final = 600.0
#: Cal.com's own block after a 429, which has no Retry-After.
BLOCK_SECONDS: Final = 60.0
#: Whatever an answer says: after so long somebody looks again.
MOST_BLOCK_SECONDS: Final = 3_600.0
#: Clocks may differ by so much. A saved time that lies further ahead is of a clock that was set back since.
MOST_SKEW_SECONDS: Final = 5.0

#: What the breaker counts: nobody of Cal.com's has answered, or not in its words. Also what no second try mends
#: (a redirect, another version): it is the same for every record, and one incident, not a verdict a record.
FAILURES: Final = frozenset(
    {
        Reason.TIMEOUT,
        Reason.UNREACHABLE,
        Reason.CUT,
        Reason.SERVER_ERROR,
        Reason.NOT_CALCOM,
        Reason.WRONG_SHAPE,
        Reason.API_VERSION,
        Reason.TOO_LARGE,
        Reason.REDIRECT,
        Reason.PRIVATE_ADDRESS,
    }
)


class Limits(Struct, frozen=True, kw_only=True):
    """What a key's bucket holds, what of it is for humans alone, and how fast it fills; in requests."""

    burst: float
    reserve: float
    per_second: float
    probe_seconds: float = 15.0  # a prober that was not heard of by then is taken for dead

    @classmethod
    def of(cls, requests_per_minute: int, timeout_seconds: float = 10.0) -> "Limits":
        """Share a limit between burst and stream; 120 a minute: 15 at once, 5 of them for humans, 1.5 a second."""
        burst = float(max(2, requests_per_minute // 8))
        return cls(
            burst=burst,
            reserve=max(1.0, burst // 3),
            per_second=(requests_per_minute - burst) / (60.0 + timeout_seconds),
            probe_seconds=timeout_seconds + 5.0,
        )


class Budget(Struct, frozen=True, kw_only=True):
    """What all processes know of a key; the columns of `api_budgets` but for its id.

    The breaker is shut while `opened_at` or `refused_at` is set. `failures` are those in a row.
    """

    tokens: float
    refilled_at: datetime
    blocked_until: datetime | None = None
    blocked_reason: str | None = None
    failures: int = 0
    opened_at: datetime | None = None
    probe_until: datetime | None = None
    refused_at: datetime | None = None

    @property
    def shut(self) -> NotNow | None:
        """Tell until when not even a probe may ask, and why; None: the breaker is closed."""
        if self.opened_at is not None:
            return NotNow(self.opened_at + timedelta(seconds=OPEN_SECONDS), BREAKER)
        if self.refused_at is not None:
            return NotNow(self.refused_at + timedelta(seconds=REFUSED_SECONDS), UNAUTHORISED)
        return None


class Grant(Struct, frozen=True):
    """One request may be made, now. `probe_until`: it is the probe, and has so long; None: the breaker is closed."""

    probe_until: datetime | None = None


class Lesson(Struct, frozen=True):
    """What an answer has taught. `not_now`: it says nothing of what was asked for, and nobody may ask before."""

    budget: Budget
    not_now: NotNow | None = None


def fresh(limits: Limits, now: datetime) -> Budget:
    """Give the budget of a key that nobody has used yet."""
    return Budget(tokens=limits.burst, refilled_at=now)


def take(budget: Budget, priority: Priority, limits: Limits, now: datetime) -> tuple[Budget, Grant | NotNow]:
    """Let a request go, or say until when not. A refusal changes nothing that has to be kept."""
    budget = _brought_to(budget, limits, now)
    if budget.blocked_until is not None and now < budget.blocked_until:
        return budget, NotNow(budget.blocked_until, LIMITED)
    shut = budget.shut
    if shut is not None and now < shut.until:
        return budget, shut
    if shut is not None and budget.probe_until is not None and now < budget.probe_until:
        return budget, NotNow(budget.probe_until, shut.reason)
    wanted = 1.0 if priority is Priority.HUMAN else 1.0 + limits.reserve
    if budget.tokens < wanted:
        return budget, NotNow(now + timedelta(seconds=(wanted - budget.tokens) / limits.per_second), BUCKET)
    probe_until = None if shut is None else now + timedelta(seconds=limits.probe_seconds)
    return replace(budget, tokens=budget.tokens - 1.0, probe_until=probe_until), Grant(probe_until)


def learn(budget: Budget, grant: Grant, answer: Answer, limits: Limits, now: datetime) -> Lesson:
    """Note what came of a request. While the breaker is shut its probe alone decides; stragglers change nothing."""
    before = budget.shut
    budget = _heeded(_brought_to(budget, limits, now), answer, now)
    probing = grant.probe_until is not None and grant.probe_until == budget.probe_until
    if before is None or probing:
        budget = _weighed(budget, answer, now, probing=probing)
    return Lesson(budget, _silence(budget, answer, before))


def _brought_to(budget: Budget, limits: Limits, now: datetime) -> Budget:
    passed_seconds = (now - budget.refilled_at).total_seconds()
    if passed_seconds < -MOST_SKEW_SECONDS:
        return _set_back(budget, now)
    if passed_seconds <= 0:
        return budget  # another's clock is a little ahead; a second is never paid out twice
    tokens = min(limits.burst, budget.tokens + passed_seconds * limits.per_second)
    return replace(budget, tokens=tokens, refilled_at=now)


def _set_back(budget: Budget, now: datetime) -> Budget:
    """Keep what was there, gain nothing, and wait for nothing that lies as far ahead as the clock once was."""
    return replace(
        budget,
        refilled_at=now,
        blocked_until=_at_most(budget.blocked_until, now + timedelta(seconds=BLOCK_SECONDS)),
        opened_at=_at_most(budget.opened_at, now),
        probe_until=_at_most(budget.probe_until, now),
        refused_at=_at_most(budget.refused_at, now),
    )


def _at_most(at: datetime | None, most: datetime) -> datetime | None:
    return None if at is None else min(at, most)


def _heeded(budget: Budget, answer: Answer, now: datetime) -> Budget:
    """Obey what Cal.com says of its own limits: another program may use the key, too."""
    if isinstance(answer, Unauthorised):
        return budget
    if isinstance(answer, Unknown):
        if answer.retry_after_seconds is not None:
            return _blocked(budget, "retry_after", answer.retry_after_seconds, now)
        return _blocked(budget, "too_many", BLOCK_SECONDS, now) if answer.reason is Reason.LIMITED else budget
    if answer.headroom is None:
        return budget
    left, seconds = answer.headroom.remaining, answer.headroom.reset_seconds
    budget = replace(budget, tokens=min(budget.tokens, float(max(0, left))))
    if left > 0:
        return budget
    # A Unix time instead of seconds is what some documentation says; nothing else is as large.
    return _blocked(budget, "used_up", seconds if seconds <= MOST_BLOCK_SECONDS else BLOCK_SECONDS, now)


def _blocked(budget: Budget, reason: str, seconds: float, now: datetime) -> Budget:
    until = now + timedelta(seconds=min(max(seconds, 1.0), MOST_BLOCK_SECONDS))
    if budget.blocked_until is not None and budget.blocked_until >= until:
        return budget
    return replace(budget, blocked_until=until, blocked_reason=reason)


def _weighed(budget: Budget, answer: Answer, now: datetime, *, probing: bool) -> Budget:
    """Count a failure, or forget those before."""
    if isinstance(answer, Unauthorised):
        return replace(budget, failures=0, opened_at=None, probe_until=None, refused_at=now)
    if isinstance(answer, Unknown) and answer.reason is Reason.LIMITED:
        return replace(budget, probe_until=None)  # says neither; whoever asks after the block is the next probe
    if not failed(answer):
        return replace(budget, failures=0, opened_at=None, probe_until=None, refused_at=None)
    failures = budget.failures + 1
    opened_at = now if probing or failures >= FAILURES_TO_OPEN else None
    return replace(budget, failures=failures, opened_at=opened_at, probe_until=None)


def _silence(budget: Budget, answer: Answer, before: NotNow | None) -> NotNow | None:
    if isinstance(answer, Unknown) and answer.reason is Reason.LIMITED and budget.blocked_until is not None:
        return NotNow(budget.blocked_until, LIMITED)
    if failed(answer) and before is not None:
        return budget.shut
    return None


def failed(answer: Answer) -> bool:
    """Tell whether the breaker counts an answer as a failure."""
    return isinstance(answer, Unknown) and answer.reason in FAILURES
