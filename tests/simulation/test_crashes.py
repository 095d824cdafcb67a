"""Every crash point of every scenario: what may befall each call of each sweep, then clean sweeps.

The promises are checked after each, so what a crash loses or invents is found where it happens. A state
that was reached and settled before is not settled again: everything here is deterministic.
"""

from collections.abc import Callable, Hashable, Iterator

import pytest

from tests.simulation.aws import Blow, Call, Cloud, Fault
from tests.simulation.invariants import Broken
from tests.simulation.scenarios import DISTURBED, SCENARIOS, Scenario, failing
from tests.simulation.trial import ENVIRONMENT, TALLY, WRITES, Trial

CLEAN_SWEEPS = 2
SMALL_BATCH = 3


def trial_of(scenario: Scenario, cloud: Cloud) -> Trial:
    cloud.validates = True
    return Trial(cloud, ENVIRONMENT | scenario.environment, scenario.rules)


def settle(trial: Trial) -> None:
    """Let everything recover, and make clean sweeps of a still world."""
    failing()(trial)
    # A miss that a fast clock noted is half a minute old one sweep later.
    for _ in range(CLEAN_SWEEPS + any(run.skew > 0 for run in trial.runs)):
        trial.wait_for_the_minute().sweep()


def is_new(trial: Trial, seen: set[Hashable], since: int) -> bool:
    """Check what holds at once; in a state not seen before, also what holds after clean sweeps."""
    trial.check(settled=False)
    state = trial.state(since)
    if state in seen:
        return False
    seen.add(state)
    TALLY["states settled"] += 1
    with trial.rehearsal():
        settle(trial)
        trial.check()
    return True


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


def deaths(number: int, call: Call) -> Iterator[Fault]:
    """Return what may befall the recovery from a blow: it dies, and what it did last is done.

    A read leaves nothing behind, so dying after it, or before the next call, is dying after the call before.
    """
    if number == 0 or call.operation in {*WRITES, "PutEvents"}:
        yield Fault(number, Blow.DIE_AFTER)


def all_blows(number: int, call: Call) -> Iterator[Fault]:
    """Return everything that may befall a call."""
    yield from deaths(number, call)
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


# What befalls a sweep, the one that has to recover from it, and so on.
IN_A_ROW: tuple[Callable[[int, Call], Iterator[Fault]], ...] = (all_blows, deaths)


@pytest.mark.parametrize("scenario", DISTURBED, ids=lambda scenario: scenario.name)
def test_every_crash_point(scenario: Scenario, cloud: Cloud) -> None:
    """What befalls a sweep, and then the one that has to recover from it, if there is anything to recover.

    After a sweep that has committed and published what it saw, or nothing, the next one is like any other.
    """

    def crash(trial: Trial, number: int) -> None:
        trial.cloud.validates = False
        seen: set[Hashable] = set()
        since = len(trial.runs)

        def befall(*before: Fault) -> None:
            with trial.rehearsal():
                calls = trial.sweep().calls
            for fault in (each for n, call in enumerate(calls) for each in IN_A_ROW[len(before)](n, call)):
                TALLY["crash points"] += 1
                with trial.rehearsal():
                    try:
                        trial.sweep(fault)
                        new = is_new(trial, seen, since)
                    except Broken as broken:
                        faults = ", then ".join(map(str, (*before, fault)))
                        raise Broken(f"{scenario.name}, sweep {number}, {faults}: {broken}") from broken
                    if new and len(before) + 1 < len(IN_A_ROW) and trial.left_half_done():
                        trial.wait_for_the_minute()
                        befall(*before, fault)

        befall()

    replay(scenario, cloud, crash)
