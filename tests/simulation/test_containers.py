"""Two containers by turns: what one keeps in memory must not outlive what the other did to the table."""

from collections.abc import Hashable, Iterator

import pytest

from tests.simulation.aws import Blow, Call, Cloud, Fault
from tests.simulation.invariants import Broken
from tests.simulation.scenarios import DISTURBED, Scenario
from tests.simulation.test_crashes import deaths, is_new, replay
from tests.simulation.trial import TALLY, Trial


def ends(number: int, call: Call) -> Iterator[Fault]:
    """Return how the other's sweep may end at a call: what it has written by then is what matters here."""
    yield from deaths(number, call)
    yield Fault(number, Blow.FAIL)
    yield Fault(number, Blow.DEADLINE, seconds=5.5)


@pytest.mark.parametrize("scenario", DISTURBED, ids=lambda scenario: scenario.name)
def test_another_container_between_two_sweeps_of_a_warm_one(scenario: Scenario, cloud: Cloud) -> None:
    """It ends at each of its calls, half done or whole; the warm one takes over in the same minute."""

    def between(trial: Trial, number: int) -> None:
        trial.cloud.validates = False
        warm = trial.container
        seen: set[Hashable] = set()
        since = len(trial.runs)
        with trial.rehearsal():
            trial.container = None
            calls = trial.sweep().calls
        for fault in (each for at, call in enumerate(calls) for each in ends(at, call)):
            TALLY["crash points"] += 1
            with trial.rehearsal():
                try:
                    trial.container = None
                    trial.sweep(fault)
                    trial.container = warm
                    is_new(trial, seen, since)
                except Broken as broken:
                    raise Broken(f"{scenario.name}, sweep {number}, {fault}: {broken}") from broken

    replay(scenario, cloud, between)
