"""Checks of what every stack has, the auditor's and a channel's: a function, dead letters, alarms."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from appstream_auditor.doctor.findings import REINSTALL, Finding, fault, ok
from appstream_auditor.doctor.unit import Unit
from appstream_auditor.errors import QuestionError
from appstream_auditor.printing import counted
from session_auditor.stories import span

# How far back throttling is looked for.
_THROTTLED_FOR = timedelta(minutes=15)
# The queues of dead letters by their name in the template, and what is in them.
_DEAD_LETTERS = {
    "FailedSweeps": "sweeps that raised an error",
    "UndeliveredSweeps": "sweeps that the scheduler could not start",
    "Undelivered": "events that did not reach people",
}


def function(unit: Unit, _: datetime) -> Iterable[Finding]:
    name, function_name = unit.only("AWS::Lambda::Function")
    found = unit.ask("lambda", "get_function_configuration", FunctionName=function_name)
    remedy = f"look up the reason at {function_name} in the Lambda console, fix it and deploy again"
    if found.get("State") == "Failed":
        return [fault(f"{name} cannot be invoked (State Failed)", remedy)]
    if found.get("LastUpdateStatus") == "Failed":
        return [fault(f"the last update of {name} failed, so older code or settings run", remedy)]
    return [ok(found.get("State", "Active").lower())]


def trigger(unit: Unit, _: datetime, *, whose: str, outcome: str) -> Iterable[Finding]:
    """Judge the trigger of a function that takes messages; without it `outcome`."""
    mapping = unit.only("AWS::Lambda::EventSourceMapping").id
    state = unit.ask("lambda", "get_event_source_mapping", UUID=mapping)["State"].lower()
    if state not in {"disabled", "disabling", "deleting"}:
        return [ok(state)]
    remedy = f"aws lambda update-event-source-mapping --enabled --uuid {mapping}"
    return [fault(f"the trigger of the {whose}'s function is {state}, so {outcome}", remedy)]


def concurrency(unit: Unit, _: datetime) -> Iterable[Finding]:
    name, function_name = unit.only("AWS::Lambda::Function")
    found = unit.ask("lambda", "get_function_concurrency", FunctionName=function_name)
    if found.get("ReservedConcurrentExecutions") != 0:
        return [ok("the function may run")]
    remedy = f"aws lambda delete-function-concurrency --function-name {function_name}"
    return [fault(f"{name} is switched off: its reserved concurrency is 0", remedy)]


def throttling(unit: Unit, now: datetime) -> Iterable[Finding]:
    name, function_name = unit.only("AWS::Lambda::Function")
    found = unit.ask(
        "cloudwatch",
        "get_metric_statistics",
        Namespace="AWS/Lambda",
        MetricName="Throttles",
        Dimensions=[{"Name": "FunctionName", "Value": function_name}],
        StartTime=now - _THROTTLED_FOR,
        EndTime=now,
        Period=60,
        Statistics=["Sum"],
    )
    throttles = int(sum(point["Sum"] for point in found["Datapoints"]))
    within = f"in the last {span(_THROTTLED_FOR)}"
    if not throttles:
        return [ok(f"none {within}")]
    remedy = "ask for a higher quota of concurrent executions, or reserve fewer for other functions"
    return [fault(f"Lambda throttled {name} {counted(throttles, 'time')} {within}", remedy)]


def alarms(unit: Unit, _: datetime) -> Iterable[Finding]:
    names = {alarm_id: name for name, alarm_id in unit.of_kind("AWS::CloudWatch::Alarm")}
    found = unit.ask("cloudwatch", "describe_alarms", AlarmNames=list(names), AlarmTypes=["MetricAlarm"])
    alarms = {names[each["AlarmName"]]: each for each in found["MetricAlarms"]}
    on = [
        # The description is the template's, and says what to do.
        fault(f"the alarm {name} is on", f"{alarm.get('AlarmDescription', '')} (docs/operate.md, Alarms)")
        for name, alarm in alarms.items()
        if alarm["StateValue"] == "ALARM"
    ]
    deleted = [
        fault(f"the alarm {name} was deleted", REINSTALL) for name in names.values() if name not in alarms
    ]
    return on + deleted or [ok(f"none of {len(names)} is on")]


def dead_letters(unit: Unit, _: datetime) -> Iterable[Finding]:
    counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    empty = True
    for name, url in unit.of_kind("AWS::SQS::Queue"):
        if name not in _DEAD_LETTERS:
            continue
        found = unit.ask("sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=list(counts))
        if letters := sum(int(found["Attributes"].get(each, 0)) for each in counts):
            empty = False
            yield fault(
                f"{counted(letters, 'dead letter')} in {name} ({_DEAD_LETTERS[name]}): {_reasons(unit, url)}",
                f"fix the cause, then aws sqs purge-queue --queue-url {url} (docs/operate.md, Alarms)",
            )
    if empty:
        yield ok("none")


def _reasons(unit: Unit, url: str) -> str:
    """Return why the first messages are dead letters. They stay in the queue, visible to others."""
    # Ten are the most that ReceiveMessage takes. Without a wait SQS asks only some of its servers.
    options = {"MaxNumberOfMessages": 10, "VisibilityTimeout": 0, "WaitTimeSeconds": 1}
    try:
        found = unit.ask("sqs", "receive_message", QueueUrl=url, MessageAttributeNames=["All"], **options)
    except QuestionError as problem:
        return f"the reason is unknown, needs {problem.needs}" if problem.needs else "the reason is unknown"
    reasons = Counter(reason_of(each) for each in found.get("Messages", []))
    return listed(reasons) or "the reason is unknown while somebody else reads them"


def reason_of(letter: Mapping[str, Any]) -> str:
    """Return why a message is a dead letter: a code, or the notifier's reason, never a word of its content.

    The notifier, EventBridge and Scheduler put it in an attribute, Lambda in the record that it sends.
    """
    attributes = letter.get("MessageAttributes", {})
    for name in ("reason", "ERROR_CODE", "EXHAUSTED_RETRY_CONDITION"):
        if text := attributes.get(name, {}).get("StringValue", ""):
            return str(text)[:128]
    try:
        record = json.loads(letter["Body"])
        error = record.get("responsePayload", {}).get("errorType")
        reason = error or record["requestContext"]["condition"]
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        reason = None
    return reason[:128] if isinstance(reason, str) else "no reason given; look into the function's log"


def listed(reasons: "Counter[str]") -> str:
    """Return the most frequent reasons, and how often each occurs."""
    most = reasons.most_common(10)
    return ", ".join(f"{reason} ({number})" if number > 1 else reason for reason, number in most)
