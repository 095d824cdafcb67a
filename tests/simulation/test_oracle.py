"""The oracle itself, on days short enough to be worked out by hand from the rules."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.simulation.oracle import Oracle, Rules, Sweep, text

SCOPE = ("s1", "f1")
FIRST = int(datetime(2026, 1, 1, 9, 0, tzinfo=UTC).timestamp())
MINUTE = 60


def record(minute: float = 0, hours: float = 16, **attributes: Any) -> dict[str, Any]:
    start = FIRST + minute * MINUTE
    return {
        "Id": "a",
        "UserId": "someone@example.com",
        "StackName": "s1",
        "FleetName": "f1",
        "State": "ACTIVE",
        "ConnectionState": "CONNECTED",
        "StartTime": datetime.fromtimestamp(start, UTC),
        "MaxExpirationTime": datetime.fromtimestamp(start + hours * 3600, UTC),
    } | attributes


def day(*sights: tuple[float, Any], timeout: int = 900, rules: Rules | None = None) -> Oracle:
    """Tell of sweeps of ten seconds: the minute, and what it saw; "failed" and "gone" are of the scope."""
    history = []
    for number, (minute, seen) in enumerate(sights):
        begin = FIRST + int(minute * MINUTE)
        history.append(
            Sweep(
                begin=begin,
                observed=begin + 10,
                records={"a": seen} if isinstance(seen, dict) else {},
                scopes=frozenset() if seen == "gone" else frozenset({SCOPE}),
                failed={SCOPE: "ThrottlingException"} if seen == "failed" else {},
                timeouts={"f1": timeout},
                rules=rules or Rules(),
                load=2 * number,
                order=2 * number + 1,
            )
        )
    return Oracle(history)


def told(oracle: Oracle) -> list[str]:
    """Say each event in a word, with its threshold or end reason."""
    words = []
    for life in oracle.events().get("a", []):
        for event in life:
            data = event["data"]
            extra = data.get("thresholdMinutes") or data.get("endReason") or ""
            words.append(f"{event['detailType'].removeprefix('AppStream Session ')} {extra}".strip())
    return words


ON, OFF = record(2), record(2, ConnectionState="NOT_CONNECTED")
BEFORE = record(-60)
GONE = None


@pytest.mark.parametrize(
    ("oracle", "expected"),
    [
        pytest.param(day((0, None), (3, ON)), ["Started"], id="first seen"),
        pytest.param(day((0, BEFORE), (1, BEFORE)), [], id="baseline is silent"),
        pytest.param(day((0, "failed"), (1, BEFORE)), [], id="baseline of a scope that failed at first"),
        pytest.param(day((0, BEFORE), rules=Rules(baseline_events=True)), ["Started"], id="baseline told"),
        pytest.param(day((0, None), (3, OFF), (4, ON)), ["Started", "Connected"], id="connects"),
        pytest.param(
            day((0, None), (3, ON), (4, OFF), (5, ON)),
            ["Started", "Disconnected", "Reconnected"],
            id="drops and returns",
        ),
        pytest.param(day((0, None), (3, ON), (4, GONE)), ["Started"], id="one miss ends nobody"),
        pytest.param(
            day((0, None), (3, ON), (4, GONE), (5, GONE)),
            ["Started", "Ended USER_OR_ADMIN"],
            id="two misses end",
        ),
        pytest.param(
            day((0, None), (3, ON), (4, GONE), (5, ON), (6, GONE)),
            ["Started"],
            id="seen again, the miss is void",
        ),
        pytest.param(
            day((0, None), (3, ON), (4, GONE), (5, "failed"), (6, GONE)),
            ["Started", "Ended USER_OR_ADMIN"],
            id="a failed listing between two misses neither counts nor resets",
        ),
        pytest.param(
            day((0, None), (3, ON), (4, "failed"), (5, "failed"), (6, "failed")),
            ["Started"],
            id="failed listings end nobody",
        ),
        pytest.param(
            day((0, None), (3, ON), (4, "gone"), (5, "gone")),
            ["Started", "Ended SCOPE_GONE"],
            id="scope gone",
        ),
        pytest.param(
            day((0, None), (3, ON), (4, record(2, State="EXPIRED")), (5, record(2, State="EXPIRED"))),
            ["Started", "Ended USER_OR_ADMIN"],
            id="expired ends once",
        ),
        pytest.param(day((0, None), (3, record(2, State="EXPIRED"))), [], id="first seen expired"),
        pytest.param(
            day((0, None), (3, OFF), (4, GONE), (5, GONE)),
            ["Started", "Ended NEVER_CONNECTED"],
            id="never connected",
        ),
        pytest.param(
            day((0, None), (3, ON), (4, OFF), (18, OFF), (20, GONE)),
            ["Started", "Disconnected", "Expiring 5", "Ended DISCONNECT_TIMEOUT"],
            id="one miss past the disconnect deadline; 15 is not shorter than the timeout of 15",
        ),
        pytest.param(
            day((0, None), (1, record(0.5, hours=1)), (50, record(0.5, hours=1)), (61, GONE)),
            ["Started", "Expiring 15", "Ended MAX_DURATION"],
            id="one miss past the maximum; 60 is not shorter than the hour",
        ),
        pytest.param(
            day(
                (0, None), (1, record(0.5, hours=2)), (117, record(0.5, hours=2)), (119, record(0.5, hours=2))
            ),
            ["Started", "Expiring 5"],
            id="only the tightest fires, the skipped count as fired",
        ),
        pytest.param(
            day(
                (0, None),
                (1, record(0.5, ConnectionState="NOT_CONNECTED")),
                *((m, OFF) for m in (18, 30, 63, 70)),
            ),
            ["Started", "Abandoned 15", "Abandoned 60"],
            id="never connected, abandoned at each threshold once",
        ),
        pytest.param(
            day((0, None), (3, ON), (4, OFF), (26, OFF), (27, ON), (28, OFF), (44, OFF), timeout=7200),
            ["Started", "Disconnected", "Abandoned 15", "Reconnected", "Disconnected", "Abandoned 15"],
            id="a new disconnect starts anew",
        ),
        pytest.param(
            day(
                (0, None),
                (3, record(2, ConnectionState="?")),
                (4, ON),
                (5, record(2, ConnectionState="")),
                (6, OFF),
            ),
            ["Started", "Disconnected"],
            id="an unknown connection state is no transition",
        ),
        pytest.param(
            day((0, None), (3, ON), (4, GONE), (5, GONE), (6, record(5.5))),
            ["Started", "Ended USER_OR_ADMIN", "Started"],
            id="an id that comes back",
        ),
    ],
)
def test_tells(oracle: Oracle, expected: list[str]) -> None:
    assert told(oracle) == expected


def test_window_of_an_end() -> None:
    oracle = day((0, None), (3, ON), (4, "failed"), (5, GONE), (6, GONE))
    (life,) = oracle.events()["a"]
    ended = life[-1]
    assert ended["data"]["endedAfter"] == text(FIRST + 3 * MINUTE)
    assert ended["data"]["endedBefore"] == text(FIRST + 5 * MINUTE + 10)
    assert ended["metadata"] == {
        "sequence": 2,
        "observedAt": text(FIRST + 6 * MINUTE + 10),
        "previousObservedAt": text(FIRST + 5 * MINUTE),
    }
    # Connected from first sight, 09:03:10, to the first listing without it, 09:05:10.
    assert ended["data"]["usage"]["connectedSeconds"] == 120


def test_audit_events() -> None:
    oracle = day((0, None), (1, "failed"), (2, "failed"), (3, "failed"), (4, None), (5, "failed"), (6, None))
    degraded, recovered = oracle.audits()[SCOPE]
    assert degraded["data"]["since"] == recovered["data"]["since"] == text(FIRST + MINUTE + 10)
    assert degraded["metadata"]["observedAt"] == text(FIRST + 2 * MINUTE + 10)
    assert recovered["metadata"]["observedAt"] == text(FIRST + 4 * MINUTE + 10)
