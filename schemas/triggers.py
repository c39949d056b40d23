"""What Cal.com's webhook to us has to be told: the triggers to tick."""

from typing import Final

#: Whatever changes a booking, and the facts that a timeline is better for.
TRIGGERS: Final = (
    "BOOKING_CREATED",
    "BOOKING_REQUESTED",
    "BOOKING_RESCHEDULED",
    "BOOKING_CANCELLED",
    "BOOKING_REJECTED",
    "BOOKING_PAYMENT_INITIATED",
    "BOOKING_PAID",
    "BOOKING_NO_SHOW_UPDATED",
    "MEETING_STARTED",
    "MEETING_ENDED",
)
