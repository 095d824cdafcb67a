"""What `doctor` makes of patterns and of dead letters, as plain data."""

import json
from typing import Any

import pytest

from appstream_auditor.doctor.runner import judged, reason_of
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
        pytest.param(OF_CAD, None, id="nothing is left to judge"),
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
    pattern: dict[str, Any], asked: dict[str, Any] | None
) -> None:
    assert judged(json.dumps(pattern)) == (json.dumps(asked) if asked else "")


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


NONE = "no reason given; the log of the function may say it"
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
