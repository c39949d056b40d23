"""Two thousand worlds, each another chain of mishaps: what was planted comes out, and the invariants hold."""

from collections.abc import Iterator
from typing import Final

import pytest
import structlog

from tests.sim.world import play, quiet

pytestmark = pytest.mark.disable_socket

SEEDS: Final = 2000
CHUNK: Final = 100


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """Keep the worker's log lines out of the way."""
    quiet()
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_world_comes_out_as_planted(first: int) -> None:
    for seed in range(first, first + CHUNK):
        play(seed)


def test_a_seed_plays_the_same_world_every_time() -> None:
    one, other = play(7), play(7)
    assert one.store.outbox == other.store.outbox
    assert (one.crashes, one.clock.seconds) == (other.crashes, other.clock.seconds)


def test_the_worlds_are_not_calm() -> None:
    """What cannot go wrong proves nothing: processes die, and some deadlines are told of late."""
    worlds = [play(seed) for seed in range(20)]
    assert sum(world.crashes for world in worlds) > 20
    assert sum(world.started for world in worlds) > 60
    assert all(world.store.events for world in worlds)
