"""A sweep that stalls before any of its calls and wakes up when later ones have been made.

Meanwhile the day goes on, and the bus may fail the last of the others, so that events wait in the table
when the sweep that stalled comes back with what it remembers.
"""

from collections.abc import Hashable

import pytest

from tests.simulation.aws import Blow, Cloud, Fault
from tests.simulation.invariants import Broken
from tests.simulation.scenarios import DISTURBED, Scenario
from tests.simulation.test_crashes import is_new, replay, settle
from tests.simulation.trial import TALLY, Trial

# It wakes up after the next sweep, or after so many.
LATER_SWEEPS = 3


@pytest.mark.parametrize("bus", ["works", "fails"])
@pytest.mark.parametrize("scenario", DISTURBED, ids=lambda scenario: scenario.name)
def test_a_sweep_wakes_up_late(scenario: Scenario, bus: str, cloud: Cloud) -> None:
    def stalls(trial: Trial, number: int) -> None:
        trial.cloud.validates = False
        seen: set[Hashable] = set()
        since = len(trial.runs)
        with trial.rehearsal():
            calls = len(trial.sweep().calls)
        later = scenario.moments[number + 1 : number + 1 + LATER_SWEEPS]
        for at in range(1, calls):
            for wakes in sorted({1, len(later)} - {0}):
                TALLY["stalled sweeps"] += 1
                with trial.rehearsal():
                    try:
                        go_on = trial.stall(at, seconds=86_400)
                        for moment in later[:wakes]:
                            trial.wait(moment.seconds)
                            moment.change(trial)
                            last = moment is later[wakes - 1] and bus == "fails"
                            trial.sweep(*([Fault(0, Blow.FAIL, operation="PutEvents")] if last else []))
                        go_on()
                        is_new(trial, seen, since)
                    except Broken as broken:
                        story = f"sweep {number} stalled before call {at} for {wakes} more"
                        raise Broken(f"{scenario.name}, {story}: {broken}") from broken

    replay(scenario, cloud, stalls)


def test_a_former_deployment_reads_what_the_next_one_left(cloud: Cloud) -> None:
    trial = Trial(cloud)
    cloud.world.fleet("f1", "s1")
    trial.deploy(STACK_FILTER="*,!s1")
    trial.sweep()
    trial.wait(60)
    cloud.world.start("a", "s1", "f1", at=cloud.clock.now)
    trial.users.add("user-of-a@example.com")
    go_on = trial.wait(60).stall(0, seconds=300)
    trial.deploy(STACK_FILTER="*")
    trial.wait(60).sweep()
    # It knows of stack s1 from the table alone, and the filter that it was deployed with leaves that out.
    go_on()
    settle(trial)
    trial.check()
    told = [entry["DetailType"].rsplit(" ", 1)[1] for entry in cloud.eventbridge.accepted]
    assert told == ["Started", "Unwatched", "Started"]
