"""Who is to be told: read afresh for every batch, so that a change of contacts holds at once."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from msgspec import Struct

from services.notifier.story import Company
from services.plumbing.postgres import Connection

#: Companies and their people.
_PEOPLE: Final = """
SELECT c.company_id, c.name, c.time_zone, k.contact_id, k.email, k.role IN ('admin', 'manager') AS told,
  k.suppressed_at IS NOT NULL AS suppressed
FROM companies c LEFT JOIN contacts k USING (company_id)
WHERE c.company_id = ANY($1::text[]) AND c.removed_at IS NULL ORDER BY k.created_at, k.contact_id"""


class Person(Struct, frozen=True, kw_only=True):
    """A contact. `told`: admins and managers. `suppressed`: the address was refused, no mail goes there."""

    contact_id: UUID
    email: str
    told: bool
    suppressed: bool


class Household(Struct, frozen=True):
    """A company with its people."""

    company: Company
    people: list[Person]

    @property
    def told(self) -> list[Person]:
        """Give those who are told of flags."""
        return [person for person in self.people if person.told]


async def households(connection: Connection, company_ids: Collection[str]) -> dict[str, Household]:
    """Give the companies that there are, by id."""
    homes: dict[str, Household] = {}
    for row in await connection.fetch(_PEOPLE, sorted(company_ids)) if company_ids else []:
        company = Company(company_id=row["company_id"], name=row["name"], time_zone=row["time_zone"])
        home = homes.setdefault(company.company_id, Household(company, []))
        if row["contact_id"] is not None:
            home.people.append(
                Person(
                    contact_id=row["contact_id"],
                    email=row["email"],
                    told=row["told"],
                    suppressed=row["suppressed"],
                )
            )
    return homes
