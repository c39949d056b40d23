"""Who is to be told: read afresh for every batch, so that a change of contacts holds at once."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from msgspec import Struct

from services.notifier.letter import Company
from services.plumbing.postgres import Connection

#: Companies and their people.
_PEOPLE: Final = """
SELECT c.company_id, c.name, c.time_zone, k.contact_id, k.language, k.role IN ('admin', 'manager') AS told,
  k.suppressed_at IS NULL AND k.delivery <> 'none' AS mailed,
  EXISTS (SELECT FROM endpoints e WHERE e.company_id = c.company_id AND e.disabled_at IS NULL) AS endpoints
FROM companies c LEFT JOIN contacts k USING (company_id)
WHERE c.company_id = ANY($1::text[]) AND c.removed_at IS NULL ORDER BY k.created_at, k.contact_id"""


class Person(Struct, frozen=True, kw_only=True):
    """A contact. `told`: admins and managers. `mailed`: their address takes mail, and they want it."""

    contact_id: UUID
    language: str
    told: bool
    mailed: bool


class Household(Struct, frozen=True):
    """A company with its people; `endpoints`: whether there is one that is on."""

    company: Company
    people: list[Person]
    endpoints: bool

    @property
    def told(self) -> list[Person]:
        """Give those who are told of flags."""
        return [person for person in self.people if person.told]

    @property
    def reached(self) -> bool:
        """Tell whether anybody learns of anything, but by looking into the inbox."""
        return self.endpoints or any(person.mailed for person in self.told)


async def households(connection: Connection, company_ids: Collection[str]) -> dict[str, Household]:
    """Give the companies that there are, by id."""
    homes: dict[str, Household] = {}
    for row in await connection.fetch(_PEOPLE, sorted(company_ids)) if company_ids else []:
        company = Company(company_id=row["company_id"], name=row["name"], time_zone=row["time_zone"])
        home = homes.setdefault(company.company_id, Household(company, [], row["endpoints"]))
        if row["contact_id"] is not None:
            home.people.append(
                Person(
                    contact_id=row["contact_id"],
                    language=row["language"],
                    told=row["told"],
                    mailed=row["mailed"],
                )
            )
    return homes
