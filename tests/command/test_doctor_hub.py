"""What `doctor` finds of a hub: its table is moto's, and the other services answer from here."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from appstream_auditor.deployment import Deployment
from appstream_auditor.doctor.findings import Check, FindingRow, Level
from appstream_auditor.doctor.runner import examine
from session_auditor.model import WHOLE_TARGET, Gap, Scope
from session_auditor.table import TARGET_KEY
from tests.shared.aws import Answer, Wire, client_error, raising, session
from tests.shared.history import TARGET, at
from tests.shared.hub import (
    LONELY,
    NOW,
    OFFICE,
    PARAMETERS,
    RENDER,
    SWEPT,
    UNIT,
    HubTable,
    every_target,
    swept_at,
    target_id,
)
from tests.shared.table import table

NESTED = "arn:aws:cloudformation:eu-west-1:123456789012:stack/hub-Dispatcher/1"
RESOURCES = {
    "hub": [
        ("AuditorFunction", "AWS::Lambda::Function", "auditor"),
        ("SweepSchedules", "AWS::Scheduler::ScheduleGroup", "schedules"),
        ("AuditorFunctionSchedule", "AWS::Scheduler::Schedule", "the-auditors-own"),
        ("Dispatcher", "AWS::CloudFormation::Stack", NESTED),
    ],
    NESTED: [
        ("DispatcherFunction", "AWS::Lambda::Function", "dispatcher"),
        ("DispatcherFunctionMinute", "AWS::Scheduler::Schedule", "each-minute"),
        ("Due", "AWS::SQS::Queue", "https://sqs.eu-west-1.amazonaws.com/123456789012/due"),
        ("SweepsDue", "AWS::Lambda::EventSourceMapping", "mapping"),
        ("TargetsOverdue", "AWS::CloudWatch::Alarm", "overdue"),
    ],
}


def resources(asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "StackResources": [
            {"LogicalResourceId": name, "ResourceType": kind, "PhysicalResourceId": physical}
            for name, kind, physical in RESOURCES[asked["StackName"]]
        ]
    }


def schedule(state: str) -> Answer:
    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        assert asked == {"Name": "each-minute", "GroupName": "schedules"}
        return {"State": state, "ScheduleExpression": "rate(1 minute)"}

    return answer


def age(seconds: float) -> Answer:
    """CloudWatch, of a function's throttles and of the queue: two messages, and the age of the oldest."""

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        if asked["MetricName"] == "Throttles":
            return {"Datapoints": []}
        assert asked["Dimensions"] == [{"Name": "QueueName", "Value": "due"}]
        most = {"ApproximateAgeOfOldestMessage": seconds, "ApproximateNumberOfMessagesVisible": 2.0}
        return {"Datapoints": [{"Maximum": 1.0}, {"Maximum": most[asked["MetricName"]]}]}

    return answer


def alarms(state: str) -> Answer:
    """CloudWatch, of the alarms asked for; `state` is that of TargetsOverdue."""

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        states = {name: state if name == "overdue" else "OK" for name in asked["AlarmNames"]}
        return {"MetricAlarms": [{"AlarmName": name, "StateValue": each} for name, each in states.items()]}

    return answer


ANSWERS: dict[str, Answer] = {
    "DescribeStacks": lambda _: {"Stacks": [{"StackStatus": "UPDATE_COMPLETE"}]},
    "DescribeStackResources": resources,
    "GetSchedule": schedule("ENABLED"),
    "GetFunctionConfiguration": lambda _: {"State": "Active"},
    "GetFunctionConcurrency": lambda _: {},
    "GetMetricStatistics": age(3),
    "GetEventSourceMapping": lambda _: {"State": "Enabled"},
    "DescribeAlarms": alarms("OK"),
    "ListRules": lambda _: {"Rules": []},
}


class Patient:
    """A hub, and what is found of it."""

    def __init__(self, hub: HubTable, wire: Wire) -> None:
        self.hub = hub
        self.wire = wire
        wire.answers |= ANSWERS
        self.parameters = dict(PARAMETERS)

    def examined(self) -> list[FindingRow]:
        outputs = {"SessionBusName": "bus"}
        hub = Deployment(session(), TARGET, "sessions", "hub", outputs, self.parameters)
        return list(examine(hub, NOW))

    def faults(self) -> list[tuple[str, Check, str]]:
        return [(row.channel, row.check, row.sentence) for row in self.examined() if row.level is Level.FAULT]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    """A hub that is well."""
    with table() as items:
        hub = HubTable(items)
        hub.list_accounts()
        for each in every_target():
            hub.put(each)
        yield Patient(hub, Wire(monkeypatch))


def test_one_that_is_well(patient: Patient) -> None:
    found = patient.examined()
    assert [row for row in found if row.level not in (Level.OK, Level.NOTE)] == []
    said = {(row.channel, row.check): row.sentence for row in found}
    # The auditor's own schedule rests.
    assert ("", Check.SCHEDULE) not in said
    assert said["Dispatcher", Check.SCHEDULE] == "enabled, rate(1 minute)"
    assert said["Dispatcher", Check.QUEUE] == "at most 2 messages at once, the oldest for 3s, in the last 15m"
    assert said["", Check.LAST_SWEEP] == said["", Check.COVERAGE] == "all of 6 targets"
    assert [row.sentence for row in found if row.check is Check.ACCOUNTS] == [
        f"2 accounts below {UNIT}",
        "6 targets",
    ]


def test_one_target_that_is_swept_more_often_has_a_dispatcher_and_no_list(patient: Patient) -> None:
    patient.parameters = {"SweepEvery": "15"}
    patient.hub.put(target_id(TARGET.account_id))
    found = patient.examined()
    assert [row for row in found if row.level not in (Level.OK, Level.NOTE)] == []
    said = {(row.channel, row.check): row.sentence for row in found}
    assert said["", Check.LAST_SWEEP] == "completed 0s ago"
    assert said["Dispatcher", Check.ACCOUNTS] == "1 target"


@pytest.mark.parametrize(
    ("operation", "answer", "check", "words"),
    [
        pytest.param(
            "GetSchedule", schedule("DISABLED"), Check.SCHEDULE, "the schedule is disabled", id="schedule"
        ),
        pytest.param(
            "GetEventSourceMapping",
            lambda _: {"State": "Disabled"},
            Check.TRIGGER,
            "the trigger of the auditor's function is disabled, so nothing is swept",
            id="trigger",
        ),
        pytest.param(
            "GetMetricStatistics",
            age(170),
            Check.QUEUE,
            "the auditor does not keep up, and what is a minute late is not swept: in Due lay at most 2",
            id="queue",
        ),
        pytest.param(
            "DescribeAlarms",
            alarms("ALARM"),
            Check.ALARMS,
            "the alarm TargetsOverdue is on",
            id="alarm",
        ),
    ],
)
def test_a_fault_of_the_dispatcher(
    patient: Patient, operation: str, answer: Answer, check: Check, words: str
) -> None:
    patient.wire.answers[operation] = answer
    ((where, what, sentence),) = patient.faults()
    assert (where, what) == ("Dispatcher", check)
    assert sentence.startswith(words)


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        pytest.param("AssumeRole AccessDenied", "deploy spoke.yaml there", id="no role"),
        pytest.param("UnrecognizedClientException", "the region is not enabled there", id="no region"),
        pytest.param("AccessDeniedException", "look for a service control policy", id="denied"),
    ],
)
def test_a_target_that_cannot_be_read_is_told_once_with_what_to_do(
    patient: Patient, reason: str, remedy: str
) -> None:
    gap = Gap(WHOLE_TARGET, at(500), None, reason, announced=True)
    patient.hub.put(target_id(OFFICE), replace(swept_at(499), gaps=(gap,)))
    (row,) = [row for row in patient.examined() if row.level is Level.FAULT]
    assert row.check is Check.LAST_SWEEP
    assert row.sentence == f"office eu-west-1: completed 1h 41m ago ({reason})"
    assert remedy in row.remedy


def test_a_target_that_is_idle_is_swept_every_fourth_minute(patient: Patient) -> None:
    idle = replace(swept_at(590), idle_since=NOW - timedelta(days=2))
    patient.hub.put(target_id(OFFICE), idle)
    assert patient.faults() == []


def test_many_alike_are_said_once_and_of_many_unlike_ten(patient: Patient) -> None:
    patient.hub.list_accounts({f"{number:012}": "" for number in range(20)})
    assert patient.faults() == [
        (
            "",
            Check.LAST_SWEEP,
            "000000000000 eu-west-1 and 39 more targets: none was completed yet (NOTHING_KNOWN)",
        )
    ]
    for number in range(20):
        patient.hub.put(target_id(f"{number:012}"), swept_at(590 - number))
    *_, last = patient.faults()
    assert last == ("", Check.LAST_SWEEP, "and 11 more")


def test_a_scope_of_one_target_that_cannot_be_listed(patient: Patient) -> None:
    gap = Gap(Scope("lab", "gis"), at(500), None, "DEADLINE", announced=True)
    patient.hub.put(target_id(RENDER), replace(SWEPT, gaps=(gap,)))
    ((_, check, sentence),) = patient.faults()
    assert check is Check.COVERAGE
    assert sentence.startswith("render-farm eu-west-1: stack lab, fleet gis cannot be listed completely")


def test_a_target_whose_item_cannot_be_read_does_not_hide_the_others(patient: Patient) -> None:
    patient.hub.spoil(target_id(OFFICE))
    patient.hub.put(target_id(LONELY), swept_at(590))
    found = patient.faults()
    assert ("", Check.LAST_SWEEP, "333333333333 eu-west-1: completed 10m ago (UNKNOWN)") in found
    (unreadable,) = [sentence for _, check, sentence in found if check is Check.UNREADABLE_ITEMS]
    assert unreadable == f"office eu-west-1: the table's item {TARGET_KEY} cannot be read, so sweeps fail"


def test_accounts_that_were_never_listed(patient: Patient) -> None:
    patient.parameters["Targets"] = "r-ab12"
    assert patient.faults() == [("Dispatcher", Check.ACCOUNTS, "no account is known below r-ab12")]


def test_whoever_may_not_ask_the_dispatchers_parts_is_told_so(patient: Patient) -> None:
    patient.wire.answers["GetSchedule"] = raising(client_error("AccessDeniedException", "GetSchedule"))
    unknown = [row for row in patient.examined() if row.level is Level.UNKNOWN]
    assert [(row.channel, row.check, row.needs) for row in unknown] == [
        ("Dispatcher", Check.SCHEDULE, "scheduler:GetSchedule")
    ]
