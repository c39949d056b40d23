"""What Cal.com's API answered about a booking: an event like any other, on `calcom.bookings.v1`.

An envelope is read as an observation by its `ce_type` alone, which the door never gives to what comes from outside.
"""

from typing import Any
from uuid import UUID

from msgspec import Struct

from schemas.appointments import Id, Instant
from schemas.verification import Verdict


class Observation(Struct, frozen=True, kw_only=True, tag_field="type", tag="observation"):
    """One booking as `GET /v2/bookings` gives it (`cal-api-version: 2024-08-13`), byte for byte what it says.

    `booking` is the object under `data` (each of them, where `data` is an array). Its own `updatedAt` is the moment
    that it speaks of; where it has none, `observed_at` is.
    """

    id: Id
    observed_at: Instant
    booking: dict[str, Any]


class Check(Struct, frozen=True, kw_only=True, tag_field="type", tag="check"):
    """What Cal.com's API answered to a question about a record (`ce_type` `reconcal.check`), bookings included.

    `verdict` is never `unauthorised`: that is an incident of the company and says nothing of a record. `reason` is a
    short word to count by ("not_found", "timeout", "server_error", "not_json", "empty_list" ...). `bookings` are all
    that were found on the way, in the shape of `Observation.booking`: the whole chain, where one was moved.
    """

    id: Id  # check-<record id>-<number of the question>
    observed_at: Instant
    record_id: UUID
    subject: str
    number: int
    verdict: Verdict
    reason: str
    uid: str | None = None  # the uid that was asked for; None: it was searched for
    bookings: list[dict[str, Any]] = []
