"""`reconcal companies`: tenants, their secrets and their people. Running services see a change within seconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from services.cli.company_calcom import app_loaded_option, backfill, loaded_at, webhook
from services.cli.company_output import show_added, show_companies
from services.cli.company_rules import chosen_of, rules
from services.cli.company_work import A_FILE, on, on_with_vault, rotate, secret_in, vault_of
from services.cli.contacts import LANGUAGES, ROLES, contacts, contacts_of
from services.cli.context import company_argument, database_settings, json_option, located, run
from services.cli.endpoints import endpoints
from services.cli.output import line

if TYPE_CHECKING:
    from services.companies.admin import Added
    from services.companies.model import Company
    from services.plumbing.postgres import Connection
    from services.plumbing.secrets import Vault

PURPOSES: Final = ("calcom-webhook", "app-webhook", "ingest-token", "calcom-api-key")


@click.group()
def companies() -> None:
    """Add, change, list and remove companies."""


for _more in (contacts, endpoints, webhook, backfill):
    companies.add_command(_more)


@companies.command()
@company_argument
@located
@click.option("--name", required=True, help="The company's name, as people know it.")
@click.option("--time-zone", help="IANA zone of the times in mails. [default: Europe/Berlin]")
@rules
@click.option("--webhook-secret", help="Cal.com's webhook secret; generated if not given.")
@click.option("--app-webhook-secret", help="Standard Webhooks secret (whsec_...) of the app; generated if not given.")
@click.option("--ingest-token", help="Bearer token of the app; generated if not given.")
@click.option(
    "--contact", "people", multiple=True, metavar="PERSON", help='"Mia Muster <mia@example.com>"; repeatable.'
)
@click.option(
    "--role", "roles", multiple=True, type=ROLES, help="One for all contacts, or one a contact. [default: admin]"
)
@click.option("--language", "languages", multiple=True, type=LANGUAGES, help="Likewise. [default: en]")
@click.option("--calcom-api-key-file", type=A_FILE, help="File with a Cal.com API key.")
@click.option("--calcom-base-url", help="Cal.com's API. [default: https://api.cal.com/v2]")
@json_option
def add(
    *,
    company_id: str,
    data_dir: Path | None,
    config: Path | None,
    people: Sequence[str],
    roles: Sequence[str],
    languages: Sequence[str],
    calcom_api_key_file: Path | None,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - strings and numbers, checked by `admin`
) -> None:
    """Add a company; shows its secrets once, and what to enter at Cal.com."""
    from services.companies import admin  # noqa: PLC0415

    chosen = {_FIELDS.get(name, name): value for name, value in chosen_of(given).items()}
    new = admin.NewCompany(
        company_id=company_id,
        contacts=tuple(contacts_of(people, roles, languages)),
        calcom_api_key=secret_in(calcom_api_key_file),
        **chosen,
    )
    settings = database_settings(data_dir, config)

    async def work(connection: "Connection", vault: "Vault") -> "Added":
        return await admin.add(connection, vault, new)

    show_added(run(on_with_vault(settings, work)), settings, as_json=as_json)


_FIELDS: Final = {"webhook_secret": "calcom_webhook", "app_webhook_secret": "app_webhook"}


@companies.command("set")
@company_argument
@located
@click.option("--name", help="The company's name.")
@click.option("--time-zone", help="IANA zone of the times in mails.")
@rules
@click.option("--calcom-base-url", help="Cal.com's API.")
@click.option("--calcom-api-key-file", type=A_FILE, help="File with a Cal.com API key; replaces the present one.")
@app_loaded_option
@json_option
def set_(
    *,
    company_id: str,
    data_dir: Path | None,
    config: Path | None,
    calcom_api_key_file: Path | None,
    app_loaded: bool | None,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - strings and numbers, checked by `admin`
) -> None:
    """Change a company; what is not given stays."""
    from services.companies import admin  # noqa: PLC0415
    from services.companies.model import Purpose  # noqa: PLC0415
    from services.plumbing.clock import WallClock  # noqa: PLC0415

    changes = admin.Changes(**chosen_of(given), app_loaded_at=loaded_at(app_loaded))
    settings, key = database_settings(data_dir, config), secret_in(calcom_api_key_file)

    async def change(connection: "Connection") -> "tuple[list[Company], set[str]]":
        async with connection.transaction():
            company = await admin.set_company(connection, company_id, changes)
            if key is not None:
                vault = await vault_of(settings, connection)
                await rotate(connection, vault, company_id, Purpose.CALCOM_API_KEY, keep_old_seconds=0, given=key)
            return [company], await admin.having_keys(connection, WallClock().now())

    show_companies(*run(on(settings, change)), as_json=as_json)


@companies.command("list")
@located
@json_option
def list_(*, data_dir: Path | None, config: Path | None, as_json: bool) -> None:
    """List the companies: with --json one object a line."""
    from services.companies import admin  # noqa: PLC0415
    from services.plumbing.clock import WallClock  # noqa: PLC0415

    async def work(connection: "Connection") -> "tuple[list[Company], set[str]]":
        return await admin.list_companies(connection), await admin.having_keys(connection, WallClock().now())

    show_companies(*run(on(database_settings(data_dir, config), work)), as_json=as_json)


@companies.command()
@company_argument
@located
@click.option("--purpose", type=click.Choice(PURPOSES), default=PURPOSES[0], show_default=True, help="Which secret.")
@click.option("--secret-file", type=A_FILE, help="File with the new secret; generated if not given.")
@click.option(
    "--keep-old-seconds",
    type=float,
    default=86_400,
    show_default=True,
    help="How long the old one still counts; 0: not.",
)
@json_option
def rotate_secret(
    *,
    company_id: str,
    data_dir: Path | None,
    config: Path | None,
    purpose: str,
    secret_file: Path | None,
    keep_old_seconds: float,
    as_json: bool,
) -> None:
    """Put a new secret beside the old one; shows it once."""
    from services.companies.model import Purpose  # noqa: PLC0415

    given, kind = secret_in(secret_file), Purpose(purpose.replace("-", "_"))

    async def work(connection: "Connection", vault: "Vault") -> str:
        return await rotate(connection, vault, company_id, kind, keep_old_seconds=keep_old_seconds, given=given)

    secret = run(on_with_vault(database_settings(data_dir, config), work))
    if as_json:
        line({"company_id": company_id, "purpose": kind.value, "secret": secret})
    else:
        click.echo(f"New {purpose} secret of {company_id}, shown this once: {secret}")


@companies.command()
@company_argument
@located
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(*, company_id: str, data_dir: Path | None, config: Path | None, yes: bool) -> None:
    """Remove a company: its secrets are deleted at once, its history stays, its id stays taken."""
    from services.companies import admin  # noqa: PLC0415
    from services.plumbing.clock import WallClock  # noqa: PLC0415

    settings = database_settings(data_dir, config)
    if not yes:
        click.confirm(f"Remove {company_id}?", abort=True, err=True)
    run(on(settings, lambda connection: admin.remove_company(connection, company_id, WallClock().now())))
    click.echo(f"{company_id} is removed.")
