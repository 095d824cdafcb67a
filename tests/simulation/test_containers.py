"""Two containers by turns: what one keeps in memory must not outlive what the other did to the table."""

from collections.abc import Hashable

import pytest

from tests.simulation.aws import Cloud
from tests.simulation.invariants import Broken
from tests.simulation.scenarios import DISTURBED, Scenario
from tests.simulation.test_crashes import all_blows, is_new, replay
from tests.simulation.trial import TALLY, Trial


@pytest.mark.parametrize("scenario", DISTURBED, ids=lambda scenario: scenario.name)
def test_another_container_between_two_sweeps_of_a_warm_one(scenario: Scenario, cloud: Cloud) -> None:
    """It comes to every end there is, half done or whole; the warm one takes over in the same minute."""

    def between(trial: Trial, number: int) -> None:
        trial.cloud.validates = False
        warm = trial.container
        seen: set[Hashable] = set()
        since = len(trial.runs)
        with trial.rehearsal():
            trial.container = None
            calls = trial.sweep().calls
        for fault in (each for at, call in enumerate(calls) for each in all_blows(at, call)):
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
