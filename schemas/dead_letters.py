"""What could not be understood: the notice on `sync.dead-letters.v1`. The bytes lie in PostgreSQL."""

from datetime import datetime

from msgspec import Struct


class DeadLetter(Struct, frozen=True, kw_only=True):
    """Where an envelope lies that could not be understood, and why; `company_id` is empty without a usable key."""

    company_id: str
    topic: str
    partition: int
    offset: int
    reason: str  # a short word to count by
    detail: str  # a sentence for whoever has to mend it
    received_at: datetime
