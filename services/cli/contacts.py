"""`reconcal companies contacts`: the people who are told of flags."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from services.cli.company_work import on
from services.cli.context import company_argument, database_settings, json_option, located, run
from services.cli.output import line

if TYPE_CHECKING:
    from services.companies.admin import NewContact

ROLES: Final = click.Choice(("admin", "manager", "viewer"))
LANGUAGES: Final = click.Choice(("de", "en"))


@click.group()
def contacts() -> None:
    """Add, list and remove the people who are told of flags."""


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
    shown = table(f"Contacts of {company_id}", "name", "e-mail", "role", "language", "mail refused since")
    for contact in found:
        shown.add_row(contact.name, contact.email, contact.role, contact.language, moment(contact.suppressed_at))
    console().print(shown)


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
