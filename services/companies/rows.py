"""The register's queries: one a table, whatever the number of companies, all of one moment."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from msgspec import Struct, convert

from services.companies.model import Company, Contact, Delivery, Language, Purpose, Role
from services.plumbing.postgres import Pool

_COUNTER: Final = "SELECT value FROM change_counters WHERE name = 'companies'"
COLUMNS: Final = ", ".join(Company.__struct_fields__)
COMPANIES: Final = f"SELECT {COLUMNS} FROM companies WHERE removed_at IS NULL ORDER BY company_id"  # noqa: S608 - constants
_SECRETS: Final = """
SELECT company_id, secret_id, purpose, ciphertext, expires_at
FROM company_secrets JOIN companies USING (company_id) WHERE removed_at IS NULL
ORDER BY company_id, company_secrets.created_at DESC, secret_id"""
_CONTACTS: Final = """
SELECT company_id, contact_id, contacts.name, email, role, language, suppressed_at, suppressed_reason, delivery,
  daily_at, muted_kinds
FROM contacts JOIN companies USING (company_id) WHERE removed_at IS NULL
ORDER BY company_id, contacts.created_at, contact_id"""


class Sealed(Struct, frozen=True):
    """A secret as the database has it."""

    company_id: str
    secret_id: UUID
    purpose: Purpose
    ciphertext: bytes
    expires_at: datetime | None


class Found(Struct, frozen=True):
    """Everything, as of one value of the change counter."""

    counter: int
    companies: Mapping[str, Company]
    contacts: Mapping[str, tuple[Contact, ...]]
    secrets: list[Sealed]


async def read(pool: Pool, *, unless: int) -> Found | None:
    """Read everything, or nothing (None) while the change counter still stands at `unless`."""
    if await pool.fetchval(_COUNTER) == unless:
        return None
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        counter = int(await conn.fetchval(_COUNTER))
        companies = [company(row) for row in await conn.fetch(COMPANIES)]
        secrets = [_sealed(row) for row in await conn.fetch(_SECRETS)]
        contacts = _by_company(await conn.fetch(_CONTACTS))
    return Found(counter, {one.company_id: one for one in companies}, contacts, secrets)


def company(row: Mapping[str, Any]) -> Company:
    """Read a row of `companies`."""
    found = {name: row[name] for name in Company.__struct_fields__}
    return convert(found, Company)


def contact(row: Mapping[str, Any]) -> Contact:
    """Read a row of `contacts`."""
    return Contact(
        contact_id=row["contact_id"],
        name=row["name"],
        email=row["email"],
        role=Role(row["role"]),
        language=Language(row["language"]),
        suppressed_at=row["suppressed_at"],
        suppressed_reason=row["suppressed_reason"],
        delivery=Delivery(row["delivery"]),
        daily_at=row["daily_at"],
        muted_kinds=tuple(row["muted_kinds"]),
    )


def _sealed(row: Mapping[str, Any]) -> Sealed:
    return Sealed(row["company_id"], row["secret_id"], Purpose(row["purpose"]), row["ciphertext"], row["expires_at"])


def _by_company(found: list[Any]) -> dict[str, tuple[Contact, ...]]:
    contacts: dict[str, tuple[Contact, ...]] = {}
    for row in found:
        contacts[row["company_id"]] = (*contacts.get(row["company_id"], ()), contact(row))
    return contacts
