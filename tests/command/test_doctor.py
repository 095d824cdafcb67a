"""How `doctor` judges patterns and dead letters, and how its report reads, as plain data."""

import json
from typing import Any

import pytest

from appstream_auditor.doctor.auditor import source_and_type
from appstream_auditor.doctor.findings import Check, FindingRow, Level
from appstream_auditor.doctor.report import report
from appstream_auditor.doctor.resources import reason_of
from session_auditor.views import Fault

OURS = {"source": ["appstream.auditor"]}
OF_CAD = {"detail": {"data": {"session": {"fleetName": ["cad"]}}}}


@pytest.mark.parametrize(
    ("pattern", "asked"),
    [
        pytest.param(OURS, OURS, id="a source"),
        pytest.param(OURS | OF_CAD, OURS, id="what the detail has to hold is not judged"),
        pytest.param(
            OURS | {"account": ["1"], "resources": [{"suffix": "cad"}]}, OURS, id="nor the envelope"
        ),
        pytest.param(OF_CAD, {}, id="nothing is left to judge"),
        pytest.param(
            OURS | {"$or": [{"detail-type": ["A"]} | OF_CAD, {"detail-type": ["B"]}]},
            OURS | {"$or": [{"detail-type": ["A"]}, {"detail-type": ["B"]}]},
            id="alternatives",
        ),
        pytest.param(
            OURS | {"$or": [{"detail-type": ["A"]}, OF_CAD]},
            OURS,
            id="one alternative may be met by every event",
        ),
    ],
)
def test_a_pattern_is_judged_by_source_and_detail_type(
    pattern: dict[str, Any], asked: dict[str, Any]
) -> None:
    assert source_and_type(pattern) == asked


def letter(body: Any = "", **attributes: str) -> dict[str, Any]:
    return {
        "Body": body if isinstance(body, str) else json.dumps(body),
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": text} for name, text in attributes.items()
        },
    }


def test_doctor_looks_at_what_status_calls_a_fault() -> None:
    """The last sweep, coverage, pending events: whatever is added to these needs a check of its own."""
    assert set(Fault) == {Fault.NO_SWEEP, Fault.DEGRADED, Fault.EVENTS_WAIT}


NONE = "no reason given; look into the function's log"
JANE = "jane.doe@example.com"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(letter({"detail": JANE}, reason="HTTP 410"), "HTTP 410", id="the notifier's"),
        pytest.param(
            letter({"detail": JANE}, ERROR_CODE="NO_PERMISSIONS", ERROR_MESSAGE=f"not by {JANE}"),
            "NO_PERMISSIONS",
            id="EventBridge's code, and not its message",
        ),
        pytest.param(
            letter({}, EXHAUSTED_RETRY_CONDITION="MaximumEventAgeInSeconds"),
            "MaximumEventAgeInSeconds",
            id="Scheduler's condition",
        ),
        pytest.param(
            letter({"responsePayload": {"errorType": "SnapshotError", "errorMessage": JANE}}),
            "SnapshotError",
            id="the error that a sweep raised, and not its message",
        ),
        pytest.param(
            letter({"requestContext": {"condition": "EventAgeExceeded"}}),
            "EventAgeExceeded",
            id="never invoked",
        ),
        pytest.param(letter({"detail": {"userId": JANE}}), NONE, id="an event that nobody took"),
        pytest.param(letter({"responsePayload": {"errorType": {"a": JANE}}}), NONE, id="no text"),
        pytest.param(letter({"responsePayload": JANE}), NONE, id="no payload"),
        pytest.param(letter([JANE]), NONE, id="no record"),
        pytest.param(letter("[" * 100_000), NONE, id="too deep"),
        pytest.param({}, NONE, id="nothing at all"),
    ],
)
def test_a_dead_letter_says_why_and_nothing_else(message: dict[str, Any], reason: str) -> None:
    assert reason_of(message) == reason


def row(check: Check, level: Level, sentence: str, remedy: str = "") -> FindingRow:
    return FindingRow(
        account_id="123456789012",
        region="eu-west-1",
        channel="",
        check=check,
        level=level,
        sentence=sentence,
        remedy=remedy,
        needs="",
    )


ROWS = [
    row(Check.SCHEDULE, Level.OK, "enabled, rate(1 minute)"),
    row(
        Check.CONCURRENCY,
        Level.FAULT,
        "AuditorFunction is switched off: its reserved concurrency is 0",
        "aws lambda delete-function-concurrency --function-name auditor",
    ),
]


def test_a_line_that_is_too_long_goes_on_below_its_words() -> None:
    assert "\n".join(map(str, report(ROWS, 60, regions=False))).splitlines() == [
        "ok       schedule     enabled, rate(1 minute)",
        "FAULT    concurrency  AuditorFunction is switched off: its",
        "                      reserved concurrency is 0",
        "                      -> aws lambda",
        "                         delete-function-concurrency",
        "                         --function-name auditor",
        "1 fault, 0 unknown, 0 notes, 1 ok",
    ]


def test_with_room_each_finding_is_one_line() -> None:
    lines = [str(line) for line in report(ROWS, 1000, regions=True)]
    assert len(lines) == 3
    assert lines[1].startswith("FAULT    eu-west-1 concurrency  AuditorFunction is switched off")
    assert lines[1].endswith("is 0 -> aws lambda delete-function-concurrency --function-name auditor")


def test_a_report_of_no_region_sums_up_nothing() -> None:
    assert [str(line) for line in report([], 80, regions=True)] == ["0 faults, 0 unknown, 0 notes, 0 ok"]
