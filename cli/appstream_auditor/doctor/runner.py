"""Which checks there are, in which order they run, and what the command ends with.

No check hides another: what a check cannot ask is a finding, too.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial

from appstream_auditor.deployment import Deployment
from appstream_auditor.doctor import auditor, channel, dispatcher, resources
from appstream_auditor.doctor.findings import REINSTALL, Check, Finding, FindingRow, Level, fault, ok
from appstream_auditor.doctor.unit import GoneError, Unit
from appstream_auditor.errors import Exit, QuestionError, reading
from appstream_auditor.printing import counted

Ask = Callable[[Unit, datetime], Iterable[Finding]]
Checks = Mapping[Check, Ask]

_FUNCTION: Checks = {
    Check.FUNCTION: resources.function,
    Check.CONCURRENCY: resources.concurrency,
    Check.THROTTLING: resources.throttling,
}
_TABLE: Checks = {
    Check.LAST_SWEEP: auditor.last_sweep,
    Check.COVERAGE: auditor.coverage,
    Check.FLEETS: auditor.fleets,
    Check.POLICIES: auditor.policies,
    Check.UNREADABLE_ITEMS: auditor.unreadable_items,
    Check.PENDING_EVENTS: auditor.pending_events,
    Check.REFUSED_EVENTS: auditor.refused_events,
}
_TABLE_ALONE: Checks = {Check.CREDENTIALS: auditor.credentials, Check.STACK: auditor.stack, **_TABLE}
_AUDITOR: Checks = {
    Check.CREDENTIALS: auditor.credentials,
    Check.STACK: auditor.stack,
    Check.SCHEDULE: auditor.schedule,
    **_FUNCTION,
    **_TABLE,
    Check.POLICIES_PARAMETER: auditor.policies_parameter,
    Check.DEAD_LETTERS: resources.dead_letters,
    Check.ALARMS: resources.alarms,
    Check.ALARM_TOPIC: auditor.alarm_topic,
    Check.RULES: auditor.rules,
    Check.RULE_TARGETS: auditor.rule_targets,
    Check.RULE_PATTERNS: auditor.rule_patterns,
}
# A dispatcher's schedule starts the sweeps instead of the auditor's own.
_WORKER: Checks = {check: ask for check, ask in _AUDITOR.items() if check is not Check.SCHEDULE}
_DISPATCHER: Checks = {
    Check.SCHEDULE: auditor.schedule,
    **_FUNCTION,
    Check.QUEUE: dispatcher.queue,
    Check.TRIGGER: partial(resources.trigger, whose="auditor", outcome="nothing is swept"),
    Check.ACCOUNTS: dispatcher.accounts,
    Check.ALARMS: resources.alarms,
}
_CHANNEL: Checks = {
    **_FUNCTION,
    Check.TRIGGER: partial(resources.trigger, whose="channel", outcome="no notices are sent"),
    Check.DEAD_LETTERS: resources.dead_letters,
    Check.ALARMS: resources.alarms,
}
_WEBHOOK: Checks = {**_CHANNEL, Check.WEBHOOK: channel.webhook, Check.WEBHOOK_URL: channel.webhook_url}
_TOPIC: Checks = {**_CHANNEL, Check.SUBSCRIPTION: channel.subscription}
_CHANNELS = {"Slack": _WEBHOOK, "Teams": _WEBHOOK, "Mail": _TOPIC, "Chat": _TOPIC}

_GONE = fault("a resource that this check looks at was deleted", REINSTALL)
# Targets that are asked at the same time, and findings of one check that are shown.
_WORKERS = 8
_SHOWN = 10
_SECRETS = frozenset(["ssm:GetParameter", "secretsmanager:GetSecretValue"])


def examine(deployment: Deployment, now: datetime) -> Iterator[FindingRow]:
    """Return what is found at `now`; raise QuestionError if only a table was named, and there is none."""
    target_id = deployment.target_id
    for unit, checks in _units(deployment):
        for check, ask in checks.items():
            for finding in _findings(_of_targets(ask) if check in _TABLE else ask, unit, now):
                yield FindingRow(
                    account_id=target_id.account_id,
                    region=target_id.region,
                    channel=unit.channel,
                    check=check,
                    **asdict(finding),
                )


def verdict(rows: Sequence[FindingRow]) -> Exit:
    """Return what the command ends with. What was denied is unknown, which is no reason to fail."""
    if any(row.level is Level.FAULT for row in rows):
        return Exit.FAULT
    if any(row.level is Level.UNKNOWN and not row.needs for row in rows):
        return Exit.OUT_OF_REACH
    return Exit.OK


def _units(deployment: Deployment) -> Iterator[tuple[Unit, Checks]]:
    own = Unit(deployment)
    if not deployment.stack_name:
        yield own, _TABLE_ALONE
    elif deployment.dispatched is None:
        yield own, _AUDITOR
    else:
        yield own, _WORKER
        yield Unit(deployment, own, dispatcher.DISPATCHER), _DISPATCHER
    for name, parameter in channel.CHANNELS.items():
        if deployment.parameters.get(parameter, "") not in {"", "false"}:
            yield Unit(deployment, own, name), _CHANNELS[name]


def _of_targets(ask: Ask) -> Ask:
    """Return a check that asks of each target of a hub; what is found of several alike is said once."""

    def asked(unit: Unit, now: datetime) -> Iterable[Finding]:
        if unit.targets is None:
            yield from ask(unit, now)
            return
        alike: dict[Finding, list[str]] = defaultdict(list)
        with ThreadPoolExecutor(_WORKERS) as pool:
            each = pool.map(lambda target: list(_findings(ask, target, now)), unit.targets)
            for target, findings in zip(unit.targets, each, strict=True):
                for finding in findings:
                    if finding.level is not Level.OK:
                        alike[finding].append(target.deployment.named.words)
        if not alike:
            yield ok(f"all of {counted(len(unit.targets), 'target')}")
        ordered = sorted(alike.items(), key=lambda found: found[0].level is not Level.FAULT)
        for finding, names in ordered[:_SHOWN]:
            yield replace(finding, sentence=f"{_names(names)}: {finding.sentence}")
        if rest := ordered[_SHOWN:]:
            remedy = "list the targets with appstream-auditor status -o json"
            yield Finding(rest[0][0].level, f"and {len(rest)} more", remedy)

    return asked


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {counted(len(names) - 1, 'more target')}"


def _findings(ask: Ask, unit: Unit, now: datetime) -> Iterator[Finding]:
    try:
        with reading():
            yield from ask(unit, now)
    except GoneError:
        yield _GONE
    except QuestionError as problem:
        if problem.exit_code is not Exit.USAGE:
            yield _unknown(problem)
        elif unit.deployment.stack_name:
            # The stack exists, but its table does not.
            yield _GONE
        else:
            raise


def _unknown(problem: QuestionError) -> Finding:
    if not problem.needs:
        remedy = "try again; if it fails again, look up the code in the service's API reference"
        return Finding(Level.UNKNOWN, str(problem), remedy)
    remedy = "attach the managed policy in the stack's output ReaderPolicyArn to your role or user"
    if problem.needs in _SECRETS:
        remedy = "the URL is a secret, which ReaderPolicyArn does not reveal: ask as somebody who may read it"
    return Finding(Level.UNKNOWN, f"your credentials may not {problem.needs}", remedy, problem.needs)
