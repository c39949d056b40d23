"""One service a process."""

import os
import sys
from importlib import import_module
from pathlib import Path
from socket import socket

import click

from services.cli.context import config_option
from services.cli.failures import Wrong


@click.command()
@config_option
def ingest(config: Path | None) -> None:
    """Run the front door.

    Webhooks and appointment events go into Kafka.
    """
    _serve("ingest", config)


@click.command()
@config_option
def reconciler(config: Path | None) -> None:
    """Run the reconciler.

    Events become records, deadlines become flags.
    """
    _serve("reconciler", config)


@click.command()
@config_option
def verifier(config: Path | None) -> None:
    """Run the verifier.

    Cal.com is asked before anything is flagged.
    """
    _serve("verifier", config)


@click.command()
@config_option
def notifier(config: Path | None) -> None:
    """Run the notifier.

    Flags become notifications and mails.
    """
    _serve("notifier", config)


@click.command()
@config_option
def console(config: Path | None) -> None:
    """Run the pages for people.

    So far the one that every mail links to: what its reader is mailed.
    """
    _serve("console", config, needs=("postgres_dsn",))


def _serve(
    name: str, config: Path | None, *, needs: tuple[str, ...] = ("kafka_bootstrap_servers", "postgres_dsn")
) -> None:
    from services.plumbing import lifecycle, telemetry  # noqa: PLC0415
    from services.plumbing.settings import load  # noqa: PLC0415

    settings = load(os.environ, config)
    settings.need(*needs)
    telemetry.configure_logs(settings)
    warn_of_unknown()
    serve = import_module(f"services.{name}.main").serve
    listener = _listen(name, getattr(settings, f"{name}_host"), getattr(settings, f"{name}_port"))
    sys.exit(lifecycle.main(lambda stop: serve(settings, stop, listener=listener)))


def _listen(name: str, host: str, port: int) -> socket:
    """Open the address of a service. Raises Wrong, which names the setting."""
    from services.plumbing import health  # noqa: PLC0415

    try:
        return health.listen(host, port)
    except OSError as error:
        raise Wrong(f"RECONCAL_{name.upper()}_PORT: {host}:{port}: {error.strerror}") from None


def warn_of_unknown() -> None:
    """Log each variable with our prefix that means nothing."""
    from services.plumbing import telemetry  # noqa: PLC0415
    from services.plumbing.settings import unknown  # noqa: PLC0415

    for name in unknown(os.environ):
        telemetry.log().warning(telemetry.SETTING_UNKNOWN, name=name)
