"""Answers of Cal.com's API as its documentation and code have them, kept outside of this repository: what each is."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from services.verifier.answers import Answer, Bookings, NotThere, Reason, Unauthorised, Unknown, Webhooks
from services.verifier.ports import Call, CreateWebhook, GetBooking, ListQuery
from services.verifier.wire import reading
from services.verifier.wire.reading import Reply

SAMPLES = Path(__file__).parents[2].parent / "shared" / "calcom" / "samples"
NOW = datetime(2026, 11, 22, 7, 0, tzinfo=UTC)

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the collection of Cal.com samples is not here")

#: One row an answer: file, status, uid asked for (`-`: a list, `+`: a webhook made), what it is, how many rows.
ANSWERS = """
api-400-validation.json            400 -                      rejected      0
api-401.json                       401 -                      Unauthorised  0
api-429.json                       429 -                      limited       0
api-booking.json                   200 bFJeNb2uX8ANpT3JL5EfXw Bookings      1
api-booking-404.json               404 doesNotExist           NotThere      0
api-booking-cancelled.json         200 bFJeNb2uX8ANpT3JL5EfXw Bookings      1
api-booking-pending.json           200 bFJeNb2uX8ANpT3JL5EfXw Bookings      1
api-booking-rejected.json          200 bFJeNb2uX8ANpT3JL5EfXw Bookings      1
api-booking-rescheduled-new.json   200 5vQFqxDFMjdgKGMijqtqRw Bookings      1
api-booking-rescheduled-old.json   200 bFJeNb2uX8ANpT3JL5EfXw Bookings      1
api-booking-seated.json            200 qVyXscm1ryg2QoQ4K8uHLW Bookings      1
api-bookings-list.json             200 -                      Bookings      2
api-bookings-list-empty.json       200 -                      Bookings      0
api-bookings-list.2026-05-01.json  200 -                      Bookings      1
api-webhook-created.json           201 +                      Webhooks      1
"""
ROWS = [row.split() for row in ANSWERS.strip().splitlines()]


def call(asked: str) -> Call:
    if asked == "+":
        return CreateWebhook(subscriber_url="https://x.example", triggers=(), secret="s")
    return ListQuery() if asked == "-" else GetBooking(asked)


def read(name: str, status: int, asked: str) -> Answer:
    reply = Reply(status, {}, (SAMPLES / name).read_bytes())
    return reading.by_head(reply, NOW) or reading.by_body(call(asked), reply, NOW, ())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_answer_is_what_it_says(row: list[str]) -> None:
    name, status, asked, meant, count = row
    found = read(name, int(status), asked)
    assert (found.reason.value if isinstance(found, Unknown) else type(found).__name__) == meant
    if isinstance(found, Bookings):
        data = msgspec.json.decode((SAMPLES / name).read_bytes())["data"]
        assert list(found.rows) == (data if isinstance(data, list) else [data])
        assert not found.has_more
    rows = found.rows if isinstance(found, Bookings | Webhooks) else ()
    assert len(rows) == int(count)
    assert isinstance(found, Bookings | NotThere | Unauthorised | Unknown | Webhooks)


def test_a_429_is_read_with_its_headers() -> None:
    lines = (SAMPLES / "api-429.headers.txt").read_text("utf-8").strip().splitlines()[1:]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    found = reading.by_head(Reply(429, headers), NOW)
    assert found is not None
    assert (found.reason, found.retry_after_seconds) == (Reason.LIMITED, 60)


def test_every_sample_is_in_the_table() -> None:
    assert {path.name for path in SAMPLES.glob("api-*.json")} == {row[0] for row in ROWS}
