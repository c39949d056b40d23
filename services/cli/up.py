"""`reconcal up` and `reconcal demo`: everything in one process."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.cli.context import config_option, data_dir_option, json_option, named
from services.cli.output import console, line, table
from services.cli.service import warn_of_unknown

if TYPE_CHECKING:
    from services.embedded.readiness import Addresses
    from services.embedded.stack import Stack

_port = click.IntRange(0, 65535)


@click.command()
@data_dir_option
@config_option
@click.option("--port", type=_port, help="Ingest's port. [default: RECONCAL_INGEST_PORT, else a free one]")
@click.option("--kafka-port", type=_port, default=0, help="The embedded broker's port. [default: a free one]")
@click.option("--postgres-port", type=_port, default=0, help="The embedded database's port. [default: a free one]")
@json_option
def up(
    *, data_dir: Path | None, config: Path | None, port: int | None, kafka_port: int, postgres_port: int, as_json: bool
) -> None:
    """Run all services in one process, until Ctrl-C.

    Uses the Kafka of RECONCAL_KAFKA_BOOTSTRAP_SERVERS, the PostgreSQL of RECONCAL_POSTGRES_DSN and the mail server of
    RECONCAL_SMTP_HOST; what is not set is embedded. The embedded broker forgets at the end, the database does not.
    Prints where everything is when everything is ready: with --json as one line.
    """
    from services.embedded import stack, state  # noqa: PLC0415
    from services.embedded.furniture import Plan  # noqa: PLC0415
    from services.plumbing import lifecycle, telemetry  # noqa: PLC0415
    from services.plumbing.settings import load  # noqa: PLC0415

    environ = dict(os.environ)
    if port is not None:
        environ["RECONCAL_INGEST_PORT"] = str(port)
    given = named(environ, config)
    if "log_format" not in given and sys.stderr.isatty():
        environ["RECONCAL_LOG_FORMAT"] = "text"
    settings, home = load(environ, config), state.default_data_dir(environ)
    telemetry.configure_logs(settings)
    warn_of_unknown()
    plan = Plan(
        settings=settings,
        given=frozenset(given),
        data_dir=(data_dir or home).absolute(),
        pointers=home,
        kafka_port=kafka_port,
        postgres_port=postgres_port,
    )

    async def ready(running: "Stack") -> None:
        line(running.addresses) if as_json else _show(running.addresses, plan.data_dir)

    sys.exit(lifecycle.main(lambda stop: stack.run(plan, stop, ready)))


def _show(addresses: "Addresses", data_dir: Path) -> None:
    shown = table("Reconcal is up", "what", "where")
    for name, where in addresses.for_people().items():
        shown.add_row(name, where)
    shown.add_row("data", str(data_dir))
    console().print(shown)
    click.echo(
        "In another terminal: reconcal companies add praxis --name 'Praxis Muster', then reconcal records, status."
    )
    click.echo("Ctrl-C ends it.")


@click.command()
@click.option("--keep", is_flag=True, help="Stay up afterwards, until Ctrl-C.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the morning that is played.")
def demo(*, keep: bool, seed: int) -> None:
    """Play a morning in a practice and a clinic and show what is found.

    Some 350 appointments and bookings, and all that goes wrong with them, go through the front door of a stack of its
    own. The clinic's Cal.com, a stand-in on this machine, is asked before anybody is told. Exit 0 only if every planted
    case was found as planted, and nothing else.
    """
    from services.embedded import demo as play  # noqa: PLC0415

    sys.exit(play.run(os.environ, seed=seed, keep=keep, screen=console()))
