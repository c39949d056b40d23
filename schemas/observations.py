"""What Cal.com's API answered about a booking: an event like any other, on `calcom.bookings.v1`.

An envelope is read as an observation by its `ce_type` alone, which the door never gives to what comes from outside.
"""

from typing import Any

from msgspec import Struct

from schemas.appointments import Id, Instant


class Observation(Struct, frozen=True, kw_only=True, tag_field="type", tag="observation"):
    """One booking as `GET /v2/bookings` gives it (`cal-api-version: 2024-08-13`), byte for byte what it says.

    `booking` is the object under `data` (each of them, where `data` is an array). Its own `updatedAt` is the moment
    that it speaks of; where it has none, `observed_at` is.
    """

    id: Id
    observed_at: Instant
    booking: dict[str, Any]
