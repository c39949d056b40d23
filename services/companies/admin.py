"""What the command line does to companies. Running services see it by the change counter."""

import secrets as random
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID, uuid4

import asyncpg
from msgspec import UNSET, Struct, UnsetType, structs

from schemas.rules import COMPARED, Waiting
from services.companies import checks, rows
from services.companies.checks import CompanyError as CompanyError  # noqa: PLC0414 - callers catch it from here
from services.companies.model import MOST_ACTIVE, Company, Contact, Purpose
from services.plumbing.postgres import Connection
from services.plumbing.secrets import Vault

Conn: TypeAlias = "Connection | asyncpg.Connection[Any]"
T = TypeVar("T")
R = TypeVar("R")


class NewContact(Struct, frozen=True, kw_only=True):
    """A person to be told. `person`: `Mia Muster <mia@example.com>`."""

    person: str
    role: str = "admin"
    language: str = "en"


class ContactChanges(Struct, frozen=True, kw_only=True):
    """What is to change of a contact; what is UNSET stays.

    `daily_at`: `08:00`, on the company's clock. `mute`, `unmute`: kinds of flags to mail no more, or again.
    `deliver_again`: mail to the address was refused for good, and somebody has mended that. `email`: another address,
    which takes mail until it refuses some; links in mails to the old one end.
    """

    name: str | UnsetType = UNSET
    email: str | UnsetType = UNSET
    role: str | UnsetType = UNSET
    language: str | UnsetType = UNSET
    delivery: str | UnsetType = UNSET
    daily_at: str | UnsetType = UNSET
    mute: tuple[str, ...] = ()
    unmute: tuple[str, ...] = ()
    deliver_again: bool = False


class NewCompany(Struct, frozen=True, kw_only=True):
    """A company to be. A secret that is None is generated, but for the API key, which only Cal.com can make."""

    company_id: str
    name: str
    time_zone: str = "Europe/Berlin"
    country: str | None = None  # None: that of the time zone
    window_seconds: float = 300.0
    settling_window_seconds: float | None = None
    unconfirmed_window_seconds: float = 86_400.0
    unconfirmed_policy: str = Waiting.FLAG
    unpaid_window_seconds: float = 86_400.0
    unpaid_policy: str = Waiting.IGNORE
    compared_fields: tuple[str, ...] = COMPARED
    match_by_attendee: bool = True
    calcom_base_url: str = "https://api.cal.com/v2"
    verification_wait_seconds: float = 14_400.0
    group_wait_seconds: float = 30.0
    group_interval_seconds: float = 300.0
    reminder_seconds: float = 14_400.0
    urgent_within_seconds: float = 7_200.0
    orphans_per_day_max: int = 5
    failed_checks_per_hour_max: int = 10
    waiting_for_review_max: int = 20
    sync_success_min_percent: float = 95.0
    history_began_at: datetime | None = None
    app_loaded_at: datetime | None = None
    calcom_loaded_at: datetime | None = None
    contacts: tuple[NewContact, ...] = ()
    calcom_webhook: str | None = None
    app_webhook: str | None = None
    ingest_token: str | None = None
    calcom_api_key: str | None = None


class Changes(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to change of a company; what is UNSET stays."""

    name: str | UnsetType = UNSET
    time_zone: str | UnsetType = UNSET
    country: str | UnsetType = UNSET
    window_seconds: float | UnsetType = UNSET
    settling_window_seconds: float | UnsetType | None = UNSET
    unconfirmed_window_seconds: float | UnsetType = UNSET
    unconfirmed_policy: str | UnsetType = UNSET
    unpaid_window_seconds: float | UnsetType = UNSET
    unpaid_policy: str | UnsetType = UNSET
    compared_fields: tuple[str, ...] | UnsetType = UNSET
    match_by_attendee: bool | UnsetType = UNSET
    calcom_base_url: str | UnsetType = UNSET
    verification_wait_seconds: float | UnsetType = UNSET
    group_wait_seconds: float | UnsetType = UNSET
    group_interval_seconds: float | UnsetType = UNSET
    reminder_seconds: float | UnsetType = UNSET
    urgent_within_seconds: float | UnsetType = UNSET
    orphans_per_day_max: int | UnsetType = UNSET
    failed_checks_per_hour_max: int | UnsetType = UNSET
    waiting_for_review_max: int | UnsetType = UNSET
    sync_success_min_percent: float | UnsetType = UNSET
    history_began_at: datetime | UnsetType | None = UNSET
    app_loaded_at: datetime | UnsetType | None = UNSET
    calcom_loaded_at: datetime | UnsetType | None = UNSET


class Added(Struct, frozen=True, kw_only=True):
    """A company that was added, with its secrets in clear: to be shown once, never to be kept."""

    company: Company
    contacts: tuple[Contact, ...]
    calcom_webhook: str
    app_webhook: str
    ingest_token: str

    def __repr__(self) -> str:
        """Hide the secrets, whoever prints it."""
        return f"Added({self.company!r}, secrets hidden)"


def generate(purpose: Purpose) -> str:
    """Make a secret: 256 bits, in the form that its door wants. Raises CompanyError for an API key."""
    if purpose is Purpose.CALCOM_WEBHOOK:
        return random.token_hex(32)
    if purpose is Purpose.APP_WEBHOOK:
        return "whsec_" + b64encode(random.token_bytes(32)).decode()
    if purpose is Purpose.INGEST_TOKEN:
        return "rct_" + random.token_urlsafe(32)
    raise CompanyError(f"{purpose}: Cal.com makes it; it has to be given")


async def add(conn: Conn, vault: Vault, new: NewCompany) -> Added:
    """Add a company with its secrets and people, all or nothing. Raises CompanyError."""
    company = _checked(new)
    clear = _secrets(new)
    async with conn.transaction():
        await _insert(conn, company)
        for purpose, secret in clear.items():
            await _put_secret(conn, vault, company.company_id, purpose, secret)
        contacts = [await _insert_contact(conn, company.company_id, one) for one in new.contacts]
    return Added(
        company=company,
        contacts=tuple(contacts),
        calcom_webhook=clear[Purpose.CALCOM_WEBHOOK],
        app_webhook=clear[Purpose.APP_WEBHOOK],
        ingest_token=clear[Purpose.INGEST_TOKEN],
    )


async def set_company(conn: Conn, company_id: str, changes: Changes) -> Company:
    """Change a company's rules; gives it as it is then. Raises CompanyError."""
    async with conn.transaction():
        company = await _there(conn, company_id)
        given = {key: value for key, value in structs.asdict(changes).items() if value is not UNSET}
        changed = _checked(structs.replace(company, **given))
        await conn.execute(_UPDATE, *structs.astuple(changed))
    return changed


async def list_companies(conn: Conn) -> list[Company]:
    """Give all companies that are not removed, by id."""
    return [rows.company(row) for row in await conn.fetch(rows.COMPANIES)]


async def get_company(conn: Conn, company_id: str) -> Company:
    """Give a company. Raises CompanyError."""
    return await _there(conn, company_id)


async def having_keys(conn: Conn, now: datetime) -> set[str]:
    """Give the companies that have a Cal.com API key that counts."""
    found = await conn.fetch(_KEYED, Purpose.CALCOM_API_KEY.value, now)
    return {row["company_id"] for row in found}


async def remove_company(conn: Conn, company_id: str, now: datetime) -> None:
    """Remove a company: it leaves the register, its history stays. Raises CompanyError.

    Its secrets are deleted, addresses of endpoints among them; and what there was still to tell.
    """
    async with conn.transaction():
        await _there(conn, company_id)
        for table in _REMOVED:
            await conn.execute(f"DELETE FROM {table} WHERE company_id = $1", company_id)  # noqa: S608 - constants
        await conn.execute("UPDATE companies SET removed_at = $2 WHERE company_id = $1", company_id, now)


async def rotate_secret(
    conn: Conn,
    vault: Vault,
    company_id: str,
    purpose: Purpose,
    *,
    keep_old_seconds: float,
    now: datetime,
    given: str | None = None,
) -> str:
    """Put a new secret beside the old ones, which count for `keep_old_seconds` more; gives it in clear, once.

    Raises CompanyError, also when more than MOST_ACTIVE would be active at once.
    """
    new = checks.secret(given, purpose) if given is not None else generate(purpose)
    if not 0 <= keep_old_seconds <= 366 * 86400:
        raise CompanyError("keep_old_seconds: 0 to 366 days are wanted")
    async with conn.transaction():
        await _there(conn, company_id)
        await conn.execute(_RETIRE, company_id, purpose, now + timedelta(seconds=keep_old_seconds))
        if await conn.fetchval(_COUNT, company_id, purpose, now) >= MOST_ACTIVE:
            raise CompanyError(f"{purpose}: {MOST_ACTIVE} are active already; keep_old_seconds 0 ends the old ones")
        await _put_secret(conn, vault, company_id, purpose, new)
    return new


async def list_contacts(conn: Conn, company_id: str) -> list[Contact]:
    """Give a company's people. Raises CompanyError."""
    await _there(conn, company_id)
    return [rows.contact(row) for row in await conn.fetch(_CONTACTS, company_id)]


async def get_contact(conn: Conn, company_id: str, email: str) -> Contact:
    """Give the person who has this address. Raises CompanyError."""
    for contact in await list_contacts(conn, company_id):
        if contact.email.lower() == email.lower():
            return contact
    raise _nobody(company_id, email)


async def add_contact(conn: Conn, company_id: str, new: NewContact) -> Contact:
    """Add a person. Raises CompanyError."""
    async with conn.transaction():
        await _there(conn, company_id)
        return await _insert_contact(conn, company_id, new)


async def set_contact(conn: Conn, company_id: str, email: str, changes: ContactChanges) -> Contact:
    """Change a person, whom their address names; gives them as they are then. Raises CompanyError."""
    new_email = _if_given(changes.email, checks.email)
    given = (
        _if_given(changes.name, checks.name),
        _if_given(changes.role, checks.role),
        _if_given(changes.language, checks.language),
        _if_given(changes.delivery, checks.delivery),
        _if_given(changes.daily_at, checks.time_of_day),
        checks.kinds(changes.mute, "mute"),
        checks.kinds(changes.unmute, "unmute"),
    )
    if both := sorted({*given[-2]} & {*given[-1]}):
        raise CompanyError(f"mute: {both[0]} cannot be muted and unmuted at once")
    async with conn.transaction():
        await _there(conn, company_id)
        if new_email is not None and new_email.lower() != email.lower():
            await _check_free(conn, company_id, new_email)
        row = await conn.fetchrow(_SET_CONTACT, company_id, email, *given, changes.deliver_again, new_email)
    if row is None:
        raise _nobody(company_id, email)
    return rows.contact(row)


async def remove_contact(conn: Conn, company_id: str, email: str) -> None:
    """Remove a person. Raises CompanyError."""
    await _there(conn, company_id)
    if await conn.execute(_DELETE_CONTACT, company_id, email) == "DELETE 0":
        raise _nobody(company_id, email)


def _nobody(company_id: str, email: str) -> CompanyError:
    return CompanyError(f"contact: {company_id} has nobody of the address {email!r}")


def _if_given(value: T | UnsetType, check: Callable[[T], R]) -> R | None:
    return None if isinstance(value, UnsetType) else check(value)


def _secrets(new: NewCompany) -> dict[Purpose, str]:
    given: dict[Purpose, str | None] = {purpose: getattr(new, purpose) for purpose in Purpose}
    if new.calcom_api_key is None:
        del given[Purpose.CALCOM_API_KEY]
    return {one: generate(one) if text is None else checks.secret(text, one) for one, text in given.items()}


def _checked(new: NewCompany | Company) -> Company:
    return Company(
        company_id=checks.company_id(new.company_id),
        name=checks.name(new.name),
        time_zone=checks.time_zone(new.time_zone),
        country=checks.country(new.country, new.time_zone),
        window_seconds=checks.seconds(new.window_seconds, "window_seconds"),
        settling_window_seconds=None
        if new.settling_window_seconds is None
        else checks.seconds(new.settling_window_seconds, "settling_window_seconds"),
        unconfirmed_window_seconds=checks.seconds(new.unconfirmed_window_seconds, "unconfirmed_window_seconds"),
        unconfirmed_policy=checks.waiting(new.unconfirmed_policy, "unconfirmed_policy"),
        unpaid_window_seconds=checks.seconds(new.unpaid_window_seconds, "unpaid_window_seconds"),
        unpaid_policy=checks.waiting(new.unpaid_policy, "unpaid_policy"),
        compared_fields=checks.compared(new.compared_fields),
        match_by_attendee=new.match_by_attendee,
        calcom_base_url=checks.base_url(new.calcom_base_url),
        verification_wait_seconds=checks.seconds(new.verification_wait_seconds, "verification_wait_seconds"),
        group_wait_seconds=checks.seconds(new.group_wait_seconds, "group_wait_seconds", or_none=True),
        group_interval_seconds=checks.seconds(new.group_interval_seconds, "group_interval_seconds"),
        reminder_seconds=checks.seconds(new.reminder_seconds, "reminder_seconds"),
        urgent_within_seconds=checks.seconds(new.urgent_within_seconds, "urgent_within_seconds", or_none=True),
        orphans_per_day_max=checks.count(new.orphans_per_day_max, "orphans_per_day_max"),
        failed_checks_per_hour_max=checks.count(new.failed_checks_per_hour_max, "failed_checks_per_hour_max"),
        waiting_for_review_max=checks.count(new.waiting_for_review_max, "waiting_for_review_max"),
        sync_success_min_percent=checks.percent(new.sync_success_min_percent, "sync_success_min_percent"),
        history_began_at=checks.moment(new.history_began_at, "history_began_at"),
        app_loaded_at=checks.moment(new.app_loaded_at, "app_loaded_at"),
        calcom_loaded_at=checks.moment(new.calcom_loaded_at, "calcom_loaded_at"),
    )


_VALUES: Final = ", ".join(f"${number}" for number, _ in enumerate(Company.__struct_fields__, 1))
_INSERT: Final = f"INSERT INTO companies ({rows.COLUMNS}) VALUES ({_VALUES})"  # noqa: S608 - a program's constants
_UPDATE: Final = f"UPDATE companies SET ({rows.COLUMNS}) = ROW ({_VALUES}) WHERE company_id = $1"  # noqa: S608
#: What goes with a company, in the order in which others lock it.
_REMOVED: Final = ("company_secrets", "endpoints", "endpoint_messages", "alerts", "notify_turns")
_RETIRE: Final = """
UPDATE company_secrets SET expires_at = $3
WHERE company_id = $1 AND purpose = $2 AND (expires_at IS NULL OR expires_at > $3)"""
_COUNT: Final = """
SELECT count(*) FROM company_secrets
WHERE company_id = $1 AND purpose = $2 AND (expires_at IS NULL OR expires_at > $3)"""
_HAS_CONTACT: Final = "SELECT 1 FROM contacts WHERE company_id = $1 AND lower(email) = lower($2)"
_DELETE_CONTACT: Final = "DELETE FROM contacts WHERE company_id = $1 AND lower(email) = lower($2)"
_CONTACT_COLUMNS: Final = """
contact_id, name, email, role, language, suppressed_at, suppressed_reason, delivery, daily_at, muted_kinds"""
_CONTACTS: Final = f"""
SELECT {_CONTACT_COLUMNS} FROM contacts WHERE company_id = $1 ORDER BY created_at, contact_id"""  # noqa: S608 - constants
_SET_CONTACT: Final = f"""
UPDATE contacts SET name = coalesce($3::text, name), role = coalesce($4::text, role),
  language = coalesce($5::text, language), delivery = coalesce($6::text, delivery),
  daily_at = coalesce($7::time, daily_at),
  muted_kinds = ARRAY(
    SELECT DISTINCT k FROM unnest(muted_kinds || $8::text[]) AS k WHERE k <> ALL($9::text[]) ORDER BY k),
  email = coalesce($11::text, email),
  suppressed_at = CASE WHEN $10 OR email <> $11 THEN NULL ELSE suppressed_at END,
  suppressed_reason = CASE WHEN $10 OR email <> $11 THEN NULL ELSE suppressed_reason END,
  preferences_token = CASE WHEN email <> $11 THEN gen_random_uuid() ELSE preferences_token END
WHERE company_id = $1 AND lower(email) = lower($2)
RETURNING {_CONTACT_COLUMNS}"""  # noqa: S608 - constants


async def _insert(conn: Conn, company: Company) -> None:
    try:
        async with conn.transaction():
            await conn.execute(_INSERT, *structs.astuple(company))
    except asyncpg.UniqueViolationError:
        raise CompanyError(f"id: {company.company_id} is there already, or was removed and keeps its id") from None


async def _there(conn: Conn, company_id: str) -> Company:
    row = await conn.fetchrow(f"{_ONE} FOR UPDATE" if conn.is_in_transaction() else _ONE, company_id)
    if row is None:
        raise CompanyError(f"id: there is no company {company_id!r}")
    return rows.company(row)


_KEYED: Final = """
SELECT DISTINCT company_id FROM company_secrets WHERE purpose = $1 AND (expires_at IS NULL OR expires_at > $2)"""
_ONE: Final = f"SELECT {rows.COLUMNS} FROM companies WHERE company_id = $1 AND removed_at IS NULL"  # noqa: S608


async def _put_secret(conn: Conn, vault: Vault, company_id: str, purpose: Purpose, secret: str) -> None:
    await conn.execute(
        "INSERT INTO company_secrets (company_id, secret_id, purpose, ciphertext) VALUES ($1, $2, $3, $4)",
        company_id,
        uuid4(),
        purpose,
        vault.close(secret),
    )


async def _check_free(conn: Conn, company_id: str, email: str) -> None:
    if await conn.fetchval(_HAS_CONTACT, company_id, email):
        raise CompanyError(f"contact: {company_id} has {email} already")


async def _insert_contact(conn: Conn, company_id: str, new: NewContact) -> Contact:
    name, email = checks.person(new.person)
    contact_id: UUID = uuid4()
    role, language = checks.role(new.role), checks.language(new.language)
    await _check_free(conn, company_id, email)
    await conn.execute(
        "INSERT INTO contacts (company_id, contact_id, name, email, role, language) VALUES ($1, $2, $3, $4, $5, $6)",
        company_id,
        contact_id,
        name,
        email,
        role,
        language,
    )
    return Contact(contact_id=contact_id, name=name, email=email, role=role, language=language, suppressed_at=None)
