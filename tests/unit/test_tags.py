"""Tags of fleets and stacks: one walk with the topology, and what of them each event carries."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from session_auditor.listing import SessionLister
from session_auditor.model import Facts, Fleet, Options, Snapshot, Target
from session_auditor.tags import TagReader
from session_auditor.topology import TopologyReader
from tests.shared.aws import Wire, boto_client, client_error, raising
from tests.shared.history import SCOPE, History, at, session

ARN = "arn:aws:appstream:eu-west-1:123456789012:"


def tagged(name: str, **tags: str) -> dict[str, Any]:
    return {
        "ResourceARN": ARN + name,
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    wire = Wire(monkeypatch)
    wire.answers = {
        "DescribeStacks": lambda _: {"Stacks": [{"Name": "office"}]},
        "DescribeFleets": lambda _: {
            "Fleets": [
                {
                    "Name": "cad",
                    "FleetType": "ON_DEMAND",
                    "InstanceType": "stream.standard.medium",
                    "Platform": "WINDOWS_SERVER_2022",
                    "MaxSessionsPerInstance": 4,
                }
            ]
        },
        "ListAssociatedFleets": lambda _: {"Names": ["cad"]},
        "DescribeSessions": lambda _: {"Sessions": []},
        "GetResources": lambda _: {
            "ResourceTagMappingList": [
                tagged("fleet/cad", team="cad", cost="42"),
                tagged("stack/office", team="it", owner="jane"),
            ]
        },
    }
    return wire


def reader(*keys: str) -> TopologyReader:
    client = boto_client("appstream")
    tags = TagReader(boto_client("resourcegroupstaggingapi"), keys) if keys else None
    return TopologyReader(client, tags, workers=1, keep_for=timedelta(minutes=5))


def facts(
    topology: TopologyReader, minute: float = 0, snapshot: Snapshot | None = None
) -> tuple[Facts, dict[str, str]]:
    found = topology.read(snapshot or Snapshot(), Options(), at(minute), lambda: 60.0)
    return found.facts, dict(found.unread)


def test_of_fleets_and_stacks_those_that_are_asked_for(wire: Wire) -> None:
    found, _ = facts(reader("team", "owner"))
    assert found.fleet("cad").tags == {"team": "cad"}
    assert found.stack_tags == {"office": {"team": "it", "owner": "jane"}}
    # A fleet's go before its stack's.
    assert found.tags(SCOPE) == {"team": "cad", "owner": "jane"}


def test_nothing_is_asked_where_no_tag_is_wanted(wire: Wire) -> None:
    facts(reader())
    assert "GetResources" not in wire.operations()


def test_they_are_walked_page_by_page_once_a_refresh(wire: Wire) -> None:
    pages = [
        {"ResourceTagMappingList": [tagged("fleet/cad", team="cad")], "PaginationToken": "more"},
        {"ResourceTagMappingList": [tagged("stack/office", team="it")], "PaginationToken": ""},
    ]
    wire.answers["GetResources"] = lambda p: pages[1 if p.get("PaginationToken") else 0]
    topology = reader("team")
    for minute in range(5):
        found, unread = facts(topology, minute)
        assert unread == {}
        assert (found.fleet("cad").tags, found.stack_tags) == ({"team": "cad"}, {"office": {"team": "it"}})
    assert wire.parameters("GetResources")[0] == {
        "ResourceTypeFilters": ["appstream:fleet", "appstream:stack"],
        "ResourcesPerPage": 100,
    }
    assert wire.operations().count("GetResources") == 2


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        pytest.param(client_error("AccessDeniedException"), "AccessDeniedException", id="denied"),
        pytest.param(client_error("ThrottledException"), "ThrottledException", id="throttled"),
        pytest.param({"ResourceTagMappingList": None}, "MALFORMED_ANSWER", id="null"),
        pytest.param(
            {"ResourceTagMappingList": [{"ResourceARN": "cad", "Tags": []}]}, "MALFORMED_ANSWER", id="no ARN"
        ),
        pytest.param(
            {"ResourceTagMappingList": [tagged("fleet/cad", team="\ud800")]},
            "MALFORMED_ANSWER",
            id="what UTF-8 cannot write",
        ),
    ],
)
def test_a_walk_that_fails_costs_tags_and_no_sweep(wire: Wire, broken: Any, reason: str) -> None:
    topology = reader("team")
    lister = SessionLister(boto_client("appstream"), topology, workers=1, user_id=str)
    before = lister.list(Snapshot(), Options(), at(0), lambda: at(0), lambda: 60.0)
    assert before.facts.tags(SCOPE) == {"team": "cad"}
    wire.answers["GetResources"] = raising(broken) if isinstance(broken, Exception) else (lambda _: broken)
    after = lister.list(Snapshot(), Options(), at(5), lambda: at(5), lambda: 60.0)
    assert after.unread == {"tags": reason}
    assert (after.scopes, after.failed) == ({SCOPE}, {})
    # The last known are kept, and the fleets' errors count as read.
    assert after.facts.tags(SCOPE) == {"team": "cad"}
    assert after.fleets_read == at(5)


def test_without_time_for_them_they_are_the_last_known(wire: Wire) -> None:
    topology = reader("team")
    facts(topology)
    wire.calls.clear()
    found = topology.read(Snapshot(), Options(), at(5), lambda: 0.0)
    assert "GetResources" not in wire.operations()
    assert found.facts.tags(SCOPE) == {"team": "cad"}
    assert found.unread["tags"] == "DEADLINE"


def test_a_new_container_keeps_those_of_the_table(wire: Wire) -> None:
    known, _ = facts(reader("team"))
    snapshot = Snapshot(target=Target(at(0), fleets_read=at(0)), facts=known)
    wire.answers["GetResources"] = raising(client_error("AccessDeniedException"))
    found, _ = facts(reader("team"), 1, snapshot)
    assert found.tags(SCOPE) == {"team": "cad"}


def test_a_container_that_read_earlier_goes_by_the_table(wire: Wire) -> None:
    topology = reader("team")
    read, _ = facts(topology, 0)
    newer = Facts({"cad": replace(read.fleet("cad"), tags={})}, {"office": {}})
    snapshot = Snapshot(target=Target(at(0), fleets_read=at(2)), facts=newer)
    found, _ = facts(topology, 3, snapshot)
    assert found == newer


def test_what_is_newer_in_the_table_is_completed_by_what_the_container_read(wire: Wire) -> None:
    topology = reader("team")
    read, _ = facts(topology, 0)
    snapshot = Snapshot(target=Target(at(0), fleets_read=at(2)), facts=Facts({"gis": Fleet(900)}))
    found, _ = facts(topology, 3, snapshot)
    assert found.fleets == {"gis": Fleet(900), **read.fleets}


def test_tags_are_known_without_the_fleets(wire: Wire) -> None:
    wire.answers["DescribeFleets"] = raising(client_error("AccessDeniedException"))
    found, _ = facts(reader("team"))
    assert found.tags(SCOPE) == {"team": "cad"}


@pytest.mark.parametrize(
    ("operation", "answer", "expected"),
    [
        pytest.param("DescribeFleets", {"Fleets": []}, {"team": "cad"}, id="a fleet that is gone keeps its"),
        pytest.param(
            "DescribeStacks", {"Stacks": []}, {"team": "it", "owner": "jane"}, id="and so does a stack"
        ),
        pytest.param("GetResources", {}, {}, id="what is there and is not named has none"),
    ],
)
def test_only_from_what_is_there_tags_can_be_taken_away(
    wire: Wire, operation: str, answer: dict[str, Any], expected: dict[str, str]
) -> None:
    known, _ = facts(reader("team", "owner"))
    snapshot = Snapshot(target=Target(at(0), fleets_read=at(0)), facts=known, scopes=frozenset([SCOPE]))
    wire.answers["GetResources"] = lambda _: {"ResourceTagMappingList": []}
    if answer:
        wire.answers[operation] = lambda _: answer
    found, _ = facts(reader("team", "owner"), 1, snapshot)
    assert found.tags(SCOPE) == expected


def test_without_a_tag_there_is_none(wire: Wire) -> None:
    wire.answers["GetResources"] = lambda _: {"ResourceTagMappingList": []}
    found, _ = facts(reader("team"))
    assert found.tags(SCOPE) == {}


@pytest.mark.usefixtures("wire")
class TestTold:
    """What each event carries of them, whether sessions', of the audit or of fleets."""

    def details(self, *keys: str) -> list[dict[str, Any]]:
        known, _ = facts(reader("team"))
        told = History(options=Options(tag_keys=keys))
        told.observe(0, facts=known)
        seen: dict[str, Any] = {"facts": known, "fleets_read": at(1), "fleet_errors": {"cad": "A"}}
        events = told.observe(1, session(), **seen)
        events += told.observe(2, failed={SCOPE: "ThrottlingException"}, facts=known)
        return events + told.observe(9, failed={SCOPE: "ThrottlingException"}, facts=known)

    def test_facts_of_the_fleet(self) -> None:
        events = self.details()
        assert [each["type"] for each in events] == ["Session Started", "Fleet Faulted", "Audit Degraded"]
        assert [each["data"]["fleet"] for each in events] == 3 * [
            {
                "instanceType": "stream.standard.medium",
                "fleetType": "ON_DEMAND",
                "platform": "WINDOWS_SERVER_2022",
                "maxSessionsPerInstance": 4,
            }
        ]

    def test_a_field_for_each_key(self) -> None:
        events = self.details("team", "cost")
        tags = [each["data"]["tags"] for each in events]
        assert tags == 3 * [{"team": "cad", "cost": ""}]

    def test_none_without_keys(self) -> None:
        assert [each["data"]["tags"] for each in self.details()] == [{}, {}, {}]

    def test_an_end_has_those_of_before_its_fleet_and_its_stack_were_deleted(self, wire: Wire) -> None:
        known, _ = facts(reader("team", "owner"))
        told = History(options=Options(tag_keys=("team", "owner")))
        told.observe(0, facts=known)
        told.observe(1, session(), facts=known)
        wire.answers |= {
            "DescribeStacks": lambda _: {"Stacks": []},
            "DescribeFleets": lambda _: {"Fleets": []},
            "ListAssociatedFleets": lambda _: {"Names": []},
            "GetResources": lambda _: {"ResourceTagMappingList": []},
        }
        gone, _ = facts(reader("team", "owner"), 2, told.snapshot)
        told.observe(2, facts=gone, scopes=frozenset())
        # Another container knows no more than the table.
        gone, _ = facts(reader("team", "owner"), 3, told.snapshot)
        (ended,) = told.observe(3, facts=gone, scopes=frozenset())
        assert ended["type"] == "Session Ended"
        assert ended["data"]["fleet"]["instanceType"] == "stream.standard.medium"
        assert ended["data"]["tags"] == {"team": "cad", "owner": "jane"}
