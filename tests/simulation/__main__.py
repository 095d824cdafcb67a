"""`make simulate`: worlds at random for as long as it is told; a seed that fails is replayed by one command.

A seed stands for a hundred worlds. hypothesis shrinks what breaks a promise to the shortest story that does.
"""

import argparse
import secrets
import sys
import time
from itertools import count

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.test_world import Estate
from tests.simulation.trial import TALLY

WORLDS_A_SEED = 100


def main() -> int:
    """Try seed after seed; 1 as soon as one breaks a promise."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long to go on")
    parser.add_argument("--seed", type=int, help="the seed to begin with, instead of a random one")
    options = parser.parse_args()
    # A random seed is for finding, a given one for replaying.
    first = secrets.randbelow(1_000_000_000) if options.seed is None else options.seed
    end = time.monotonic() + options.seconds
    for number in count(first):
        try:
            simulate(number)
        except BaseException as broken:
            _say(f"seed {number} broke a promise: {broken}")
            _say(f"replay it: make simulate SEED={number}")
            raise
        tried = ", ".join(f"{tally:,} {name}" for name, tally in sorted(TALLY.items()))
        _say(f"seed {number} holds; so far {tried}")
        if time.monotonic() >= end:
            return 0
    return 1


def simulate(number: int) -> None:
    """Try the worlds of one seed."""

    @seed(number)
    class Seeded(Estate):
        pass

    run_state_machine_as_test(
        Seeded,
        settings=settings(
            max_examples=WORLDS_A_SEED,
            stateful_step_count=40,
            database=None,
            derandomize=False,
            deadline=None,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
