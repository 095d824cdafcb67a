"""The real stack in the local cloud: events on a bus, and what the local SES took.

There is no auditor, so the bus and its SSM parameter are made by hand.
"""

import json
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from sandbox.cloud import LocalCloud, local_cloud, wait_for
from tests.consumers.user_mail.conftest import FOLDER, GIVEN, USER, expiring

SECONDS = 120
BUS = "sessions"
PARAMETER = "/appstream-session-auditor/appstream-session-auditor/bus-name"


def mailed(cloud: LocalCloud) -> list[str]:
    """To whom the local SES has sent a mail, in order."""
    connection = HTTPConnection(urlsplit(cloud.endpoint).netloc)
    connection.request("GET", "/_ministack/ses/messages")
    found = json.loads(connection.getresponse().read())["messages"]
    connection.close()
    return sorted(address for account in found.values() for mail in account for address in mail["To"])


def put(cloud: LocalCloud, *events: dict[str, Any]) -> None:
    """Put events on the bus, of sessions that end in a quarter of an hour by the functions' own clock."""
    end = datetime.now(UTC) + timedelta(minutes=15)
    for each in events:
        each["detail"]["data"]["deadline"]["at"] = f"{end:%Y-%m-%dT%H:%M:%SZ}"
    entries = [
        {
            "EventBusName": BUS,
            "Source": each["source"],
            "DetailType": each["detail-type"],
            "Detail": json.dumps(each["detail"]),
        }
        for each in events
    ]
    assert not cloud.client("events").put_events(Entries=entries)["FailedEntryCount"]


def test_who_asked_for_it_is_mailed_once() -> None:
    other = "nobody@example.com"
    left = expiring(other, "s-4")
    left["detail"]["data"]["deadline"]["cause"] = "DISCONNECT_TIMEOUT"
    with local_cloud() as cloud:
        cloud.client("events").create_event_bus(Name=BUS)
        cloud.client("ssm").put_parameter(Name=PARAMETER, Value=BUS, Type="String")
        cloud.client("sesv2").create_email_identity(EmailIdentity=GIVEN["Identity"])
        stack = cloud.deploy(GIVEN, name="user-mail", template=FOLDER / "template.yaml")
        put(cloud, expiring(other, "s-2", tag="no"), expiring(other, "s-3", tag=""), left)
        put(cloud, expiring(), expiring(), expiring(f"Ann <{other}>", "s-5"))
        wait_for(lambda: mailed(cloud), SECONDS, "the mail")
        put(cloud, expiring(), expiring("kim@example.com", "s-6"))
        wait_for(lambda: len(mailed(cloud)) > 1, SECONDS, "the second mail")
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        waiting = stack.outputs["WaitingQueueUrl"]

        def empty() -> bool:
            read = cloud.client("sqs").get_queue_attributes(QueueUrl=waiting, AttributeNames=names)
            return not sum(int(read["Attributes"][each]) for each in names)

        wait_for(empty, SECONDS, "the queue to be empty")
        assert mailed(cloud) == [USER, "kim@example.com"]
        assert not cloud.drain(stack.outputs["DeadLettersQueueUrl"])
