"""The real stacks in the local cloud: an event put on the bus ends as a ticket of the vendor.

The local cloud carries out all of it: the name of the bus from SSM, the rule, the queue, its event source
mapping with partial failures, the table, the secret. Two things it is helped with: the template takes https
only and the local vendor speaks http, so the function's URL is set after deployment; and there is no
auditor, so the bus and its SSM parameter are made by hand.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sandbox.cloud import LocalCloud, Stack, local_cloud, wait_for
from sandbox.vendors.jira import API, LocalJira
from sandbox.vendors.servicenow import TABLE, LocalServiceNow
from sandbox.vendors.ticketing import Fault, serving
from tests.consumers.tickets.conftest import CREDENTIALS, VENDORS, Shown, tickets
from tests.consumers.tickets.events import ROOT, event

PARAMETERS = {
    "servicenow": {"ServiceNowUrl": "https://vendor.invalid"},
    "jira": {"JiraUrl": "https://vendor.invalid", "Project": "OPS"},
}
# A try that fails costs half a minute's pause, as does a second delivery while the first is under way.
SECONDS = 120


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with local_cloud() as cloud:
        yield cloud


@dataclass(frozen=True)
class Deployed:
    """A vendor's stack, on a bus of its own, and the vendor."""

    name: str
    cloud: LocalCloud
    stack: Stack
    vendor: LocalServiceNow | LocalJira

    def put(self, *events: dict[str, Any]) -> None:
        """Put events on the bus."""
        entries = [
            {
                "EventBusName": self.name,
                "Source": each["source"],
                "DetailType": each["detail-type"],
                "Detail": json.dumps(each["detail"]),
            }
            for each in events
        ]
        assert not self.cloud.client("events").put_events(Entries=entries)["FailedEntryCount"]

    def left(self, queue: str) -> int:
        """Count the messages of a queue, those in flight too."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        read = self.cloud.client("sqs").get_queue_attributes(
            QueueUrl=self.stack.outputs[queue], AttributeNames=names
        )
        return sum(int(read["Attributes"][name]) for name in names)


@pytest.fixture(scope="module", params=VENDORS)
def deployed(request: pytest.FixtureRequest, cloud: LocalCloud) -> Iterator[Deployed]:
    name: str = request.param
    cloud.client("events").create_event_bus(Name=name)
    cloud.client("ssm").put_parameter(
        Name="/appstream-session-auditor/appstream-session-auditor/bus-name",
        Value=name,
        Type="String",
        Overwrite=True,
    )
    secret = cloud.client("secretsmanager").create_secret(Name=name, SecretString=CREDENTIALS)
    stack = cloud.deploy(
        PARAMETERS[name] | {"SecretArn": secret["ARN"]},
        name=name,
        template=ROOT / "examples" / "consumers" / name / "template.yaml",
    )
    functions = cloud.client("lambda")
    function = stack.outputs["TicketsFunctionName"]
    variables = functions.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    with serving(LocalServiceNow() if name == "servicenow" else LocalJira()) as vendor:
        functions.update_function_configuration(
            FunctionName=function, Environment={"Variables": variables | {f"{name.upper()}_URL": vendor.url}}
        )
        yield Deployed(name, cloud, stack, vendor)


@pytest.fixture(autouse=True)
def _log(cloud: LocalCloud) -> Iterator[None]:
    yield
    # Shown with a test that fails: deliveries that did not arrive are told here only.
    print(cloud.log.read_text()[-4000:])


def test_an_episode(deployed: Deployed) -> None:
    vendor = deployed.vendor
    path = TABLE if deployed.name == "servicenow" else f"{API}/issue"
    vendor.faults.append(Fault("POST", path, 429, retry_after="1"))

    def told(number: int) -> list[Shown] | None:
        found = tickets(vendor)
        return found if len(found) == 1 and len(found[0].marks) == number else None

    def put(*events: dict[str, Any]) -> None:
        deployed.put(*events)
        wait_for(lambda: not deployed.left("WaitingQueueUrl"), SECONDS, "the queue to be empty")

    put(event("Started", 1), event("Abandoned", 3))
    (opened,) = wait_for(lambda: told(1), SECONDS, "the ticket")
    assert opened.open
    put(event("Abandoned", 3))
    put(event("Reconnected", 4))
    wait_for(lambda: told(2), SECONDS, "the comment")
    put(event("Ended", 5))
    wait_for(lambda: not tickets(vendor)[0].open, SECONDS, "the end")
    put(event("Abandoned", 3))
    (ended,) = tickets(vendor)
    assert len(ended.marks) == 3
    assert not deployed.left("DeadLettersQueueUrl")


def test_what_nobody_understands_ends_as_a_dead_letter(deployed: Deployed) -> None:
    broken = event("Abandoned", 3)
    del broken["detail"]["data"]["session"]["userId"]
    deployed.put(broken)
    queue = deployed.stack.outputs["DeadLettersQueueUrl"]
    (letter,) = wait_for(lambda: deployed.cloud.drain(queue), SECONDS, "the dead letter")
    assert letter["detail"] == broken["detail"]
