"""Who is who: what names the same person, and what does not."""

import pytest

from schemas.appointments import Customer
from schemas.bookings import Attendee
from services.reconciler.core.people import by_email, by_phone, of_attendees, of_customer


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mia@Example.COM", " mia@example.com "),
        ("m.i.a@gmail.com", "mia@gmail.com"),
        ("mia+praxis@gmail.com", "mia@googlemail.com"),
        ("mia+praxis@posteo.de", "mia@posteo.de"),
        ("mia@me.com", "mia@icloud.com"),
        ("mia@pm.me", "mia@protonmail.com"),
        ("mia+clxyzabc0123456789abcdef0@firma.example", "mia@firma.example"),
    ],
)
def test_one_box_has_one_name(one: str, other: str) -> None:
    assert by_email(one, "DE") == by_email(other, "DE") is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("m.ia@example.com", "mia@example.com"),
        ("mia+1@example.com", "mia+2@example.com"),
        ("mi.a@posteo.de", "mia@posteo.de"),
        ("mia@example.com", "mia@example.org"),
        ("mia+c@firma.example", "mia@firma.example"),
    ],
)
def test_two_boxes_have_two_names(one: str, other: str) -> None:
    assert by_email(one, "DE") != by_email(other, "DE")


@pytest.mark.parametrize("nothing", ["", " ", "mia", "@example.com", "mia@", "x" * 400 + "@example.com"])
def test_what_is_no_address_names_nobody(nothing: str) -> None:
    assert by_email(nothing, "DE") is None


@pytest.mark.parametrize(
    ("given", "country", "name"),
    [
        ("0151 12345678", "DE", "p:+4915112345678"),
        ("+49 (0) 151 / 123-456-78", "DE", "p:+4915112345678"),
        ("0049 151 12345678", "DE", "p:+4915112345678"),
        ("+4915112345678", "US", "p:+4915112345678"),
        ("0664 1234567", "AT", "p:+436641234567"),
        ("(212) 555-0123", "US", "p:+12125550123"),
        ("+49 30 5550123 ext. 7", "DE", "p:+49305550123"),
    ],
)
def test_a_phone_is_its_number_in_the_world(given: str, country: str, name: str) -> None:
    assert by_phone(given, country) == name


@pytest.mark.parametrize("nothing", ["", "none", "1", "+", "0" * 400, "mia@example.com"])
def test_what_is_no_number_names_nobody(nothing: str) -> None:
    assert by_phone(nothing, "DE") is None


def test_the_address_that_calcom_makes_of_a_phone_is_the_phone() -> None:
    assert by_email("4915112345678@sms.cal.com", "DE") == by_phone("0151 12345678", "DE")


def test_all_who_come_are_named_once_the_booker_first() -> None:
    mia, tom = Attendee(email="mia@example.com", phone="+4915112345678"), Attendee(email="TOM@example.com")
    marks = of_attendees((mia, tom, Attendee(email="Mia@example.com")), "DE")
    assert marks == (*of_attendees((mia,), "DE"), *of_attendees((tom,), "DE"))
    assert marks[0] == of_customer(Customer(email="mia@example.com"), "DE")[0]


def test_of_a_person_only_a_hash_is_shown() -> None:
    (mark,) = of_customer(Customer(email="mia@example.com"), "DE")
    assert "mia" not in mark
    assert of_customer(Customer(name="Mia"), "DE") == of_customer(None, "DE") == ()
