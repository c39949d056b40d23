"""The examples under schemas/examples are what each side sends: the doors take them, and what comes of them is read."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from schemas import generate, topics
from schemas.appointments import AppointmentEvent
from schemas.commands import Command
from schemas.dead_letters import DeadLetter
from schemas.envelope import Delivery, Envelope
from schemas.flags import Flag
from schemas.observations import Check, Observation
from services.reconciler.decode import Decoded
from tests.support import builders as b
from tests.support import examples
from tests.support.doors import NOW, Doors

WEBHOOKS = sorted((examples.HERE / "calcom").iterdir())
APPOINTMENTS = sorted((examples.HERE / "appointments").iterdir())
STRUCTS: dict[str, tuple[str, Any]] = {
    "command-resolve": ("command", Command),
    "command-reopen": ("command", Command),
    "command-retry": ("command", Command),
    "observation": ("observation", Observation),
    "check": ("check", Check),
    "flag": ("flag", Flag),
    "dead-letter": ("dead-letter", DeadLetter),
}


def named(path: Path) -> str:
    return path.name


def content(path: Path) -> bytes:
    return path.read_bytes()


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    made = Doors()
    made.load()
    yield made
    await made.client.aclose()


def as_read(kept: Delivery) -> Envelope:
    """Give what the reconciler finds in the log."""
    return Envelope(
        topic=kept.topic,
        partition=0,
        offset=0,
        company_id=kept.company_id,
        body=kept.body,
        appended_at=NOW,
        received_at=kept.received_at,
        ce_id=kept.ce_id,
        ce_type=kept.ce_type,
        content_type=kept.content_type,
    )


def accepts(name: str, value: Any) -> None:
    schema = json.loads((generate.HERE / "json" / f"{name}.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(value)


def test_the_examples_are_fresh() -> None:
    stale = examples.stale()
    assert not stale, f"stale below schemas/examples: {', '.join(stale)}; `make schemas` mends it"


@pytest.mark.parametrize("path", WEBHOOKS, ids=named)
async def test_a_webhook_comes_in_and_is_understood(doors: Doors, path: Path) -> None:
    body = content(path)
    assert (await doors.calcom(body, content_type="application/json")).status_code == 202
    [kept] = doors.kept
    assert (kept.topic, kept.body) == (topics.CALCOM_BOOKINGS, body)
    assert isinstance(b.decoded(as_read(kept)), Decoded)


def test_every_trigger_of_cal_com_has_an_example() -> None:
    assert {path.stem.upper() for path in WEBHOOKS} == {
        "AFTER_GUESTS_CAL_VIDEO_NO_SHOW",
        "AFTER_HOSTS_CAL_VIDEO_NO_SHOW",
        "BOOKING_CANCELLED",
        "BOOKING_CREATED",
        "BOOKING_NO_SHOW_UPDATED",
        "BOOKING_PAID",
        "BOOKING_PAYMENT_INITIATED",
        "BOOKING_REJECTED",
        "BOOKING_REQUESTED",
        "BOOKING_RESCHEDULED",
        "DELEGATION_CREDENTIAL_ERROR",
        "FORM_SUBMITTED",
        "FORM_SUBMITTED_NO_EVENT",
        "INSTANT_MEETING",
        "MEETING_ENDED",
        "MEETING_STARTED",
        "OOO_CREATED",
        "PING",
        "RECORDING_READY",
        "RECORDING_TRANSCRIPTION_GENERATED",
        "ROUTING_FORM_FALLBACK_HIT",
        "WRONG_ASSIGNMENT_REPORT",
    }


@pytest.mark.parametrize("path", APPOINTMENTS, ids=named)
async def test_events_of_the_app_come_in_and_are_understood(doors: Doors, path: Path) -> None:
    kind = "application/x-ndjson" if path.suffix == ".ndjson" else "application/json"
    answer = await doors.appointments(content(path), content_type=kind)
    assert answer.status_code == 202, answer.text
    assert len(doors.kept) == len(answer.json()["results"]) == (5 if path.stem == "batch" else 1)
    for kept in doors.kept:
        accepts("appointment-event", json.loads(kept.body))
        assert isinstance(b.decoded(as_read(kept)), Decoded)


def test_every_type_of_the_app_has_an_example() -> None:
    lines = (examples.HERE / "appointments" / "batch.ndjson").read_bytes().splitlines()
    types = [type(msgspec.json.decode(line, type=AppointmentEvent)) for line in lines]
    assert types == list(AppointmentEvent.__args__)


@pytest.mark.parametrize("name", STRUCTS)
def test_what_lies_on_the_other_topics_is_what_the_schemas_say(name: str) -> None:
    schema, struct = STRUCTS[name]
    raw = (examples.HERE / "topics" / f"{name}.json").read_bytes()
    value = json.loads(raw)
    accepts(schema, value)
    assert json.loads(msgspec.json.encode(msgspec.json.decode(raw, type=struct))) == value


def test_no_example_lies_about_unchecked() -> None:
    assert {path.stem for path in (examples.HERE / "topics").iterdir()} == STRUCTS.keys()
    folders = {path.name for path in examples.HERE.iterdir()}
    assert folders == {"appointments", "calcom", "topics"}
