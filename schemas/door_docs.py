"""What the doors take and answer, for openapi.json: the words that no Struct has, and how they hang together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from schemas.answers import Accepted, Faults, Problem, Readiness, Results
from schemas.appointments import AppointmentEvent

Json = dict[str, Any]

EXAMPLES: Final = Path(__file__).parent / "examples"
MOST_EVENTS: Final = 500
COMPANY_ID: Final = "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"

_STRUCTS: Final[tuple[Any, ...]] = (AppointmentEvent, Accepted, Results, Faults, Problem, Readiness)
_NAMES: Final = ("AppointmentEvent", "Accepted", "Results", "Faults", "Problem", "Readiness")

_INFO: Final[Json] = {
    "title": "Reconcal's doors",
    "version": "1.0.0",
    "summary": "Where Cal.com and the booking app say what happened.",
    "description": "An answer of 202 means that what was sent is kept for good; it is understood later. After 429 and "
    "503 nothing of it was kept: send it again when `Retry-After` is over.",
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}
_SECURITY: Final[Json] = {
    "calcomSignature": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Cal-Signature-256",
        "description": "HMAC-SHA256 of the body's bytes with the webhook's secret, in lower-case hex. Any active "
        "secret of the company counts.",
    },
    "webhookId": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-id",
        "description": "Standard Webhooks: names the message; a repeat has the same.",
    },
    "webhookTimestamp": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-timestamp",
        "description": "Standard Webhooks: seconds since 1970, within five minutes of now.",
    },
    "webhookSignature": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-signature",
        "description": "Standard Webhooks: `v1,` and the HMAC-SHA256 of `id.timestamp.body` in Base64; several with "
        "spaces.",
    },
    "ingestToken": {"type": "http", "scheme": "bearer", "description": "One of the company's ingest tokens."},
}
_RETRY_AFTER: Final[Json] = {
    "description": "Whole seconds after which it is worth coming again.",
    "schema": {"type": "integer", "minimum": 1},
}
_COMPANY: Final[Json] = {
    "name": "company_id",
    "in": "path",
    "required": True,
    "description": "The company's id at Reconcal.",
    "schema": {"type": "string", "pattern": COMPANY_ID},
    "example": "praxis",
}


def openapi() -> Json:
    """Describe the doors and the health of ingest. OpenAPI 3.1."""
    found, schemas = msgspec.json.schema_components(_STRUCTS, ref_template="#/components/schemas/{name}")
    schemas |= {name: one for name, one in zip(_NAMES, found, strict=True) if "$ref" not in one}
    return {
        "openapi": "3.1.1",
        "info": _INFO,
        "paths": {
            "/webhooks/calcom/{company_id}": {"parameters": [_COMPANY], "post": _webhooks()},
            "/events/appointments/{company_id}": {"parameters": [_COMPANY], "post": _appointments()},
            "/livez": {"get": _health("livez", "Does the process live?", {"200": _text("It does.", "alive\n")})},
            "/readyz": {"get": _health("readyz", "Can it do its work?", _readiness())},
            "/metrics": {"get": _health("metrics", "Its metrics.", {"200": _text("As Prometheus reads them.")})},
        },
        "components": {"schemas": dict(sorted(schemas.items())), "securitySchemes": _SECURITY},
    }


def _webhooks() -> Json:
    return {
        "operationId": "receiveWebhook",
        "summary": "A webhook of Cal.com.",
        "description": "Kept byte for byte, whatever it says. More than the company's share is kept too, and answered "
        "up to two seconds late: Cal.com would not send it again.",
        "security": [{"calcomSignature": []}],
        "requestBody": {
            "required": True,
            "description": "Cal.com's body. A custom template that is no JSON comes as a form.",
            "content": {
                "application/json": {"schema": {}, "examples": _examples("calcom", "booking_*.json")},
                "application/x-www-form-urlencoded": {"schema": {}},
            },
        },
        "responses": {"202": _answer("Kept.", "Accepted", {"status": "accepted"}), **_refusals()},
    }


def _appointments() -> Json:
    event = {"$ref": "#/components/schemas/AppointmentEvent"}
    several = {"type": "array", "items": event, "minItems": 1, "maxItems": MOST_EVENTS}
    lines = {"type": "string", "description": f"One event a line, 1 to {MOST_EVENTS}."}
    faults = {"errors": [{"path": "$[1].appointment.starts_at", "message": "Expected `datetime`, got `int`"}]}
    results = {"results": [{"id": "evt_1", "status": "accepted"}]}
    return {
        "operationId": "receiveAppointmentEvents",
        "summary": "Events of the booking app.",
        "description": "All of them are kept or none. The same `id` again is taken and changes nothing.",
        "security": [{"ingestToken": []}, {"webhookId": [], "webhookTimestamp": [], "webhookSignature": []}],
        "requestBody": {
            "required": True,
            "description": "No text may hold a NUL character; whole numbers are written without a fraction.",
            "content": {
                "application/json": {
                    "schema": {"anyOf": [event, several]},
                    "examples": _examples("appointments", "*.json"),
                },
                "application/x-ndjson": {"schema": lines, "example": _text_of("appointments/batch.ndjson")},
            },
        },
        "responses": {
            "202": _answer("All events are kept; a result each, in their order.", "Results", results),
            "422": _answer("An event is wrong; none is kept.", "Faults", faults),
            "429": _answer(
                "More than the company's share of events; nothing is kept.",
                "Problem",
                {"error": "too many events; please come again in 3 s"},
                {"Retry-After": _RETRY_AFTER},
            ),
            **_refusals(),
        },
    }


def _refusals() -> Json:
    """Give the answers that both doors have."""
    challenge = {"WWW-Authenticate": {"description": "How to prove it.", "schema": {"type": "string"}}}
    malformed = "What came is no HTTP/1.1; the connection is closed."
    return {
        "400": _answer(malformed, "Problem", {"error": "this is not HTTP/1.1"}),
        "401": _answer(
            "It is not proved who sends; the same for a company that does not exist.",
            "Problem",
            {"error": "unauthorized"},
            challenge,
        ),
        "413": _answer("The body is larger than 1 MiB.", "Problem", {"error": "the body is too large"}),
        "431": _answer(
            "The head is larger than 64 KiB or has more than 256 headers; the connection is closed.",
            "Problem",
            {"error": "the head of the request is too large"},
        ),
        "503": _answer(
            "It could not be kept.",
            "Problem",
            {"error": "not kept; please send it again"},
            {"Retry-After": _RETRY_AFTER},
        ),
    }


def _health(name: str, summary: str, responses: Json) -> Json:
    return {"operationId": name, "summary": summary, "security": [], "responses": responses}


def _readiness() -> Json:
    return {
        "200": _answer("It can.", "Readiness", {"ready": True, "troubles": {}}),
        "503": _answer(
            "A part does not work.",
            "Readiness",
            {"ready": False, "troubles": {"kafka": "the broker did not acknowledge"}},
        ),
    }


def _answer(description: str, schema: str, example: Json, headers: Json | None = None) -> Json:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}, "example": example}}
    answer: Json = {"description": description}
    if headers is not None:
        answer["headers"] = headers
    return answer | {"content": content}


def _text(description: str, example: str | None = None) -> Json:
    shown = {} if example is None else {"example": example}
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}, **shown}}}


def _examples(folder: str, names: str) -> Mapping[str, Json]:
    """Give files of a folder below examples/ by their names."""
    paths = sorted((EXAMPLES / folder).glob(names))
    return {path.stem: {"value": msgspec.json.decode(path.read_bytes())} for path in paths}


def _text_of(name: str) -> str:
    return (EXAMPLES / name).read_text("utf-8")
