"""What an operator's command becomes."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from schemas.commands import Reopen, Resolve
from schemas.topics import SYNC_COMMANDS
from services.reconciler.core.events import Commanded
from services.reconciler.decode import Undecodable, decode
from tests.support import builders as b

RECORD = "6f1b1c52-7c11-5c6e-9d52-0f4a1f0f7a01"


def command(**over: Any) -> b.Json:
    """Give the body of a command to resolve."""
    plain: b.Json = {"type": "resolve", "id": "cmd-1", "record_id": RECORD, "version": 3, "actor": "mia"}
    return plain | {"issued_at": "2026-03-02T10:00:00+01:00", "reason": "Known no-show"} | over


def refused(content: object) -> Undecodable:
    """Decode what must be refused."""
    with pytest.raises(Undecodable) as caught:
        decode(b.envelope(SYNC_COMMANDS, content))
    return caught.value


def test_a_command_comes_with_its_receipt_and_in_utc() -> None:
    decoded = b.decoded(b.envelope(SYNC_COMMANDS, command()))
    expected = Resolve(
        id="cmd-1",
        record_id=UUID(RECORD),
        version=3,
        actor="mia",
        issued_at=datetime(2026, 3, 2, 9, 0, tzinfo=UTC),
        reason="Known no-show",
    )
    assert decoded == Commanded(b.NOW, expected)


def test_a_reason_may_be_left_out_when_a_decision_is_taken_back() -> None:
    content = command(type="reopen")
    del content["reason"]
    decoded = b.decoded(b.envelope(SYNC_COMMANDS, content))
    assert isinstance(decoded, Commanded)
    assert isinstance(decoded.command, Reopen)


@pytest.mark.parametrize(
    ("over", "named"),
    [
        ({"type": "explode"}, "$.type"),
        ({"record_id": "not a uuid"}, "$.record_id"),
        ({"version": "3"}, "$.version"),
        ({"version": 10**30}, "$.version"),
        ({"issued_at": "2026-03-02T10:00:00"}, "$.issued_at"),
        ({"issued_at": "0001-01-01T00:00:00+23:59"}, "$.issued_at"),
        ({"id": ""}, "$.id"),
    ],
)
def test_a_wrong_field_is_named(over: b.Json, named: str) -> None:
    error = refused(command(**over))
    assert error.reason == "invalid_command"
    assert f"`{named}`" in error.detail


@pytest.mark.parametrize("raw", [b"", b"[]", b"nonsense", b"[" * 100_000])
def test_what_is_no_command_is_refused(raw: bytes) -> None:
    assert refused(raw).reason == "invalid_command"


@pytest.mark.parametrize("escape", [b"\\u0000", b"\\ud800", b"\xff"])
def test_text_that_cannot_be_stored_is_refused(escape: bytes) -> None:
    assert refused(b.body(command(reason="@@here@@")).replace(b"@@here@@", escape)).reason == "invalid_text"
