"""Scenario 34, time-boxed; `python -m tests.faults.churn` is the long run."""

from random import Random

import pytest

from tests.faults.churn import COMPANIES, churn
from tests.faults.scene import Scene
from tests.support.load import cases

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


async def test_workers_that_come_and_go_lose_nothing_and_double_nothing(faults: Scene) -> None:
    random = Random(34)
    await faults.companies(COMPANIES)
    planted = cases(COMPANIES, 4000, random)
    tally = await churn(faults, planted, 20, random)
    assert tally.killed >= 2
    assert tally.killed + tally.left >= 4
    assert tally.applied > 0, "some of it came in the middle of work"
    await faults.holds(planted, seconds=90)
