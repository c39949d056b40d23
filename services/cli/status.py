"""`reconcal status`: the whole installation on one screen."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.cli.context import database_settings, json_option, located, run

if TYPE_CHECKING:
    from services.cli.picture import Picture


@click.command()
@located
@json_option
def status(*, data_dir: Path | None, config: Path | None, as_json: bool) -> None:
    """Say how everything is. Exit 0: well, 1: not.

    Per partition: its owner, the next offsets, how far they are from the end of the log, the age of the frontier and
    the decisions that wait for it. Then what was found and flagged; what Cal.com is to be asked and what keeps it from
    being asked, sweeps and loadings under way, silent webhooks; who was told and who waits to be, what keeps them from
    it and how to mend that; and what is wrong.
    """
    from services.cli.output import line  # noqa: PLC0415
    from services.cli.picture import take  # noqa: PLC0415
    from services.plumbing.clock import WallClock  # noqa: PLC0415

    settings = database_settings(data_dir, config)
    settings.need("kafka_bootstrap_servers")
    picture = run(take(settings, WallClock().now()))
    line(picture) if as_json else _show(picture)
    sys.exit(0 if picture.healthy else 1)


def _show(picture: "Picture") -> None:
    from services.cli import notifying, verifying  # noqa: PLC0415
    from services.cli.output import console, table  # noqa: PLC0415

    screen = console()
    shown = table("Partitions", ">number", "owner", ">next offsets", ">lag", ">frontier age", ">held", "stopped")
    for partition in picture.partitions:
        age = partition.frontier_age_seconds
        shown.add_row(
            str(partition.partition),
            partition.owner or "nobody",
            " ".join(f"{_short(name)} {at}" for name, at in sorted(partition.next_offsets.items())),
            "?" if partition.lag is None else str(partition.lag),
            "?" if age is None else f"{age:.1f} s",
            str(partition.held_decisions),
            partition.stopped_reason or "",
        )
    screen.print(shown)
    for name, counts in (
        ("Records", picture.records),
        ("Open flags", picture.open_flags),
        ("Outbox", picture.outbox),
        ("Dead letters", picture.dead_letters),
    ):
        screen.print(f"{name + ':':14}" + (", ".join(f"{count} {what}" for what, count in counts.items()) or "none"))
    for what, said in verifying.lines(picture.verifier):
        screen.print(f"{what + ':':14}{said}")
    for what, said in notifying.lines(picture.notifier, picture.at):
        screen.print(f"{what + ':':14}{said}")
    for incident in picture.incidents:
        seen = f"{incident.seen} times, last at {incident.last_seen_at:%Y-%m-%d %H:%M:%S} UTC"
        screen.print(f"{'Incident:':14}{incident.company_id}: {incident.detail} Seen {seen}.")
    screen.print(f"{'Kafka:':14}{picture.cluster_id or 'away'}")
    pending = picture.migrations_pending
    screen.print(f"{'Migrations:':14}{'unknown' if pending is None else f'{pending} to run' if pending else 'all run'}")
    screen.print(
        "healthy" if picture.healthy else "NOT healthy:", *(f"  {trouble}" for trouble in picture.troubles), sep="\n"
    )


def _short(topic: str) -> str:
    """Name a topic by what lies in it: appointments, bookings, commands."""
    return topic.split(".")[1]
