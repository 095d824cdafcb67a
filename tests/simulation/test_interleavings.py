"""Several sweeps at once, from a schedule that fires twice or one that stalls, in every order of their calls.

Orders are enumerated depth first: each is played from the start, and the next one differs in the last
choice that can still differ. Of orders that differ only in calls that can't feel each other one is played;
model checkers call that partial-order reduction. A sweep is interrupted up to three times in an order: faults
that need more are rare, and of the orders with more some are drawn. Where the world changes at every place as
well, some orders are drawn for each; three sweeps in a changing world are drawn altogether.
"""

import random
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from itertools import count

import pytest

from tests.simulation.aws import Cloud
from tests.simulation.invariants import Broken
from tests.simulation.scenarios import DISTURBED, Scenario
from tests.simulation.test_crashes import is_new, replay
from tests.simulation.trial import WORLD, Trial

MOST_INTERRUPTIONS = 3
ORDERS_A_PLACE = 2
RANDOM_ORDERS = 10

# Told which sweeps could go on, each with the operation that it is about to call.
Choose = Callable[[Mapping[int, str]], int]


def commute(one: str, other: str) -> bool:
    """Return whether two calls come to the same in either order: both read, or one is to the bus alone."""
    return one == other == "Query" or (one == "PutEvents") != (other == "PutEvents")


class Orders:
    """Every sequence of choices, depth first; of those that come to the same, the first.

    `more` tells whether there are others, in which sweeps are interrupted more often.
    """

    def __init__(self) -> None:
        self.made: list[tuple[int, int]] = []
        self.planned: list[int] = []
        self.latest = -1, ""
        self.interruptions = 0
        self.more = False

    def choose(self, going: Mapping[int, str]) -> int:
        """Make the next choice of the sequence that is being tried."""
        number, operation = self.latest
        # In the other order it was tried before, when it was this sweep's turn first.
        tried = [each for each in going if each < number and commute(going[each], operation)]
        among = [each for each in going if each not in tried] or tried
        if number in among and len(among) > 1 and self.interruptions == MOST_INTERRUPTIONS:
            among = [number]
            self.more = True
        at = len(self.made)
        choice = self.planned[at] if at < len(self.planned) else 0
        self.made.append((choice, len(among)))
        self.latest = among[choice], going[among[choice]]
        self.interruptions += number in going and among[choice] != number
        return among[choice]

    def next(self) -> bool:
        """Turn to the next sequence; say whether there is one."""
        while self.made:
            choice, among = self.made.pop()
            if choice + 1 < among:
                self.planned = [*(made for made, _ in self.made), choice + 1]
                self.made, self.latest, self.interruptions = [], (-1, ""), 0
                return True
        return False


class ChangeAt:
    """Lets the world change at one place of the order, and leaves the rest to `choose`."""

    def __init__(self, place: int, choose: Choose) -> None:
        self.place = place
        self.rest = choose
        self.steps = 0

    def choose(self, going: Mapping[int, str]) -> int:
        """Make the next choice."""
        self.steps += 1
        if WORLD in going and self.steps > self.place:
            return WORLD
        return self.rest({each: going[each] for each in going if each != WORLD})


def drawn(generator: random.Random, going: Mapping[int, str]) -> int:
    """Draw the next choice."""
    return generator.choice(list(going))


class Attempts:
    """What is tried at one moment of a scenario; every attempt starts from that moment."""

    def __init__(self, trial: Trial, name: str) -> None:
        trial.cloud.validates = False
        self.trial = trial
        self.name = name
        self.since = len(trial.runs)
        self.seen: set[Hashable] = set()

    def make(self, choose: Choose, change: Callable[[], None] | None = None, sweeps: int = 2) -> None:
        """Make sweeps at once in the order that is chosen, and check what comes of it."""
        chosen: list[int] = []

        def remembered(going: Mapping[int, str]) -> int:
            chosen.append(choose(going))
            return chosen[-1]

        with self.trial.rehearsal():
            try:
                self.trial.together(remembered, change, sweeps)
                is_new(self.trial, self.seen, self.since)
            except Broken as broken:
                raise Broken(f"{self.name}, order {' '.join(map(str, chosen))}: {broken}") from broken


@pytest.mark.parametrize("scenario", DISTURBED, ids=lambda scenario: scenario.name)
def test_every_order_of_two_sweeps(scenario: Scenario, cloud: Cloud) -> None:
    def twice(trial: Trial, number: int) -> None:
        attempts = Attempts(trial, f"{scenario.name}, sweep {number}")
        orders = Orders()
        attempts.make(orders.choose)
        while orders.next():
            attempts.make(orders.choose)
        generator = random.Random(f"{scenario.name} {number}")  # noqa: S311 - to replay, not to hide
        for _ in range(RANDOM_ORDERS if orders.more else 0):
            attempts.make(partial(drawn, generator))

    replay(scenario, cloud, twice)


@pytest.mark.parametrize("scenario", DISTURBED, ids=lambda scenario: scenario.name)
def test_two_sweeps_while_the_world_changes_at_every_place(scenario: Scenario, cloud: Cloud) -> None:
    def twice(trial: Trial, number: int) -> None:
        attempts = Attempts(trial, f"{scenario.name}, sweep {number}")
        for moment in scenario.moments[number + 1 : number + 2]:
            generator = random.Random(f"{scenario.name} {number}")  # noqa: S311 - to replay, not to hide
            for place in count():
                for _ in range(ORDERS_A_PLACE):
                    order = ChangeAt(place, partial(drawn, generator))
                    attempts.make(order.choose, partial(moment.change, trial))
                if order.steps <= place:
                    break

    replay(scenario, cloud, twice)


@pytest.mark.parametrize("scenario", DISTURBED, ids=lambda scenario: scenario.name)
def test_three_sweeps_in_a_changing_world(scenario: Scenario, cloud: Cloud) -> None:
    def at_once(trial: Trial, number: int) -> None:
        for moment in scenario.moments[number + 1 : number + 2]:
            for seed in range(RANDOM_ORDERS):
                attempts = Attempts(trial, f"{scenario.name}, sweep {number}, seed {seed}")
                generator = random.Random(f"{scenario.name} {number} {seed}")  # noqa: S311 - to replay, not to hide
                attempts.make(partial(drawn, generator), partial(moment.change, trial), sweeps=3)

    replay(scenario, cloud, at_once)
