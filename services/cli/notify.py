"""`reconcal notify`: try how people are told, look at mails, read somebody's inbox."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from services.cli.contacts import LANGUAGES
from services.cli.context import config_option, database_settings, json_option, located, run
from services.cli.failures import Wrong
from services.cli.output import line

if TYPE_CHECKING:
    from uuid import UUID

    from services.cli.trying import Tried
    from services.notifier.inboxes import Entry

FORMATS: Final = click.Choice(("text", "html", "raw", "json"))
#: More of a customer's name or of details is no help.
_WIDEST: Final = 500

_company_option = click.option("--company", "company_id", required=True, metavar="ID", help="The company's id.")


@click.group()
def notify() -> None:
    """Try how people are told, look at sample mails, read a person's inbox."""


@notify.command()
@_company_option
@click.option("--to", metavar="EMAIL", help="Send a sample mail to this address.")
@click.option("--endpoint", "endpoint_id", type=click.UUID, metavar="ID", help="Or send a sample to this endpoint.")
@click.option("--language", type=LANGUAGES, help="[default: the person's or endpoint's, else en]")
@located
@json_option
def test(
    *,
    company_id: str,
    to: str | None,
    endpoint_id: "UUID | None",
    language: str | None,
    data_dir: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Send a sample the way that alerts go, and say what the server answered.

    Exit 0: it was taken, 1: it was not.
    """
    from services.cli import trying  # noqa: PLC0415

    if (to is None) == (endpoint_id is None):
        raise click.UsageError("either --to or --endpoint: where is the sample to go?")
    settings = database_settings(data_dir, config)
    if to is not None:
        tried = run(trying.by_mail(settings, company_id, to, language))
    else:
        assert endpoint_id is not None  # noqa: S101 - one of both is there
        tried = run(trying.by_endpoint(settings, company_id, endpoint_id, language))
    line(tried) if as_json else _show_tried(tried)
    sys.exit(0 if tried.taken else 1)


def _show_tried(tried: "Tried") -> None:
    click.echo(f"Asked {tried.server} ({tried.security}) to take a sample for {tried.to}.")
    if tried.taken:
        click.echo(f"It answered: {tried.answer}")
    else:
        click.echo(f"reconcal: not taken: {tried.reason}", err=True)
        if tried.in_doubt:
            click.echo("It may have arrived all the same: the answer did not.", err=True)
        if tried.advice:
            click.echo(tried.advice, err=True)
    for note in tried.notes:
        click.echo(f"Note: {note}")


@notify.command()
@click.argument("kind")
@click.option("--language", type=LANGUAGES, default="en", show_default=True)
@click.option(
    "--format",
    "form",
    type=FORMATS,
    default="text",
    show_default=True,
    help="text, html: as people see it; raw: the mail's bytes; json: what is told.",
)
@config_option
def preview(*, kind: str, language: str, form: str, config: Path | None) -> None:
    """Print a sample mail. KIND: a flag's, such as ORPHANED_LOCAL; digest, resolved, reminder, daily, mixed, sample.

    Needs no database and sends nothing.
    """
    from services.notifier import samples  # noqa: PLC0415
    from services.plumbing.settings import load  # noqa: PLC0415

    name = kind.lower().replace("-", "_")
    if name not in samples.NAMES:
        raise Wrong(f"there is no sample {kind!r}: {', '.join(samples.NAMES)} are there")
    letter = samples.letter(name)
    if form == "json":
        line(letter)
        return
    from services.cli import trying  # noqa: PLC0415

    mail = trying.composed(load(os.environ, config), letter, samples.COMPANY, samples.recipient(language), samples.AT)
    if form == "raw":
        click.echo(mail.as_bytes(), nl=False)
        return
    part = mail.get_body(("html" if form == "html" else "plain",))
    assert part is not None  # noqa: S101 - every mail has both
    text = str(part.get_content())
    click.echo(text if form == "html" else f"Subject: {mail['Subject']}\n\n{text}", nl=False)


@notify.command()
@_company_option
@click.option("--to", "email", required=True, metavar="EMAIL", help="Whose inbox: the address of a contact.")
@click.option("--unread", is_flag=True, help="Only what is unread.")
@click.option("--mark-read", is_flag=True, help="Whatever is shown is read from now on.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="So many, newest first.")
@located
@json_option
def inbox(
    *,
    company_id: str,
    email: str,
    unread: bool,
    mark_read: bool,
    limit: int,
    data_dir: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """List a person's inbox, newest first: with --json one object a line."""
    from services.cli import inbox as inboxes  # noqa: PLC0415

    wanted = inboxes.Wanted(email=email, unread=unread, mark_read=mark_read, limit=limit)
    found = run(inboxes.entries(database_settings(data_dir, config), company_id, wanted))
    if as_json:
        for entry in found:
            line(entry)
        return
    _show_inbox(email, found)


def _show_inbox(email: str, found: "list[Entry]") -> None:
    from services.cli.output import console, moment, table  # noqa: PLC0415
    from services.words.plain import plain  # noqa: PLC0415

    if not found:
        click.echo("Nothing there.")
        return
    shown = table(f"Inbox of {email}", "since (UTC)", "", "issue", "appointment", "customer", "at", "details")
    for entry in found:
        data = {name: plain(str(value or ""), _WIDEST) for name, value in entry.data.items()}
        starts_at = data.get("appointment_time", "")[:16].replace("T", " ")
        said = (data.get(name, "") for name in ("issue_type", "appointment_id", "customer_name"))
        shown.add_row(
            moment(entry.created_at), "" if entry.read_at else "new", *said, starts_at, data.get("details", "")
        )
    console().print(shown)
