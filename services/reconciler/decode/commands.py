"""What an operator asked for, as the console and the command line write it."""

from typing import Final

import msgspec

from schemas.commands import Command
from schemas.envelope import Envelope
from services.reconciler.core.events import Commanded
from services.reconciler.decode.outcomes import Undecodable
from services.reconciler.decode.values import fits, in_plain_words, not_json, require_storable, utc

_decoder: Final[msgspec.json.Decoder[Command]] = msgspec.json.Decoder(Command)


def decode_command(envelope: Envelope) -> tuple[Commanded, ...]:
    """Read a command from an envelope.

    Raises Undecodable: "invalid_command", or "invalid_text" for a text that cannot be stored.
    """
    command = _parse(envelope.body)
    require_storable(envelope.body, command)
    if not fits(command.version):
        raise Undecodable("invalid_command", "`$.version` is too large.")
    issued_at = utc(command.issued_at, "`$.issued_at`", "invalid_command")
    return (Commanded(envelope.received_at, msgspec.structs.replace(command, issued_at=issued_at)),)


def _parse(body: bytes) -> Command:
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Undecodable("invalid_command", in_plain_words(error)) from None
    except (ValueError, RecursionError):
        cause = not_json(body)
        reason = cause.reason if cause.reason == "invalid_text" else "invalid_command"
        raise Undecodable(reason, cause.detail) from None
