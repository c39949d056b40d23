"""All that moves a record, as a table: printed from the code into `table.txt`, and reviewed as a diff.

`python -m tests.unit.core.test_table` writes it anew.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from schemas.commands import Reopen, Resolve
from services.reconciler.core.events import Commanded, DeadlineReached, Event
from tests.support.history import Story, at, calcom, fold, local

TABLE: Final = Path(__file__).with_name("table.txt")
LINKED: dict[str, Any] = {"calcom_booking_uid": "A"}


def _resolved(story: Story) -> Story:
    return story.tell(_resolve(story))


def _resolve(story: Story) -> Event:
    record = story.record
    return Commanded(
        at(5000),
        Resolve(id="c1", record_id=record.record_id, version=record.version, actor="Ada", issued_at=at(0), reason="ok"),
    )


def _reopen(story: Story) -> Event:
    record = story.record
    return Commanded(
        at(5001), Reopen(id="c2", record_id=record.record_id, version=record.version, actor="Ada", issued_at=at(0))
    )


def _deadline(story: Story) -> Event:
    return DeadlineReached(record_id=story.record.record_id, at=at(90_000), known_until=at(90_000))


STATES: Final[dict[str, Callable[[], Story]]] = {
    "nothing": Story,
    "pending, app alone": lambda: fold([local(**LINKED)]),
    "pending, Cal.com alone": lambda: fold([calcom(appointment_id="4711")]),
    "pending, they differ": lambda: fold([local(**LINKED), calcom(minutes=30)]),
    "synced": lambda: fold([local(**LINKED), calcom()]),
    "synced, both cancelled": lambda: fold([local("cancelled", 5, **LINKED), calcom("CANCELLED", 5)]),
    "orphaned_local": lambda: fold([local(**LINKED)]).until(4000),
    "orphaned_calcom": lambda: fold([calcom(appointment_id="4711")]).until(4000),
    "failed, they differ": lambda: fold([local(**LINKED), calcom(minutes=30)]).until(4000),
    "orphaned_local, resolved by hand": lambda: _resolved(fold([local(**LINKED)]).until(4000)),
}
EVENTS: Final[dict[str, Callable[[Story], Event]]] = {
    "app: alive": lambda _: local("updated", 4500, **LINKED),
    "app: moved": lambda _: local("rescheduled", 4500, minutes=60, **LINKED),
    "app: cancelled": lambda _: local("cancelled", 4500, **LINKED),
    "app: deleted": lambda _: local("deleted", 4500, **LINKED),
    "Cal.com: created": lambda _: calcom("CREATED", 4500),
    "Cal.com: requested": lambda _: calcom("REQUESTED", 4500),
    "Cal.com: moved": lambda _: calcom("RESCHEDULED", 4500, "B", parent="A", minutes=60),
    "Cal.com: cancelled": lambda _: calcom("CANCELLED", 4500),
    "deadline reached": _deadline,
    "resolve": _resolve,
    "reopen": _reopen,
}


def cell(state: str, event: str) -> str:
    """Say what an event makes of a state."""
    story = STATES[state]()
    if not story.records and event in ("deadline reached", "resolve", "reopen"):
        return "-"
    before = len(story.flags)
    story.tell(EVENTS[event](story))
    decision = story.decisions[-1]
    said = [flag.type.value.removeprefix("sync.") for flag in story.flags[before:]]
    if decision.outcome and not decision.outcome.applied:
        return f"refused: {decision.outcome.reason}"
    if not decision.changed:
        return "="
    record = story.record
    finding = f" ({record.finding.kind.value})" if record.finding else ""
    return f"{record.status.value}{finding}" + (f" + {', '.join(said)}" if said else "")


def table() -> str:
    """Print the table: a block a state, a line an event."""
    blocks = []
    for state in STATES:
        lines = [f"{event:<20} {cell(state, event)}" for event in EVENTS]
        blocks.append("\n".join([state, "-" * len(state), *lines]))
    return "\n\n".join(blocks) + "\n"


def test_the_table_of_status_and_event_is_the_one_that_was_reviewed() -> None:
    assert table() == TABLE.read_text("utf-8"), "run `python -m tests.unit.core.test_table` and review the diff"


if __name__ == "__main__":
    TABLE.write_text(table(), "utf-8")
