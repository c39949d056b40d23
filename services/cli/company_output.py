"""How companies are shown: what an operator has to enter elsewhere stands here."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

import click

from schemas.rules import COMPARED
from schemas.triggers import TRIGGERS
from services.cli.output import line

if TYPE_CHECKING:
    from services.companies.admin import Added
    from services.companies.model import Company
    from services.plumbing.settings import Settings

#: Of a company's alerts.
FIGURES: Final = (
    "group_wait_seconds",
    "group_interval_seconds",
    "reminder_seconds",
    "urgent_within_seconds",
    "orphans_per_day_max",
    "failed_checks_per_hour_max",
    "waiting_for_review_max",
    "sync_success_min_percent",
)


def show_companies(found: "Sequence[Company]", keyed: "Collection[str]", *, as_json: bool) -> None:
    """Print companies: a line of JSON each, or a table. `keyed`: those whose Cal.com can be asked."""
    if as_json:
        import msgspec  # noqa: PLC0415

        for company in found:
            line(msgspec.to_builtins(company) | {"has_calcom_api_key": company.company_id in keyed})
        return
    from services.cli.output import console, table  # noqa: PLC0415

    shown = table(
        "Companies", "id", "name", "time zone", ">window", "unconfirmed", "unpaid", "compared", "by person", "Cal.com"
    )
    for company in found:
        settling = "" if company.settling_window_seconds is None else f" / {_span(company.settling_window_seconds)}"
        asked = (
            f"asked, for {_span(company.verification_wait_seconds)}" if company.company_id in keyed else "no API key"
        )
        shown.add_row(
            company.company_id,
            company.name,
            f"{company.time_zone} ({company.country})",
            f"{_span(company.window_seconds)}{settling}",
            f"{company.unconfirmed_policy} after {_span(company.unconfirmed_window_seconds)}",
            f"{company.unpaid_policy} after {_span(company.unpaid_window_seconds)}",
            "all" if set(company.compared_fields) == set(COMPARED) else ", ".join(company.compared_fields),
            "yes" if company.match_by_attendee else "no",
            asked,
        )
    console().print(shown if found else "No companies yet: `reconcal companies add` makes one.")
    for company in found:
        if own := _own_figures(company):
            console().print(f"{company.company_id} has figures of its own: {', '.join(own)}")


def _own_figures(company: "Company") -> list[str]:
    """Give the figures of its alerts that are not everybody's, as `set` takes them."""
    from services.companies.model import Company  # noqa: PLC0415

    usual = Company(company_id="", name="")
    return [
        f"--{name.replace('_', '-')} {value:g}"
        for name in FIGURES
        if (value := getattr(company, name)) != getattr(usual, name)
    ]


def _span(seconds: float) -> str:
    """Give a duration in the largest unit that it is a whole number of."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds > length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"


def show_added(added: "Added", settings: "Settings", *, as_json: bool) -> None:
    """Print a new company with its secrets, and what to enter at Cal.com and in the app."""
    base = settings.ingest_public_url or f"http://{settings.ingest_host}:{settings.ingest_port}"
    company_id = added.company.company_id
    addresses = {
        "webhook_url": f"{base.rstrip('/')}/webhooks/calcom/{company_id}",
        "events_url": f"{base.rstrip('/')}/events/appointments/{company_id}",
    }
    if as_json:
        import msgspec  # noqa: PLC0415

        secrets = {
            "webhook_secret": added.calcom_webhook,
            "app_webhook_secret": added.app_webhook,
            "ingest_token": added.ingest_token,
        }
        people = {"contacts": added.contacts, "triggers": TRIGGERS}
        line(msgspec.to_builtins(added.company) | addresses | secrets | people)
        return
    click.echo(f"""{company_id} ({added.company.name}) is there. The secrets are shown this once.

At Cal.com (Settings > Developer > Webhooks), without a payload template:
  Subscriber URL   {addresses["webhook_url"]}
  Secret           {added.calcom_webhook}
  Triggers         {" ".join(TRIGGERS[:5])}
                   {" ".join(TRIGGERS[5:])}

In the booking app:
  Events to        {addresses["events_url"]}
  Signing secret   {added.app_webhook}   (Standard Webhooks)
  or bearer token  {added.ingest_token}""")
    for contact in added.contacts:
        click.echo(f"\nTold of flags: {contact.name} <{contact.email}>, {contact.role}, {contact.language}")
