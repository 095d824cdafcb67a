"""What an auditor forwards reaches a central bus: of the same account, the only one of the local cloud."""

import json

from sandbox.cloud import ROOT, local_cloud, wait_for
from session_auditor.contract import SOURCE

FOLDER = ROOT / "examples" / "consumers" / "central-bus"


def test_what_is_put_on_the_auditors_bus_arrives_as_it_was() -> None:
    with local_cloud() as cloud:
        cloud.client("events").create_event_bus(Name="session-auditor")
        cloud.client("ssm").put_parameter(Name="/bus-name", Value="session-auditor", Type="String")
        central = cloud.deploy({"OrganizationId": "o-a1b2c3d4e5"}, "sessions", FOLDER / "bus.yaml")
        forwarding = {"BusName": "/bus-name", "ForwardBusArn": central.outputs["BusArn"]}
        cloud.deploy(forwarding, "session-forwarding", FOLDER / "template.yaml")
        queue = cloud.subscribe_queue(central.outputs["BusName"], "central", {"source": [SOURCE]})
        detail = {"metadata": {"eventId": "e-1", "accountId": "123456789012"}}
        cloud.client("events").put_events(
            Entries=[
                {
                    "EventBusName": "session-auditor",
                    "Source": SOURCE,
                    "DetailType": "AppStream Session Started",
                    "Detail": json.dumps(detail),
                }
            ]
        )
        (event,) = wait_for(lambda: cloud.drain(queue), 30, "the event on the central bus")
        assert (event["source"], event["detail-type"]) == (SOURCE, "AppStream Session Started")
        assert event["detail"] == detail
