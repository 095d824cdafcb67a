"""PagerDuty is told by the consumer's own template: who is paged, and which incidents are open afterwards."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jsonschema
import pytest
from samtranslator.yaml_helper import yaml_parse

from sandbox.cloud import ROOT, LocalCloud, Stack, local_cloud, wait_for
from sandbox.vendors.pagerduty import EVENT, ORIGINS, PATH, ROUTING_KEY, PagerDuty, pagerduty
from session_auditor.model import DetailType, Event
from tests.shared.events import HOSTILE, put, whole_life
from tests.shared.history import TARGET

SECOND = 0.05
HERE = "/".join(TARGET[1:])
ELSEWHERE = f"{TARGET.account_id}/us-east-1"
ABANDONED, DISCONNECT_TIMEOUT, MAX_DURATION = (
    f"{HERE}/s-1/{cause}" for cause in ("ABANDONED", "DISCONNECT_TIMEOUT", "MAX_DURATION")
)
Tell = Callable[..., None]


@pytest.fixture(scope="module")
def service() -> Iterator[PagerDuty]:
    with pagerduty() as service:
        yield service


@pytest.fixture(scope="module")
def cloud(service: PagerDuty) -> Iterator[LocalCloud]:
    with local_cloud({ORIGINS["eu"]: service.url}, SECOND) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def auditor(cloud: LocalCloud) -> Stack:
    return cloud.deploy({"Sweeps": "DISABLED"})


@pytest.fixture(scope="module")
def consumer(cloud: LocalCloud, auditor: Stack) -> Stack:
    cloud.client("secretsmanager").create_secret(Name="pagerduty", SecretString=ROUTING_KEY)
    return cloud.deploy(
        {
            "BusName": auditor.outputs["BusNameParameter"],
            "ServiceRegion": "eu",
        },
        name="pagerduty",
        template=ROOT / "examples" / "consumers" / "pagerduty" / "template.yaml",
    )


@pytest.fixture
def tell(cloud: LocalCloud, auditor: Stack, consumer: Stack, service: PagerDuty) -> Tell:
    service.incidents.clear()
    service.pages.clear()
    return partial(put, cloud, auditor)


@pytest.fixture(autouse=True)
def _log(cloud: LocalCloud) -> Iterator[None]:
    yield
    print(cloud.log.read_text()[-4000:])


def received(service: PagerDuty, number: int) -> list[dict[str, Any]]:
    return [service.received.get(timeout=20) for _ in range(number)]


def changed(event: Event, part: str, **fields: Any) -> Event:
    """The event with other values in `metadata`, in `data`, or in a part of its data."""
    detail = json.loads(event.detail)
    place = detail[part] if part in detail else detail["data"][part]
    assert fields.keys() <= place.keys()
    place |= fields
    return event._replace(detail=json.dumps(detail))


def expiring_at_its_maximum() -> Event:
    return changed(whole_life()[DetailType.EXPIRING], "deadline", cause="MAX_DURATION")


def test_an_incident_says_what_a_page_needs(tell: Tell, service: PagerDuty) -> None:
    event = whole_life()[DetailType.ABANDONED]
    tell(event)
    (incident,) = received(service, 1)
    assert incident == {
        "event_action": "trigger",
        "dedup_key": ABANDONED,
        "payload": {
            "summary": "The session of “jane.doe@example.com” on stack office, fleet cad is abandoned: "
            "nobody was seen connected for 15 min; it ends at 09:03 UTC (disconnect timeout)",
            "severity": "warning",
            "timestamp": "2026-03-02T08:18:00Z",
            "source": f"{HERE}/office/cad",
            "group": "office",
            "component": "cad",
            "class": "AppStream Session Abandoned",
            "custom_details": {
                "eventId": event.event_id,
                "sessionBegan": "2026-03-02T08:00:30Z",
                "deadline": "2026-03-02T09:03:00Z",
                "cause": "DISCONNECT_TIMEOUT",
            },
        },
    }


def test_the_same_event_twice_makes_one_page(tell: Tell, service: PagerDuty) -> None:
    event = whole_life()[DetailType.ABANDONED]
    tell(event, event)
    assert len(received(service, 2)) == 2
    assert service.pages == [ABANDONED]


@pytest.mark.parametrize("back", [DetailType.CONNECTED, DetailType.RECONNECTED])
def test_whoever_is_back_still_reaches_the_maximum_duration(
    tell: Tell, service: PagerDuty, back: DetailType
) -> None:
    life = whole_life()
    tell(life[DetailType.ABANDONED], life[DetailType.EXPIRING], expiring_at_its_maximum())
    received(service, 3)
    assert service.pages == [ABANDONED, DISCONNECT_TIMEOUT, MAX_DURATION]
    tell(life[back])
    received(service, 2)
    assert set(service.incidents) == {MAX_DURATION}


@pytest.mark.parametrize("over", [DetailType.ENDED, DetailType.UNWATCHED])
def test_an_end_of_the_session_or_of_its_audit_closes_everything(
    tell: Tell, service: PagerDuty, over: DetailType
) -> None:
    life = whole_life()
    tell(life[DetailType.ABANDONED], life[DetailType.EXPIRING], expiring_at_its_maximum())
    received(service, 3)
    # Unwatched has the fields that every event of a session has.
    tell(life[DetailType.DISCONNECTED]._replace(detail_type=over))
    received(service, 3)
    assert service.incidents == {}


def test_a_session_of_another_region_is_another_incident(tell: Tell, service: PagerDuty) -> None:
    life = whole_life()
    events = [
        life[DetailType.ABANDONED],
        life[DetailType.EXPIRING],
        expiring_at_its_maximum(),
        life[DetailType.AUDIT_DEGRADED],
    ]
    tell(*events, *(changed(each, "metadata", region="us-east-1") for each in events))
    received(service, 8)
    assert len(service.incidents) == 8
    tell(life[DetailType.ENDED], life[DetailType.AUDIT_RECOVERED])
    received(service, 4)
    assert len(service.incidents) == 4
    assert all(key.startswith(f"{ELSEWHERE}/") for key in service.incidents)
    tell(changed(life[DetailType.RECONNECTED], "metadata", region="us-east-1"))
    received(service, 2)
    assert set(service.incidents) == {f"{ELSEWHERE}/s-1/MAX_DURATION", f"{ELSEWHERE}/office/cad/AUDIT"}


def test_the_longest_names_make_a_key_that_pagerduty_takes(tell: Tell, service: PagerDuty) -> None:
    # AppStream's names have at most 101 characters (API reference, Name).
    names = {"stackName": "s" * 101, "fleetName": "f" * 101}
    tell(changed(whole_life()[DetailType.AUDIT_DEGRADED], "data", **names))
    (incident,) = received(service, 1)
    assert incident["dedup_key"].endswith("f/AUDIT")


def test_another_session_is_another_incident(tell: Tell, service: PagerDuty) -> None:
    tell(whole_life()[DetailType.ABANDONED], whole_life(session_id="s-2")[DetailType.ABANDONED])
    received(service, 2)
    tell(whole_life(session_id="s-2")[DetailType.ENDED])
    received(service, 3)
    assert set(service.incidents) == {ABANDONED}


@pytest.mark.parametrize(("region", "origin"), ORIGINS.items())
def test_the_administrator_says_where_pagerduty_keeps_the_account(region: str, origin: str) -> None:
    template = yaml_parse((ROOT / "examples" / "consumers" / "pagerduty" / "template.yaml").read_text())
    assert region in template["Parameters"]["ServiceRegion"]["AllowedValues"]
    assert template["Mappings"]["ServiceRegions"][region]["Endpoint"] == f"{origin}{PATH}"
    assert template["Parameters"]["ServiceRegion"]["Default"] == "us"


def test_a_scope_that_cannot_be_listed_is_an_incident_until_it_can(tell: Tell, service: PagerDuty) -> None:
    life = whole_life()
    tell(life[DetailType.AUDIT_DEGRADED])
    (incident,) = received(service, 1)
    assert set(service.incidents) == {f"{HERE}/office/cad/AUDIT"}
    assert incident["payload"]["severity"] == "critical"
    assert incident["payload"]["custom_details"]["reason"] == "ThrottlingException"
    assert incident["payload"]["source"] == HERE
    assert incident["payload"]["custom_details"]["stack"] == "office"
    tell(life[DetailType.AUDIT_RECOVERED])
    received(service, 1)
    assert service.incidents == {}


@pytest.mark.parametrize(
    ("names", "key"),
    [
        pytest.param({"stackName": "", "fleetName": ""}, f"{HERE}///AUDIT", id="the whole target"),
        pytest.param({"fleetName": ""}, f"{HERE}/office//AUDIT", id="a stack whose fleets are not known"),
        pytest.param({}, f"{HERE}/office/cad/AUDIT", id="a stack and fleet"),
    ],
)
def test_a_gap_is_closed_whatever_it_is_of_and_why(
    tell: Tell, service: PagerDuty, names: dict[str, str], key: str
) -> None:
    life = whole_life()
    tell(changed(life[DetailType.AUDIT_DEGRADED], "data", **names))
    (incident,) = received(service, 1)
    assert set(service.incidents) == {key}
    assert incident["payload"]["source"] == HERE
    tell(changed(life[DetailType.AUDIT_RECOVERED], "data", reason="FILTERED", **names))
    received(service, 1)
    assert service.incidents == {}


def test_a_fleet_with_errors_is_an_incident_until_it_has_none(tell: Tell, service: PagerDuty) -> None:
    life = whole_life()
    faulted = life[DetailType.FLEET_FAULTED]
    tell(faulted, changed(faulted, "data", codes="STS_DISABLED_IN_REGION"))
    incident, _ = received(service, 2)
    assert service.pages == [f"{HERE}/cad/FLEET"]
    assert incident["payload"]["severity"] == "critical"
    assert incident["payload"]["component"] == "cad"
    assert incident["payload"]["custom_details"]["codes"] == "DOMAIN_JOIN_ERROR_ACCESS_DENIED"
    tell(life[DetailType.FLEET_RECOVERED])
    received(service, 1)
    assert service.incidents == {}


def test_nobody_is_paged_for_what_is_in_order(tell: Tell, service: PagerDuty) -> None:
    life = whole_life()
    tell(life[DetailType.STARTED], life[DetailType.POLICY_VIOLATED], life[DetailType.POLICY_CLEARED])
    tell(life[DetailType.DISCONNECTED], life[DetailType.ABANDONED])
    received(service, 1)
    assert service.pages == [ABANDONED]
    assert service.received.empty()


@pytest.mark.parametrize("user_id", HOSTILE)
def test_hostile_user_ids_arrive_as_text(tell: Tell, service: PagerDuty, user_id: str) -> None:
    event = whole_life(user_id=user_id)[DetailType.ABANDONED]
    tell(event)
    (incident,) = received(service, 1)
    assert incident["dedup_key"] == ABANDONED
    assert incident["payload"]["summary"] == json.loads(event.detail)["data"]["summary"]


def test_an_outage_delays_a_page_and_what_is_refused_is_kept(
    cloud: LocalCloud, consumer: Stack, tell: Tell, service: PagerDuty
) -> None:
    for status in (500, 429):
        service.outages.put(status)
    tell(whole_life()[DetailType.ABANDONED])
    assert received(service, 1)[0]["dedup_key"] == ABANDONED
    service.outages.put(400)
    refused = whole_life()[DetailType.AUDIT_DEGRADED]
    tell(refused)
    (letter,) = wait_for(lambda: cloud.drain(consumer.outputs["UndeliveredQueueUrl"]), 20, "the dead letter")
    assert letter["detail"] == json.loads(refused.detail)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param({"event_action": "trigger"}, id="nothing to tell"),
        pytest.param({"event_action": "resolve"}, id="nothing to resolve"),
        pytest.param({"event_action": "close", "dedup_key": "x"}, id="no such action"),
        pytest.param({"event_action": "resolve", "dedup_key": "x" * 256}, id="a key too long"),
        pytest.param(
            {"event_action": "trigger", "payload": {"summary": "x", "source": "x", "severity": "danger"}},
            id="no such severity",
        ),
    ],
)
def test_pagerduty_refuses_what_is_not_an_event(event: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        EVENT.validate({"routing_key": ROUTING_KEY, **event})
