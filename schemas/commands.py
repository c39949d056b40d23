"""What an operator asked for. A command is an event like any other: replay needs no human."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from schemas.appointments import Id, Instant, Text


class _Command(Struct, frozen=True, kw_only=True, tag_field="type"):
    """`version` is that of the record which the person saw; a newer one refuses the command."""

    id: Id
    record_id: UUID
    version: int
    actor: Text
    issued_at: Instant


class Resolve(_Command, frozen=True, kw_only=True, tag="resolve"):
    """The person decided: what is flagged is as it should be."""

    reason: Text


class Reopen(_Command, frozen=True, kw_only=True, tag="reopen"):
    """The person takes an earlier decision back."""

    reason: Text = ""


class Retry(_Command, frozen=True, kw_only=True, tag="retry"):
    """Ask Cal.com again. A sweep asks for many, a human for one: the human comes first."""

    sweep: bool = False


Command = Resolve | Reopen | Retry


class CommandOutcome(Struct, frozen=True, kw_only=True):
    """What became of a command; stored under the command's id."""

    command_id: str
    record_id: UUID
    applied: bool
    reason: str  # "applied", "newer_version", "unknown_record", "nothing_to_resolve", ... (see `correlate`)
    version: int | None  # the record's version afterwards; None: no such record in this company
    decided_at: datetime
