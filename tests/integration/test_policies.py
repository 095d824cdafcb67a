"""Policies and a fleet's errors, all the way: AppStream, the auditor's sweeps, the bus, Slack and Teams.

The auditor is the deployed function's own, with its environment; only the time is passed in. Its document is
in a parameter, its tags come from the tagging API, and rules lead events by them.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from unittest import mock

import pytest

from sandbox.appstream.models import AppStreamBackend, Fleet, StreamingSession
from sandbox.cloud import REGION, ROOT, LocalCloud, local_cloud
from sandbox.demo import deployed_auditor
from sandbox.vendors.slack import Slack, slack
from sandbox.vendors.teams import Teams, teams

# A minute's window takes half a second.
SECOND = 0.01
DOCUMENT = "/appstream/policies"
RULES = ROOT / "examples" / "consumers" / "rules"
POLICIES: dict[str, Any] = {
    "version": 1,
    "timeZone": "Europe/Berlin",
    "hours": {"office": {"days": "mon-fri", "from": "07:00", "to": "19:00"}},
    "policies": {
        "after-hours": {
            "kind": "OUTSIDE_HOURS",
            "hours": "office",
            "graceMinutes": 30,
            "tags": {"department": "sales"},
        },
        "two-at-most": {"kind": "TOO_MANY_SESSIONS", "limit": 2},
        "too-long": {"kind": "TOO_LONG", "minutes": [600]},
        "draining": {"kind": "DRAINING", "minutes": [30]},
    },
}
VIOLATED, CLEARED = "AppStream Session Policy Violated", "AppStream Session Policy Cleared"
# What Slack shows: a heading, words, and the colour of the bar.
Told = tuple[str, str, str]
GIS, CAD = "on stack office, fleet gis", "on stack office, fleet cad"
# What is told at which time of the evening, in UTC, and its bar in Slack; Berlin is an hour ahead.
EVENING: dict[str, Told] = {
    "17:50": (
        f"{VIOLATED} {GIS}",
        (
            f"The session of “tom@example.com” {GIS} violates policy two-at-most: its user has 3 sessions, "
            "and the limit is 2"
        ),
        "warning",
    ),
    "18:00": (
        f"{VIOLATED} {GIS}",
        f"The session of “ivy@example.com” {GIS} violates policy too-long: it has lasted for 10 h",
        "warning",
    ),
    "18:05": (
        "AppStream Fleet Faulted on fleet cad",
        "Fleet cad has errors since 2026-03-02 19:05 CET: DOMAIN_JOIN_ERROR_ACCESS_DENIED",
        "danger",
    ),
    "18:10": (
        "AppStream Fleet Recovered on fleet cad",
        (
            "Fleet cad has no errors any more; since 2026-03-02 19:05 CET it had "
            "DOMAIN_JOIN_ERROR_ACCESS_DENIED"
        ),
        "good",
    ),
    "18:20": (
        f"{VIOLATED} {GIS}",
        (
            f"The session of “dan@example.com” {GIS} violates policy draining: its host has been draining "
            "for 30 min"
        ),
        "warning",
    ),
    "18:30": (
        f"{VIOLATED} {CAD}",
        (
            f"The session of “bea@example.com” {CAD} violates policy after-hours: "
            "outside mon-fri 07:00-19:00 Europe/Berlin"
        ),
        "warning",
    ),
    "18:40": (
        f"{CLEARED} {CAD}",
        f"The session of “bea@example.com” {CAD} no longer violates policy after-hours: it has ended",
        "good",
    ),
}


def at(time: str) -> datetime:
    return datetime.fromisoformat(f"2026-03-02T{time}").replace(tzinfo=UTC)


def session(session_id: str, start: str, fleet: str = "gis", **fields: Any) -> StreamingSession:
    return StreamingSession(
        session_id,
        f"{session_id.partition('-')[0]}@example.com",
        "office",
        fleet,
        start_time=at(start),
        max_expiration_time=at(start) + timedelta(hours=16),
        **fields,
    )


def bea_leaves(appstream: AppStreamBackend) -> None:
    del appstream.sessions["bea"]


def cad_fails(appstream: AppStreamBackend) -> None:
    appstream.fleets["cad"].errors["DOMAIN_JOIN_ERROR_ACCESS_DENIED"] = "The account may not join it"


def lab_fails(appstream: AppStreamBackend) -> None:
    appstream.fleets["lab"].errors["IGW_NOT_ATTACHED"] = "There is no internet gateway"


def cad_is_mended(appstream: AppStreamBackend) -> None:
    appstream.fleets["cad"].errors.clear()


# Of lab nobody wants to hear; were it told, the next one to be told would find it.
NOBODY_IS_TOLD = at("18:15")
WHAT_HAPPENS: dict[str, Callable[[AppStreamBackend], None]] = {
    "18:05": cad_fails,
    "18:10": cad_is_mended,
    "18:15": lab_fails,
    "18:35": bea_leaves,
}


@dataclass
class Office:
    """The local cloud with the product deployed, where its people are told, and what they were told when."""

    cloud: LocalCloud
    auditor: Any
    slack: Slack
    teams: Teams
    by_tag: dict[str, str]
    evening: dict[str, list[Told]] = field(default_factory=dict)

    def sweep(self, now: datetime) -> list[Told]:
        """Make a sweep; wait until both channels have told of its events, and return what Slack shows."""
        summary = self.auditor.sweep(f"{now:%Y%m%dT%H%M}", lambda: now, lambda: 50.0)
        assert not summary.policies_problem
        # At the level `quiet` nobody is told of who comes and goes.
        kinds = summary.events_published.items()
        events = sum(number for kind, number in kinds if "Policy" in kind or "Fleet" in kind)
        if now == NOBODY_IS_TOLD:
            assert events == 1
            return []
        told: list[Told] = []
        while sum(number_in(heading) for heading, _, _ in told) < events:
            message = self.slack.received.get(timeout=30)
            (attachment,) = message["attachments"]
            words = attachment["blocks"][0]["text"]["text"]
            told.append((message["text"], words, attachment["color"]))
        cards: list[tuple[str, str]] = []
        while sum(number_in(heading) for heading, _ in cards) < events:
            card = self.teams.received.get(timeout=30)["attachments"][0]["content"]
            lines = [line["inlines"][0]["text"] for line in card["body"][1:-1]]
            cards.append((card["fallbackText"], "\n".join(lines)))
        assert sorted(cards) == sorted((heading, words) for heading, words, _ in told)
        return told


def number_in(heading: str) -> int:
    """Return how many events a message tells of: a digest says so after a colon."""
    _, _, number = heading.partition(": ")
    return int(number.split()[0]) if number else 1


def put_policies(cloud: LocalCloud, policies: dict[str, Any]) -> None:
    cloud.client("ssm").put_parameter(
        Name=DOCUMENT, Value=json.dumps(policies), Type="String", Overwrite=True
    )


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    """Play the evening, a sweep every five minutes."""
    with (
        slack(second=0) as in_slack,
        # It takes four messages a second; here each request is a second later.
        teams(clock=count().__next__) as in_teams,
        local_cloud(second=SECOND) as cloud,
        mock.patch.dict(os.environ, {"AWS_REGION": REGION}),
        pytest.MonkeyPatch.context() as patch,
    ):
        cloud.client("ssm").put_parameter(Name="/notices/slack", Value=in_slack.url, Type="SecureString")
        cloud.client("ssm").put_parameter(Name="/notices/teams", Value=in_teams.url, Type="SecureString")
        put_policies(cloud, POLICIES)
        stack = cloud.deploy(
            {
                "Sweeps": "DISABLED",
                "SlackWebhook": "/notices/slack",
                "TeamsWebhook": "/notices/teams",
                "Notices": "quiet",
                "NoticeTags": "!notify=off",
                "TimeZone": "Europe/Berlin",
                "TagKeys": "department,notify",
                "PoliciesParameter": DOCUMENT,
                "TopologyMinutes": "0",
            }
        )
        bus = stack.outputs["SessionBusName"]
        by_tag = {
            name: cloud.subscribe_queue(bus, name, json.loads((RULES / name / "pattern.json").read_text()))
            for name in ("one-department", "not-opted-out")
        }
        patch.delitem(sys.modules, "auditor", raising=False)
        here = Office(cloud, deployed_auditor(cloud, stack), in_slack, in_teams, by_tag)
        appstream = cloud.appstream
        sales = {"department": "sales"}
        appstream.add_scope("office", Fleet("cad", instance_type="stream.graphics.g4dn.xlarge", tags=sales))
        appstream.add_scope("office", Fleet("gis", max_sessions_per_instance=4))
        appstream.add_scope("office", Fleet("lab", tags={"department": "it", "notify": "off"}))
        for each in (
            session("bea", "17:00", "cad"),
            session("ivy", "08:00"),
            session("dan", "17:10", instance_id="i-dan"),
            *(session(f"tom-{number}", f"17:2{number}") for number in range(3)),
        ):
            appstream.sessions[each.session_id] = each
        cloud.client("appstream").drain_session_instance(SessionId="dan")
        now = at("17:50")
        while now <= at("18:45"):
            if happens := WHAT_HAPPENS.get(f"{now:%H:%M}"):
                happens(appstream)
            if told := here.sweep(now):
                here.evening[f"{now:%H:%M}"] = told
            now += timedelta(minutes=5)
        yield here
        # Shown with a test that fails: deliveries that did not arrive are told here only.
        print(cloud.log.read_text()[-4000:])


def test_every_kind_of_policy_and_a_fleets_fault_reach_slack_and_teams(office: Office) -> None:
    assert office.evening == {time: [told] for time, told in EVENING.items()}
    assert office.slack.refused.empty()
    assert office.teams.refused.empty()


def test_rules_lead_the_events_by_tag(office: Office) -> None:
    sales, told = (
        [(each["detail-type"], each["detail"]["data"]) for each in office.cloud.drain(office.by_tag[name])]
        for name in ("one-department", "not-opted-out")
    )
    faulted, recovered = "AppStream Fleet Faulted", "AppStream Fleet Recovered"
    assert [kind for kind, _ in sales] == [faulted, recovered, VIOLATED, CLEARED, "AppStream Session Ended"]
    assert {json.dumps(data["tags"]) for _, data in sales} == {'{"department": "sales", "notify": ""}'}
    assert {data["fleet"]["instanceType"] for _, data in sales} == {"stream.graphics.g4dn.xlarge"}
    # Of sales and of gis, which has no tag, but not of lab.
    assert [data["fleetName"] for kind, data in told if kind == faulted] == ["cad"]
    assert Counter(kind for kind, _ in told) == Counter(
        {faulted: 1, recovered: 1, VIOLATED: 4, CLEARED: 1, "AppStream Session Ended": 1}
    )


def test_a_document_that_everybody_violates_is_told_as_one(office: Office) -> None:
    """It may be two, where the window of the queue closes in between."""
    for number in range(12):
        user = session(f"user{number}", "18:00")
        office.cloud.appstream.sessions[user.session_id] = user
    assert office.sweep(at("18:50")) == []
    at_once = {"kind": "TOO_LONG", "minutes": [30]}
    put_policies(office.cloud, {**POLICIES, "policies": {**POLICIES["policies"], "at-once": at_once}})
    told = office.sweep(at("18:55"))
    assert sum(number_in(heading) for heading, _, _ in told) == 17
    assert len(told) <= 2
    assert all(
        f"{number_in(heading)} {GIS}\nat-once {number_in(heading)}\n" in words for heading, words, _ in told
    )
