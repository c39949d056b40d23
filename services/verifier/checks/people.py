"""Who comes to a booking that the API listed, and whether that is the person who is looked for. Pure.

The reconciler pairs by its own rules, with the booking in hand (`reconciler/core/people.py`); here it is only decided
which rows of a list are worth showing to it. So what it would take for the same person must be the same person here.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import phonenumbers

from services.verifier.answers import Row

#: As in `reconciler/core/people.py`; a test holds the two together.
_DOTS_IGNORED: Final = frozenset({"gmail.com", "googlemail.com"})
_PLUS_IGNORED: Final = _DOTS_IGNORED | {
    "fastmail.com", "hey.com", "hotmail.com", "icloud.com", "live.com", "mac.com", "mailbox.org", "me.com", "msn.com",
    "outlook.com", "outlook.de", "pm.me", "posteo.de", "proton.me", "protonmail.com",
}  # fmt: skip
_SAME_BOX: Final = {"googlemail.com": "gmail.com", "mac.com": "icloud.com", "me.com": "icloud.com",
                    "protonmail.com": "proton.me", "pm.me": "proton.me"}  # fmt: skip
#: Cal.com's platform puts the OAuth client's id behind a plus: a cuid.
_CLIENT_ID: Final = re.compile(r"\+c[a-z0-9]{24}$")
_SMS_DOMAIN: Final = "sms.cal.com"
_PHONE_ANSWERS: Final = ("attendeePhoneNumber", "phone")
#: A number without its country is the end of the one with it; fewer digits than these say nothing.
_DIGITS_MIN: Final = 8
_PHONE_MAX: Final = 60


def attendees(row: Row) -> list[dict[str, Any]]:
    """Give the people of a booking; none where Cal.com hides them."""
    found = row.get("attendees")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def has_address(row: Row, email: str) -> bool:
    """Tell whether a booking is one that the filter by this e-mail lets through, in whatever case it is written."""
    wanted = email.lower()
    return any(address.lower() == wanted for address in _addresses(row))


def client_tags(row: Row) -> set[str]:
    """Give the ids of OAuth clients that stand in the e-mails of a booking: `+c…`."""
    locals_ = [address.lower().rpartition("@")[0] for address in _addresses(row)]
    return {found[0] for local in locals_ if (found := _CLIENT_ID.search(local))}


def with_tag(email: str, tag: str) -> str:
    """Give the e-mail under which Cal.com's platform keeps a managed user's customer."""
    local, _, domain = email.rpartition("@")
    return f"{local}{tag}@{domain}"


def sms_address(phone: str) -> str | None:
    """Give the e-mail that Cal.com makes of a phone number; None for one without its country."""
    digits = _digits(phone)
    if len(digits) < _DIGITS_MIN or not phone.strip().startswith(("+", "00")):
        return None
    return f"{digits}@{_SMS_DOMAIN}"


def comes(row: Row, email: str | None, phone: str | None) -> bool:
    """Tell whether this person is among those who come."""
    wanted = _box(email) if email else None
    if wanted is not None and any(_box(address) == wanted for address in _addresses(row)):
        return True
    numbers = [number for number in (phone, _made_of(email)) if number]
    return any(_same_phone(ours, theirs) for ours in numbers for theirs in _phones(row))


def sits(row: Row, seat: str) -> bool:
    """Tell whether a seat, by the normalised e-mail of its holder or by its uid, is one of the booking's."""
    for one in attendees(row):
        if one.get("seatUid") == seat or seat in {_seat(one.get("displayEmail")), _seat(one.get("email"))}:
            return True
    return False


def _seat(email: object) -> str:
    if not isinstance(email, str):
        return ""
    local, at, domain = email.strip().lower().rpartition("@")
    return f"{_CLIENT_ID.sub('', local)}{at}{domain}"


def _addresses(row: Row) -> Iterator[str]:
    guests = row.get("guests")
    found = [one.get(key) for one in attendees(row) for key in ("email", "displayEmail")]
    yield from (one for one in [*found, *(guests if isinstance(guests, list) else [])] if isinstance(one, str))


def _box(email: str) -> str | None:
    """Give an e-mail without what its provider, or Cal.com, adds to it or ignores."""
    local, _, domain = email.strip().lower().rpartition("@")
    if not local or not domain or domain == _SMS_DOMAIN:
        return None
    local = _CLIENT_ID.sub("", local)
    if domain in _PLUS_IGNORED:
        local = local.partition("+")[0] or local
    if domain in _DOTS_IGNORED:
        local = local.replace(".", "") or local
    return f"{local}@{_SAME_BOX.get(domain, domain)}"


def _phones(row: Row) -> Iterator[str]:
    answers = row.get("bookingFieldsResponses")
    found = [value for one in attendees(row) for value in (one.get("phoneNumber"), _made_of(one.get("email")))]
    found += [answers.get(key) for key in _PHONE_ANSWERS] if isinstance(answers, dict) else []
    yield from (one for one in found if isinstance(one, str) and one)


def _made_of(email: object) -> str | None:
    """Give the phone number that Cal.com made an e-mail of."""
    if not isinstance(email, str):
        return None
    local, _, domain = email.strip().lower().rpartition("@")
    return f"+{local}" if domain == _SMS_DOMAIN and local.isdecimal() else None


def _same_phone(one: str, other: str) -> bool:
    ours, theirs = _digits(one).lstrip("0"), _digits(other).lstrip("0")
    short, long = sorted((ours, theirs), key=len)
    return len(short) >= _DIGITS_MIN and long.endswith(short)


@lru_cache(maxsize=4096)
def _digits(phone: str) -> str:
    """Give a number's digits; with its country's code, and no trunk zero after it, where it is written with it."""
    phone = phone.strip()[:_PHONE_MAX]
    if phone.startswith("00"):
        phone = f"+{phone[2:]}"
    if phone.startswith("+"):
        try:
            number = phonenumbers.parse(phone, None)
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164).removeprefix("+")
        except phonenumbers.NumberParseException:
            pass
    return "".join(char for char in phone if char.isascii() and char.isdigit())
