"""What `reconcal companies` does at Cal.com: our webhook there, and the bookings of a company's past."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from services.cli.context import database_settings, json_option, located, run

if TYPE_CHECKING:
    from datetime import datetime

    from msgspec import UnsetType

_company_option: Final = click.option("--company", "company_id", required=True, metavar="ID", help="Which company.")

app_loaded_option: Final = click.option(
    "--app-loaded/--no-app-loaded",
    default=None,
    help="Say that the app has sent all of its past appointments, or has not.",
)


def loaded_at(app_loaded: bool | None) -> "datetime | UnsetType | None":  # noqa: FBT001 - an option's value
    """Give what `--app-loaded` changes, as `companies.admin` takes it."""
    from msgspec import UNSET  # noqa: PLC0415

    from services.plumbing.clock import WallClock  # noqa: PLC0415

    if app_loaded is None:
        return UNSET
    return WallClock().now() if app_loaded else None


@click.command()
@click.argument("act", type=click.Choice(("check", "register", "repair")))
@_company_option
@located
@json_option
def webhook(*, act: Any, company_id: str, data_dir: Path | None, config: Path | None, as_json: bool) -> None:  # noqa: ANN401 - one of three words
    """Look at our webhook at Cal.com, make it, or mend it.

    check says what Cal.com has registered for our address. register makes it with all triggers and our secret, or
    repairs it if it is there already. repair switches it on, with all triggers, our secret and no payload template.

    Exit codes: 0 well, 1 something is wrong, 2 Cal.com could not be asked.
    """
    from services.cli import at_calcom, output  # noqa: PLC0415

    shown = run(at_calcom.webhook(database_settings(data_dir, config), company_id, act))
    if as_json:
        output.line(shown)
    else:
        click.echo(f"{shown.done}: {shown.url}\n{shown.state}: {shown.detail}")
    sys.exit(0 if shown.well else 1)


@click.command()
@_company_option
@click.option("--days", type=click.IntRange(1, 3660), default=90, show_default=True, help="How far back.")
@click.option("--wait", is_flag=True, help="Follow it until all is loaded.")
@click.option("--wait-seconds", type=float, default=3600, show_default=True, help="How long --wait waits.")
@located
@json_option
def backfill(
    *,
    company_id: str,
    days: int,
    wait: bool,
    wait_seconds: float,
    data_dir: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Load the bookings that Cal.com had before the company came here.

    From now on what is older counts as indeterminate until both sides are loaded: say `reconcal companies set ID
    --app-loaded` when the app has sent its past, too. May be repeated; what is known changes nothing.

    Exit codes: 0 loaded, or asked for without --wait; 1 not loaded in time, or not all of it.
    """
    from services.cli import loading, output  # noqa: PLC0415

    settings, seconds = database_settings(data_dir, config), wait_seconds if wait else None
    asked = run(loading.load(settings, company_id, days, seconds=seconds, quiet=as_json))
    done = asked.finished_at is not None
    if as_json:
        output.line(asked)
    elif done:
        click.echo(f"All {asked.rows_seen} bookings from {asked.since:%Y-%m-%d} on are loaded.")
    else:
        click.echo(f"Asked for bookings from {asked.since:%Y-%m-%d} on. {asked.error or ''}".rstrip())
    sys.exit(0 if done or not wait else 1)
