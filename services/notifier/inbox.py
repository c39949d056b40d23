"""A flag as a row of the console's inbox: pure."""

from typing import Final
from uuid import UUID, uuid5

from msgspec import Struct

from schemas.flags import Flag
from services.notifier.story import Company, Story, customer, starts_at, tell, zone

FAILURE: Final = "calcom_sync_failure"
RESOLVED: Final = "calcom_sync_resolved"


class Notification(Struct, frozen=True, kw_only=True):
    """What the inbox shows. `appointment_time` is ISO 8601 on the company's clock."""

    issue_type: str
    appointment_id: str | None
    customer_name: str | None
    appointment_time: str | None
    details: str
    requires_action: bool
    url: str


def notification_id(flag_id: UUID, contact_id: UUID) -> UUID:
    """Name the notification of a flag to a person: always the same."""
    return uuid5(flag_id, f"notification:{contact_id}")


def notification(flag: Flag, company: Company, *, console_url: str) -> Notification:
    """Put a flag into the inbox's terms."""
    story = tell(flag, company, console_url=console_url)
    moment = starts_at(flag)
    return Notification(
        issue_type=flag.kind.value,
        appointment_id=flag.appointment.appointment_id if flag.appointment else None,
        customer_name=customer(flag),
        appointment_time=moment.astimezone(zone(company.time_zone)).isoformat() if moment else None,
        details=_details(story),
        requires_action=not story.resolved,
        url=story.url,
    )


def _details(story: Story) -> str:
    grounds = [story.grounds] if story.grounds else []
    differences = [f"{d.field}: {d.local} in the booking app, {d.calcom} at Cal.com." for d in story.differences]
    return " ".join([story.happened, *grounds, *differences])
