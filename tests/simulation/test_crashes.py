"""Every crash point of every scenario: what may befall each call of each sweep, then clean sweeps.

The promises are checked after each, so what a crash loses or invents is found where it happens.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.simulation.aws import Blow, Cloud, Fault, Run
from tests.simulation.invariants import Broken
from tests.simulation.scenarios import SCENARIOS, Scenario, failing
from tests.simulation.trial import ENVIRONMENT, TALLY, Trial

CLEAN_SWEEPS = 3
SMALL_BATCH = 3


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud() as cloud:
        yield cloud


def trial_of(scenario: Scenario, cloud: Cloud) -> Trial:
    cloud.validates = True
    return Trial(cloud, ENVIRONMENT | scenario.environment, scenario.rules)


def settle(trial: Trial) -> None:
    failing()(trial)
    for _ in range(CLEAN_SWEEPS):
        trial.wait(60).sweep()


def replay(scenario: Scenario, cloud: Cloud, before: Callable[[Trial, int], None]) -> Trial:
    """Play a scenario; `before` is called before the sweep of each moment, with the world as it finds it."""
    trial = trial_of(scenario, cloud)
    for number, moment in enumerate(scenario.moments):
        trial.wait(moment.seconds)
        moment.change(trial)
        before(trial, number)
        trial.sweep()
    return trial


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_without_faults(scenario: Scenario, cloud: Cloud) -> None:
    trial = replay(scenario, cloud, lambda _trial, _number: None)
    settle(trial)
    assert [run.error for run in trial.runs] == [None] * len(trial.runs)
    trial.check()


def faults_of(run: Run) -> Iterator[Fault]:
    """Return everything that can befall a sweep that would make the same calls as this one."""
    for number, call in enumerate(run.calls):
        yield Fault(number, Blow.DIE_BEFORE)
        yield Fault(number, Blow.DIE_AFTER)
        yield Fault(number, Blow.FAIL)
        yield Fault(number, Blow.FAIL_ONCE, code="InternalServerError")
        yield Fault(number, Blow.DEADLINE, seconds=1.0)
        yield Fault(number, Blow.DEADLINE, seconds=5.5)
        if call.operation == "PutEvents":
            entries = len(call.params["Entries"])
            masks = range(2**entries - 1) if entries <= SMALL_BATCH else (0, 1, 2 ** (entries - 1))
            for mask in masks:
                yield Fault(number, Blow.SUBSET, mask=mask)
                yield Fault(number, Blow.SUBSET, mask=mask, code="InternalFailure")
                yield Fault(number, Blow.SUBSET, mask=mask, code="NotAuthorizedForDetailTypeException")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_crash_point(scenario: Scenario, cloud: Cloud) -> None:
    def crash(trial: Trial, number: int) -> None:
        trial.cloud.validates = False
        with trial.rehearsal():
            clean = trial.sweep()
        for fault in faults_of(clean):
            TALLY["crash points"] += 1
            with trial.rehearsal():
                try:
                    trial.sweep(fault)
                    settle(trial)
                    trial.check()
                except Broken as broken:
                    raise Broken(f"{scenario.name}, sweep {number}, {fault}: {broken}") from broken

    replay(scenario, cloud, crash)
