"""A few of the bodies that `python -m tests.fuzz` sends by the hundred thousand."""

import random

import pytest

from tests.fuzz.ground import Ground
from tests.fuzz.mutations import APPOINTMENTS, WEBHOOKS, mutant


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_mutant_harms_the_doors_the_fold_or_its_neighbours(seed: int) -> None:
    ground = Ground(seed)
    try:
        await ground.play(1000)
    finally:
        await ground.close()
    assert {
        "HeardBooking",
        "HeardAppointment",
        "no_envelope",
        "invalid_json",
        "invalid_appointment",
    } <= ground.said.keys()


def test_a_seed_says_what_comes() -> None:
    first, second = ([mutant(random.Random(7), shapes) for shapes in (WEBHOOKS, APPOINTMENTS)] for _ in range(2))
    assert first == second
