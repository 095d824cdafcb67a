"""The oracle itself, on days short enough to be worked out by hand from the rules."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.simulation import policies
from tests.simulation.oracle import Oracle, Reading, Rules, Sweep, text

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


# Fleets, tags and policies. What was read is told with the sweeps: by minute, or for every one of them.


def reading(oracle: Oracle, *readings: dict[str, Any], **sweep: Any) -> Oracle:
    """Tell what each of the sweeps read beside the sessions; the last goes for all that follow."""
    given = [*readings, *readings[-1:] * len(oracle.history)]
    told = [
        replace(each, reading=Reading(each.begin, **read), **sweep)
        for each, read in zip(oracle.history, given, strict=False)
    ]
    return Oracle(told)


def ruled(oracle: Oracle, *documents: dict[str, Any]) -> Oracle:
    """Tell which policies are in force at each of the sweeps; the last ones go for all that follow."""
    given = [*documents, *documents[-1:] * len(oracle.history)]
    return Oracle(
        [replace(each, document=policies) for each, policies in zip(oracle.history, given, strict=False)]
    )


def fleet(*codes: str, **attributes: Any) -> dict[str, Any]:
    errors = [{"ErrorCode": code, "ErrorMessage": "..."} for code in codes]
    return {"fleets": {"f1": {"Name": "f1", "FleetErrors": errors} | attributes}}


NO_FLEETS: dict[str, Any] = {"fleets": {}}
NOT_READ: dict[str, Any] = {}


def faults(oracle: Oracle) -> list[tuple[str, int, str]]:
    return [
        (each["detailType"][16:], each["metadata"]["sequence"], each["data"]["codes"])
        for each in oracle.faults().get("f1", [])
    ]


FIVE = [(minute, None) for minute in range(5)]


@pytest.mark.parametrize(
    ("oracle", "expected"),
    [
        pytest.param(reading(day(*FIVE), fleet()), [], id="nothing wrong"),
        pytest.param(
            reading(day(*FIVE), fleet(), fleet("B", "A", "B"), fleet("A", "B"), fleet()),
            [("Faulted", 1, "A,B"), ("Recovered", 2, "A,B")],
            id="once per change of the set, distinct and sorted",
        ),
        pytest.param(
            reading(day(*FIVE), fleet("A"), fleet("A", "B"), fleet("B"), fleet(), fleet("A")),
            [
                ("Faulted", 1, "A"),
                ("Faulted", 2, "A,B"),
                ("Faulted", 3, "B"),
                ("Recovered", 4, "B"),
                ("Faulted", 1, "A"),
            ],
            id="numbered anew in the next fault",
        ),
        pytest.param(
            reading(day(*FIVE), fleet("A"), NOT_READ, fleet("A"), NO_FLEETS, fleet("A")),
            [("Faulted", 1, "A"), ("Recovered", 2, "A"), ("Faulted", 1, "A")],
            id="a failure changes nothing; a fleet that is gone has recovered",
        ),
        pytest.param(
            reading(day(*FIVE), fleet("A"), fleet(FleetErrors="?"), fleet(FleetErrors=[{}])),
            [("Faulted", 1, "A")],
            id="what cannot be read changes nothing",
        ),
        pytest.param(
            reading(day((0, None), (1, "unwanted"), (2, None)), fleet("A")),
            [("Faulted", 1, "A"), ("Recovered", 2, "A"), ("Faulted", 1, "A")],
            id="out of view, and in it again",
        ),
        pytest.param(
            reading(day((0, None), (1, "gone")), fleet("A"), topology_whole=False),
            [("Faulted", 1, "A")],
            id="not known to be gone",
        ),
        pytest.param(
            reading(
                day((0, None), (1, "gone"), (2, "gone")),
                fleet("A"),
                fleet("B"),
                fleet(),
                topology_whole=False,
            ),
            [("Faulted", 1, "A"), ("Faulted", 2, "B"), ("Recovered", 3, "B")],
            id="not known to be gone, and looked at as before",
        ),
    ],
)
def test_faults_of_fleets(oracle: Oracle, expected: list[tuple[str, int, str]]) -> None:
    assert faults(oracle) == expected


def test_an_event_of_a_fleet() -> None:
    kind = {"InstanceType": "stream.standard.large", "FleetType": "ON_DEMAND"}
    tags = {("fleet", "f1"): {"team": "a"}, ("stack", "s1"): {"team": "b"}}
    told = [
        fleet(),
        fleet("A", **kind) | {"tags": tags},
        fleet("B", **kind) | {"tags": {resource: {} for resource in tags}},
    ]
    oracle = reading(day(*FIVE[:3]), *told, tag_keys=("team", "cost"))
    first, second = oracle.faults()["f1"]
    assert first == {
        "detailType": "AppStream Fleet Faulted",
        "metadata": {
            "sequence": 1,
            "observedAt": text(FIRST + 70),
            "previousObservedAt": text(FIRST),
        },
        "data": {
            "stackName": "",
            "fleetName": "f1",
            "since": text(FIRST + 70),
            "codes": "A",
            "fleet": {
                "instanceType": "stream.standard.large",
                "fleetType": "ON_DEMAND",
                "platform": "",
                "maxSessionsPerInstance": 0,
            },
            "tags": {"team": "a", "cost": ""},
        },
    }
    assert second["data"]["since"] == text(FIRST + 70)
    assert second["data"]["tags"] == {"team": "", "cost": ""}


def test_facts_and_tags_are_the_last_known() -> None:
    tags = {("fleet", "f1"): {"cost": "1"}, ("stack", "s1"): {"team": "b", "cost": "2"}}
    known = fleet(Platform="WINDOWS_SERVER_2022", MaxSessionsPerInstance=4) | {"tags": tags}
    oracle = reading(
        day((0, None), (3, ON), (4, "gone"), (5, "gone")),
        *(known, known, NOT_READ, NO_FLEETS | {"tags": {}}),
        tag_keys=("team", "cost"),
    )
    ended = oracle.events()["a"][0][-1]["data"]
    assert ended["fleet"] | {"instanceType": "", "fleetType": ""} == ended["fleet"]
    assert (ended["fleet"]["platform"], ended["fleet"]["maxSessionsPerInstance"]) == (
        "WINDOWS_SERVER_2022",
        4,
    )
    assert ended["tags"] == {"team": "b", "cost": "1"}


def test_what_a_container_kept_counts_if_it_is_newer_than_what_the_table_knows() -> None:
    oracle = reading(day(*FIVE[:3]), fleet(), NOT_READ)
    kept = Reading(FIRST + 30, fleets=fleet("A")["fleets"])
    old = Reading(FIRST - 30, fleets=fleet("B")["fleets"])
    first, second, third = oracle.history
    told = faults(Oracle([first, replace(second, remembered=kept), replace(third, remembered=old)]))
    assert told == [("Faulted", 1, "A")]


def document(zone: str = "UTC", hours: Any = None, **policies: Any) -> dict[str, Any]:
    office = {"days": "mon-fri", "from": "07:00", "to": "19:00"} if hours is None else hours
    named = {name.replace("_", "-"): policy for name, policy in policies.items()}
    return {"version": 1, "timeZone": zone, "hours": {"office": office}, "policies": named}


LONG = {"kind": "TOO_LONG", "minutes": [10, 20]}
HOST = {"kind": "DRAINING", "minutes": [5, 10]}
# The first of January 2026 is a Thursday, and the days begin at nine.
LATE = {"kind": "OUTSIDE_HOURS", "hours": "office", "graceMinutes": 2}
CLOSES_AT_NINE = {"days": "thu", "from": "07:00", "to": "09:03"}
STAYS = record(2, hours=96)
DRAINS = record(2, InstanceDrainStatus="DRAINING")
NOTHING: dict[str, Any] = {"version": 1, "timeZone": "UTC", "policies": {}}


def policies_told(oracle: Oracle) -> list[str]:
    """Say each event in a word, with the policy, its threshold and why it is over."""
    words = []
    for life in oracle.events().get("a", []):
        for event in life:
            data = event["data"]
            policy = data.get("policy", {"name": ""})["name"]
            threshold = data["thresholdMinutes"] if policy else ""
            more = f"{policy} {threshold} {data.get('clearReason', '')}".strip()
            words.append(f"{event['detailType'].split()[-1]} {more}".strip())
    return words


def under(days: Oracle, *documents: dict[str, Any]) -> list[str]:
    return policies_told(ruled(days, *documents))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param(
            under(day((0, None), *((m, ON) for m in (3, 12, 13, 23))), document(too_long=LONG)),
            ["Started", "Violated too-long 10", "Violated too-long 20"],
            id="too long, at each threshold",
        ),
        pytest.param(
            under(day((0, None), (3, ON), (23, ON), (24, ON)), document(too_long=LONG)),
            ["Started", "Violated too-long 20"],
            id="the largest alone, and what is below it counts as fired",
        ),
        pytest.param(
            under(day((0, BEFORE)), document(too_long=LONG)),
            ["Violated too-long 20"],
            id="the baseline raises like others",
        ),
        pytest.param(
            under(day((0, None), (3, ON), (13, ON), (24, GONE), (25, GONE)), document(too_long=LONG)),
            ["Started", "Violated too-long 10", "Cleared too-long 10 ENDED", "Ended"],
            id="cleared before the end",
        ),
        pytest.param(
            under(day((0, None), *((m, ON) for m in (3, 13, 23)), (24, "unwanted")), document(too_long=LONG)),
            [
                *("Started", "Violated too-long 10", "Violated too-long 20"),
                *("Cleared too-long 10 UNWATCHED", "Cleared too-long 20 UNWATCHED", "Unwatched"),
            ],
            id="cleared before it is unwatched, in order",
        ),
        pytest.param(
            under(day((0, None), (3, ON), (13, (ON,)), (14, GONE), (15, ON)), document(too_long=LONG)),
            ["Started", "Violated too-long 10"],
            id="a scope that was not listed whole raises nothing",
        ),
        pytest.param(
            under(
                day((0, None), (3, ON), (13, ON), (14, ON)),
                *(document(too_long=LONG),) * 3,
                document(too_long=LONG | {"minutes": [30]}),
            ),
            ["Started", "Violated too-long 10", "Cleared too-long 10 POLICY_CHANGED"],
            id="an edited policy that no longer finds it",
        ),
        pytest.param(
            under(
                day((0, None), (3, ON), (13, ON), (14, ON)),
                *(document(too_long=LONG),) * 3,
                document(too_long=LONG | {"minutes": [8, 10]}),
            ),
            ["Started", "Violated too-long 10"],
            id="an edited policy that still finds it",
        ),
        pytest.param(
            under(
                day((0, None), (3, ON), (13, ON), (14, ON)),
                *(document(too_long=LONG),) * 3,
                NOTHING,
            ),
            ["Started", "Violated too-long 10", "Cleared too-long 10 POLICY_CHANGED"],
            id="a policy that is gone",
        ),
        pytest.param(
            under(day((0, None), (3, ON), (13, ON)), document(too_long=LONG | {"fleets": "!f*"})),
            ["Started"],
            id="a filter leaves its fleet out",
        ),
        pytest.param(
            under(
                day((0, None), *((m, DRAINS) for m in (3, 7, 8)), (10, ON), (11, DRAINS), (15, DRAINS)),
                document(host=HOST),
            ),
            ["Started", "Violated host 5", "Cleared host 5 RESOLVED"],
            id="a host that drains, and again",
        ),
        pytest.param(
            under(
                day((0, None), (3, DRAINS), (4, GONE), (5, "failed"), (6, (ON,)), (8, DRAINS)),
                document(host=HOST),
            ),
            ["Started", "Violated host 5"],
            id="sights that fail change nothing",
        ),
        pytest.param(
            under(
                day((0, None), (3, DRAINS), *every_minute(20, 26, DRAINS), rules=USUAL), document(host=HOST)
            ),
            ["Started", "Violated host 5"],
            id="a hole puts it off",
        ),
        pytest.param(
            under(
                day((0, None), *every_minute(3, 9, DRAINS), *every_minute(20, 31, DRAINS), rules=USUAL),
                document(host=HOST),
            ),
            ["Started", "Violated host 5", "Violated host 10"],
            id="what has fired stays fired through a hole",
        ),
        pytest.param(
            under(
                day((0, None), *((m, ON) for m in (3, 4, 5)), (6, OFF), (7, ON)),
                document(hours=CLOSES_AT_NINE, late=LATE),
            ),
            ["Started", "Violated late 0", "Disconnected", "Reconnected"],
            id="outside hours, beyond grace, open through disconnects",
        ),
        pytest.param(
            under(
                day((0, None), (5, STAYS), (22 * 60, STAYS), (23 * 60, GONE), (24 * 60, GONE)),
                document(hours={"days": "thu,fri", "from": "07:00", "to": "09:03"}, late=LATE),
            ),
            ["Started", "Violated late 0", "Cleared late 0 RESOLVED", "Ended"],
            id="the next morning",
        ),
    ],
)
def test_violations(told: list[str], expected: list[str]) -> None:
    assert told == expected


def test_events_of_a_policy() -> None:
    days = day((0, None), (14, ON), (15, GONE), (16, GONE))
    oracle = ruled(days, document(too_long=LONG))
    _, violated, cleared, ended = oracle.events()["a"][0]
    policy = {
        "name": "too-long",
        "kind": "TOO_LONG",
        "since": text(FIRST + 12 * MINUTE),
        "limit": "10",
        "actual": "12",
    }
    assert violated["data"]["policy"] == cleared["data"]["policy"] == policy
    assert violated["data"]["thresholdMinutes"] == cleared["data"]["thresholdMinutes"] == 10
    assert "clearReason" not in violated["data"]
    assert cleared["metadata"] | {"sequence": 4} == ended["metadata"]


def test_what_is_said_of_hours() -> None:
    days = day((0, None), (6, record(5)))
    berlin = document("Europe/Berlin", {"days": "thu", "from": "08:00", "to": "10:00"}, late=LATE)
    violated = ruled(days, berlin).events()["a"][0][-1]["data"]
    assert violated["policy"] == {
        "name": "late",
        "kind": "OUTSIDE_HOURS",
        # It began after hours and grace were over.
        "since": text(FIRST + 5 * MINUTE),
        "limit": "thu 08:00-10:00 Europe/Berlin",
        "actual": "2026-01-01 10:06 CET",
    }
    assert violated["thresholdMinutes"] == 0


def test_sessions_of_one_user_are_ranked_by_start_and_id() -> None:
    def of(identity: str, minute: int, user: str = "x", **attributes: Any) -> dict[str, Any]:
        return record(minute, Id=identity, UserId=user) | attributes

    two = document(two={"kind": "TOO_MANY_SESSIONS", "limit": 2})
    days = list(day(*FIVE).history)
    a, b, c = of("a", 1), of("b", 0), of("c", 1)
    other = of("d", 1, FleetName="f2")
    seen = [
        {"b": b},
        {"a": a, "b": b, "c": c, "e": of("e", 1, "y")},
        # Those of another scope, which fails later, count.
        {"a": a, "c": c, "d": other},
        {"a": a, "c": c},
        {"a": a, "c": c},
    ]
    both = frozenset({SCOPE, ("s1", "f2")})
    failed = [{}, {}, {}, {("s1", "f2"): "ThrottlingException"}, {("s1", "f2"): "ThrottlingException"}]
    history = [
        replace(each, records=records, scopes=both, failed=problems)
        for each, records, problems in zip(days, seen, failed, strict=True)
    ]
    oracle = ruled(Oracle(history), two)
    told = {
        identity: [
            (
                event["detailType"].split()[-1],
                event["metadata"]["observedAt"],
                event["data"]["policy"]["actual"],
            )
            for life in lives
            for event in life
            if "policy" in event["data"]
        ]
        for identity, lives in oracle.events().items()
    }
    at = [text(each.observed) for each in history]
    # b is missed first and ends in the fourth sweep; then a, c and d are three, of which d is the last.
    assert told == {
        "a": [],
        "b": [],
        "c": [("Violated", at[1], "3"), ("Cleared", at[3], "3")],
        "d": [("Violated", at[2], "4")],
        "e": [],
    }


UTC_ZONE = "UTC"
OFFICE = {"days": "mon-fri", "from": "07:00", "to": "19:00"}
NIGHT = {"days": "fri", "from": "22:00", "to": "06:00"}


def moment(words: str) -> int:
    return int(datetime.fromisoformat(f"{words}Z").timestamp())


@pytest.mark.parametrize(
    ("zone", "hours", "inside", "outside"),
    [
        pytest.param(
            "UTC", OFFICE, ["2026-01-02 07:00", "2026-01-02 18:59"], ["2026-01-02 06:59"], id="begin"
        ),
        pytest.param("UTC", OFFICE, [], ["2026-01-02 19:00", "2026-01-03 12:00"], id="end, and the weekend"),
        pytest.param(
            "UTC",
            OFFICE | {"skip": ["2026-01-02"]},
            ["2026-01-05 12:00"],
            ["2026-01-02 12:00"],
            id="a day that is skipped",
        ),
        pytest.param(
            "UTC",
            NIGHT,
            ["2026-01-02 22:00", "2026-01-03 05:59"],
            ["2026-01-02 05:00", "2026-01-03 06:00"],
            id="a night belongs to the day on which it begins",
        ),
        pytest.param(
            "UTC",
            NIGHT | {"skip": ["2026-01-03"]},
            ["2026-01-03 05:59"],
            [],
            id="the day after does not matter",
        ),
        pytest.param(
            "UTC",
            NIGHT | {"skip": ["2026-01-02"]},
            [],
            ["2026-01-02 23:00", "2026-01-03 05:59"],
            id="a night that is skipped",
        ),
        pytest.param(
            "UTC",
            {"days": "sat-mon", "from": "00:00", "to": "24:00"},
            ["2026-01-03 00:00", "2026-01-04 00:00", "2026-01-05 23:59"],
            ["2026-01-02 23:59", "2026-01-06 00:00"],
            id="days that wrap, whole",
        ),
        pytest.param(
            "Europe/Berlin",
            {"days": "sun-sat", "from": "07:00", "to": "19:00"},
            # Clocks are put forward on 29 March: 07:00 is 06:00Z the day before and 05:00Z then.
            ["2026-03-28 06:00", "2026-03-28 17:59", "2026-03-29 05:00", "2026-03-29 16:59"],
            ["2026-03-28 05:59", "2026-03-28 18:00", "2026-03-29 04:59", "2026-03-29 17:00"],
            id="spring",
        ),
        pytest.param(
            "Europe/Berlin",
            {"days": "sun-sat", "from": "07:00", "to": "19:00"},
            # And back on 25 October.
            ["2026-10-24 05:00", "2026-10-24 16:59", "2026-10-25 06:00", "2026-10-25 17:59"],
            ["2026-10-24 04:59", "2026-10-24 17:00", "2026-10-25 05:59", "2026-10-25 18:00"],
            id="autumn",
        ),
        pytest.param(
            "Europe/Berlin",
            {"days": "sun", "from": "02:30", "to": "03:30"},
            # 02:30 is there twice, at 00:30Z and at 01:30Z: it begins with the first.
            ["2026-10-25 00:30", "2026-10-25 01:00", "2026-10-25 02:29"],
            ["2026-10-25 00:29", "2026-10-25 02:30"],
            id="an ambiguous begin is the first",
        ),
        pytest.param(
            "Europe/Berlin",
            {"days": "sun", "from": "01:00", "to": "02:30"},
            ["2026-10-24 23:00", "2026-10-25 00:30", "2026-10-25 01:29"],
            ["2026-10-24 22:59", "2026-10-25 01:30"],
            id="an ambiguous end is the second",
        ),
        pytest.param(
            "Europe/Berlin",
            {"days": "sun", "from": "02:30", "to": "12:00"},
            # There is no 02:30: it is as in winter, 01:30Z, when clocks show 03:30.
            ["2026-03-29 01:30"],
            ["2026-03-29 01:29"],
            id="a begin that there is not",
        ),
        pytest.param(
            "America/New_York",
            {"days": "sat", "from": "20:00", "to": "02:30"},
            ["2026-03-08 01:00", "2026-03-08 07:29"],
            ["2026-03-08 00:59", "2026-03-08 07:30"],
            id="an end that there is not",
        ),
    ],
)
def test_hours(zone: str, hours: Any, inside: list[str], outside: list[str]) -> None:
    told = document(zone, hours, late={"kind": "OUTSIDE_HOURS", "hours": "office"})

    def found(words: str) -> bool:
        return policies.outside_hours(told, "late", moment(words), 0) is not None

    assert [words for words in inside if found(words)] == []
    assert [words for words in outside if not found(words)] == []


def test_grace_counts_from_the_end_of_hours() -> None:
    told = document(hours=OFFICE, late=LATE | {"graceMinutes": 30})
    friday = moment("2026-01-02 19:30")
    for at, since in ((friday - 1, None), (friday, friday), (moment("2026-01-05 06:59"), friday)):
        found = policies.outside_hours(told, "late", at, 0)
        assert (found and found.since) == since
    # A grace that lasts until the next begin leaves nothing.
    long = document(hours=OFFICE | {"days": "mon-sun"}, late=LATE | {"graceMinutes": 12 * 60})
    assert policies.outside_hours(long, "late", moment("2026-01-03 06:59"), 0) is None


def test_filters() -> None:
    scope, tags = ("desk-a", "render-1"), {"team": "x", "cost": ""}
    for policy, concerned in (
        ({}, True),
        ({"stacks": "desk-*", "fleets": "!cad-*"}, True),
        ({"fleets": "!render-*"}, False),
        ({"fleets": "a, render-?"}, True),
        ({"stacks": "Desk-*"}, False),
        ({"tags": {"team": "x,y"}}, True),
        ({"tags": {"team": "x", "cost": "1*"}}, False),
        ({"tags": {"cost": "!1*"}}, True),
    ):
        assert policies.concerns(policy, scope, tags) is concerned, policy
