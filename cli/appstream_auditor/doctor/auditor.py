"""Checks of the auditor itself: its stack, its schedule, what its table says, the rules on its bus."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from appstream_auditor.doctor.findings import Finding, fault, note, ok
from appstream_auditor.doctor.resources import listed
from appstream_auditor.doctor.unit import Unit
from appstream_auditor.printing import counted
from session_auditor.auditors import ASSUME_ROLE
from session_auditor.contract import SOURCE, timestamp
from session_auditor.errors import SnapshotError
from session_auditor.model import WHOLE_TARGET, DetailType, Gap
from session_auditor.paging import DEADLINE
from session_auditor.stories import span
from session_auditor.tempo import NOTHING_KNOWN, UNKNOWN, why_overdue
from session_auditor.views import Fault

# What AWS answers in a region that an account has not enabled.
_NO_SUCH_REGION = frozenset(
    ["EndpointConnectionError", "InvalidClientTokenId", "OptInRequired", "UnrecognizedClientException"]
)
# Of many stacks and fleets that cannot be listed, so many are shown.
_SHOWN = 10
_EVENTS = "look up the reason in the stack's events in the CloudFormation console"
_OTHER_RELEASE = (
    "if this command is older than the stack, update it; if an older release was deployed over a newer one, "
    "deploy the newer one again; otherwise delete the item"
)


def credentials(unit: Unit, _: datetime) -> Iterable[Finding]:
    # AWS has accepted them before any check.
    return [ok(f"account {unit.deployment.target_id.account_id}, region {unit.deployment.target_id.region}")]


def stack(unit: Unit, _: datetime) -> Iterable[Finding]:
    name = unit.deployment.stack_name
    if not name:
        remedy = "leave out --table, and name the stack with --stack-name"
        return [note("only the table is examined", remedy)]
    status = unit.ask("cloudformation", "describe_stacks", StackName=name)["Stacks"][0]["StackStatus"]
    if status.endswith("_FAILED"):
        return [fault(f"{name} is {status}", f"{_EVENTS}, fix it and deploy again")]
    if status == "UPDATE_ROLLBACK_COMPLETE":
        return [note(f"the last update of {name} failed, so it runs as before ({status})", _EVENTS)]
    return [ok(f"{name} is {status}")]


def schedule(unit: Unit, _: datetime) -> Iterable[Finding]:
    if unit.deployment.parameters.get("Sweeps") == "DISABLED":
        remedy = "set Sweeps=ENABLED and deploy (docs/operate.md, Pause and resume)"
        return [fault("the audit is paused by the parameter Sweeps", remedy)]
    name = unit.only("AWS::Scheduler::Schedule").id
    # The dispatcher's is in the auditor's group.
    group = (unit.auditor or unit).only("AWS::Scheduler::ScheduleGroup").id
    found = unit.ask("scheduler", "get_schedule", Name=name, GroupName=group)
    if found["State"] == "ENABLED":
        return [ok(f"enabled, {found['ScheduleExpression']}")]
    remedy = f"enable {name} in the EventBridge Scheduler console"
    return [fault("the schedule is disabled, though the parameter Sweeps is ENABLED", remedy)]


def last_sweep(unit: Unit, now: datetime) -> Iterable[Finding]:
    status = unit.status(now)
    sentence = f"completed {span(now - status.swept)} ago" if status.swept else "none was completed yet"
    if Fault.NO_SWEEP not in unit.faults(now):
        return [ok(sentence)]
    if unit.deployment.hub:
        reason = why_overdue(unit.snapshot.target)
        return [fault(f"{sentence} ({reason})", _remedy(reason))]
    return [
        fault(
            sentence,
            "look for the reason in the function's log; if it has no new line, check the schedule "
            "(docs/operate.md, Alarms)",
        )
    ]


def coverage(unit: Unit, now: datetime) -> Iterable[Finding]:
    degraded: Sequence[Gap] = unit.status(now).degraded
    if unit.deployment.hub:
        # A target that cannot be read is overdue, which tells of it.
        degraded = [gap for gap in degraded if gap.scope != WHOLE_TARGET]
    found = [fault(_gap(gap), _remedy(gap.reason)) for gap in degraded[:_SHOWN]]
    if more := len(degraded) - len(found):
        found.append(fault(f"and {more} more", "list them with appstream-auditor status -o json"))
    return found or [ok("every stack and fleet can be listed")]


def _gap(gap: Gap) -> str:
    scope = f"stack {gap.scope.stack}, fleet {gap.scope.fleet}"
    if gap.scope == WHOLE_TARGET:
        scope = "the stacks of this account and region"
    return f"{scope} cannot be listed completely since {timestamp(gap.since)} ({gap.reason})"


def _remedy(reason: str) -> str:
    if reason in (UNKNOWN, NOTHING_KNOWN):
        return (
            "a new target is swept within minutes; otherwise look at the dispatcher and at the function's log"
        )
    if reason.startswith(ASSUME_ROLE):
        return (
            "its account does not let the hub in: deploy spoke.yaml there, with the hub's account and its "
            "SpokeRole and ExternalId, or add the account to ExcludedAccounts (docs/organisation.md)"
        )
    if reason in _NO_SUCH_REGION:
        return "the region is not enabled there, or has no AppStream: enable it, or change TargetRegions"
    if reason == DEADLINE:
        return "sweeps run out of time: raise SweepTimeLimit or Workers, and deploy"
    if "Throttl" in reason or "TooManyRequests" in reason:
        return "AppStream throttles the account: sweep less often (SweepEvery), or ask for a higher quota"
    if "AccessDenied" in reason:
        return "the function's role is denied: look for a service control policy that denies appstream:*"
    return "look up the code in the AppStream API reference, and the stack and fleet in the AppStream console"


def fleets(unit: Unit, now: datetime) -> Iterable[Finding]:
    """Report errors of fleets as notes: the audit works, and says so."""
    faulted = unit.status(now).faulted
    found = [
        note(
            f"AppStream names errors of fleet {each.fleet} since {timestamp(each.since)}: {each.codes}",
            "look up the code in the AppStream API reference (FleetError), and the fleet in its console",
        )
        for each in faulted[:_SHOWN]
    ]
    if more := len(faulted) - len(found):
        found.append(note(f"and {more} more", "list them with appstream-auditor status -o json"))
    return found or [ok("AppStream names no errors of fleets")]


def policies(unit: Unit, _: datetime) -> Iterable[Finding]:
    known = unit.snapshot.policies
    if not known.problem:
        return [ok("in force" if known.text else "none are in force")]
    until = "the last good ones stay in force" if known.text else "none are in force"
    remedy = (
        "mend it, check it with appstream-auditor policies validate FILE, and store it again "
        "(docs/policies.md, A document that is broken)"
    )
    return [fault(f"the newest policies are not applied, {until}: {known.problem}", remedy)]


def policies_parameter(unit: Unit, _: datetime) -> Iterable[Finding]:
    name = unit.deployment.parameters.get("PoliciesParameter", "")
    if not name:
        return [ok("PoliciesParameter is empty")]
    named = [{"Key": "Name", "Option": "Equals", "Values": [name]}]
    found = unit.ask("ssm", "describe_parameters", ParameterFilters=named)["Parameters"]
    if not found:
        remedy = "store the document in it (docs/policies.md), or empty PoliciesParameter and deploy"
        return [fault(f"{name}, which should hold the policies, does not exist", remedy)]
    if found[0]["Type"] == "SecureString":
        remedy = "delete it, and store the document with --type String (docs/policies.md)"
        return [fault(f"{name} is encrypted, so the auditor cannot read the policies in it", remedy)]
    return [ok(f"{name} is stored")]


def unreadable_items(unit: Unit, _: datetime) -> Iterable[Finding]:
    try:
        snapshot = unit.snapshot
    except SnapshotError as error:
        if error.reason:
            raise
        remedy = f"{_OTHER_RELEASE} TARGET, and the next sweep begins a new baseline"
        return [fault("the table's item TARGET cannot be read, so sweeps fail", remedy)]
    number = len(snapshot.unreadable) + len(snapshot.broken)
    if not number:
        return [ok("none")]
    sentence = f"{counted(number, 'item')} of the table cannot be read, so those sessions are not watched"
    return [fault(sentence, f"{_OTHER_RELEASE}, and the next sweep finds its session again")]


def pending_events(unit: Unit, now: datetime) -> Iterable[Finding]:
    status = unit.status(now)
    if not status.waiting:
        return [ok("none")]
    oldest = span(now - status.waiting)
    sentence = f"{counted(status.pending, 'event')} waiting for the event bus, the oldest for {oldest}"
    if Fault.EVENTS_WAIT not in unit.faults(now):
        return [ok(sentence)]
    remedy = "look for the reason in the function's log; the events are kept until the bus takes them"
    return [fault(sentence, remedy)]


def refused_events(unit: Unit, _: datetime) -> Iterable[Finding]:
    codes = Counter(each.error_code for each in unit.deployment.reader.refused())
    if not codes:
        return [ok("none")]
    return [
        fault(
            f"the event bus refused {counted(codes.total(), 'event')} for good: {listed(codes)}",
            'fix the cause, then invoke the function with {"republish": "all"} '
            "(docs/operate.md, Republish a refused event)",
        )
    ]


def alarm_topic(unit: Unit, _: datetime) -> Iterable[Finding]:
    if unit.deployment.parameters.get("AlarmTopicArn"):
        return [ok("alarms are sent to AlarmTopicArn")]
    remedy = "set AlarmTopicArn to an SNS topic, and deploy (docs/operate.md, Alarms)"
    return [note("alarms are sent to nobody", remedy)]


def rules(unit: Unit, _: datetime) -> Iterable[Finding]:
    if not unit.rules:
        remedy = "switch a channel on, or write a rule (README.md, Notices and Consumers)"
        return [note("the bus has no rule, so nobody receives the events", remedy)]
    enable = f"aws events enable-rule --event-bus-name {unit.bus} --name"
    disabled = [rule["Name"] for rule in unit.rules if rule["State"] == "DISABLED"]
    return [
        fault(f"the rule {name} is disabled", f"{enable} {name}; or delete the rule") for name in disabled
    ] or [ok(f"{counted(len(unit.rules), 'rule')}, enabled")]


def rule_targets(unit: Unit, _: datetime) -> Iterable[Finding]:
    if not unit.rules:
        return []
    without = [
        fault(f"the rule {name} has no target, so it does nothing", "add a target, or delete the rule")
        for name in (rule["Name"] for rule in unit.rules)
        if not unit.ask("events", "list_targets_by_rule", Rule=name, EventBusName=unit.bus)["Targets"]
    ]
    return without or [ok("every rule has a target")]


def rule_patterns(unit: Unit, now: datetime) -> Iterable[Finding]:
    """Judge patterns by source and detail-type alone; a later event may have any stack or fleet."""
    if not unit.rules:
        return []
    samples = [_sample(unit, detail_type, now) for detail_type in DetailType]

    def matches(pattern: Mapping[str, Any]) -> bool:
        return not pattern or any(
            unit.ask("events", "test_event_pattern", EventPattern=json.dumps(pattern), Event=sample)["Result"]
            for sample in samples
        )

    unmatched = [
        fault(
            f"the pattern of the rule {rule['Name']} matches no event of the auditor",
            f"compare its source ({SOURCE}) and detail-type with docs/events.md, letter by letter",
        )
        for rule in unit.rules
        if not matches(source_and_type(json.loads(rule.get("EventPattern", "{}"))))
    ]
    return unmatched or [ok("every pattern matches an event")]


def source_and_type(pattern: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a pattern that is about source and detail-type; empty if nothing is."""
    part = {name: pattern[name] for name in ("source", "detail-type") if name in pattern}
    alternatives = [source_and_type(each) for each in pattern.get("$or", [])]
    # An alternative without either can match any event; then so can all of them together.
    return part | {"$or": alternatives} if alternatives and all(alternatives) else part


def _sample(unit: Unit, detail_type: DetailType, now: datetime) -> str:
    event = {
        "id": "00000000-0000-0000-0000-000000000000",
        "detail-type": detail_type,
        "source": SOURCE,
        "account": unit.deployment.target_id.account_id,
        "time": timestamp(now),
        "region": unit.deployment.target_id.region,
        "resources": [],
        "detail": {},
    }
    return json.dumps(event)
