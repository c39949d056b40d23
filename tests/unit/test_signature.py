"""Who may come in: Cal.com's signature and the ingest token."""

import hashlib
import hmac

import pytest

from services.ingest.signature import Rejected, bearer, calcom

BODY = b'{"triggerEvent":"BOOKING_CREATED"}'
SECRET, OTHER = b"a secret of ours", b"the one before it"


def sign(secret: bytes, body: bytes = BODY) -> bytes:
    return hmac.new(secret, body, hashlib.sha256).hexdigest().encode()


def check(given: bytes | None, *secrets: bytes, body: bytes = BODY) -> str | None:
    """Give the reason of a rejection, or None: it came in."""
    headers = {} if given is None else {b"x-cal-signature-256": given}
    try:
        calcom(headers, body, secrets)
    except Rejected as error:
        return error.reason
    return None


def test_the_hmac_of_the_raw_bytes_opens() -> None:
    assert check(sign(SECRET), SECRET) is None


@pytest.mark.parametrize("secrets", [(SECRET, OTHER), (OTHER, SECRET), (OTHER, b"x" * 64, SECRET)])
def test_any_active_secret_opens(secrets: tuple[bytes, ...]) -> None:
    assert check(sign(SECRET), *secrets) is None


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (None, "no signature"),
        (b"", "no signature"),
        (b"no-secret-provided", "no secret at the sender"),
        (sign(OTHER), "no match"),
        (sign(SECRET)[:-1], "no match"),
        (sign(SECRET) + b"0", "no match"),
        (sign(SECRET).upper(), "no match"),
        (b"sha256=" + sign(SECRET), "no match"),
        (b"\xff" * 64, "no match"),
    ],
)
def test_nothing_else_opens(given: bytes | None, reason: str) -> None:
    assert check(given, SECRET) == reason


def test_a_changed_byte_of_the_body_is_noticed() -> None:
    assert check(sign(SECRET), SECRET, body=BODY + b"\n") == "no match"


def test_a_company_without_secrets_opens_to_nobody() -> None:
    """Nor does the dummy that keeps the work alike, whoever reads it here."""
    from services.ingest import signature  # noqa: PLC0415

    assert check(sign(signature._DUMMY)) == "no such company, or no secret of it"
    assert check(sign(signature._DUMMY), SECRET) == "no match"


def test_a_refusal_takes_the_same_work_for_everyone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: three HMACs whether there are none, one or three secrets, signature or none."""
    counted: list[bytes] = []
    genuine = hmac.digest

    def counting(key: bytes, msg: bytes, digest: str) -> bytes:
        counted.append(key)
        return genuine(key, msg, digest)

    monkeypatch.setattr(hmac, "digest", counting)
    work = []
    for given in (None, b"no-secret-provided", sign(OTHER)):
        for secrets in ((), (SECRET,), (SECRET, b"b", b"c")):
            counted.clear()
            assert check(given, *secrets) is not None
            work.append(len(counted))
    assert set(work) == {3}


def test_a_rejection_carries_nothing_that_was_sent() -> None:
    with pytest.raises(Rejected) as caught:
        bearer({b"authorization": b"Bearer rct_guessed"}, [b"rct_real"])
    assert "rct_" not in repr(caught.value)


@pytest.mark.parametrize("header", [b"Bearer rct_1", b"bearer rct_1", b"Bearer  rct_1"])
def test_a_token_opens(header: bytes) -> None:
    bearer({b"authorization": header}, [b"rct_0", b"rct_1"])


@pytest.mark.parametrize(
    "header", [b"", b"Bearer", b"Bearer ", b"Basic rct_1", b"rct_1", b"Bearer rct_1x", b"Bearer rct_"]
)
def test_no_other_token_opens(header: bytes) -> None:
    with pytest.raises(Rejected):
        bearer({b"authorization": header}, [b"rct_1"])
    with pytest.raises(Rejected):
        bearer({b"authorization": header}, [])
