"""`reconcal companies contacts`: the people who are told of flags."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from services.cli.company_work import on
from services.cli.context import company_argument, database_settings, json_option, located, run
from services.cli.output import line

if TYPE_CHECKING:
    from services.companies.admin import NewContact
    from services.companies.model import Contact

ROLES: Final = click.Choice(("admin", "manager", "viewer"))
LANGUAGES: Final = click.Choice(("de", "en"))
#: Who is mailed at all.
_TOLD: Final = ("admin", "manager")
_AGAIN: Final = "--deliver-again"


@click.group()
def contacts() -> None:
    """Add, change, list and remove the people who are told of flags."""


@contacts.command("list")
@company_argument
@located
@json_option
def list_contacts(*, company_id: str, data_dir: Path | None, config: Path | None, as_json: bool) -> None:
    """List a company's contacts: with --json one object a line."""
    from services.cli.output import console, moment, table  # noqa: PLC0415
    from services.companies import admin  # noqa: PLC0415

    found = run(on(database_settings(data_dir, config), lambda conn: admin.list_contacts(conn, company_id)))
    if as_json:
        for contact in found:
            line(contact)
        return
    shown = table(f"Contacts of {company_id}", "name", "e-mail", "role", "language", "mail", "muted", "mail refused")
    for contact in found:
        refused = f"{moment(contact.suppressed_at)} {contact.suppressed_reason or ''}" if contact.suppressed_at else ""
        said = (contact.role, contact.language, _mailed(contact), " ".join(contact.muted_kinds), refused)
        shown.add_row(contact.name, contact.email, *said)
    console().print(shown)
    if any(contact.suppressed_at for contact in found):
        click.echo(
            f"Mail is sent to an address again after `reconcal companies contacts set {company_id} EMAIL {_AGAIN}`."
        )


#: Options whose name is taken.
_FIELDS: Final = {"new_email": "email"}


def _mailed(contact: "Contact") -> str:
    """Say when somebody is mailed."""
    if contact.role not in _TOLD or contact.delivery == "none":
        return "none"
    return f"daily at {contact.daily_at:%H:%M}" if contact.delivery == "daily" else "at once"


@contacts.command("add")
@company_argument
@click.argument("person", metavar="PERSON")
@located
@click.option("--role", type=ROLES, default="admin", show_default=True)
@click.option("--language", type=LANGUAGES, default="en", show_default=True)
def add_contact(
    company_id: str, person: str, data_dir: Path | None, config: Path | None, role: str, language: str
) -> None:
    """Add a person: "Mia Muster <mia@example.com>"."""
    from services.companies import admin  # noqa: PLC0415

    new = admin.NewContact(person=person, role=role, language=language)
    contact = run(on(database_settings(data_dir, config), lambda conn: admin.add_contact(conn, company_id, new)))
    click.echo(f"{contact.email} is told as {contact.role} of {company_id}.")


@contacts.command("set")
@company_argument
@click.argument("email")
@located
@click.option("--delivery", metavar="WHEN", help="immediate: as grouped; daily: one digest a day; none: no mail.")
@click.option("--daily-at", metavar="08:00", help="When a daily digest is mailed, on the company's clock.")
@click.option("--mute", multiple=True, metavar="KIND", help="Mail no flags of this kind, such as WAITING_FOR_REVIEW.")
@click.option("--unmute", multiple=True, metavar="KIND", help="Mail them again.")
@click.option("--language", metavar="LANGUAGE", help="de or en.")
@click.option("--role", metavar="ROLE", help="admin, manager, or viewer (who is not mailed).")
@click.option("--name", help="As mails address the person.")
@click.option("--email", "new_email", metavar="EMAIL", help="Another address of the same person, to be mailed instead.")
@click.option(_AGAIN, is_flag=True, help="The address was refused for good, and takes mail again.")
@json_option
def set_contact(
    *,
    company_id: str,
    email: str,
    data_dir: Path | None,
    config: Path | None,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - strings, checked by `admin`
) -> None:
    """Change how a person, named by e-mail address, is mailed; what is not given stays."""
    from services.companies import admin  # noqa: PLC0415

    chosen = {_FIELDS.get(name, name): value for name, value in given.items() if value not in (None, (), False)}
    if not chosen:
        raise click.UsageError("nothing to change: give at least one option")
    changes = admin.ContactChanges(**chosen)
    settings = database_settings(data_dir, config)
    contact = run(on(settings, lambda conn: admin.set_contact(conn, company_id, email, changes)))
    if as_json:
        line(contact)
        return
    muted = f"; not about {', '.join(contact.muted_kinds)}" if contact.muted_kinds else ""
    refused = "; the address refuses mail" if contact.suppressed_at else ""
    who = f"{contact.name} <{contact.email}>, {contact.role}, {contact.language}"
    click.echo(f"{who}: mail {_mailed(contact)}{muted}{refused}.")


@contacts.command("remove")
@company_argument
@click.argument("email")
@located
def remove_contact(company_id: str, email: str, data_dir: Path | None, config: Path | None) -> None:
    """Remove a person, by e-mail address."""
    from services.companies import admin  # noqa: PLC0415

    run(on(database_settings(data_dir, config), lambda conn: admin.remove_contact(conn, company_id, email)))
    click.echo(f"{email} is not told any more.")


def contacts_of(people: Sequence[str], roles: Sequence[str], languages: Sequence[str]) -> "list[NewContact]":
    """Put contacts, roles and languages together: one of a kind is for all. Raises click's UsageError."""
    from services.companies.admin import NewContact  # noqa: PLC0415

    spread = [
        _one_each("--role", roles or ("admin",), len(people), given=bool(roles)),
        _one_each("--language", languages or ("en",), len(people), given=bool(languages)),
    ]
    return [NewContact(person=p, role=r, language=lang) for p, r, lang in zip(people, *spread, strict=True)]


def _one_each(option: str, values: Sequence[str], count: int, *, given: bool) -> Sequence[str]:
    if given and not count:
        raise click.UsageError(f"{option} says something of a --contact, and there is none")
    if len(values) == 1:
        return list(values) * count
    if len(values) != count:
        raise click.UsageError(f"{option}: one for all contacts, or one a contact ({count}), not {len(values)}")
    return values
