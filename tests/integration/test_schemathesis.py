"""The doors against their own OpenAPI: whatever Schemathesis makes of it is answered as it says, and never by 5xx.

Bodies are made from the document, well and badly formed; the application is the real one, with a keeper in memory.
"""

import json
from typing import Any, Final

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi import checks

from schemas.door_docs import openapi
from tests.support.doors import COMPANY, NOW, TOKEN, Doors, signed

EXAMPLES: Final = 150
APPOINTMENTS: Final = "/events/appointments/{company_id}"
WEBHOOKS: Final = "/webhooks/calcom/{company_id}"
CHECKS: Final = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
#: Drawing a whole appointment takes its time, and what is not meant is left out.
PATIENT: Final = settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def document() -> dict[str, Any]:
    """Give the OpenAPI with JSON bodies alone: of lines Schemathesis knows nothing."""
    made = openapi()
    for path in (APPOINTMENTS, WEBHOOKS):
        content = made["paths"][path]["post"]["requestBody"]["content"]
        made["paths"][path]["post"]["requestBody"]["content"] = {"application/json": content["application/json"]}
    return made


DOORS: Final = Doors()
DOORS.load()
DOCUMENT: Final = document()
SCHEMA: Final = schemathesis.openapi.from_dict(DOCUMENT)
SCHEMA.app = DOORS.app
EVENTS: Final = jsonschema.Draft202012Validator(
    DOCUMENT["paths"][APPOINTMENTS]["post"]["requestBody"]["content"]["application/json"]["schema"]
    | {"components": DOCUMENT["components"]}
)


def cases(path: str, mode: GenerationMode, method: str = "POST") -> Any:
    """Give the cases that Schemathesis makes of an operation."""
    return SCHEMA[path][method].as_strategy(generation_mode=mode)


def known(case: Case[Any]) -> None:
    """Make it a case of the company that there is."""
    case.path_parameters = {"company_id": COMPANY}
    case.query, case.cookies = {}, {}
    case.headers.clear()


def send(case: Case[Any], headers: dict[str, str]) -> int:
    """Send it; the answer is as the document says. Gives its status."""
    DOORS.keeper.kept.clear()
    answer = case.call(headers=headers)
    case.validate_response(answer, checks=CHECKS)
    return int(answer.status_code)


@PATIENT
@given(case=cases(APPOINTMENTS, GenerationMode.POSITIVE))
def test_what_the_document_allows_the_app_is_kept(case: Case[Any]) -> None:
    known(case)
    assume(not _beyond_a_schema(case.body))
    assert send(case, {"authorization": f"Bearer {TOKEN}"}) == 202
    assert len(DOORS.kept) == (len(case.body) if isinstance(case.body, list) else 1)


@PATIENT
@given(case=cases(APPOINTMENTS, GenerationMode.NEGATIVE))
def test_what_the_document_does_not_allow_the_app_is_refused(case: Case[Any]) -> None:
    known(case)
    assume(not EVENTS.is_valid(case.body))
    assert send(case, {"authorization": f"Bearer {TOKEN}"}) == 422
    assert DOORS.kept == []


@PATIENT
@given(case=cases(WEBHOOKS, GenerationMode.POSITIVE))
def test_whatever_is_signed_is_kept(case: Case[Any]) -> None:
    known(case)
    case.body = raw = json.dumps(case.body).encode()  # bytes go as they are, so that they can be signed
    assert send(case, signed(raw)) == 202
    assert [(one.body, one.received_at) for one in DOORS.kept] == [(raw, NOW)]


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("path", [APPOINTMENTS, WEBHOOKS])
def test_who_proves_nothing_is_answered_as_the_document_says(path: str, mode: GenerationMode) -> None:
    @settings(PATIENT, max_examples=EXAMPLES // 3)
    @given(case=cases(path, mode))
    def play(case: Case[Any]) -> None:
        assert send(case, {}) in {401, 404, 405}
        assert DOORS.kept == []

    play()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_health_is_answered_as_the_document_says(path: str) -> None:
    @settings(PATIENT, max_examples=10)
    @given(case=cases(path, GenerationMode.POSITIVE, "GET"))
    def play(case: Case[Any]) -> None:
        assert send(case, {}) == 200

    play()
    DOORS.health.unready("kafka", "not reached yet")
    try:
        assert send(SCHEMA[path]["GET"].Case(), {}) == (503 if path == "/readyz" else 200)
    finally:
        DOORS.health.ready("kafka")


def _beyond_a_schema(value: Any) -> bool:
    """Tell of what JSON Schema allows and the door does not: NUL in a text, and 5.0 where a whole number is meant."""
    match value:
        case str():
            return "\0" in value
        case float():
            return value.is_integer()
        case dict():
            return any("\0" in key or _beyond_a_schema(one) for key, one in value.items())
        case list():
            return any(_beyond_a_schema(one) for one in value)
    return False
