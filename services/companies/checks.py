"""What a company may look like: every refusal is one line that names the field."""

import base64
import binascii
import math
import re
from collections.abc import Iterable
from datetime import datetime, time
from email.utils import getaddresses
from importlib import resources
from typing import Final
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import phonenumbers

from schemas.flags import Kind
from schemas.rules import COMPARED, Waiting
from services.companies.model import Delivery, Language, Purpose, Role

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LOCAL: Final = re.compile(r"(?=.{1,64}$)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_TIME_OF_DAY: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_LEAST_CHARACTERS: Final = 8
_LEAST_BYTES: Final = 16
_LONGEST_WINDOW_SECONDS: Final = 366 * 86400
_LARGEST_COUNT: Final = 1_000_000
_LONGEST_NAME: Final = 200
_LONGEST_EMAIL: Final = 254
#: Of a zone that has no country, such as UTC, or those that are named after a clock instead of a place.
_HOME: Final = "DE"
_CLOCKS: Final = frozenset({"CET", "EET", "EST", "HST", "MET", "MST", "WET"})


class CompanyError(Exception):
    """What was asked cannot be done to this company: one line that names the field."""


def company_id(given: str) -> str:
    """Check an id: it stands in addresses, keys and file names."""
    if not _ID.fullmatch(given):
        raise CompanyError("id: 1 to 64 letters, digits, - and _ are wanted, beginning with a letter or digit")
    return given


def name(given: str, field: str = "name") -> str:
    """Check a name and give it without blanks around it."""
    text = given.strip()
    if not text or len(text) > _LONGEST_NAME or not text.isprintable():
        raise CompanyError(f"{field}: 1 to {_LONGEST_NAME} printable characters are wanted")
    return text


def time_zone(given: str) -> str:
    """Check that the IANA database knows the zone."""
    if given not in available_timezones():
        raise CompanyError(f"time_zone: {given!r} is not in the IANA database; Europe/Berlin is")
    return given


def country(given: str | None, zone: str) -> str:
    """Check where phone numbers are at home; where it is not said, the time zone's is meant."""
    if given is None:
        return _home_of(zone)
    code = given.strip().upper()
    if not given.isascii() or code not in phonenumbers.SUPPORTED_REGIONS:  # of a ß two letters are made
        raise CompanyError(f"country: {given!r} is no country of two letters (ISO 3166); DE and AT are")
    return code


def _home_of(zone: str) -> str:
    """Give the country that a zone is named after a town of; an old name (US/Eastern) counts as its new one."""
    if zone in _CLOCKS:
        return _HOME
    lines = _of_tzdata("zone.tab")
    countries = {fields[2]: fields[0] for line in lines if len(fields := line.split("\t")) > 2}  # noqa: PLR2004
    if zone not in countries:
        links = (line.split() for line in _of_tzdata("tzdata.zi") if line.startswith("L "))
        zone = next((target for _, target, name in links if name == zone), zone)
    return countries.get(zone, _HOME)


def _of_tzdata(name: str) -> list[str]:
    lines = resources.files("tzdata.zoneinfo").joinpath(name).read_text("utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def waiting(given: str, field: str) -> Waiting:
    """Check what a booking counts for that waits."""
    try:
        return Waiting(given)
    except ValueError:
        raise CompanyError(f"{field}: {given!r} is none of {', '.join(Waiting)}") from None


def compared(given: tuple[str, ...]) -> tuple[str, ...]:
    """Check which fields count, and give each once, in the order of COMPARED."""
    unknown = [one for one in given if one not in COMPARED]
    if unknown:
        raise CompanyError(f"compared_fields: {unknown[0]!r} is none of {', '.join(COMPARED)}")
    return tuple(one for one in COMPARED if one in given)


def seconds(given: float, field: str, *, or_none: bool = False) -> float:
    """Check a window; `or_none`: it may be 0."""
    if or_none and given == 0:
        return 0.0
    if not math.isfinite(given) or not 0 < given <= _LONGEST_WINDOW_SECONDS:
        least = "0" if or_none else "more than 0"
        raise CompanyError(f"{field}: {least} and at most {_LONGEST_WINDOW_SECONDS} seconds are wanted")
    return float(given)


def count(given: int, field: str) -> int:
    """Check how many of something are still in order."""
    if not 0 <= given <= _LARGEST_COUNT:
        raise CompanyError(f"{field}: 0 to {_LARGEST_COUNT} is wanted")
    return given


def percent(given: float, field: str) -> float:
    """Check a share."""
    if not math.isfinite(given) or not 0 <= given <= 100:  # noqa: PLR2004 - per cent
        raise CompanyError(f"{field}: 0 to 100 is wanted")
    return float(given)


def moment(given: datetime | None, field: str) -> datetime | None:
    """Check that a moment is one, and not a clock's face."""
    if given is not None and given.utcoffset() is None:
        raise CompanyError(f"{field}: a moment with its offset from UTC is wanted")
    return given


def base_url(given: str) -> str:
    """Check the address of Cal.com's API and give it without a slash at its end."""
    if not _is_address(given):
        raise CompanyError("calcom_base_url: an address like https://api.cal.com/v2 is wanted")
    if "@" in urlsplit(given).netloc:
        raise CompanyError("calcom_base_url: a user or password in it would be shown; an address without is wanted")
    return given.rstrip("/")


def _is_address(given: str) -> bool:
    try:
        parts = urlsplit(given)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and given.isprintable() and " " not in given


def role(given: str) -> Role:
    """Check a contact's role."""
    try:
        return Role(given)
    except ValueError:
        raise CompanyError(f"role: {given!r} is none of {', '.join(Role)}") from None


def language(given: str) -> Language:
    """Check a contact's language."""
    try:
        return Language(given)
    except ValueError:
        raise CompanyError(f"language: {given!r} is none of {', '.join(Language)}") from None


def delivery(given: str) -> Delivery:
    """Check when a contact is mailed."""
    try:
        return Delivery(given)
    except ValueError:
        raise CompanyError(f"delivery: {given!r} is none of {', '.join(Delivery)}") from None


def time_of_day(given: str) -> time:
    """Check when on the company's clock a daily digest is mailed."""
    if not _TIME_OF_DAY.fullmatch(given):
        raise CompanyError(f"daily_at: {given!r} is not a time of day like 08:00")
    return time.fromisoformat(given)


def kinds(given: Iterable[str], field: str) -> list[str]:
    """Check kinds of flags, in whatever case, and give each once."""
    wanted = {one.strip().upper().replace("-", "_") for one in given}
    if unknown := sorted(wanted - {*Kind}):
        raise CompanyError(f"{field}: {unknown[0]!r} is none of {', '.join(Kind)}")
    return sorted(wanted)


def email(given: str) -> str:
    """Check an address; the domain may be localhost, else it has a dot, in ASCII (xn--... where it is not)."""
    local, _, domain = given.rpartition("@")
    if len(given) > _LONGEST_EMAIL or not _LOCAL.fullmatch(local):
        raise CompanyError(f"email: {given!r} is not an e-mail address like mia@example.com")
    if not domain.isascii() and (spelled := _in_ascii(domain)):
        raise CompanyError(f"email: the domain of {given!r} is wanted as mail servers spell it: {local}@{spelled}")
    if not _DOMAIN.fullmatch(domain):
        raise CompanyError(f"email: {given!r} is not an e-mail address like mia@example.com")
    if domain != "localhost" and ("." not in domain or domain.rpartition(".")[2].isdigit()):
        raise CompanyError(f"email: {given!r} has no complete domain")
    return given


def _in_ascii(domain: str) -> str | None:
    try:
        spelled = domain.encode("idna").decode("ascii")
    except UnicodeError:
        return None
    return spelled if _DOMAIN.fullmatch(spelled) else None


def person(given: str) -> tuple[str, str]:
    """Read `Mia Muster <mia@example.com>`; gives name and e-mail, the e-mail as name where there is none."""
    found = getaddresses([given])
    if len(found) != 1 or not found[0][1] or not given.isprintable():
        raise CompanyError(f"contact: one person like 'Mia Muster <mia@example.com>' is wanted, not {given!r}")
    text, address = found[0]
    return name(text, "contact") if text else email(address), email(address)


def secret(given: str, purpose: Purpose) -> str:
    """Check a secret that was not made here. The reason never tells the secret."""
    if len(given) < _LEAST_CHARACTERS:
        raise CompanyError(f"{purpose}: too weak: at least {_LEAST_CHARACTERS} characters are wanted")
    if not given.isprintable() or given != given.strip():
        raise CompanyError(f"{purpose}: blanks around it or characters that cannot be printed")
    if purpose is Purpose.APP_WEBHOOK:
        signing_secret(given, purpose, least_bytes=_LEAST_BYTES)
    elif purpose is not Purpose.CALCOM_WEBHOOK and (not given.isascii() or " " in given):
        raise CompanyError(f"{purpose}: it travels in a header: ASCII without blanks is wanted")
    return given


def signing_secret(given: str, field: str, *, least_bytes: int, most_bytes: int | None = None) -> str:
    """Check a secret of Standard Webhooks, whose key is so long. The reason never tells it."""
    prefix, _, text = given.partition("_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if prefix != "whsec" or not least_bytes <= len(key) <= (most_bytes or len(key)):
        span = f"{least_bytes} to {most_bytes}" if most_bytes else f"at least {least_bytes}"
        raise CompanyError(f"{field}: whsec_ and the base64 of {span} bytes are wanted")
    return given
