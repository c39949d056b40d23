"""`reconcal`: one subcommand a role or tool. What a command needs is imported when it runs."""

from importlib import import_module
from typing import Final

import click

from services.cli.failures import failure_of

#: Where each command lives. `--help` shows them in this order.
COMMANDS: Final = {
    "up": "services.cli.up:up",
    "demo": "services.cli.up:demo",
    "companies": "services.cli.companies:companies",
    "records": "services.cli.records:records",
    "status": "services.cli.status:status",
    "retry": "services.cli.retry:retry",
    "notify": "services.cli.notify:notify",
    "dead-letters": "services.cli.dead_letters:dead_letters",
    "migrate": "services.cli.setup:migrate",
    "topics": "services.cli.setup:topics",
    "config": "services.cli.setup:config",
    "ingest": "services.cli.service:ingest",
    "reconciler": "services.cli.service:reconciler",
    "verifier": "services.cli.service:verifier",
    "notifier": "services.cli.service:notifier",
    "console": "services.cli.service:console",
}


class Commands(click.Group):
    """Finds commands by name, and turns what can be foreseen into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Give the commands in the order of their use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a command. What a person can put right ends in one line: exit 2 for what was set, 1 for what is away."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            raise failure from None


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="reconcal", prog_name="reconcal")
def main() -> None:
    """Say which appointments exist only in your booking app, only at Cal.com, or differ.

    `reconcal up` runs everything on this machine; `reconcal demo` shows it at work. The other commands find a running
    `reconcal up` by themselves; a real installation is named by RECONCAL_KAFKA_BOOTSTRAP_SERVERS and
    RECONCAL_POSTGRES_DSN. `reconcal config` prints every setting.

    Exit codes: 0 done and well, 1 something is away or not as it should be, 2 wrong usage or configuration.
    """
