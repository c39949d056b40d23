"""`python -m tests.bench [--quick] [--only NAME] [--json FILE] [--strict] [--profile]`: measure against the bounds.

`--only reconciler --against TREE` measures this working tree and another one in turns instead, and gives the ratio.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import click
import msgspec

from tests.bench import deadlines, idle, ingest, mails, open_records, reconciler
from tests.bench.findings import Figure, Findings, Plan, UnmeasuredError, table
from tests.bench.ground import Ground, ground
from tests.bench.machine import described, load
from tests.support.kafka_jars import NoKafkaError

Bench = Callable[[Ground, Plan], Awaitable[Findings]]
BENCHES: Final[dict[str, Bench]] = {
    "reconciler": reconciler.measure,
    "deadlines": deadlines.measure,
    "mails": mails.measure,
    "ingest": ingest.measure,
    "idle": idle.measure,
    "open-records": open_records.measure,
}


def main(arguments: list[str]) -> int:
    """Measure and print; 0 even where a bound is missed (1 with --strict), 1 where something was not measured."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.against and given.only != "reconciler":
        parser.error("--against goes with --only reconciler")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # new topics are without leaders for a moment
    plan = Plan(quick=given.quick, profile=given.profile, against=given.against)
    machine = described()
    click.echo(f"{machine}\n")
    try:
        found, failed = asyncio.run(_measured([given.only] if given.only else list(BENCHES), plan))
    except NoKafkaError as error:
        click.echo(error, err=True)
        return 1
    figures = [figure for findings in found.values() for figure in findings.figures]
    if figures:
        click.echo(table(figures))
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(_shown(machine, plan, found))))
    missed = any(figure.holds is False for figure in figures)
    return 1 if failed or (given.strict and missed) else 0


async def _measured(names: list[str], plan: Plan) -> tuple[dict[str, Findings], list[str]]:
    found: dict[str, Findings] = {}
    failed: list[str] = []
    async with ground() as made:
        for name in names:
            before = load()
            try:
                found[name] = await BENCHES[name](made, plan)
            except UnmeasuredError as error:
                failed.append(name)
                click.echo(f"{name}: NOT MEASURED: {error}\n", err=True)
                continue
            notes = "".join(f"  {note}\n" for note in found[name].notes)
            click.echo(f"{name}: measured; load before {before}, after {load()}\n{notes}")
    return found, failed


def _shown(machine: str, plan: Plan, found: dict[str, Findings]) -> dict[str, object]:
    def shown(figures: list[Figure]) -> list[dict[str, object]]:
        return [figure.shown() for figure in figures]

    benches = {name: {"figures": shown(one.figures), "notes": one.notes} for name, one in found.items()}
    return {"machine": machine, "quick": plan.quick, "benches": benches}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.bench", description="Measure against the bounds of the design.")
    parser.add_argument("--quick", action="store_true", help="fewer events, fewer and shorter rounds")
    parser.add_argument("--only", choices=list(BENCHES), help="one bench")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures for programs, too")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a bound is missed")
    parser.add_argument("--profile", action="store_true", help="run the reconciler under cProfile; its figures suffer")
    parser.add_argument("--against", type=_tree, metavar="TREE", help="another working tree (with --only reconciler)")
    return parser


def _tree(given: str) -> Path:
    path = Path(given).resolve()
    if not (path / "services" / "reconciler").is_dir():
        raise argparse.ArgumentTypeError(f"{given} is no working tree of Reconcal")
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
