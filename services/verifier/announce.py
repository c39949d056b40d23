"""What Cal.com said, as messages for `calcom.bookings.v1`."""

from datetime import datetime
from hashlib import sha256
from typing import Final

import msgspec

from schemas.envelope import Delivery
from schemas.observations import Check, Observation
from schemas.topics import CALCOM_BOOKINGS, TYPE_CHECK, TYPE_OBSERVATION
from services.verifier.answers import Row

SOURCE: Final = "/verifier"

_encoder: Final = msgspec.json.Encoder()
_canonical: Final = msgspec.json.Encoder(order="sorted")


def observation(company_id: str, row: Row, observed_at: datetime) -> Delivery:
    """Tell of one booking as the API gave it. What says the same of it has the same id, whenever it is told."""
    told = Observation(
        id=f"obs-{sha256(_canonical.encode(row)).hexdigest()[:32]}", observed_at=observed_at, booking=row
    )
    return _delivery(company_id, TYPE_OBSERVATION, told, observed_at)


def check(company_id: str, answered: Check, told_at: datetime) -> Delivery:
    """Tell what came of a question; `told_at` is now: an answer that was reused is older."""
    return _delivery(company_id, TYPE_CHECK, answered, told_at)


def _delivery(company_id: str, ce_type: str, told: Check | Observation, at: datetime) -> Delivery:
    return Delivery(
        topic=CALCOM_BOOKINGS,
        company_id=company_id,
        ce_id=told.id,
        ce_source=SOURCE,
        ce_type=ce_type,
        received_at=at,
        body=_encoder.encode(told),
    )
