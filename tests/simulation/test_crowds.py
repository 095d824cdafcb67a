"""Policies that a crowd violates at once: what one sweep cannot commit or publish, later ones do."""

from collections import Counter
from json import loads

import pytest

from tests.simulation import invariants
from tests.simulation.aws import Cloud
from tests.simulation.oracle import CLEARED, VIOLATED
from tests.simulation.scenarios import policies, start, too_long
from tests.simulation.trial import ENVIRONMENT, PARTITION, POLICIES, WRITES, Trial

FLEETS = 5
RULED = ENVIRONMENT | {"POLICIES_PARAMETER": POLICIES}


def crowded(cloud: Cloud, sessions: int) -> Trial:
    """Let sessions start, minute by minute of an hour: two of each user, on some fleets by turns."""
    trial = Trial(cloud, RULED)
    for number in range(FLEETS):
        cloud.world.fleet(f"f{number}", "s1")
    for number in range(sessions):
        whose = f"{number % (sessions // 2)}"
        ago = 60 * (1 + number % 60)
        start(trial, f"s-{number:06}", scope=f"s1/f{number % FLEETS}", ago=ago, whose=whose)
    return trial


def told(cloud: Cloud, kind: str) -> Counter[str]:
    """Count the events of a detail-type, by policy."""
    events = (
        loads(entry["Detail"])["data"]
        for entry in invariants.once(cloud.eventbridge.accepted)
        if entry["DetailType"] == kind
    )
    return Counter(data["policy"]["name"] for data in events)


def sweeps_until_all_is_told(cloud: Cloud, sessions: int, seconds_per_call: float) -> tuple[int, int]:
    """Let a policy appear that everybody violates; return how many sweeps commit that, and publish it."""
    trial = crowded(cloud, sessions)
    cloud.seconds_per_call = 0.0
    trial.sweep()
    cloud.seconds_per_call = seconds_per_call
    policies(everybody=too_long(1))(trial)
    committing = publishing = 0
    pending = True
    while pending:
        run = trial.wait_for_the_minute().sweep()
        assert run.error is None
        publishing += 1
        committing += any(VIOLATED in str(call.params) for call in run.calls if call.operation in WRITES)
        pending = run.result["pending"] or run.result["changesUncommitted"]
    assert told(cloud, VIOLATED) == {"everybody": sessions}
    invariants.violations_are_opened_and_closed(cloud.eventbridge.accepted)
    invariants.sequences_are_gapless_and_in_order(cloud.eventbridge.accepted)
    invariants.outbox_is_empty(cloud.dynamodb.tables["table"], PARTITION)
    return committing, publishing


def test_a_policy_that_everybody_violates_is_committed_over_several_sweeps(cloud: Cloud) -> None:
    # Listing takes most of a minute, so that not all of sixteen transactions are in time.
    cloud.appstream.most_a_page = 14
    committing, publishing = sweeps_until_all_is_told(cloud, sessions=1_500, seconds_per_call=0.45)
    assert committing > 1
    assert publishing > committing


@pytest.mark.parametrize("known", [True, False], ids=["sessions that are known", "before the first sweep"])
def test_the_next_sweep_tells_what_the_preview_counted(cloud: Cloud, known: bool) -> None:
    trial = crowded(cloud, 1_000)
    if known:
        policies(before=too_long(50))(trial)
        trial.sweep()
    before = told(cloud, VIOLATED)
    several = {"kind": "TOO_MANY_SESSIONS", "limit": 1, "fleets": "!f1"}
    policies(long=too_long(30, 45), several=several)(trial)
    accepted, held = len(cloud.eventbridge.accepted), repr(cloud.dynamodb.tables["table"].partitions)
    preview = trial.preview(cloud.world.documents[cloud.world.parameters[POLICIES]])["policies"]
    assert len(cloud.eventbridge.accepted) == accepted
    assert repr(cloud.dynamodb.tables["table"].partitions) == held
    trial.sweep()
    violated, cleared = told(cloud, VIOLATED) - before, told(cloud, CLEARED)
    assert violated.keys() == {"long", "several"}
    assert cleared == before
    assert {name: (each["violated"], each["cleared"]) for name, each in preview.items()} == {
        name: (violated[name], cleared[name]) for name in violated | cleared
    }
