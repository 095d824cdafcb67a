"""`doctor`: whether the auditor works, check by check, and what to do where it does not.

Each check asks about one thing and names the faults that it knows. What may not be asked is unknown, and
hides nothing else. No finding holds a secret, a user id, or a message of AWS, which may quote either.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from appstream_auditor.deployment import Deployment
from appstream_auditor.doctor.findings import Check, Finding, FindingRow, Level
from appstream_auditor.errors import Exit, QuestionError, asking, reading
from appstream_auditor.printing import duration
from session_auditor.aws_errors import error_code
from session_auditor.contract import SOURCE, timestamp
from session_auditor.errors import SnapshotError
from session_auditor.model import WHOLE_TARGET, DetailType, Gap, Snapshot
from session_auditor.paging import DEADLINE
from session_auditor.views import Fault, Status
from session_auditor.views import status as status_of

# How each channel is switched on: the parameter of the template, and what it is when the channel is off.
_CHANNELS = {"Slack": "SlackWebhook", "Teams": "TeamsWebhook", "Mail": "NoticeEmail", "Chat": "ChatTopic"}
_OFF = frozenset(["", "false"])
# The queues of dead letters, by the name in the template.
_DEAD_LETTERS = {
    "FailedSweeps": "sweeps that raised an error",
    "UndeliveredSweeps": "sweeps that the scheduler could not ask for",
    "Undelivered": "events that people could not be told of",
}
# How far back throttling is looked for.
_THROTTLED_FOR = timedelta(minutes=15)
# The most that ReceiveMessage takes (API reference).
_PEEKED = 10
# Of many of a kind so many are shown.
_SHOWN = 10
# What the notifier posts to; it refuses any other URL.
_POSTED_TO = ("https://", "http://127.0.0.1:", "http://localhost:")
_GONE_CODES = frozenset(
    [
        "AWS.SimpleQueueService.NonExistentQueue",
        # Of a secret that is about to be deleted.
        "InvalidRequestException",
        "NotFound",
        "NotFoundException",
        "ParameterNotFound",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
    ]
)
_SECRETS = frozenset(["ssm:GetParameter", "secretsmanager:GetSecretValue"])


class Part(NamedTuple):
    """What CloudFormation made of a resource of the template."""

    logical_id: str
    kind: str
    physical_id: str


class GoneError(Exception):
    """What the stack made, or what a parameter of it names, is not there."""


@dataclass(frozen=True)
class Unit:
    """What is examined: the auditor's own stack, or the one of a channel nested in it.

    Whatever it asks raises QuestionError or GoneError, and what it reads of the table SnapshotError.
    """

    deployment: Deployment
    auditor: "Unit | None" = None
    channel: str = ""

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """What the stack holds."""
        stack = self.deployment.stack_name
        if self.auditor:
            stacks = self.auditor.of_kind("AWS::CloudFormation::Stack")
            stack = next((each.physical_id for each in stacks if each.logical_id == self.channel), "")
        if not stack:
            raise GoneError
        found = self.ask("cloudformation", "describe_stack_resources", StackName=stack)["StackResources"]
        return tuple(
            Part(each["LogicalResourceId"], each["ResourceType"], each["PhysicalResourceId"])
            for each in found
            if "PhysicalResourceId" in each
        )

    def of_kind(self, kind: str) -> list[Part]:
        """Return the parts of a type of resource."""
        return [part for part in self.parts if part.kind == kind]

    @cached_property
    def rules(self) -> tuple[Mapping[str, Any], ...]:
        """The rules on the bus that somebody wrote; AWS itself manages those of an archive."""
        rules = self.pages("events", "list_rules", "Rules", EventBusName=self.bus)
        return tuple(rule for rule in rules if "ManagedBy" not in rule)

    @property
    def bus(self) -> str:
        """The name of the event bus."""
        return self.deployment.outputs["SessionBusName"]

    @cached_property
    def snapshot(self) -> Snapshot:
        """What the table remembers, read once."""
        reader = self.deployment.reader
        return reader.snapshot(reader.target_alone())

    def status(self, now: datetime) -> Status:
        """Return the target at a glance, as `status` does, so that the two agree."""
        return status_of(self.snapshot, now, self.deployment.policy.hole)

    def faults(self, now: datetime) -> tuple[Fault, ...]:
        """Return what `status` calls a fault."""
        return self.status(now).faults(now, self.deployment.interval)

    def ask(self, service: str, operation: str, **parameters: Any) -> Any:
        """Return what AWS answers."""
        return self._asked(service, lambda client: getattr(client, operation)(**parameters))

    def pages(self, service: str, operation: str, key: str, **parameters: Any) -> list[Any]:
        """Return what AWS answers in pages."""

        def read(client: Any) -> list[Any]:
            pages = client.get_paginator(operation).paginate(**parameters)
            return [each for page in pages for each in page[key]]

        found: list[Any] = self._asked(service, read)
        return found

    def _asked(self, service: str, read: Callable[[Any], Any]) -> Any:
        with asking(service):
            try:
                return read(self.deployment.client(service))
            except ClientError as error:
                if error_code(error) in _GONE_CODES:
                    raise GoneError from None
                raise


Question = Callable[[Unit, datetime], Iterator[Finding]]


def examine(deployment: Deployment, now: datetime) -> Iterator[FindingRow]:
    """Return what is found at `now`; raise QuestionError if only a table was named, and there is none."""
    for channel, check, findings in _questions(deployment, now):
        for finding in findings:
            yield FindingRow(
                account_id=deployment.target_id.account_id,
                region=deployment.target_id.region,
                channel=channel,
                check=check,
                **asdict(finding),
            )


def verdict(rows: Sequence[FindingRow]) -> Exit:
    """Return what the command ends with: what was denied is unknown, and no reason to fail."""
    if any(row.level is Level.FAULT for row in rows):
        return Exit.FAULT
    if any(row.level is Level.UNKNOWN and not row.needs for row in rows):
        return Exit.OUT_OF_REACH
    return Exit.OK


def _questions(deployment: Deployment, now: datetime) -> Iterator[tuple[str, Check, Iterator[Finding]]]:
    auditor = Unit(deployment)
    if not deployment.stack_name:
        yield from (("", check, _answers(ask, auditor, now)) for check, ask in _OF_A_TABLE_ALONE.items())
        return
    yield from (("", check, _answers(ask, auditor, now)) for check, ask in _OF_THE_AUDITOR.items())
    for channel, parameter in _CHANNELS.items():
        if deployment.parameters.get(parameter, "") not in _OFF:
            unit = Unit(deployment, auditor, channel)
            checks = {**_OF_A_CHANNEL, **_OF_ONE_CHANNEL[channel]}
            yield from ((channel, check, _answers(ask, unit, now)) for check, ask in checks.items())


def _answers(ask: Question, unit: Unit, now: datetime) -> Iterator[Finding]:
    """Return what a check finds; what it could not ask is a finding, too, so that no check hides another."""
    try:
        with reading():
            yield from ask(unit, now)
    except GoneError:
        yield _GONE
    except QuestionError as problem:
        if problem.exit_code is not Exit.USAGE:
            yield _unknown(problem)
        elif unit.deployment.stack_name:
            # The stack is there, so it is the table that is not.
            yield _GONE
        else:
            raise


_GONE = Finding(
    Level.FAULT,
    "what the stack made is not there any more",
    "no update of the stack makes it anew; uninstall and deploy again (docs/operate.md, Uninstall)",
)


def _unknown(problem: QuestionError) -> Finding:
    if not problem.needs:
        return Finding(Level.UNKNOWN, f"unknown: {problem}")
    return Finding(
        Level.UNKNOWN,
        f"unknown, needs {problem.needs}",
        "the webhook's URL is a secret, which ReaderPolicyArn does not give away"
        if problem.needs in _SECRETS
        else "the managed policy in the stack's output ReaderPolicyArn allows it",
        problem.needs,
    )


def _credentials(unit: Unit, _: datetime) -> Iterator[Finding]:
    # Whoever got here has some that AWS knows.
    target_id = unit.deployment.target_id
    yield Finding(Level.OK, f"account {target_id.account_id}, region {target_id.region}")


def _stack(unit: Unit, _: datetime) -> Iterator[Finding]:
    name = unit.deployment.stack_name
    status = unit.ask("cloudformation", "describe_stacks", StackName=name)["Stacks"][0]["StackStatus"]
    if status.endswith("_FAILED"):
        yield Finding(
            Level.FAULT,
            f"{name} is {status}",
            "its events in the console of CloudFormation say why; mend that, and deploy again",
        )
    elif status == "UPDATE_ROLLBACK_COMPLETE":
        yield Finding(
            Level.OK,
            f"{name} is {status}: it runs as before the last update, which failed",
            "its events in the console of CloudFormation say why",
        )
    else:
        yield Finding(Level.OK, f"{name} is {status}")


def _no_stack(_: Unit, __: datetime) -> Iterator[Finding]:
    yield Finding(
        Level.OK, "only the table is examined", "leave out --table, and name the stack with --stack-name"
    )


def _schedule(unit: Unit, _: datetime) -> Iterator[Finding]:
    if unit.deployment.parameters.get("Sweeps") == "DISABLED":
        yield Finding(
            Level.FAULT,
            "the audit is paused by the parameter Sweeps",
            "set Sweeps=ENABLED and deploy (docs/operate.md, Pause and resume)",
        )
        return
    groups, schedules = (unit.of_kind(f"AWS::Scheduler::{kind}") for kind in ("ScheduleGroup", "Schedule"))
    if not groups or not schedules:
        raise GoneError
    for part in schedules:
        schedule = unit.ask(
            "scheduler", "get_schedule", Name=part.physical_id, GroupName=groups[0].physical_id
        )
        if schedule["State"] == "ENABLED":
            yield Finding(Level.OK, f"enabled, {schedule['ScheduleExpression']}")
        else:
            yield Finding(
                Level.FAULT,
                "the schedule is disabled, though the parameter Sweeps is ENABLED",
                f"enable {part.physical_id} in the console of EventBridge Scheduler",
            )


def _function(unit: Unit, _: datetime) -> Iterator[Finding]:
    for part in unit.of_kind("AWS::Lambda::Function"):
        name = part.physical_id
        found = unit.ask("lambda", "get_function_configuration", FunctionName=name)
        state, update = found.get("State", "Active"), found.get("LastUpdateStatus", "Successful")
        if state == "Failed":
            yield Finding(
                Level.FAULT,
                f"{part.logical_id} cannot be invoked (State {state})",
                f"the console of Lambda says why at {name}; mend that, and deploy again",
            )
        elif update == "Failed":
            yield Finding(
                Level.FAULT,
                f"the last update of {part.logical_id} failed, so older code or settings run",
                f"the console of Lambda says why at {name}; mend that, and deploy again",
            )
        else:
            yield Finding(Level.OK, f"{part.logical_id} is {state}")


def _concurrency(unit: Unit, _: datetime) -> Iterator[Finding]:
    for part in unit.of_kind("AWS::Lambda::Function"):
        found = unit.ask("lambda", "get_function_concurrency", FunctionName=part.physical_id)
        if found.get("ReservedConcurrentExecutions") == 0:
            yield Finding(
                Level.FAULT,
                f"{part.logical_id} is switched off: its reserved concurrency is 0",
                f"aws lambda delete-function-concurrency --function-name {part.physical_id}",
            )
        else:
            yield Finding(Level.OK, f"{part.logical_id} may run")


def _throttling(unit: Unit, now: datetime) -> Iterator[Finding]:
    for part in unit.of_kind("AWS::Lambda::Function"):
        found = unit.ask(
            "cloudwatch",
            "get_metric_statistics",
            Namespace="AWS/Lambda",
            MetricName="Throttles",
            Dimensions=[{"Name": "FunctionName", "Value": part.physical_id}],
            StartTime=now - _THROTTLED_FOR,
            EndTime=now,
            Period=60,
            Statistics=["Sum"],
        )
        throttles = int(sum(point["Sum"] for point in found["Datapoints"]))
        within = f"in the last {duration(_THROTTLED_FOR)}"
        if throttles:
            yield Finding(
                Level.FAULT,
                f"Lambda throttled {part.logical_id} {throttles} times {within}",
                "raise the account's quota of concurrent executions here, or reserve less of it elsewhere",
            )
        else:
            yield Finding(Level.OK, f"no call of {part.logical_id} throttled {within}")


def _last_sweep(unit: Unit, now: datetime) -> Iterator[Finding]:
    swept = unit.status(now).swept
    sentence = "no sweep was completed yet"
    if swept:
        sentence = f"the last sweep was completed {duration(now - swept)} ago"
    if Fault.NO_SWEEP in unit.faults(now):
        yield Finding(
            Level.FAULT,
            sentence,
            "the log of the function says why; without a new line in it, look at the schedule "
            "(docs/operate.md, Alarms)",
        )
    else:
        yield Finding(Level.OK, sentence)


def _coverage(unit: Unit, now: datetime) -> Iterator[Finding]:
    degraded = unit.status(now).degraded
    for gap in degraded[:_SHOWN]:
        yield Finding(Level.FAULT, _gap(gap), _remedy(gap.reason))
    if len(degraded) > _SHOWN:
        yield Finding(
            Level.FAULT, f"and {len(degraded) - _SHOWN} more", "appstream-auditor status -o json lists them"
        )
    if not degraded:
        yield Finding(Level.OK, "every stack and fleet can be listed")


def _pending_events(unit: Unit, now: datetime) -> Iterator[Finding]:
    status = unit.status(now)
    waiting = f", the oldest for {duration(now - status.waiting)}" if status.waiting else ""
    sentence = f"{_count(status.pending, 'event')} waiting for the event bus{waiting}"
    if Fault.EVENTS_WAIT in unit.faults(now):
        yield Finding(
            Level.FAULT,
            sentence,
            "the log line of a sweep has the reason; nothing is lost, the events are published once the bus "
            "takes them",
        )
    else:
        yield Finding(Level.OK, sentence)


def _unreadable_items(unit: Unit, _: datetime) -> Iterator[Finding]:
    try:
        snapshot = unit.snapshot
    except SnapshotError as error:
        if error.reason:
            raise
        yield Finding(
            Level.FAULT,
            "the target's item of the table cannot be read, so no sweep can go on",
            "if this command is older than the stack, update it; if an older release was deployed over a "
            "newer one, deploy the newer one again; otherwise delete the item TARGET: a new baseline begins",
        )
        return
    if unreadable := len(snapshot.unreadable) + len(snapshot.broken):
        yield Finding(
            Level.FAULT,
            f"{_count(unreadable, 'item')} of the table cannot be read; their sessions are not watched",
            "if this command is older than the stack, update it; if an older release was deployed over a "
            "newer one, deploy the newer one again; otherwise delete the item, and its session is found anew",
        )
    else:
        yield Finding(Level.OK, "every item of the table can be read")


def _gap(gap: Gap) -> str:
    where = f"stack {gap.scope.stack}, fleet {gap.scope.fleet}"
    if gap.scope == WHOLE_TARGET:
        where = "whatever is in this account and region"
    return f"{where} cannot be listed whole since {timestamp(gap.since)} ({gap.reason})"


def _remedy(reason: str) -> str:
    if reason == DEADLINE:
        return "sweeps run out of time; raise SweepTimeLimit or Workers, and deploy"
    if "Throttl" in reason or "TooManyRequests" in reason:
        return (
            "AppStream throttles the account; sweep less often with SweepSchedule, or ask for a higher quota"
        )
    if "AccessDenied" in reason:
        return "the role of the function may not; look for a service control policy that denies appstream:*"
    return "look the code up in the AppStream API reference, and at the stack and fleet in its console"


def _refused_events(unit: Unit, _: datetime) -> Iterator[Finding]:
    codes = Counter(each.error_code for each in unit.deployment.reader.refused())
    if codes:
        yield Finding(
            Level.FAULT,
            f"the event bus refused {_count(codes.total(), 'event')} for good: {_counted(codes)}",
            'when the cause is gone, invoke the function with {"republish": "all"} '
            "(docs/operate.md, Republish a refused event)",
        )
    else:
        yield Finding(Level.OK, "the event bus refused none")


def _rules(unit: Unit, _: datetime) -> Iterator[Finding]:
    disabled = [rule["Name"] for rule in unit.rules if rule["State"] == "DISABLED"]
    for name in disabled:
        yield Finding(
            Level.FAULT,
            f"rule {name} on the bus is disabled",
            f"aws events enable-rule --event-bus-name {unit.bus} --name {name}; or delete it",
        )
    if not unit.rules:
        yield Finding(
            Level.OK,
            "there is no rule on the bus, so nobody is told anything",
            "switch a channel on, or write a rule (README.md, Notices and Consumers)",
        )
    elif not disabled:
        yield Finding(Level.OK, f"{_count(len(unit.rules), 'rule')} on the bus, enabled")


def _targets(unit: Unit, _: datetime) -> Iterator[Finding]:
    without = [
        rule["Name"]
        for rule in unit.rules
        if not unit.ask("events", "list_targets_by_rule", Rule=rule["Name"], EventBusName=unit.bus, Limit=1)[
            "Targets"
        ]
    ]
    for name in without:
        yield Finding(
            Level.FAULT,
            f"rule {name} on the bus has no target, so what it matches goes nowhere",
            "give it a target, or delete it",
        )
    if unit.rules and not without:
        yield Finding(Level.OK, "every rule on the bus has a target")


def _patterns(unit: Unit, now: datetime) -> Iterator[Finding]:
    """Judge a pattern by its source and detail-types alone.

    What else it asks for, such as the name of a stack, an event of tomorrow may have.
    """
    samples = [_sample(unit, detail_type, now) for detail_type in DetailType]

    def matches(pattern: str) -> bool:
        return not pattern or any(
            unit.ask("events", "test_event_pattern", EventPattern=pattern, Event=sample)["Result"]
            for sample in samples
        )

    unmatched = [rule["Name"] for rule in unit.rules if not matches(judged(rule.get("EventPattern", "{}")))]
    for name in unmatched:
        yield Finding(
            Level.FAULT,
            f"the pattern of rule {name} on the bus matches no detail-type that this release knows",
            f"compare its source ({SOURCE}) and its detail-type, letter by letter, with docs/events.md",
        )
    if unit.rules and not unmatched:
        yield Finding(Level.OK, "every rule on the bus matches some of the events")


def judged(pattern: str) -> str:
    """Return what a pattern asks of source and detail-type; "" if that is nothing."""
    asked = _judged(json.loads(pattern))
    return json.dumps(asked) if asked else ""


def _judged(pattern: Mapping[str, Any]) -> dict[str, Any]:
    asked = {name: pattern[name] for name in ("source", "detail-type") if name in pattern}
    alternatives = [_judged(each) for each in pattern.get("$or", [])]
    # One that asks for neither is met by every event, and so are all of them together.
    return asked | {"$or": alternatives} if alternatives and all(alternatives) else asked


def _sample(unit: Unit, detail_type: DetailType, now: datetime) -> str:
    target_id = unit.deployment.target_id
    return json.dumps(
        {
            "version": "0",
            "id": "00000000-0000-0000-0000-000000000000",
            "detail-type": detail_type,
            "source": SOURCE,
            "account": target_id.account_id,
            "time": timestamp(now),
            "region": target_id.region,
            "resources": [],
            "detail": {},
        }
    )


def _alarms(unit: Unit, _: datetime) -> Iterator[Finding]:
    names = {part.physical_id: part.logical_id for part in unit.of_kind("AWS::CloudWatch::Alarm")}
    found = unit.ask("cloudwatch", "describe_alarms", AlarmNames=list(names), AlarmTypes=["MetricAlarm"])
    alarms = {names[each["AlarmName"]]: each for each in found["MetricAlarms"] if each["AlarmName"] in names}
    on = [name for name, alarm in alarms.items() if alarm["StateValue"] == "ALARM"]
    for name in on:
        # The description is the template's, and says what to do.
        remedy = alarms[name].get("AlarmDescription", "")
        yield Finding(Level.FAULT, f"the alarm {name} is on", f"{remedy} (docs/operate.md, Alarms)")
    missing = sorted(set(names.values()) - alarms.keys())
    for name in missing:
        yield replace(_GONE, sentence=f"the alarm {name} is not there any more")
    if not on and not missing:
        yield Finding(Level.OK, f"none of {_count(len(names), 'alarm')} is on")


def _alarm_topic(unit: Unit, _: datetime) -> Iterator[Finding]:
    if unit.deployment.parameters.get("AlarmTopicArn"):
        yield Finding(Level.OK, "alarms are sent to AlarmTopicArn")
    else:
        yield Finding(
            Level.OK,
            "alarms are sent to nobody",
            "set AlarmTopicArn and deploy, so that somebody hears of them (docs/operate.md, Alarms)",
        )


def _dead_letters(unit: Unit, _: datetime) -> Iterator[Finding]:
    for part in unit.of_kind("AWS::SQS::Queue"):
        if part.logical_id not in _DEAD_LETTERS:
            continue
        counted = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        url = part.physical_id
        found = unit.ask("sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=list(counted))
        letters = sum(int(found["Attributes"].get(name, 0)) for name in counted)
        what = f"{_count(letters, 'dead letter')} in {part.logical_id} ({_DEAD_LETTERS[part.logical_id]})"
        if letters:
            yield Finding(
                Level.FAULT,
                f"{what}: {_reasons(unit, url)}",
                f"when it is mended, aws sqs purge-queue --queue-url {url} (docs/operate.md, Alarms)",
            )
        else:
            yield Finding(Level.OK, what)


def _reasons(unit: Unit, url: str) -> str:
    """Return why the first messages are in a queue of dead letters; they stay there for others to read."""
    try:
        found = unit.ask(
            "sqs",
            "receive_message",
            QueueUrl=url,
            MaxNumberOfMessages=_PEEKED,
            VisibilityTimeout=0,
            # Without a wait SQS asks some of its servers, and may answer nothing.
            WaitTimeSeconds=1,
            MessageAttributeNames=["All"],
        )
    except QuestionError as problem:
        return f"why is unknown, needs {problem.needs}" if problem.needs else "why is unknown"
    return (
        _counted(Counter(reason_of(each) for each in found.get("Messages", []))) or "nobody can read them now"
    )


def reason_of(letter: Mapping[str, Any]) -> str:
    """Return why a message is a dead letter: a code, or the notifier's reason, never a word of its content.

    The notifier, EventBridge and Scheduler say so in an attribute, Lambda in the record that it sends.
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
    return reason[:128] if isinstance(reason, str) else "no reason given; the log of the function may say it"


def _trigger(unit: Unit, _: datetime) -> Iterator[Finding]:
    mappings = unit.of_kind("AWS::Lambda::EventSourceMapping")
    if not mappings:
        raise GoneError
    for part in mappings:
        state = unit.ask("lambda", "get_event_source_mapping", UUID=part.physical_id)["State"]
        if state in {"Disabled", "Disabling", "Deleting"}:
            yield Finding(
                Level.FAULT,
                f"the trigger of the channel's function is {state.lower()}, so nobody is told",
                f"aws lambda update-event-source-mapping --enabled --uuid {part.physical_id}",
            )
        else:
            yield Finding(Level.OK, state.lower())


def _webhook(unit: Unit, _: datetime) -> Iterator[Finding]:
    """Find what holds the URL without reading it, and whether the channel's function can decrypt it."""
    name = unit.deployment.parameters[_CHANNELS[unit.channel]]
    key = _key_of_parameter(unit, name) if name.startswith("/") else _key_of_secret(unit, name)
    if key is None:
        yield Finding(
            Level.FAULT,
            f"{name}, which should hold the webhook's URL, is not there",
            "store the URL under that name (docs/operate.md, Channels); nothing has to be deployed",
        )
    elif key.rpartition("alias/")[2] not in {"", "aws/ssm", "aws/secretsmanager"}:
        yield Finding(
            Level.FAULT,
            f"{name} is encrypted with a key for which the channel's function has no permission",
            "store it encrypted with the key that AWS manages, aws/ssm or aws/secretsmanager",
        )
    else:
        yield Finding(Level.OK, f"{name} is stored")


def _key_of_parameter(unit: Unit, name: str) -> str | None:
    """Return the key that encrypts a parameter, "" for none; None if there is no such parameter."""
    named = [{"Key": "Name", "Option": "Equals", "Values": [name]}]
    found = unit.pages("ssm", "describe_parameters", "Parameters", ParameterFilters=named)
    return found[0].get("KeyId", "") if found else None


def _key_of_secret(unit: Unit, name: str) -> str | None:
    """Return the key that encrypts a secret, "" for that of AWS; None if there is none, or soon none."""
    try:
        found = unit.ask("secretsmanager", "describe_secret", SecretId=name)
    except GoneError:
        return None
    return None if "DeletedDate" in found else found.get("KmsKeyId", "")


def _webhook_url(unit: Unit, _: datetime) -> Iterator[Finding]:
    name = unit.deployment.parameters[_CHANNELS[unit.channel]]
    try:
        if name.startswith("/"):
            found = unit.ask("ssm", "get_parameter", Name=name, WithDecryption=True)["Parameter"]["Value"]
        else:
            found = unit.ask("secretsmanager", "get_secret_value", SecretId=name).get("SecretString", "")
    except GoneError:
        # The check above has said so.
        return
    if found.strip().startswith(_POSTED_TO):
        yield Finding(Level.OK, f"what {name} holds is a URL")
    else:
        yield Finding(
            Level.FAULT,
            f"what {name} holds does not begin with https://, so nothing is posted",
            "store the webhook's whole URL under that name, and nothing else (docs/operate.md, Channels)",
        )


def _subscription(unit: Unit, _: datetime) -> Iterator[Finding]:
    for part in unit.of_kind("AWS::SNS::Topic"):
        arn = part.physical_id
        found = unit.pages("sns", "list_subscriptions_by_topic", "Subscriptions", TopicArn=arn)
        # Whoever has not confirmed, or has unsubscribed, has no ARN (API reference, Subscription).
        pending = sum(each["SubscriptionArn"] == "PendingConfirmation" for each in found)
        if pending:
            yield Finding(
                Level.FAULT,
                f"{_count(pending, 'subscription')} not confirmed",
                "follow the link in the mail that SNS sent, AWS Notification - Subscription Confirmation",
            )
        elif any(each["SubscriptionArn"].startswith("arn:") for each in found):
            yield Finding(Level.OK, "confirmed")
        elif unit.channel == "Chat":
            yield Finding(
                Level.FAULT,
                "nobody listens to the topic",
                f"give {arn} to a channel in the console of Amazon Q Developer in chat applications",
            )
        else:
            yield Finding(
                Level.FAULT,
                "nobody is subscribed any more",
                f"aws sns subscribe --topic-arn {arn} --protocol email --notification-endpoint ADDRESS",
            )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _counted(reasons: "Counter[str]") -> str:
    return ", ".join(
        f"{reason} ({number})" if number > 1 else reason for reason, number in reasons.most_common(_SHOWN)
    )


_OF_THE_TABLE: Mapping[Check, Question] = {
    Check.LAST_SWEEP: _last_sweep,
    Check.COVERAGE: _coverage,
    Check.UNREADABLE_ITEMS: _unreadable_items,
    Check.PENDING_EVENTS: _pending_events,
    Check.REFUSED_EVENTS: _refused_events,
}
_OF_A_TABLE_ALONE: Mapping[Check, Question] = {
    Check.CREDENTIALS: _credentials,
    Check.STACK: _no_stack,
    **_OF_THE_TABLE,
}
_OF_THE_AUDITOR: Mapping[Check, Question] = {
    Check.CREDENTIALS: _credentials,
    Check.STACK: _stack,
    Check.SCHEDULE: _schedule,
    Check.FUNCTION: _function,
    Check.CONCURRENCY: _concurrency,
    Check.THROTTLING: _throttling,
    **_OF_THE_TABLE,
    Check.DEAD_LETTERS: _dead_letters,
    Check.ALARMS: _alarms,
    Check.ALARM_TOPIC: _alarm_topic,
    Check.RULES: _rules,
    Check.RULE_TARGETS: _targets,
    Check.RULE_PATTERNS: _patterns,
}
_OF_A_CHANNEL: Mapping[Check, Question] = {
    Check.FUNCTION: _function,
    Check.CONCURRENCY: _concurrency,
    Check.THROTTLING: _throttling,
    Check.TRIGGER: _trigger,
    Check.DEAD_LETTERS: _dead_letters,
    Check.ALARMS: _alarms,
}
_OF_A_WEBHOOK: Mapping[Check, Question] = {Check.WEBHOOK: _webhook, Check.WEBHOOK_URL: _webhook_url}
_OF_A_TOPIC: Mapping[Check, Question] = {Check.SUBSCRIPTION: _subscription}
_OF_ONE_CHANNEL = {
    "Slack": _OF_A_WEBHOOK,
    "Teams": _OF_A_WEBHOOK,
    "Mail": _OF_A_TOPIC,
    "Chat": _OF_A_TOPIC,
}
