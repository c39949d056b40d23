"""`reconcal retry`: have Cal.com asked again, about one record or about all of a company's that are not in order."""

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import click

from services.cli.context import database_settings, json_option, located, run
from services.cli.failures import Failure

if TYPE_CHECKING:
    from services.cli.asking import Asked
    from services.cli.following import Followed
    from services.plumbing.settings import Settings

#: Two answers that there is no booking are half a minute apart.
RECORD_SECONDS: Final = 120.0
SWEEP_SECONDS: Final = 3600.0
DAYS: Final = 90


@click.command()
@located
@click.argument("record_id", type=click.UUID, required=False)
@click.option("--company", "company_id", required=True, help="The company's id.")
@click.option("--days", type=click.IntRange(1, 3650), help=f"Without RECORD_ID: how far back. [default: {DAYS}]")
@click.option("--wait", is_flag=True, help="Without RECORD_ID: follow until Cal.com has answered.")
@click.option("--actor", help="Who asks, as the timeline will say. [default: this machine's user]")
@click.option("--timeout-seconds", type=click.FloatRange(min=1), help="Wait so long at most. [default: 120; 3600]")
@json_option
def retry(  # noqa: PLR0913 - click hands over every option
    *,
    data_dir: Path | None,
    config: Path | None,
    record_id: UUID | None,
    company_id: str,
    days: int | None,
    wait: bool,
    actor: str | None,
    timeout_seconds: float | None,
    as_json: bool,
) -> None:
    """Have Cal.com asked again.

    With RECORD_ID about that record, before all others: waits for the answer and says what came of it. Exit 0: the
    record is in order, 1: it is not, could not be asked about, or nothing came in time.

    Without, about all of the company's records that are not in order, first seen or beginning within the last days. A
    verifier does it; --wait shows how far it is. Exit 0: it is asked for (with --wait: all is answered), 1: not.
    """
    if record_id is not None and (wait or days is not None):
        raise click.UsageError("--days and --wait are for all of a company's records: leave RECORD_ID out")
    settings = database_settings(data_dir, config)
    actor = actor or getpass.getuser()
    if record_id is not None:
        settings.need("kafka_bootstrap_servers")
        sys.exit(_one(settings, company_id, record_id, actor, timeout_seconds or RECORD_SECONDS, as_json=as_json))
    seconds = (timeout_seconds or SWEEP_SECONDS) if wait else None
    sys.exit(_all(settings, company_id, days or DAYS, actor, seconds, as_json=as_json))


def _one(settings: "Settings", company_id: str, record_id: UUID, actor: str, seconds: float, *, as_json: bool) -> int:
    from services.cli import asking  # noqa: PLC0415
    from services.cli.output import line  # noqa: PLC0415

    asked = run(asking.ask(settings, company_id, record_id, actor, seconds=seconds))
    if as_json:
        line(asked)
    elif not asked.applied:
        raise Failure(asking.REFUSALS.get(asked.reason, asked.reason).format(company=company_id))
    else:
        _show(asked)
    return 0 if asked.well else 1


def _show(asked: "Asked") -> None:
    from services.cli.output import moment  # noqa: PLC0415

    if not asked.answered:
        raise Failure("Cal.com was not heard of in time; the question stands, and `reconcal status` says what is wrong")
    why = f" ({asked.sync_error_code})" if asked.sync_error_code else ""
    click.echo(f"record {asked.record_id}: {asked.calcom_sync_status}{why}")
    times = "once" if asked.sync_attempt_count == 1 else f"{asked.sync_attempt_count} times"
    click.echo(f"Cal.com was asked {times}, last at {moment(asked.last_sync_attempt_at)} UTC.")
    if asked.calcom_sync_status == "pending" and asked.deadline_at:
        click.echo(f"Its window ends at {moment(asked.deadline_at)} UTC.")
    if asked.requires_manual_review:
        click.echo("It waits for review.")


def _all(settings: "Settings", company_id: str, days: int, actor: str, seconds: float | None, *, as_json: bool) -> int:
    from services.cli import following  # noqa: PLC0415
    from services.cli.output import line  # noqa: PLC0415

    followed = run(following.sweep(settings, company_id, days, actor, seconds=seconds, quiet=as_json))
    if as_json:
        line(followed)
    else:
        _tell(followed, waited=seconds is not None)
    return 0 if followed.well or seconds is None else 1


def _tell(followed: "Followed", *, waited: bool) -> None:
    if not followed.new:
        click.echo(f"A sweep of {followed.company_id} is under way already.", err=True)
    if not waited:
        click.echo(f"Asked for: sweep {followed.sweep_id}. `reconcal status` says how far it is.")
        return
    click.echo(f"{followed.asked} of {followed.found} records were asked about, {followed.waiting} wait for an answer.")
    click.echo("Records: " + (", ".join(f"{n} {status}" for status, n in followed.records.items()) or "none"))
    if followed.finished_at is not None and followed.asked < followed.found:
        click.echo("The others changed meanwhile, or were left to the next sweep.", err=True)
    if not followed.well:
        raise Failure("not over in time; it goes on, and `reconcal status` says how far it is")
