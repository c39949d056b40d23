"""Options that `companies add` and `set` share: a company's rules, explained in docs/reference/company-rules.md."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

WAITING: Final = click.Choice(("flag", "ignore"))

_OPTIONS: Final = (
    click.option(
        "--country",
        help="Where phone numbers without +49 are at home, two letters."
        " [default when added: the one that the time zone's town lies in; DE for UTC and the like]",
    ),
    click.option("--window-seconds", type=float, help="How long one side may be alone. [default: 300]"),
    click.option(
        "--settling-window-seconds", type=float, help="How long both may differ; 0: as long as the window. [default: 0]"
    ),
    click.option("--unconfirmed-window-seconds", type=float, help="For what waits for a host. [default: 86400]"),
    click.option("--unconfirmed-policy", type=WAITING, help="What such a booking counts for alone. [default: flag]"),
    click.option("--unpaid-window-seconds", type=float, help="For what waits for a payment. [default: 86400]"),
    click.option("--unpaid-policy", type=WAITING, help="What such a booking counts for alone. [default: ignore]"),
    click.option(
        "--compare",
        "compared_fields",
        metavar="FIELDS",
        help="Which fields count, with commas. [default: starts_at,ends_at,status,event_type_id]",
    ),
    click.option(
        "--match-by-attendee/--no-match-by-attendee",
        default=None,
        help="Match by person and time where no key says more. [default: yes]",
    ),
    click.option(
        "--verification-wait-seconds",
        type=float,
        help="How long a record may wait for Cal.com's API to answer before it is flagged without. [default: 14400]",
    ),
    click.option("--group-wait-seconds", type=float, help="How long news is collected before a mail. [default: 30]"),
    click.option(
        "--group-interval-seconds",
        type=float,
        help="At most one mail to a person in this time, but for what is urgent. [default: 300]",
    ),
    click.option(
        "--reminder-seconds",
        type=float,
        help="When people are reminded of what is still open; later ever more rarely. [default: 14400]",
    ),
    click.option(
        "--urgent-within-seconds",
        type=float,
        help="An appointment that begins within this time is mailed at once; 0: none is. [default: 7200]",
    ),
    click.option("--orphans-per-day-max", type=int, help="More orphans than this in a day are an alarm. [default: 5]"),
    click.option(
        "--failed-checks-per-hour-max",
        type=int,
        help="More failed checks than this in an hour are an alarm. [default: 10]",
    ),
    click.option(
        "--waiting-for-review-max",
        type=int,
        help="More cases than this that wait for review are an alarm. [default: 20]",
    ),
    click.option(
        "--sync-success-min-percent",
        type=float,
        help="A smaller share in sync than this in a day is an alarm; 0: none is. [default: 95]",
    ),
)


def rules(command: F) -> F:
    """Give a command the options of a company's rules."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chosen_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Give what was given on the command line, as `companies.admin` takes it."""
    chosen = {name: value for name, value in given.items() if value is not None}
    if "compared_fields" in chosen:
        chosen["compared_fields"] = tuple(one.strip() for one in chosen["compared_fields"].split(",") if one.strip())
    if chosen.get("settling_window_seconds") == 0:
        chosen["settling_window_seconds"] = None
    return chosen
