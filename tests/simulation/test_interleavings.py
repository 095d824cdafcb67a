"""Two sweeps at once, from a schedule that fires twice or one that stalls: every order of their calls.

Orders are enumerated depth first: each is played from the start, and the next one differs in the last
choice that can still differ. Where the world changes in between, too, the orders are drawn at random.
"""

import random
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.simulation.aws import Cloud
from tests.simulation.invariants import Broken
from tests.simulation.scenarios import SCENARIOS, Scenario
from tests.simulation.test_crashes import replay, settle
from tests.simulation.trial import Trial

# Per moment of a scenario; two sweeps that both write make 462 orders of five calls, if warm, and of six.
MOST_ORDERS = 500
RANDOM_ORDERS = 20


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud() as cloud:
        yield cloud


class Orders:
    """Every sequence of choices, depth first."""

    def __init__(self) -> None:
        self.made: list[tuple[int, int]] = []
        self.planned: list[int] = []

    def choose(self, among: int) -> int:
        """Make the next choice of the sequence that is being tried."""
        at = len(self.made)
        choice = self.planned[at] if at < len(self.planned) else 0
        self.made.append((choice, among))
        return choice

    def next(self) -> bool:
        """Turn to the next sequence; say whether there is one."""
        while self.made:
            choice, among = self.made.pop()
            if choice + 1 < among:
                self.planned = [*(made for made, _ in self.made), choice + 1]
                self.made = []
                return True
        return False


def attempt(
    trial: Trial, choose: Callable[[int], int], name: str, change: Callable[[], None] | None = None
) -> None:
    chosen: list[int] = []

    def remembered(among: int) -> int:
        chosen.append(choose(among))
        return chosen[-1]

    with trial.rehearsal():
        try:
            trial.together(remembered, change)
            settle(trial)
            trial.check()
        except Broken as broken:
            raise Broken(f"{name}, order {''.join(map(str, chosen))}: {broken}") from broken


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_order_of_two_sweeps(scenario: Scenario, cloud: Cloud) -> None:
    def twice(trial: Trial, number: int) -> None:
        trial.cloud.validates = False
        orders = Orders()
        for _ in range(MOST_ORDERS):
            attempt(trial, orders.choose, f"{scenario.name}, sweep {number}")
            if not orders.next():
                break

    replay(scenario, cloud, twice)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_two_sweeps_in_a_changing_world(scenario: Scenario, cloud: Cloud) -> None:
    def twice(trial: Trial, number: int) -> None:
        trial.cloud.validates = False
        following = scenario.moments[number + 1 : number + 2]
        for seed in range(RANDOM_ORDERS):
            generator = random.Random(f"{scenario.name} {number} {seed}")  # noqa: S311 - to replay, not to hide
            for moment in following:
                name = f"{scenario.name}, sweep {number}, seed {seed}"
                attempt(trial, generator.randrange, name, partial(moment.change, trial))

    replay(scenario, cloud, twice)
