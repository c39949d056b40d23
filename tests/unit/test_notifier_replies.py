"""What an endpoint's answer means."""

from datetime import UTC, datetime

import pytest

from services.notifier.hooks.replies import NotTaken, Reply, taken

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def refused(status: int, beginning: bytes = b"", retry_after: str = "") -> NotTaken:
    with pytest.raises(NotTaken) as caught:
        taken(Reply(status=status, beginning=beginning, retry_after=retry_after), NOW)
    return caught.value


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
@pytest.mark.parametrize("beginning", [b"", b"ok", b'{"a": "<html>"}', b"<htmlish>", b"<?xml?>", b"\xff\xfe"])
def test_every_2xx_that_is_no_web_page_is_taken(status: int, beginning: bytes) -> None:
    assert taken(Reply(status=status, beginning=beginning), NOW).startswith(str(status))


@pytest.mark.parametrize(
    "beginning", [b"<!doctype html>", b"<!DOCTYPE HTML PUBLIC", b"\n\t <HTML lang=de>", b"\xef\xbb\xbf<html>"]
)
def test_a_web_page_is_not_taken_whatever_its_status(beginning: bytes) -> None:
    error = refused(200, beginning)
    assert error.reason == "it answers with a web page (status 200)"
    assert error.advice == "That is no webhook's address: remove it and add the right one."


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599, 999])
def test_what_may_pass_asks_nobody_to_do_anything(status: int) -> None:
    error = refused(status)
    assert (error.reason, error.advice, error.gone) == (f"it answers status {status}", None, False)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 304, 400, 401, 403, 404, 405, 413, 422])
def test_what_will_not_pass_says_what_to_do(status: int) -> None:
    error = refused(status)
    assert error.advice
    assert f"status {status}" in error.reason
    assert not error.gone


def test_410_is_gone_for_good() -> None:
    assert refused(410).gone


@pytest.mark.parametrize("beginning", [b"no_service", b" channel_is_archived\n"])
def test_slacks_word_is_told(beginning: bytes) -> None:
    assert beginning.strip().decode() in refused(404, beginning).reason


@pytest.mark.parametrize("beginning", [b"Token abc", b"https://x", b"a" * 61, b"xoxb-1", b"no\x1b[31m", "ä".encode()])
def test_nothing_else_of_an_answer_is_told(beginning: bytes) -> None:
    assert refused(403, beginning).reason == "it refuses us (status 403)"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (" 12 ", 12.0),
        ("3601", 3600.0),
        ("9" * 400, 3600.0),
        ("Sun, 22 Nov 2026 09:01:00 GMT", 60.0),
        ("Sun, 22 Nov 2026 08:00:00 GMT", 0.0),
        ("Sun, 22 Nov 2026 09:01:00", 60.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("Sun, 99 Nov 2026 09:01:00 GMT", None),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_an_hour_at_most(value: str, seconds: float | None) -> None:
    assert refused(503, retry_after=value).retry_seconds == seconds
