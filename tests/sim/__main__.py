"""`python -m tests.sim --seed 7` plays one world, `--seeds 10000 --jobs 2` that many, in two processes."""

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.sim.world import play, quiet

CHUNK = 25


def play_some(first: int, seeds: int) -> tuple[int, int, list[str]]:
    """Play seeds one after another. Gives how many, the crashes survived, and what did not hold."""
    quiet()
    crashes, failed = 0, []
    for seed in range(first, first + seeds):
        try:
            crashes += play(seed).crashes
        except AssertionError as error:
            failed.append(str(error))
    return seeds, crashes, failed


def chunks(first: int, seeds: int) -> Iterator[tuple[int, int]]:
    """Split seeds into what one process plays at a time."""
    for begin in range(first, first + seeds, CHUNK):
        yield begin, min(CHUNK, first + seeds - begin)


def main() -> int:
    """Play seeds from the command line; 1 when a world did not come out as planted."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many processes")
    given = parser.parse_args()
    played, crashes, failed = 0, 0, list[str]()
    with ProcessPoolExecutor(given.jobs) as pool:
        for done in as_completed([pool.submit(play_some, *some) for some in chunks(given.seed, given.seeds)]):
            some, survived, lines = done.result()
            played, crashes, failed = played + some, crashes + survived, failed + lines
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{played} of {given.seeds} worlds, {len(failed)} failed ")
    for line in failed:
        sys.stdout.write(f"{line}\n")
    outcome = f"{len(failed)} did not hold" if failed else "all held"
    sys.stdout.write(f"{given.seeds} seeds from {given.seed} on: {outcome}, {crashes} crashes survived\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
