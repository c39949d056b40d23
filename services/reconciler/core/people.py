"""Who comes: names by which two sides recognise the same person, whatever each of them calls that person.

An e-mail is `e:<address>`, a phone `p:<E.164>`; what is kept and compared is a hash of it (`mark`), for it becomes part
of keys. Case never counts; dots and what follows a plus only where the provider ignores them. Cal.com's own inventions
are undone: `<digits>@sms.cal.com` is a phone, `name+<client id>@…` is `name@…`.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import phonenumbers

from schemas.appointments import Customer
from schemas.bookings import Attendee

#: Providers that deliver `a.b+c@` and `ab@` to one box, and those that only ignore what follows the plus.
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
#: E.164 in which no trunk zero follows the country's code; all else is for the library, which is fifty times as slow.
_PLAIN: Final = re.compile(
    r"\+(?:[17]|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    r"|(?:2[1-689]|3[578]|42|5[09]|6[7-9]|8[035789]|9[679])\d)[1-9]\d{5,12}"
)
_LONGEST: Final = 320

_CACHED: Final = 65_536


def by_email(given: str, country: str) -> str | None:
    """Give the name that an e-mail stands for; None for what is none."""
    local, _, domain = given.strip().lower().rpartition("@")
    if not local or not domain or len(given) > _LONGEST:
        return None
    if domain == _SMS_DOMAIN:
        return by_phone(f"+{local}", country)
    local = _CLIENT_ID.sub("", local)
    if domain in _PLUS_IGNORED:
        local = local.partition("+")[0] or local
    if domain in _DOTS_IGNORED:
        local = local.replace(".", "") or local
    return f"e:{local}@{_SAME_BOX.get(domain, domain)}"


def by_phone(given: str, country: str) -> str | None:
    """Give the name that a phone number stands for, E.164 by the company's country; None for what is none."""
    if _PLAIN.fullmatch(given):
        return f"p:{given}"
    if not given or len(given) > _LONGEST:
        return None
    try:
        number = phonenumbers.parse(given, country)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    number.extension = None
    return f"p:{phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)}"


def of_customer(customer: Customer | None, country: str) -> tuple[str, ...]:
    """Give the marks of the app's customer."""
    return () if customer is None else _marks(customer.email, customer.phone, country)


def of_attendees(attendees: Sequence[Attendee], country: str) -> tuple[str, ...]:
    """Give the marks of everybody who comes; the booker's come first."""
    if len(attendees) == 1:
        return _marks(attendees[0].email, attendees[0].phone, country)
    return tuple(dict.fromkeys([mark for one in attendees for mark in _marks(one.email, one.phone, country)]))


@lru_cache(maxsize=_CACHED)
def _marks(email: str | None, phone: str | None, country: str) -> tuple[str, ...]:
    names = (by_email(email, country) if email else None, by_phone(phone, country) if phone else None)
    return tuple(dict.fromkeys([mark(name) for name in names if name is not None]))


def mark(name: str) -> str:
    """Give a name's hash behind its kind (`e` or `p`): what a key may show of a person."""
    return name[0] + blake2b(name.encode(), digest_size=8).hexdigest()


def somebody_else(these: Sequence[str], those: Sequence[str]) -> bool:
    """Tell whether marks speak against each other: both have an e-mail, and nothing in common.

    Phones speak for somebody, not against: people have several.
    """
    if set(these) & set(those):
        return False
    return any(one[0] == "e" for one in these) and any(one[0] == "e" for one in those)


def seat_of(email: str | None) -> str:
    """Give the name of a seat by its holder's e-mail, without what Cal.com's platform adds; empty: none."""
    local, at, domain = (email or "").strip().lower().rpartition("@")
    return f"{_CLIENT_ID.sub('', local)}{at}{domain}"
