"""What is written of a record is all of it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.reconciler import rows
from services.reconciler.core.events import Heard
from services.reconciler.core.record import Record
from tests.support.history import NOW, fold
from tests.support.letters import histories

NAMES = [name for name, _ in rows.COLUMNS]


def written(record: Record) -> dict[str, Any]:
    """Give a record's row."""
    return dict(zip(NAMES, rows.columns(record, 3, NOW), strict=True))


@given(histories(), st.booleans())
def test_a_record_that_is_written_and_read_is_the_same_record(history: list[Heard], over: bool) -> None:  # noqa: FBT001
    story = fold(history)
    for record in (story.until(1e6) if over else story).records:
        row = written(record)
        assert rows.read(record.company_id, row["facts"], row["decision"]) == record


@given(histories(), st.booleans())
def test_the_columns_that_people_ask_by_say_what_the_record_says(history: list[Heard], over: bool) -> None:  # noqa: FBT001
    story = fold(history)
    for record in (story.until(1e6) if over else story).records:
        row = written(record)
        assert row["calcom_sync_status"] == record.status
        assert row["requires_manual_review"] is (record.flag is not None)
        assert row["requires_manual_review"] is (row["manual_review_flagged_at"] is not None)
        assert (row["sync_error_code"] is None) is (row["sync_error_message"] is None)
        assert row["sync_error_code"] is None or record.status not in ("synced", "pending")
        assert (row["appointment_id"], row["booking_uid"]) != (None, None)
        assert (row["match_rule"] is not None) is (None not in (row["appointment_id"], row["booking_uid"]))
        assert row["deadline_at"] is None or record.status == "pending"
