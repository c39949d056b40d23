"""The trace that a message belongs to. Source: W3C Trace Context, level 1, version 00."""

import os
from typing import Final

_LENGTH: Final = 55
_HEX: Final = b"0123456789abcdef"
_ZEROS: Final = b"0"


def follow(given: bytes | None) -> str:
    """Give the sender's traceparent when it is valid, else begin a new trace."""
    if given is not None and _valid(given):
        return given.decode("ascii")
    fresh = os.urandom(24).hex()
    return f"00-{fresh[:32]}-{fresh[32:]}-00"


def _valid(given: bytes) -> bool:
    if len(given) != _LENGTH or given[:3] != b"00-" or given[35:36] != b"-" or given[52:53] != b"-":
        return False
    trace, parent = given[3:35], given[36:52]
    if given.translate(None, _HEX) != b"---":
        return False
    return bool(trace.strip(_ZEROS)) and bool(parent.strip(_ZEROS))
