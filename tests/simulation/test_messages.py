"""Sweeps by message: the same story as by schedule, told in the same bytes."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.simulation.appstream import ACCOUNT_ID, REGION
from tests.simulation.aws import Cloud, Run
from tests.simulation.scenarios import SCENARIOS, Scenario
from tests.simulation.test_crashes import replay, settle
from tests.simulation.trial import Container

# A sweep that could list nothing is made again by its second message; the oracle takes an invocation for one.
LISTED = [each for each in SCENARIOS if each.name != "a topology that cannot be read"]


def record(run: Run, late: float = 0) -> dict[str, str]:
    """A message that is due when the sweep begins, or so many seconds earlier."""
    due = datetime.fromtimestamp(run.begin, UTC).replace(microsecond=0) - timedelta(seconds=late)
    body = {"account": ACCOUNT_ID, "region": REGION, "due": due.isoformat().replace("+00:00", "Z")}
    return {"messageId": "m", "body": json.dumps(body)}


def played(scenario: Scenario) -> Sequence[Mapping[str, Any]]:
    """Return what was published in a scenario, and check all that is promised."""
    with Cloud() as cloud:
        trial = replay(scenario, cloud, lambda _trial, _number: None)
        settle(trial)
        assert [run.error for run in trial.runs] == [None] * len(trial.runs)
        trial.check()
        return list(cloud.eventbridge.accepted)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_message_tells_what_the_schedule_tells(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    by_schedule = played(scenario)
    monkeypatch.setattr(Container, "event", lambda _, run: {"Records": [record(run)]})
    assert played(scenario) == by_schedule


@pytest.mark.parametrize("scenario", LISTED, ids=lambda scenario: scenario.name)
def test_messages_that_repeat_or_are_late_tell_nothing_more(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_schedule = played(scenario)

    def event(_: Container, run: Run) -> Mapping[str, Any]:
        again = record(run)
        nothing = {"messageId": "n", "body": "{}"}
        return {"Records": [record(run, late=90), again, nothing, again, record(run, late=20)]}

    monkeypatch.setattr(Container, "event", event)
    # To look at the target again takes time, so that all is a little later.
    assert sorted(map(_in_short, played(scenario))) == sorted(map(_in_short, by_schedule))


def _in_short(entry: Mapping[str, Any]) -> tuple[str, ...]:
    detail = json.loads(entry["Detail"])
    session = detail["data"].get("session", {}).get("id", "")
    return entry["DetailType"], session, *entry["Resources"], str(detail["metadata"]["sequence"])
