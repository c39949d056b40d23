"""Bodies that the fuzz, or a careful look, found to break what they should not."""

import pytest

from services.reconciler.core.events import HeardBooking
from services.reconciler.core.policy import Policy
from services.reconciler.decode import Undecodable, decode
from services.reconciler.desk import keys_of
from tests.support import builders as b


def test_an_array_with_half_a_surrogate_pair_in_it_is_still_its_one_object() -> None:
    """Its canonical JSON is made anew, and UTF-8 knows no half pairs."""
    body = b.body([b.booking_created(description="@@here@@")]).replace(b"@@here@@", b"\\udc00")
    assert isinstance(b.decoded(b.from_calcom(body)), HeardBooking)


@pytest.mark.parametrize("uid", ["id:", "id:x", "id:4001"])
def test_a_uid_that_looks_like_a_number_in_its_place_is_none(uid: str) -> None:
    """It would have no key of its own, and a booking that has no key is found by nobody."""
    with pytest.raises(Undecodable, match="no_booking"):
        decode(b.from_calcom({"triggerEvent": "BOOKING_CREATED", "payload": {"uid": uid}}))
    heard = b.decoded(b.from_calcom({"triggerEvent": "BOOKING_CREATED", "payload": {"uid": uid, "bookingId": 1}}))
    assert isinstance(heard, HeardBooking)
    assert keys_of("acme", heard, Policy()) == [("acme", "i:1")]


def test_a_number_of_a_thousand_digits_in_the_metadata_is_no_id() -> None:
    raw = b.body(b.booking_created(metadata={"appointment_id": "@@here@@"})).replace(b'"@@here@@"', b"9" * 4200)
    heard = b.decoded(b.from_calcom(raw))
    assert isinstance(heard, HeardBooking)
    assert heard.event.appointment_id is None


def test_an_escaped_ampersand_or_equals_sign_is_no_border_between_pairs() -> None:
    heard = b.decoded(b.from_calcom(b"event=BOOKING_CREATED&title=a &amp; uid&#x3D;evil&uid=uid-1"))
    assert isinstance(heard, HeardBooking)
    assert (heard.event.title, heard.event.uid) == ("a & uid=evil", "uid-1")
