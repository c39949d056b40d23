"""What a demo's reader sees in the end: two tables, the sums, a mail, and where everything was."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from rich import box
from rich.console import Console
from rich.table import Table

from schemas.flags import Kind
from services.embedded import clinic, morning
from services.embedded.compare import Comparison, words_of
from services.embedded.morning import Case

_PRACTICE: Final = [recipe.kind for recipe in morning.RECIPES]
_CLINIC: Final = [recipe.kind for recipe in clinic.RECIPES]


class Sums(Struct, frozen=True, kw_only=True):
    """Over both companies: records that an answer of Cal.com mended; flags about records, raised and ended."""

    healed: int
    flags: int
    resolved: int


def show_tables(screen: Console, practice: Comparison, clinic_found: Comparison) -> None:
    """Show what was planted beside what was found."""
    screen.print()
    screen.print(_table("praxis: no API key, so that Cal.com is not asked", practice, _PRACTICE))
    screen.print()
    screen.print(_table("klinik: Cal.com is asked before anybody is told", clinic_found, _CLINIC, asked=True))


def _table(title: str, found: Comparison, order: Sequence[str], *, asked: bool = False) -> Table:
    """Make a table that fits on a terminal of 80 columns."""
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
        show_footer=True,
    )
    lines = sorted(found.lines, key=lambda line: order.index(line.kind))
    planted, right = sum(line.planted for line in lines), sum(line.found for line in lines)
    table.add_column("what was told", "all")
    if asked:
        table.add_column("Cal.com says")
    table.add_column("must end as")
    table.add_column("planted", str(planted), justify="right")
    table.add_column("found", str(right), justify="right")
    table.add_column("", "ok" if found.agrees else "DIFFERS")
    for line in lines:
        verdict = "ok" if line.planted == line.found else "DIFFERS"
        said = (line.verdict or "-",) if asked else ()
        table.add_row(line.kind, *said, line.expected, str(line.planted), str(line.found), verdict)
    return table


def show_sums(screen: Console, sums: Sums, mails: list[dict[str, Any]], in_vain: list[str]) -> None:
    """Say how much was mended, flagged and mailed."""
    screen.print()
    people = len({to for mail in mails for to in mail["to"]})
    mailed = "and no mail was sent" if not in_vain else f"and {len(in_vain)} mails were sent all the same"
    screen.print(f"{sums.healed} lost webhooks were healed by asking Cal.com, {mailed}.")
    screen.print(f"{sums.flags} flags were raised; {sums.resolved} ended when the other side came late.")
    screen.print(f"{len(mails)} mails told {people} people of all of them:\n")
    for mail in mails:
        screen.print(f"  {mail['to'][0]:22} {mail['subject']}", soft_wrap=True)


def show_mail(screen: Console, cases: Iterable[Case], mails: Iterable[Mapping[str, Any]]) -> None:
    """Show a mail that tells of an appointment of which Cal.com has no booking: the case that all of this is for."""
    alone = {f"#{case.truth.appointment_id}" for case in cases if case.truth.code is Kind.ORPHANED_LOCAL}
    mail = next((mail for mail in mails if alone & set(words_of(mail))), None)
    if mail is None:
        screen.print("\nNone of them is about an appointment without a booking.")
        return
    screen.print("\nOne of them:\n")
    head = [f"To: {', '.join(mail['to'])}", f"Subject: {mail['subject']}", ""]
    for line in (*head, *mail["text"].rstrip().splitlines()):
        screen.print(f"  {line}", soft_wrap=True)


def show_addresses(screen: Console, addresses: Mapping[str, str], *, keep: bool) -> None:
    """Say where everything is, or was."""
    screen.print("\nWhat is running:" if keep else "\nWhat was running (with --keep it stays):")
    for name, where in addresses.items():
        screen.print(f"  {name:9} {where}", soft_wrap=True)
