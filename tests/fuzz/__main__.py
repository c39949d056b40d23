"""`python -m tests.fuzz --bodies 200000 --seed 1`: so many mutants through the doors, decode, the fold and the rows."""

import argparse
import asyncio
import logging
import sys
import time

import structlog

from tests.fuzz.ground import Ground

#: A failure is repeated from the seed of its part alone.
PART = 2000


def main() -> int:
    """Play all parts; 1: something went wrong, and the seed that repeats it is said."""
    options = argparse.ArgumentParser(prog="tests.fuzz")
    options.add_argument("--bodies", type=int, default=200_000)
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    started, said = time.perf_counter(), dict[str, int]()
    for done in range(0, asked.bodies, PART):
        seed, count = asked.seed + done // PART, min(PART, asked.bodies - done)
        try:
            told = asyncio.run(_part(seed, count))
        except Exception:
            sys.stderr.write(f"\nseed {seed}: python -m tests.fuzz --bodies {count} --seed {seed}\n")
            raise
        said = {name: said.get(name, 0) + told.get(name, 0) for name in (*said, *told)}
        sys.stderr.write(f"\r{done + count} of {asked.bodies}")
    sys.stdout.write(f"\n{asked.bodies} mutants in {time.perf_counter() - started:.0f} s; nothing went wrong\n")
    for name, count in sorted(said.items(), key=lambda pair: -pair[1]):
        sys.stdout.write(f"{count:>8}  {name}\n")
    return 0


async def _part(seed: int, count: int) -> dict[str, int]:
    ground = Ground(seed)
    try:
        await ground.play(count)
    finally:
        await ground.close()
    return ground.said


if __name__ == "__main__":
    raise SystemExit(main())
