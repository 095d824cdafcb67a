"""Checks of the dispatcher: whether its messages are taken, and which accounts it knows."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from appstream_auditor.doctor.findings import Finding, fault, ok
from appstream_auditor.doctor.unit import Unit
from appstream_auditor.printing import counted
from session_auditor.stories import span

# The name of the nested stack in the template.
DISPATCHER = "Dispatcher"
# How far back the age of messages is looked at.
_LOOKED_BACK = timedelta(minutes=15)
# A message may be delayed for a minute until its target is due, and is void a minute later.
_OLDEST = timedelta(minutes=2)


def queue(unit: Unit, now: datetime) -> Iterable[Finding]:
    """Judge the queue by its metrics: who may ask it itself might also take messages from it."""
    name, url = unit.only("AWS::SQS::Queue")

    def most(metric: str) -> float:
        found = unit.ask(
            "cloudwatch",
            "get_metric_statistics",
            Namespace="AWS/SQS",
            MetricName=metric,
            Dimensions=[{"Name": "QueueName", "Value": url.rpartition("/")[2]}],
            StartTime=now - _LOOKED_BACK,
            EndTime=now,
            Period=60,
            Statistics=["Maximum"],
        )
        return max((point["Maximum"] for point in found["Datapoints"]), default=0)

    oldest = timedelta(seconds=most("ApproximateAgeOfOldestMessage"))
    waiting = counted(int(most("ApproximateNumberOfMessagesVisible")), "message")
    found = f"at most {waiting} at once, the oldest for {span(oldest)}, in the last {span(_LOOKED_BACK)}"
    if oldest <= _OLDEST:
        return [ok(found)]
    return [
        fault(
            f"the auditor does not keep up, and what is a minute late is not swept: in {name} lay {found}",
            "look at the checks of the auditor's function; if it is not throttled, raise SweepEvery",
        )
    ]


def accounts(unit: Unit, _: datetime) -> Iterable[Finding]:
    dispatched = unit.deployment.dispatched
    wants = dispatched.wanted if dispatched else None
    directory = unit.deployment.directory() if wants and wants.parents else {}
    for parent in wants.parents if wants else ():
        number = len(directory[parent].members) if parent in directory else 0
        if number:
            yield ok(f"{counted(number, 'account')} below {parent}")
        else:
            yield fault(
                f"no account is known below {parent}",
                "the dispatcher's log says why they cannot be listed; the hub has to be a delegated "
                "administrator, or to have an OrganizationsRole (docs/organisation.md)",
            )
    yield ok(counted(len(unit.deployment.targets()), "target"))
