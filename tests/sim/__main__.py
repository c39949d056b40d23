"""`python -m tests.sim --seed 7` plays one world, `--seeds 2000` that many."""

from tests.sim.world import main

main()
