"""What becomes of an envelope that moves no record."""

from datetime import datetime
from typing import Final, final

from msgspec import Struct

from services.reconciler.core.events import Checked, HeardAppointment

DETAIL_MAX_CHARS: Final = 500


@final
class Ignored(Struct, frozen=True):
    """An envelope that was understood and has no say in any record, by policy.

    `event_id` is made like a booking event's, with rank 0. `kind` is the trigger's name, or "unnamed".
    `reason` is a slug: "ping", "by_policy", "unknown_trigger", "no_trigger" or "unknown_version".
    `occurred_at` is None where the body does not say when it happened.
    """

    event_id: str
    kind: str
    reason: str
    occurred_at: datetime | None = None


class Undecodable(Exception):  # noqa: N818 - the style's word for it
    """An envelope that could not be understood: it goes to the dead letters and the partition goes on.

    `reason` is a short stable slug to count by; `detail` is one sentence for an admin, fit to be stored and shown.
    `salvaged` is what was valid beside what was wrong in one envelope: it is to be folded all the same.
    """

    def __init__(self, reason: str, detail: str, salvaged: tuple[HeardAppointment | Checked, ...] = ()) -> None:
        """Keep all; whatever cannot be printed is left out of the detail."""
        self.reason = reason
        self.detail = "".join(char if char.isprintable() else " " for char in detail[:DETAIL_MAX_CHARS])
        self.salvaged = salvaged
        super().__init__(self.reason, self.detail)
