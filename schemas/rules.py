"""Words of a company's rules, for the register that keeps them and for the core that goes by them."""

from enum import StrEnum
from typing import Final

#: The fields in which the two sides of an appointment may differ.
COMPARED: Final = ("starts_at", "ends_at", "status", "event_type_id")


class Waiting(StrEnum):
    """What a booking counts for that waits for somebody and has no appointment in the app."""

    FLAG = "flag"  # after its own window it is an orphan like any other
    IGNORE = "ignore"  # it is nobody's business until the wait is over
