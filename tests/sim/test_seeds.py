"""Hundreds of worlds, each another chain of mishaps: what was planted comes out, and the invariants hold."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

import pytest
import structlog

from services.reconciler.ports import Horizon
from tests.sim.plan import kinds
from tests.sim.world import POLICIES, World, play, quiet
from tests.support.memory import MemoryDoors

pytestmark = pytest.mark.disable_socket

#: `make sim` plays 10,000 of them.
SEEDS: Final = 400
CHUNK: Final = 100
#: Enough for every kind of mishap to have happened.
SOME: Final = 40


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """Keep the worker's log lines out of the way."""
    quiet()
    yield
    structlog.reset_defaults()


def play_all(first: int, seeds: int) -> None:
    """Play so many seeds."""
    for seed in range(first, first + seeds):
        play(seed)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_world_comes_out_as_planted(first: int) -> None:
    play_all(first, CHUNK)


def test_a_seed_plays_the_same_world_every_time() -> None:
    one, other = play(7), play(7)
    assert one.store.outbox == other.store.outbox
    assert (one.crashes, one.clock.seconds) == (other.crashes, other.clock.seconds)


def test_the_worlds_are_not_calm() -> None:
    """What cannot go wrong proves nothing."""
    worlds = [play(seed) for seed in range(SOME)]
    assert sum(world.crashes for world in worlds) > SOME
    assert sum(world.started for world in worlds) > 3 * SOME
    assert all(world.store.events for world in worlds)
    assert sum(door.most_spooled > 1 for world in worlds for door in world.doors) > SOME
    assert sum(world.policies != POLICIES for world in worlds) > SOME / 4
    assert sum(bool(world.store.incidents) for world in worlds) > SOME / 10, "nothing was written beside its partition"


def test_every_kind_of_story_is_planted() -> None:
    """A kind that is never drawn would be forgotten without anybody noticing."""
    names = {case.name for seed in range(4 * SOME) for case in World(seed).cases}
    assert len(names) >= len(set(kinds(POLICIES["acme"])))


def test_who_asks_no_door_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The world bites: a reconciler that does not wait for what lies in spools raises false flags."""

    async def nothing_waits(_: MemoryDoors, now: datetime) -> Horizon:
        return Horizon(now)

    monkeypatch.setattr(MemoryDoors, "horizon", nothing_waits)
    with pytest.raises(AssertionError, match="told"):
        play_all(0, SOME)
