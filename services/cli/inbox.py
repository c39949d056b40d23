"""What lies in a person's inbox, for `reconcal notify inbox`."""

from msgspec import Struct

from services.cli.context import connected
from services.companies import admin
from services.notifier import inboxes
from services.notifier.inboxes import Entry
from services.plumbing.clock import WallClock
from services.plumbing.settings import Settings


class Wanted(Struct, frozen=True, kw_only=True):
    """Whose inbox, and what of it; `limit`: so many entries at most."""

    email: str
    unread: bool
    mark_read: bool
    limit: int


async def entries(settings: Settings, company_id: str, wanted: Wanted) -> list[Entry]:
    """Give a person's entries, newest first, and note that they were read if that is wanted. Raises CompanyError.

    `read_at` of each is from before.
    """
    async with connected(settings) as connection, connection.transaction():
        person = await admin.get_contact(connection, company_id, wanted.email)
        found = await inboxes.entries(
            connection, company_id, person.contact_id, unread=wanted.unread, limit=wanted.limit
        )
        if wanted.mark_read:
            await inboxes.mark_read(connection, company_id, found, WallClock().now())
    return found
