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


# For days in which many minutes pass between two sweeps: that alone is no hole then.
PATIENT = Rules(hole=1_000_000)


def day(*sights: tuple[float, Any], timeout: int = 900, rules: Rules = PATIENT, **sweep: Any) -> Oracle:
    """Tell of sweeps of ten seconds: the minute, and what it saw.

    "failed", "gone" and "unwanted" are of the scope, "denied" of the topology; a record in a tuple was listed
    by a scope that failed.
    """
    history = []
    for number, (minute, seen) in enumerate(sights):
        begin = FIRST + int(minute * MINUTE)
        partial = isinstance(seen, tuple)
        found = seen[0] if isinstance(seen, tuple) else seen
        state = found if isinstance(found, str) else ""
        history.append(
            Sweep(
                begin=begin,
                observed=begin + 10,
                records={"a": found} if isinstance(found, dict) else {},
                scopes=frozenset() if state in {"gone", "unwanted", "denied"} else frozenset({SCOPE}),
                failed={SCOPE: "ThrottlingException"} if partial or state == "failed" else {},
                timeouts={"f1": timeout},
                rules=rules,
                load=2 * number,
                order=2 * number + 1,
                unwanted=frozenset({SCOPE}) if state == "unwanted" else frozenset(),
                unreadable="AccessDeniedException" if state == "denied" else "",
                **sweep,
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
        pytest.param(
            day((0, BEFORE), rules=Rules(hole=1_000_000, baseline_events=True)),
            ["Started"],
            id="baseline told",
        ),
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


def every_minute(start: int, end: int, seen: Any) -> list[tuple[float, Any]]:
    return [(minute, seen) for minute in range(start, end)]


USUAL = Rules()
BASELINE_OFF = record(-60, ConnectionState="NOT_CONNECTED")


@pytest.mark.parametrize(
    ("oracle", "expected"),
    [
        pytest.param(
            day((0, None), *every_minute(3, 8, OFF), (128, OFF), (129, OFF), timeout=36000, rules=USUAL),
            ["Started"],
            id="never connected: a pause of two hours is no time without anybody",
        ),
        pytest.param(
            day((0, None), *every_minute(3, 8, OFF), *every_minute(128, 145, OFF), rules=USUAL),
            ["Started", "Abandoned 15"],
            id="never connected: the clock starts anew with the first observation after the pause",
        ),
        pytest.param(
            day((0, None), (3, ON), (4, OFF), (124, OFF), (125, OFF), timeout=36000, rules=USUAL),
            ["Started", "Disconnected"],
            id="away before the pause and after it: may have worked in between",
        ),
        pytest.param(
            day(
                (0, None),
                (3, ON),
                *every_minute(4, 30, OFF),
                (150, OFF),
                (151, OFF),
                timeout=36000,
                rules=USUAL,
            ),
            ["Started", "Disconnected", "Abandoned 15"],
            id="what has fired stays fired",
        ),
        pytest.param(
            day((0, None), (3, ON), (4, OFF), (15, OFF), *every_minute(16, 27, OFF), rules=USUAL),
            ["Started", "Disconnected", "Expiring 5"],
            id="the pause puts the disconnect deadline off",
        ),
        pytest.param(
            day(
                (0, None),
                (3, ON),
                *every_minute(4, 9, "failed"),
                (9, (OFF,)),
                (10, (OFF,)),
                (26, (OFF,)),
                rules=USUAL,
            ),
            ["Started", "Disconnected"],
            id="a partial listing in a hole starts no clock",
        ),
        pytest.param(
            day((0, None), (3, ON), (10, GONE), (11, GONE), rules=USUAL),
            ["Started", "Ended UNKNOWN"],
            id="ended within a hole",
        ),
        pytest.param(
            day((0, None), (3, OFF), (60, OFF), (61, GONE), (62, GONE), rules=USUAL),
            ["Started", "Ended UNKNOWN"],
            id="never seen connected, with a hole in its life",
        ),
        pytest.param(
            day((0, None), (3, ON), (60, ON), (61, GONE), (62, GONE), rules=USUAL),
            ["Started", "Ended USER_OR_ADMIN"],
            id="seen connected, with a hole in its life",
        ),
        pytest.param(
            day((0, None), (9, OFF), (10, GONE), (11, GONE), rules=USUAL),
            ["Started", "Ended UNKNOWN"],
            id="never seen connected, first seen after a hole",
        ),
        pytest.param(
            day((0, BASELINE_OFF), (1, GONE), (2, GONE), rules=USUAL),
            ["Ended UNKNOWN"],
            id="never seen connected, of the baseline",
        ),
        pytest.param(
            day((0, None), (3, ON), (4, GONE), (4.4, GONE), rules=USUAL),
            ["Started"],
            id="missing from two listings within half a minute",
        ),
        pytest.param(
            day((0, None), (3, ON), (4, GONE), (4.5, GONE), rules=USUAL),
            ["Started", "Ended USER_OR_ADMIN"],
            id="missing for half a minute",
        ),
        pytest.param(
            day((0, None), (3, ON), (4, "unwanted"), (5, "unwanted"), (6, ON), rules=USUAL),
            ["Started", "Unwatched", "Started"],
            id="a filter leaves it out, and takes it in again",
        ),
        pytest.param(
            day((0, BEFORE), (4, "unwanted"), (5, "unwanted"), rules=USUAL),
            [],
            id="nothing told, nothing to close",
        ),
        pytest.param(
            day((0, None), (1, "unwanted"), (120, OFF), (121, GONE), (122, GONE), rules=USUAL),
            ["Started", "Ended UNKNOWN"],
            id="never seen connected, out of view before",
        ),
        pytest.param(
            day((0, None), (3, ON), (4, "denied"), (5, "denied"), (6, ON), rules=USUAL),
            ["Started"],
            id="a topology that cannot be read ends nobody",
        ),
        pytest.param(
            day((0, None), (3, ON), (4, GONE), (5, GONE), rules=USUAL, types=frozenset({"SAML"})),
            ["Started", "Unwatched"],
            id="listed by a type that is not asked for any more",
        ),
        pytest.param(
            day(
                *((0, None), (3, record(2, AuthenticationType="AWS_AD")), (4, GONE), (5, GONE)),
                rules=USUAL,
                types=frozenset({"SAML"}),
                listed_as={"a": "SAML"},
            ),
            ["Started", "Ended USER_OR_ADMIN"],
            id="the type of the call decides, not the record",
        ),
        pytest.param(
            day(
                *((0, None), (3, ON), (4, GONE), (5, GONE)),
                rules=USUAL,
                listed_as={"a": "USERPOOL"},
                refused={SCOPE: frozenset({"USERPOOL"})},
            ),
            ["Started"],
            id="a type that is refused ends nobody that was listed by it",
        ),
    ],
)
def test_tells_of_what_nobody_looked_at(oracle: Oracle, expected: list[str]) -> None:
    assert told(oracle) == expected


def test_usage_is_a_lower_bound_after_a_hole() -> None:
    oracle = day((0, None), (3, ON), (4, ON), (60, ON), (61, ON), (62, GONE), (63, GONE), rules=USUAL)
    ended = oracle.events()["a"][0][-1]
    # From the first observation after the hole, 10:00:10, to the first listing without it, 10:02:10.
    assert ended["data"]["usage"]["connectedSeconds"] == 120


def audits(oracle: Oracle, scope: tuple[str, str] = SCOPE) -> list[tuple[str, str, str]]:
    return [
        (each["detailType"][16:], each["metadata"]["observedAt"], each["data"]["reason"])
        for each in oracle.audits().get(scope, [])
    ]


@pytest.mark.parametrize(
    ("oracle", "expected"),
    [
        pytest.param(
            day(*every_minute(0, 2, None), *every_minute(2, 7, "failed"), (7, None), rules=USUAL),
            [],
            id="no hole yet",
        ),
        pytest.param(
            day(*every_minute(0, 2, None), *every_minute(2, 9, "failed"), (9, None), rules=USUAL),
            [(7, "Degraded", "ThrottlingException"), (9, "Recovered", "ThrottlingException")],
            id="when the hole opens",
        ),
        pytest.param(
            day((0, None), (120, "failed"), (121, "failed"), (122, "gone"), rules=USUAL),
            [(120, "Degraded", "ThrottlingException"), (122, "Recovered", "ThrottlingException")],
            id="after a pause, at once",
        ),
        pytest.param(
            day(*every_minute(0, 8, "failed"), rules=USUAL),
            [(6, "Degraded", "ThrottlingException")],
            id="never listed",
        ),
        pytest.param(
            day((0, None), *every_minute(1, 8, "failed"), (8, "unwanted"), rules=USUAL),
            [(6, "Degraded", "ThrottlingException"), (8, "Recovered", "FILTERED")],
            id="a filter leaves it out",
        ),
    ],
)
def test_audit_events(oracle: Oracle, expected: list[tuple[int, str, str]]) -> None:
    told = [(text(FIRST + minute * MINUTE + 10), word, reason) for minute, word, reason in expected]
    assert [(at, word, reason) for word, at, reason in audits(oracle)] == told


def test_a_topology_that_cannot_be_read_degrades_the_whole_target() -> None:
    oracle = day((0, ON), *every_minute(1, 8, "denied"), (8, ON), rules=USUAL)
    assert audits(oracle) == []
    assert [(word, reason) for word, _, reason in audits(oracle, ("", ""))] == [
        ("Degraded", "AccessDeniedException"),
        ("Recovered", "AccessDeniedException"),
    ]
