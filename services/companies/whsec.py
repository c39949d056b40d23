"""How Standard Webhooks signs, for what comes in and what goes out: pure.

Source: https://github.com/standard-webhooks/standard-webhooks, symmetric scheme `v1`.
"""

import base64
import hmac
from typing import Final

PREFIX: Final = "whsec_"


def key(secret: bytes) -> bytes:
    """Read `whsec_<base64>`; padding may be missing. Raises binascii.Error (a ValueError)."""
    text = secret.removeprefix(PREFIX.encode())
    return base64.b64decode(text + b"=" * (-len(text) % 4))


def signed(sent_id: bytes, sent_at: bytes, body: bytes) -> bytes:
    """Give what is signed: `webhook-id`, `webhook-timestamp` (seconds since 1970) and the body as it is sent."""
    return b".".join((sent_id, sent_at, body))


def signature(key: bytes, signed: bytes) -> bytes:
    """Give one value of `webhook-signature`."""
    return b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))
