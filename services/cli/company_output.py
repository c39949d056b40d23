"""How companies are shown: what an operator has to enter elsewhere stands here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from schemas.triggers import TRIGGERS
from services.cli.output import line

if TYPE_CHECKING:
    from services.companies.admin import Added
    from services.companies.model import Company
    from services.plumbing.settings import Settings


def show_companies(found: "Sequence[Company]", *, as_json: bool) -> None:
    """Print companies: a line of JSON each, or a table."""
    if as_json:
        for company in found:
            line(company)
        return
    from services.cli.output import console, table  # noqa: PLC0415

    shown = table(
        "Companies", "id", "name", "time zone", ">window", "unconfirmed", "unpaid", "compared", "by person", ">API wait"
    )
    for company in found:
        settling = "" if company.settling_window_seconds is None else f" / {company.settling_window_seconds:g} s"
        shown.add_row(
            company.company_id,
            company.name,
            f"{company.time_zone} ({company.country})",
            f"{company.window_seconds:g} s{settling}",
            f"{company.unconfirmed_policy} after {company.unconfirmed_window_seconds:g} s",
            f"{company.unpaid_policy} after {company.unpaid_window_seconds:g} s",
            ", ".join(company.compared_fields),
            "yes" if company.match_by_attendee else "no",
            f"{company.verification_wait_seconds:g} s",
        )
    console().print(shown if found else "No companies yet: `reconcal companies add` makes one.")


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
