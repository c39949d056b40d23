"""What comes is sorted: understood and admitted, ignored by policy, sent on to its partition, or set aside.

Reads no clock and waits for nobody; the brakes are all that it remembers.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from schemas.dead_letters import DeadLetter
from schemas.envelope import Envelope
from services.reconciler.brake import Brake
from services.reconciler.core.events import Event
from services.reconciler.core.policy import Policy
from services.reconciler.decode import BODY_MAX_BYTES, Decoded, Ignored, Undecodable, decode
from services.reconciler.desk import keys_of
from services.reconciler.limits import Limits
from services.reconciler.ports import DeadRow, EventRow, Key, Policies, Position, Unstorable


class Admitted(Struct, frozen=True):
    """An event of an envelope that was understood, of a company that is known."""

    envelope: Envelope
    event: Event
    policy: Policy
    keys: list[Key]


class Sorted(Struct):
    """A batch, sorted into what can be folded and what cannot."""

    batch: list[Envelope]
    admitted: list[Admitted]
    ignored: list[EventRow]
    dead: list[DeadRow]
    reroutes: list[Envelope]
    next_offsets: dict[int, dict[str, int]]
    appended_at: dict[Position, datetime]
    tripped: dict[int, str]
    rules: int  # the generation of the policies that it was sorted by

    @property
    def count(self) -> int:
        """Say how many envelopes it has."""
        return len(self.batch)


class Intake:
    """Decodes and admits. A partition whose brake has tripped is passed over from then on."""

    def __init__(self, policies: Policies, home_of: Callable[[str], int], limits: Limits) -> None:
        """`home_of` gives a company's partition."""
        self._policies, self._home_of, self._limits = policies, home_of, limits
        self._brakes: dict[int, Brake] = {}
        self.stopped: dict[int, str] = {}

    def begin(self) -> None:
        """Forget the brakes: the partitions are others, or read from another place."""
        self._brakes, self.stopped = {}, {}

    def sort(self, batch: list[Envelope]) -> Sorted:
        """Sort a batch; what is admitted is in the order of receipt, for a partition's topics come in turns."""
        found = Sorted(batch, [], [], [], [], {}, {}, {}, self._policies.generation)
        for envelope in batch:
            if envelope.partition in self.stopped:
                continue
            dead = self._take(envelope, found)
            found.next_offsets.setdefault(envelope.partition, {})[envelope.topic] = envelope.offset + 1
            found.appended_at[(envelope.topic, envelope.partition)] = envelope.appended_at
            reason = self._brake(envelope.partition).saw(dead=dead)
            if reason is not None:
                found.tripped[envelope.partition] = self.stopped[envelope.partition] = reason
        found.admitted.sort(key=lambda admitted: admitted.envelope.received_at)
        return found

    def renew(self, found: Sorted) -> Sorted:
        """Take the rules as they are by now, for a batch that was sorted before."""
        if found.rules == self._policies.generation:
            return found
        admitted = []
        for old in found.admitted:
            company_id = company_of(old.envelope)
            policy = self._policies.get(company_id) or old.policy
            admitted.append(Admitted(old.envelope, old.event, policy, keys_of(company_id, old.event, policy)))
        return replace(found, admitted=admitted, rules=self._policies.generation)

    def _take(self, envelope: Envelope, found: Sorted) -> bool:
        """Put one envelope where it belongs; True: with the dead letters."""
        company_id = company_of(envelope)
        policy = self._policies.get(company_id)
        if policy is not None and self._home_of(company_id) != envelope.partition and _fits(envelope):
            found.reroutes.append(envelope)
            return False
        try:
            decoded = decode(envelope)
        except Undecodable as error:
            found.dead.append(_dead(envelope, error))
            if policy is not None and error.salvaged:
                _admit(envelope, error.salvaged, policy, found)
            return True
        if policy is None:
            unknown = Undecodable("unknown_company", f"There is no company {company_id!r}.")
            found.dead.append(_dead(envelope, unknown))
            return True
        _admit(envelope, decoded, policy, found)
        return False

    def _brake(self, number: int) -> Brake:
        limits = self._limits
        return self._brakes.setdefault(number, Brake(limits.brake_run, limits.brake_share, limits.brake_of))


def _admit(envelope: Envelope, decoded: Iterable[Decoded], policy: Policy, found: Sorted) -> None:
    company_id = company_of(envelope)
    for one in decoded:
        if type(one) is Ignored:
            found.ignored.append(_ignored(envelope, one))
        else:
            found.admitted.append(Admitted(envelope, one, policy, keys_of(company_id, one, policy)))


def _fits(envelope: Envelope) -> bool:
    """Tell whether it may be sent on: what is larger than any door takes is set aside where it lies."""
    return len(envelope.body) <= BODY_MAX_BYTES


def set_aside(found: Sorted, error: Unstorable) -> Sorted:
    """Make a dead letter of a batch's only envelope, which was understood and cannot be kept, not even in part."""
    (envelope,) = found.batch
    letter = _dead(envelope, Undecodable("unstorable", str(error)))
    return replace(found, admitted=[], ignored=[], dead=[letter], reroutes=[])


def company_of(envelope: Envelope) -> str:
    """Give an envelope's company; empty without a usable key."""
    return envelope.company_id or ""


def _dead(envelope: Envelope, error: Undecodable) -> DeadRow:
    letter = DeadLetter(
        company_id=company_of(envelope),
        topic=envelope.topic,
        partition=envelope.partition,
        offset=envelope.offset,
        reason=error.reason,
        detail=error.detail,
        received_at=envelope.received_at,
    )
    headers = {
        "ce_id": envelope.ce_id,
        "ce_source": envelope.ce_source,
        "ce_type": envelope.ce_type,
        "content-type": envelope.content_type,
        "traceparent": envelope.traceparent,
    }
    return DeadRow(letter, envelope.body, headers)


def _ignored(envelope: Envelope, decoded: Ignored) -> EventRow:
    return EventRow(
        company_id=company_of(envelope),
        received_at=envelope.received_at,
        topic=envelope.topic,
        partition=envelope.partition,
        offset=envelope.offset,
        record_id=None,
        event_id=decoded.event_id,
        kind=decoded.kind,
        occurred_at=decoded.occurred_at,
        disposition="ignored",
    )
