"""A flag as a signed webhook."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from standardwebhooks.webhooks import Webhook

from schemas.flags import Flag
from services.companies import whsec
from services.companies.endpoints import NewEndpoint
from services.ingest import signature
from services.notifier import samples
from services.notifier.hooks.delivery import body_of, signed

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = UUID(int=7)


def test_a_body_says_type_and_moment_and_carries_the_whole_flag() -> None:
    for name in samples.NAMES:
        for flag in samples.letter(name).news:
            text = msgspec.json.encode(flag).decode()
            body = msgspec.json.decode(body_of(text))
            assert (body["type"], list(body)) == (flag.type.value, ["type", "timestamp", "data"])
            assert datetime.fromisoformat(body["timestamp"]) == flag.decided_at
            assert msgspec.convert(body["data"], Flag, strict=False) == flag
            assert body_of(text) == body_of(text)


def test_the_reference_library_and_our_own_door_take_the_signature() -> None:
    now = datetime.now(UTC)
    body = b'{"type":"sync.orphaned_local"}'
    headers = signed(SECRET, ID, now, body)
    assert Webhook(SECRET).verify(body, headers) == {"type": "sync.orphaned_local"}
    raw = {name.encode(): value.encode() for name, value in headers.items()}
    signature.standard(raw, body, [SECRET.encode()], now)
    with pytest.raises(signature.Rejected):
        signature.standard(raw, body + b" ", [SECRET.encode()], now)


def test_a_signature_is_the_one_of_the_specification() -> None:
    """The example of the reference implementations, whose id is no UUID."""
    what = whsec.signed(b"msg_p5jXN8AQM9LWM0D4loKWxJek", b"1614265330", b'{"test": 2432232314}')
    signature = whsec.signature(whsec.key(SECRET.encode()), what)
    assert signature == b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    at = datetime.fromtimestamp(1614265330.9, UTC)
    headers = signed(SECRET, ID, at, b"{}")
    assert list(headers) == ["webhook-id", "webhook-timestamp", "webhook-signature"]
    assert (headers["webhook-timestamp"], headers["webhook-id"]) == ("1614265330", str(ID))


def test_an_address_never_shows_itself() -> None:
    new = NewEndpoint(url="https://hooks.slack.com/very-secret", secret="whsec_very-secret")
    assert "very-secret" not in repr(new) + str(new) + f"{new}"
