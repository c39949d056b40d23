"""Is it authentic? Pure: the time is handed in.

A refusal has looked at all secrets, and at no fewer than MOST_ACTIVE: it takes the same work whether the company
has three secrets, one, or does not exist.
"""

import hmac
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from services.companies import whsec
from services.companies.model import MOST_ACTIVE

TOLERANCE_SECONDS: Final = 300
_DUMMY: Final = b"no company has this secret, nothing is ever accepted by it"
_NO_SECRET: Final = b"no-secret-provided"
_LONGEST_TIMESTAMP: Final = 12

Headers = Mapping[bytes, bytes]


class Rejected(Exception):  # noqa: N818 - its fate is its name
    """The sender did not prove who it is. The reason is for our log, never for the answer."""

    def __init__(self, reason: str) -> None:
        """`reason`: one of a few fixed words, nothing that was sent."""
        super().__init__(reason)
        self.reason = reason


def calcom(headers: Headers, body: bytes, secrets: Sequence[bytes]) -> None:
    """Check Cal.com's HMAC: lower-case hex SHA-256 of the raw bytes. Raises Rejected."""
    given = headers.get(b"x-cal-signature-256", b"")
    if not _any(given, secrets, lambda secret: hmac.digest(secret, body, "sha256").hex().encode()):
        raise Rejected(_why(given, secrets))


def standard(headers: Headers, body: bytes, secrets: Sequence[bytes], now: datetime) -> None:
    """Check a signature of Standard Webhooks; `secrets` are `whsec_...`. Raises Rejected."""
    sent_id, sent_at = headers.get(b"webhook-id", b""), headers.get(b"webhook-timestamp", b"")
    signatures = headers.get(b"webhook-signature", b"").split(b" ")
    signed = whsec.signed(sent_id, sent_at, body)
    checks = [whsec.signature(whsec.key(secret), signed) for secret in _padded(secrets)]
    genuine = [hmac.compare_digest(one, given) for one in checks[: len(secrets)] for given in signatures]
    if not sent_id:
        raise Rejected("no webhook-id")
    if not _fresh(sent_at, now):
        raise Rejected("webhook-timestamp")
    if not any(genuine):
        raise Rejected(_why(signatures[0], secrets))


def bearer(headers: Headers, tokens: Sequence[bytes]) -> None:
    """Check `Authorization: Bearer <token>`. Raises Rejected."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    given = token.strip(b" ") if scheme.lower() == b"bearer" else b""
    if not _any(given, tokens, lambda token: token):
        raise Rejected(_why(given, tokens))


def _any(given: bytes, secrets: Sequence[bytes], expected: Callable[[bytes], bytes]) -> bool:
    """Compare with what each secret gives; only a match may end early: who knows a secret may know the time."""
    for number, secret in enumerate(_padded(secrets)):
        if hmac.compare_digest(expected(secret), given) and number < len(secrets):
            return True
    return False


def _padded(secrets: Sequence[bytes]) -> Sequence[bytes]:
    return (*secrets, *(_DUMMY,) * (MOST_ACTIVE - len(secrets)))


def _why(given: bytes, secrets: Sequence[bytes]) -> str:
    if not secrets:
        return "no such company, or no secret of it"
    if not given:
        return "no signature"
    return "no secret at the sender" if given == _NO_SECRET else "no match"


def _fresh(sent_at: bytes, now: datetime) -> bool:
    if not sent_at.isdigit() or len(sent_at) > _LONGEST_TIMESTAMP:
        return False
    return abs(int(sent_at) - now.timestamp()) <= TOLERANCE_SECONDS
