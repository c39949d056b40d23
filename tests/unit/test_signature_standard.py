"""Standard Webhooks, beside the reference implementation."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from services.ingest.signature import Rejected, standard

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
BODY = '{"id":"evt_1","müller":"ß"}'
SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
OTHER = "whsec_" + base64.b64encode(b"fedcba9876543210fedcba9876543210").decode()


def headers(secret: str = SECRET, at: datetime = NOW, sent_id: str = "msg_1") -> dict[bytes, bytes]:
    # Sign as the reference does: it takes what is naive for UTC.
    signature = Webhook(secret).sign(sent_id, at.replace(tzinfo=None), BODY)
    return {
        b"webhook-id": sent_id.encode(),
        b"webhook-timestamp": str(int(at.timestamp())).encode(),
        b"webhook-signature": signature.encode(),
    }


def check(given: dict[bytes, bytes], *secrets: str, now: datetime = NOW) -> str | None:
    try:
        standard(given, BODY.encode(), [secret.encode() for secret in secrets], now)
    except Rejected as error:
        return error.reason
    return None


def test_what_the_reference_signs_opens() -> None:
    assert check(headers(), SECRET) is None


def test_what_opens_here_opens_at_the_reference() -> None:
    now = datetime.now(UTC)
    given = headers(at=now)
    assert check(given, SECRET, now=now) is None
    Webhook(SECRET).verify(BODY, {key.decode(): value.decode() for key, value in given.items()})


@pytest.mark.parametrize("secret", [SECRET.rstrip("="), SECRET.removeprefix("whsec_"), SECRET + "="])
def test_a_secret_without_its_prefix_or_with_other_padding_is_the_same(secret: str) -> None:
    assert check(headers(), secret) is None


def test_any_active_secret_opens() -> None:
    assert check(headers(), OTHER, SECRET) is None


def test_one_of_several_signatures_suffices() -> None:
    given = headers()
    wrong = headers(OTHER)[b"webhook-signature"]
    given[b"webhook-signature"] = b" ".join([b"v1a,AAAA", wrong, b"", given[b"webhook-signature"]])
    assert check(given, SECRET) is None


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_five_minutes_either_way_are_tolerated(seconds: int) -> None:
    assert check(headers(at=NOW + timedelta(seconds=seconds)), SECRET) is None


@pytest.mark.parametrize("seconds", [-301, 301, -86400])
def test_more_than_five_minutes_are_not(seconds: int) -> None:
    assert check(headers(at=NOW + timedelta(seconds=seconds)), SECRET) == "webhook-timestamp"


@pytest.mark.parametrize("text", [b"", b"now", b"-1", b"1e9", b"\xb2", b"9" * 4000])
def test_a_timestamp_that_is_none_is_refused(text: bytes) -> None:
    assert check(headers() | {b"webhook-timestamp": text}, SECRET) == "webhook-timestamp"


@pytest.mark.parametrize("name", [b"webhook-id", b"webhook-signature"])
def test_a_header_that_is_missing_or_changed_is_noticed(name: bytes) -> None:
    assert check({key: value for key, value in headers().items() if key != name}, SECRET) is not None
    assert check(headers() | {name: b"v1,AAAA"}, SECRET) == "no match"


def test_a_foreign_version_of_the_right_signature_does_not_open() -> None:
    given = headers()
    given[b"webhook-signature"] = given[b"webhook-signature"].replace(b"v1,", b"v2,")
    assert check(given, SECRET) == "no match"


def test_a_company_without_secrets_opens_to_nobody() -> None:
    assert check(headers()) == "no such company, or no secret of it"
