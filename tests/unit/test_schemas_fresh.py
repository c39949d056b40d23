"""The made files under schemas/ are what the Structs say, and hold water."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import msgspec
import pytest
import yaml
from msgspec.structs import replace
from openapi_spec_validator import OpenAPIV31SpecValidator

from schemas import generate, topics
from schemas.appointments import Appointment, AppointmentCreated, AppointmentStatus, Customer
from schemas.bookings import Attendee, BookingEvent, BookingStatus
from schemas.commands import Resolve
from schemas.dead_letters import DeadLetter
from schemas.door_docs import COMPANY_ID, MOST_EVENTS, openapi
from schemas.envelope import Delivery
from schemas.flags import AppointmentFacts, Flag, FlagType, Inconsistency, Kind, Why
from schemas.observations import Check, Observation
from schemas.topic_docs import HEADERS, TOPICS
from schemas.verification import Verdict
from services.companies import checks
from services.ingest import batch

#: AsyncAPI's own schema of its documents, see the README beside it.
ASYNCAPI_3 = Path(__file__).parents[1] / "support" / "vendored" / "asyncapi" / "3.0.0.json"
AT = datetime(2026, 12, 1, 9, tzinfo=UTC)
ID = UUID(int=7)
APPOINTMENT = AppointmentCreated(
    id="evt_1",
    occurred_at=AT,
    appointment=Appointment(
        id="4711",
        starts_at=AT,
        status=AppointmentStatus.CONFIRMED,
        customer=Customer(name="Mia", email="mia@example.com"),
    ),
)
EXAMPLES = {
    "appointment-event": APPOINTMENT,
    "booking-event": BookingEvent(
        event_id="cal-1-ab",
        trigger="BOOKING_CREATED",
        occurred_at=AT,
        uid="bFJe",
        status=BookingStatus.ACCEPTED,
        attendees=(Attendee(email="mia@example.com"),),
    ),
    "observation": Observation(id="obs_1", observed_at=AT, booking={"uid": "bFJe", "status": "accepted"}),
    "check": Check(
        id="check-1",
        observed_at=AT,
        record_id=ID,
        subject="a:4711",
        number=1,
        verdict=Verdict.UNKNOWN,
        reason="timeout",
    ),
    "command": Resolve(id="c1", record_id=ID, version=3, actor="mia", issued_at=AT, reason="seen"),
    "flag": Flag(
        id=ID,
        type=FlagType.DATA_MISMATCH,
        company_id="praxis",
        record_id=ID,
        kind=Kind.DATA_MISMATCH,
        generation=1,
        decided_at=AT,
        reason="They differ.",
        verdict="not_verified",
        appointment=AppointmentFacts(appointment_id="4711", status="confirmed", starts_at=AT),
        inconsistencies=(Inconsistency("starts_at", "a", "b"),),
        why=Why(frontiers={topics.CALCOM_BOOKINGS: AT}, offsets={topics.CALCOM_BOOKINGS: 3}),
    ),
    "dead-letter": DeadLetter(
        company_id="", topic="t", partition=0, offset=1, reason="json", detail="no JSON", received_at=AT
    ),
}


def schema(name: str) -> Any:
    return msgspec.json.decode((generate.HERE / "json" / f"{name}.json").read_bytes())


def test_the_made_files_are_fresh() -> None:
    stale = generate.stale()
    assert not stale, f"stale below schemas/: {', '.join(stale)}; `make schemas` mends it"


def test_a_stale_or_left_over_file_is_named_and_mended(tmp_path: Path) -> None:
    generate.write(tmp_path)
    (tmp_path / "json" / "flag.json").write_text("{}")
    (tmp_path / "json" / "old.json").write_text("{}")
    assert generate.stale(tmp_path) == ["json/flag.json", "json/old.json"]
    assert generate.write(tmp_path) == ["json/flag.json", "json/old.json"]
    assert generate.stale(tmp_path) == []


def test_every_struct_has_an_example_here() -> None:
    assert EXAMPLES.keys() == generate.STRUCTS.keys()


@pytest.mark.parametrize("name", generate.STRUCTS)
def test_what_the_structs_write_the_json_schemas_accept(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))
    jsonschema.Draft202012Validator(schema(name)).validate(msgspec.json.decode(msgspec.json.encode(EXAMPLES[name])))


@pytest.mark.parametrize("missing", ["id", "type", "occurred_at", "appointment"])
def test_an_appointment_event_that_lacks_something_is_refused(missing: str) -> None:
    body = msgspec.json.decode(msgspec.json.encode(APPOINTMENT))
    del body[missing]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, schema("appointment-event"))


@pytest.mark.parametrize(
    ("name", "accepted", "refused"),
    [("appointment-event", "appointment.deleted", "appointment.lost"), ("command", "reopen", "erase")],
)
def test_the_type_decides(name: str, accepted: str, refused: str) -> None:
    body = msgspec.json.decode(msgspec.json.encode(EXAMPLES[name]))
    validator = jsonschema.Draft202012Validator(schema(name))
    assert validator.is_valid(body | {"type": accepted})
    assert not validator.is_valid(body | {"type": refused})


def test_the_headers_are_those_of_a_delivery() -> None:
    plain = Delivery(topic="t", company_id="c", ce_id="i", ce_source="/s", ce_type="x", received_at=AT, body=b"")
    delivery = replace(plain, traceparent="00-", webhook_version="2021-10-20")
    assert [name for name, _ in delivery.headers()] == list(HEADERS)
    assert list(schema("envelope-headers")["properties"]) == list(HEADERS)


def test_every_topic_is_described_once() -> None:
    assert sorted(doc.topic for doc in TOPICS) == sorted(topics.ALL)
    assert sorted(doc.topic for doc in TOPICS if doc.action == "receive") == sorted(topics.INPUTS)


def test_the_asyncapi_is_what_asyncapi_says_it_must_be() -> None:
    validator = jsonschema.Draft7Validator(msgspec.json.decode(ASYNCAPI_3.read_bytes()))
    document = yaml.safe_load((generate.HERE / "asyncapi.yaml").read_text("utf-8"))
    validator.validate(document)
    del document["operations"]["receive_bookings"]["action"]
    assert not validator.is_valid(document)


def test_the_openapi_is_what_openapi_says_it_must_be() -> None:
    document = msgspec.json.decode((generate.HERE / "openapi.json").read_bytes())
    OpenAPIV31SpecValidator(document).validate()
    document["paths"]["/webhooks/calcom/{company_id}"]["parameters"] = []
    assert not OpenAPIV31SpecValidator(document).is_valid()


def test_the_openapi_says_what_holds_at_the_doors() -> None:
    assert MOST_EVENTS == batch.MOST_EVENTS
    assert re.search(COMPANY_ID, checks.company_id("Acme_1-x"))
    paths = openapi()["paths"]
    answers = {path: sorted(item["post"]["responses"]) for path, item in paths.items() if "post" in item}
    assert answers == {
        "/webhooks/calcom/{company_id}": ["202", "400", "401", "413", "431", "503"],
        "/events/appointments/{company_id}": ["202", "400", "401", "413", "422", "429", "431", "503"],
    }


def test_the_examples_of_the_openapi_are_what_its_schemas_say() -> None:
    document = openapi()
    shown = list(_shown(document["paths"]))
    assert len(shown) > 20
    for schema, value in shown:
        jsonschema.Draft202012Validator(schema | {"components": document["components"]}).validate(value)


def test_every_reference_of_the_asyncapi_leads_somewhere() -> None:
    document = yaml.safe_load((generate.HERE / "asyncapi.yaml").read_text("utf-8"))
    references = list(_references(document))
    assert references
    for reference in references:
        assert _resolve(document, reference), reference


def test_an_operation_speaks_of_its_own_channels_messages() -> None:
    document = generate.asyncapi()
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        for message in operation["messages"]:
            assert message["$ref"].startswith(operation["channel"]["$ref"] + "/messages/")


def _shown(node: Any) -> Any:
    """Give each schema that has examples beside it, with each of those."""
    if isinstance(node, dict):
        if "schema" in node:
            examples = [one["value"] for one in node.get("examples", {}).values()]
            yield from (
                (node["schema"], value) for value in [*examples, *([node["example"]] if "example" in node else [])]
            )
        for value in node.values():
            yield from _shown(value)
    elif isinstance(node, list):
        for item in node:
            yield from _shown(item)


def _references(node: Any) -> Any:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def _resolve(document: Any, reference: str) -> bool:
    file, _, pointer = reference.partition("#")
    if file:
        return (generate.HERE / file).is_file()
    for part in pointer.strip("/").split("/"):
        document = document[part]
    return bool(document)
