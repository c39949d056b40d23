"""`reconcal companies endpoints`: where a company is told by HTTP."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from services.cli.company_work import A_FILE, on, on_with_vault, secret_in
from services.cli.contacts import LANGUAGES
from services.cli.context import database_settings, json_option, located, run
from services.cli.failures import Wrong
from services.cli.output import line

if TYPE_CHECKING:
    from services.companies.endpoints import Endpoint
    from services.plumbing.postgres import Connection
    from services.plumbing.secrets import Vault

FORMATS: Final = click.Choice(("standard", "slack"))


@click.group()
@click.option("--company", "company_id", required=True, metavar="ID", help="Which company.")
@click.pass_context
def endpoints(context: click.Context, company_id: str) -> None:
    """Add, list, remove and enable the addresses at which a company is told by HTTP."""
    context.obj = company_id


@endpoints.command("add")
@click.pass_obj
@click.argument("url", required=False)
@click.option("--url-file", type=A_FILE, help="File with the address: for one that is a secret, as Slack's are.")
@click.option(
    "--format",
    type=FORMATS,
    default="standard",
    show_default=True,
    help="standard: one signed webhook a flag (Standard Webhooks). slack: grouped messages, as mails are.",
)
@click.option("--secret-file", type=A_FILE, help="File with the signing secret (whsec_...); generated if not given.")
@click.option("--language", type=LANGUAGES, default="en", show_default=True, help="Of what is said in Slack.")
@click.option("--mute", multiple=True, metavar="KIND", help="A kind of flag not to tell there; repeatable.")
@located
@json_option
def add_endpoint(
    company_id: str,
    /,
    *,
    url: str | None,
    url_file: Path | None,
    secret_file: Path | None,
    data_dir: Path | None,
    config: Path | None,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - strings, checked by `companies.endpoints`
) -> None:
    """Add an address: URL, or a file that has it. Shows the signing secret once.

    Each is told of what happens from now on. Whoever may list this machine's processes sees what stands on a command
    line: give an address that is a secret by --url-file. One that leads into a private network is refused, unless
    RECONCAL_ENDPOINT_PRIVATE_ADDRESSES is `allow`.
    """
    from services.companies import endpoints as them  # noqa: PLC0415

    new = them.NewEndpoint(
        url=_address(url, url_file),
        format=given["format"],
        language=given["language"],
        muted_kinds=given["mute"],
        secret=secret_in(secret_file),
    )
    settings = database_settings(data_dir, config)
    allow = settings.endpoint_private_addresses == "allow"

    async def work(connection: "Connection", vault: "Vault") -> "tuple[Endpoint, str | None]":
        return await them.add(connection, vault, company_id, new, allow_private=allow)

    made, secret = run(on_with_vault(settings, work))
    if as_json:
        import msgspec  # noqa: PLC0415

        line(msgspec.to_builtins(made) | {"secret": secret})
        return
    click.echo(f"{made.endpoint_id}: {company_id} is told at {made.host} ({made.format}).")
    if secret is not None:
        click.echo(f"Signing secret, shown this once: {secret}   (Standard Webhooks)")


@endpoints.command("list")
@click.pass_obj
@located
@json_option
def list_endpoints(company_id: str, *, data_dir: Path | None, config: Path | None, as_json: bool) -> None:
    """List a company's endpoints, by host: with --json one object a line."""
    from services.cli.output import console, moment, table  # noqa: PLC0415
    from services.companies import endpoints as them  # noqa: PLC0415

    found = run(on(database_settings(data_dir, config), lambda conn: them.list_endpoints(conn, company_id)))
    if as_json:
        for endpoint in found:
            line(endpoint)
        return
    shown = table(f"Endpoints of {company_id}", "id", "host", "format", "not told", "failing since", "off since", "why")
    for one in found:
        why = one.disabled_reason or one.last_error or ""
        muted = ", ".join(one.muted_kinds)
        since = (moment(one.failing_since), moment(one.disabled_at))
        shown.add_row(str(one.endpoint_id), one.host, one.format, muted, *since, why)
    console().print(shown if found else f"{company_id} has no endpoints: `endpoints --company {company_id} add`.")


@endpoints.command("remove")
@click.pass_obj
@click.argument("endpoint_id", metavar="ID")
@located
def remove_endpoint(company_id: str, endpoint_id: str, data_dir: Path | None, config: Path | None) -> None:
    """Remove an endpoint, with what waits for it."""
    from services.companies import endpoints as them  # noqa: PLC0415

    settings = database_settings(data_dir, config)
    gone = run(on(settings, lambda conn: them.remove(conn, company_id, endpoint_id)))
    click.echo(f"{gone.host} is not told any more.")


@endpoints.command("enable")
@click.pass_obj
@click.argument("endpoint_id", metavar="ID")
@located
def enable_endpoint(company_id: str, endpoint_id: str, data_dir: Path | None, config: Path | None) -> None:
    """Switch an endpoint on again that was switched off, and have it tried at once."""
    from services.companies import endpoints as them  # noqa: PLC0415

    settings = database_settings(data_dir, config)
    there = run(on(settings, lambda conn: them.enable(conn, company_id, endpoint_id)))
    click.echo(f"{there.host} is told of what happens from now on.")


def _address(url: str | None, url_file: Path | None) -> str:
    """Give the address that was given, once. Raises UsageError; Wrong for a file that has none."""
    if (url is None) is (url_file is None):
        raise click.UsageError("one of URL and --url-file is wanted")
    given = url if url is not None else secret_in(url_file)
    if not given:
        raise Wrong("url: it is empty")
    return given
