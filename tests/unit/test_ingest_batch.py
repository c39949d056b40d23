"""One bad event takes all others with it, and the answer says where it is."""

import json
from typing import Any

import msgspec
import pytest

from services.ingest.batch import Invalid, read


def event(number: int = 1, **changes: Any) -> dict[str, Any]:
    appointment = {"id": str(number), "starts_at": "2026-12-01T10:00:00+01:00", "status": "confirmed"}
    return {
        "id": f"evt_{number}",
        "type": "appointment.created",
        "occurred_at": "2026-11-22T09:00:00Z",
        "appointment": appointment | changes,
    }


def faults(body: bytes, content_type: str = "application/json") -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        read(body, content_type)
    return [(fault.path, fault.message) for fault in caught.value.faults]


def ids(body: bytes, content_type: str = "application/json") -> list[str]:
    return [one.event_id for one in read(body, content_type)]


ONE = json.dumps(event()).encode()
THREE = [event(number) for number in (3, 1, 2)]


def test_a_single_event_keeps_its_bytes_blanks_and_all() -> None:
    body = b"\n " + json.dumps(event(), indent=2).encode() + b"\n"
    assert [one.body for one in read(body, "")] == [body]


def test_an_array_keeps_order_and_bytes() -> None:
    bodies = [json.dumps(one).encode() for one in THREE]
    found = read(b"[" + b" ,\n".join(bodies) + b"]", "application/json")
    assert [one.body for one in found] == bodies
    assert [one.event_id for one in found] == ["evt_3", "evt_1", "evt_2"]


@pytest.mark.parametrize(
    "content_type", ["application/x-ndjson", "application/x-ndjson; charset=utf-8", "application/json"]
)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\n\n"])
def test_lines_are_known_by_type_or_by_sight(content_type: str, newline: bytes) -> None:
    body = newline.join(json.dumps(one).encode() for one in THREE) + newline
    assert ids(body, content_type) == ["evt_3", "evt_1", "evt_2"]


def test_the_path_leads_to_what_is_wrong() -> None:
    wrong = [event(0), event(1, starts_at="2026-12-01T10:00:00"), event(2), event(3, status="maybe")]
    assert [path for path, _ in faults(json.dumps(wrong).encode())] == [
        "$[1].appointment.starts_at",
        "$[3].appointment.status",
    ]
    lines = b"\n".join(json.dumps(one).encode() for one in wrong)
    assert [path for path, _ in faults(lines)] == ["$[1].appointment.starts_at", "$[3].appointment.status"]
    assert faults(json.dumps(wrong[3]).encode())[0][0] == "$.appointment.status"


def test_an_empty_line_counts_as_a_line() -> None:
    assert faults(ONE + b"\n\n{}\n")[0][0] == "$[2]"


@pytest.mark.parametrize("body", [b"", b"  \n", b"[]", b" [ ] "])
def test_nothing_is_no_event(body: bytes) -> None:
    assert faults(body) == [("$", "no event")]


def test_500_are_taken_and_501_are_not() -> None:
    many = [json.dumps(event(number)).encode() for number in range(501)]
    assert len(read(b"[" + b",".join(many[:500]) + b"]", "")) == 500
    assert faults(b"[" + b",".join(many) + b"]") == [("$", "501 events; at most 500 are taken at once")]
    assert faults(b"\n".join(many))[0][0] == "$"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"not json", "$[0]"),
        (b"null", "$[0]"),
        (b"{", "$"),
        (b"{}", "$"),
        (b'{"a":1} {"a":2}', "$"),
        (b"[1]", "$[0]"),
        (b"[" + ONE, "$"),
        (b"[" * 100_000, "$"),
        (b'{"a":' * 100_000, "$"),
        (b"[[" + b"[" * 100_000, "$"),
        (ONE + b"\n{", "$[1]"),
        (ONE.replace(b"evt_1", b"\xff"), "$"),
        (b"\xef\xbb\xbf" + ONE, "$[0]"),
    ],
)
def test_what_is_no_event_is_refused_with_a_place(body: bytes, path: str) -> None:
    assert faults(body)[0][0] == path


@pytest.mark.parametrize("escape", ["\\ud800", "\\udc00", "\\ud800x", "\\udc00\\ud800"])
def test_half_a_surrogate_is_refused(escape: str) -> None:
    assert faults(ONE.replace(b"evt_1", escape.encode()))


def test_a_nul_is_refused_wherever_it_stands() -> None:
    assert faults(json.dumps(event(1, origin="a\0b")).encode()) == [("$.appointment.origin", "a NUL character")]
    assert faults(json.dumps([event(), event(2, extra=[{"x": "\0"}])]).encode())[0][0] == "$[1].appointment.extra[0].x"
    assert faults(json.dumps(event(1, **{"\0": 1})).encode())[0][0] == "$.appointment"


def test_a_nul_is_not_looked_for_without_end() -> None:
    deep = "[" * 700 + "0" + "]" * 700
    body = json.dumps(event(1, extra="here", origin="\0")).replace('"here"', deep).encode()
    assert faults(body) == [("$", "nested too deeply")]


def test_a_backslash_before_u0000_is_no_nul() -> None:
    assert ids(json.dumps(event(1, origin="\\u0000")).encode()) == ["evt_1"]


def test_fields_that_are_not_known_are_kept() -> None:
    body = json.dumps(event(1, colour="blue")).encode()
    assert msgspec.json.decode(read(body, "")[0].body)["appointment"]["colour"] == "blue"


def test_a_long_value_is_not_given_back_at_length() -> None:
    assert len(faults(json.dumps(event(1, status="x" * 10_000)).encode())[0][1]) <= 300
