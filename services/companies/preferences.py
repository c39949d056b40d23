"""What a person may change about their mails by the token that stands in them: whoever has it is taken for that person.

The token is a secret: it is never logged, and no error here carries it.
"""

from collections.abc import Collection, Mapping
from datetime import time
from typing import Any, Final
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from services.companies.admin import Conn, ContactChanges, set_contact
from services.companies.model import Delivery, Language


class Preferences(Struct, frozen=True, kw_only=True):
    """One contact, as the page shows them.

    `told`: an admin or manager, whom mails are for. `suppressed`: their address was refused for good.
    `others_get_mail`: some other admin or manager of the company gets mail.
    """

    company_id: str
    company_name: str
    time_zone: str
    contact_id: UUID
    name: str
    email: str
    language: Language
    delivery: Delivery
    daily_at: time
    muted_kinds: frozenset[str]
    told: bool
    suppressed: bool
    others_get_mail: bool

    @property
    def gets_mail(self) -> bool:
        """Tell whether mail goes to this person."""
        return self.told and not self.suppressed and self.delivery is not Delivery.NONE

    @property
    def somebody_gets_mail(self) -> bool:
        """Tell whether mail goes to anybody of the company."""
        return self.gets_mail or self.others_get_mail


async def by_token(conn: Conn, token: UUID) -> Preferences | None:
    """Give the contact that has this token; None: nobody has, or their company was removed."""
    row = await conn.fetchrow(_READ, token)
    return None if row is None else _preferences(row)


async def change(
    conn: Conn,
    token: UUID,
    *,
    delivery: Delivery | UnsetType = UNSET,
    daily_at: time | UnsetType = UNSET,
    muted_kinds: Collection[str] | UnsetType = UNSET,
    language: Language | UnsetType = UNSET,
) -> Preferences | None:
    """Change what is not UNSET; gives the contact as they are then, None when nobody has this token.

    Where nothing would change nothing is written: writing has every service read the contacts anew. Raises CompanyError
    for a kind that there is not.
    """
    async with conn.transaction():
        known = await by_token(conn, token)
        if known is None:
            return None
        muted = known.muted_kinds if isinstance(muted_kinds, UnsetType) else frozenset(muted_kinds)
        changes = ContactChanges(
            delivery=UNSET if delivery == known.delivery else delivery,
            daily_at=UNSET if isinstance(daily_at, UnsetType) or daily_at == known.daily_at else f"{daily_at:%H:%M}",
            language=UNSET if language == known.language else language,
            mute=tuple(muted - known.muted_kinds),
            unmute=tuple(known.muted_kinds - muted),
        )
        if changes == ContactChanges():
            return known
        await set_contact(conn, known.company_id, known.email, changes)
        return await by_token(conn, token)


async def unsubscribe(conn: Conn, token: UUID) -> Preferences | None:
    """Send this contact no mail any more; any number of times. None: nobody has this token."""
    return await change(conn, token, delivery=Delivery.NONE)


_READ: Final = """
SELECT c.company_id, c.name AS company_name, c.time_zone, k.contact_id, k.name, k.email, k.language, k.delivery,
  k.daily_at, k.muted_kinds, k.role IN ('admin', 'manager') AS told, k.suppressed_at IS NOT NULL AS suppressed,
  EXISTS (
    SELECT FROM contacts o
    WHERE o.company_id = k.company_id AND o.contact_id <> k.contact_id AND o.role IN ('admin', 'manager')
      AND o.delivery <> 'none' AND o.suppressed_at IS NULL
  ) AS others_get_mail
FROM contacts k JOIN companies c USING (company_id)
WHERE k.preferences_token = $1 AND c.removed_at IS NULL"""


def _preferences(row: Mapping[str, Any]) -> Preferences:
    return Preferences(
        company_id=row["company_id"],
        company_name=row["company_name"],
        time_zone=row["time_zone"],
        contact_id=row["contact_id"],
        name=row["name"],
        email=row["email"],
        language=Language(row["language"]),
        delivery=Delivery(row["delivery"]),
        daily_at=row["daily_at"],
        muted_kinds=frozenset(row["muted_kinds"]),
        told=row["told"],
        suppressed=row["suppressed"],
        others_get_mail=row["others_get_mail"],
    )
