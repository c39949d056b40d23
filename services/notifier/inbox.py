"""A flag as a row of the console's inbox: pure."""

from typing import Final
from uuid import UUID, uuid5

from msgspec import Struct

from schemas.flags import Flag
from services.notifier.letter import Company
from services.words import story, tongue
from services.words.moments import on_the_clock
from services.words.story import Story, Voice
from services.words.tongue import Tongue

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


def notification(flag: Flag, company: Company, *, console_url: str, language: str) -> Notification:
    """Put a flag into the inbox's terms, its details in the person's language."""
    voice = Voice(tongue=tongue.of(language), time_zone=company.time_zone, console_url=console_url)
    told, moment = story.tell(flag, voice), story.starts_at(flag)
    return Notification(
        issue_type=flag.kind.value,
        appointment_id=flag.appointment.appointment_id if flag.appointment else None,
        customer_name=story.customer(flag),
        appointment_time=on_the_clock(moment, company.time_zone).isoformat() if moment else None,
        details=_details(told, voice.tongue),
        requires_action=not told.resolved,
        url=told.url,
    )


def _details(told: Story, said: Tongue) -> str:
    grounds = [told.grounds] if told.grounds else []
    return " ".join([told.happened, *grounds, *(_difference(found, said) for found in told.differences)])


def _difference(found: story.Difference, said: Tongue) -> str:
    return said.gettext(
        "%(field)s: %(local)s in the booking app, %(calcom)s at Cal.com.",
        field=found.field,
        local=found.local,
        calcom=found.calcom,
    )
