"""Every refusal is one line that names the field."""

import pytest

from services.companies import checks
from services.companies.checks import CompanyError
from services.companies.model import Purpose


@pytest.mark.parametrize("given", ["", "-a", "_a", "a b", "a/b", "ä", "a" * 65, "a\n", "a.b"])
def test_an_id_stands_in_addresses_and_keys(given: str) -> None:
    with pytest.raises(CompanyError, match="^id: "):
        checks.company_id(given)
    assert checks.company_id("Acme_1-x") == "Acme_1-x"


@pytest.mark.parametrize("given", ["", "Berlin", "Europe", "../etc/passwd", "europe/berlin", "UTC\0"])
def test_a_zone_is_in_the_iana_database(given: str) -> None:
    with pytest.raises(CompanyError, match="^time_zone: "):
        checks.time_zone(given)
    assert checks.time_zone("Europe/Berlin") == "Europe/Berlin"


@pytest.mark.parametrize("given", [0, -1, float("nan"), float("inf"), 1e12])
def test_a_window_is_positive_and_ends(given: float) -> None:
    with pytest.raises(CompanyError, match="^window_seconds: "):
        checks.seconds(given, "window_seconds")
    assert checks.seconds(1, "window_seconds") == 1.0


@pytest.mark.parametrize("given", ["", "api.cal.com", "ftp://x", "https://", "https://a b", "https://[", "http://x\n"])
def test_a_base_url_is_an_address(given: str) -> None:
    with pytest.raises(CompanyError, match="^calcom_base_url: "):
        checks.base_url(given)
    assert checks.base_url("https://api.cal.eu/v2/") == "https://api.cal.eu/v2"


@pytest.mark.parametrize(
    ("given", "name", "email"),
    [
        ("Mia Muster <mia@example.com>", "Mia Muster", "mia@example.com"),
        ("mia@example.com", "mia@example.com", "mia@example.com"),
        ('"Muster, Mia" <mia+x@example.com>', "Muster, Mia", "mia+x@example.com"),
        ("Jörg Ößner <j@localhost>", "Jörg Ößner", "j@localhost"),
    ],
)
def test_a_person_has_a_name_and_an_address(given: str, name: str, email: str) -> None:
    assert checks.person(given) == (name, email)


@pytest.mark.parametrize(
    "given",
    ["", "Mia", "Mia <mia>", "mia@example", "a@b@c.de", "Muster, Mia <mia@example.com>",
     "a@x.de, b@x.de", "Mia <mia@example.com>\nBcc: x@y.de", "mia@exämple.com", "x" * 300 + "@example.com", "<>"],
)  # fmt: skip
def test_what_is_no_person_is_refused(given: str) -> None:
    with pytest.raises(CompanyError, match="^(email|contact): "):
        checks.person(given)


def test_roles_and_languages_are_few() -> None:
    with pytest.raises(CompanyError, match="^role: 'boss' is none of admin, manager, viewer"):
        checks.role("boss")
    with pytest.raises(CompanyError, match="^language: 'fr' is none of de, en"):
        checks.language("fr")


@pytest.mark.parametrize(
    ("given", "purpose"),
    [
        ("short12", Purpose.CALCOM_WEBHOOK),
        (" 12345678 ", Purpose.CALCOM_WEBHOOK),
        ("12345678\n", Purpose.INGEST_TOKEN),
        ("rct with blank", Purpose.INGEST_TOKEN),
        ("rct_mögen", Purpose.INGEST_TOKEN),
        ("no prefix at all", Purpose.APP_WEBHOOK),
        ("whsec_c2hvcnQ=", Purpose.APP_WEBHOOK),
        ("whsec_not base64!", Purpose.APP_WEBHOOK),
    ],
)
def test_a_weak_or_unusable_secret_is_refused_and_not_repeated(given: str, purpose: Purpose) -> None:
    with pytest.raises(CompanyError, match=f"^{purpose}: ") as caught:
        checks.secret(given, purpose)
    assert given.strip() not in str(caught.value)
