"""The Lambda function: settings, clients, one sweep, its summary to the log and the metrics.

It is the only place with a clock and an environment. What it logs are counts, codes, stack and fleet
names; never anything of a user.
"""

# ruff: noqa: E402 - the collector is held back before the imports

import gc

# What is made until the first sweep stays: to look through it for garbage takes a tenth of a cold start.
gc.disable()

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from session_auditor import __version__
from session_auditor.auditors import ENDED_CREDENTIALS, Auditors
from session_auditor.errors import PoliciesError, SnapshotError
from session_auditor.messages import VOID_AFTER, Message, read_message
from session_auditor.preview import ANSWER
from session_auditor.republishing import republish
from session_auditor.settings.auditor import AuditorSettings
from session_auditor.sweep import Auditor, Outcome, Summary

# Enough to see what is wrong; the alarms and Audit Degraded events speak for the rest.
FAILURES_LOGGED = 20
# Seconds without which no further events are put back: those that were taken have to be forgotten.
REPUBLISH_MARGIN = 5.0
# Seconds without which no further target is begun: time enough to list a small one.
SWEEP_MARGIN = 15.0

logger = Logger(version=__version__)
metrics = Metrics()
settings = AuditorSettings.from_environment(os.environ)


auditors = Auditors(settings, int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")))
auditor = auditors.own
gc.freeze()
gc.enable()


def now() -> datetime:
    """Return the time, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Make one sweep, or what else the event asks for.

    That is to sweep the targets that messages name, to put events back that EventBridge refused, or to say
    what policies would tell of.
    """

    def time_left() -> float:
        return context.get_remaining_time_in_millis() / 1000

    if "Records" in event:
        return sweep_targets(event["Records"], context.aws_request_id, time_left)
    if "republish" in event:
        return put_back(event, time_left)
    if "preview" in event:
        return preview(event, time_left)
    summary = auditor.sweep(sweep_id(context.aws_request_id), now, time_left)
    report(summary)
    count(summary)
    return result(summary)


def sweep_id(request_id: str) -> str:
    """Return the name of a sweep that begins now."""
    return f"{now():%Y%m%dT%H%M%SZ}-{request_id[:8]}"


def sweep_targets(
    records: list[dict[str, Any]], request_id: str, time_left: Callable[[], float]
) -> dict[str, Any]:
    """Sweep the targets that messages name, one after the other; a fault of one is no other's.

    Nothing is said of what is void, or of a quiet target; the next message of a target makes up for what
    fails here.
    """
    outcomes: Counter[str] = Counter()
    begun = False
    for record in records:
        message = read_message(record.get("body"))
        if message is None:
            logger.warning("dropped what is no message of the dispatcher's")
            outcomes["NO_MESSAGE"] += 1
            continue
        if now() - message.due > VOID_AFTER:
            outcomes["VOID"] += 1
            continue
        if begun and time_left() < SWEEP_MARGIN:
            outcomes["NO_TIME"] += 1
            continue
        begun = True
        with logger.append_context_keys(account=message.account_id, region=message.region):
            outcomes[sweep_target(message, request_id, time_left)] += 1
    # Nothing is tried again: by then it would be void.
    return {"version": __version__, "outcomes": dict(outcomes), "batchItemFailures": []}


def sweep_target(message: Message, request_id: str, time_left: Callable[[], float]) -> str:
    """Sweep a target, and return how that ended."""
    target = auditors.of(message.account_id, message.region, now())
    try:
        summary = target.sweep(sweep_id(request_id), now, time_left, due=message.due)
    except SnapshotError as error:
        logger.warning("not swept, its next message tries again", reason=str(error))
        return "NOT_SWEPT"
    if not ENDED_CREDENTIALS.isdisjoint(summary.failures.values()):
        auditors.forget_credentials(message.account_id)
    if not summary.quiet:
        report(summary)
        # So that what waits, is refused or cannot be read raises its alarm, whichever target it is of.
        count(summary)
    return summary.outcome.value


def put_back(event: dict[str, Any], time_left: Callable[[], float]) -> dict[str, Any]:
    """Put the events that are asked for back on the bus; raise TypeError if that cannot be understood."""
    which, closed = event["republish"], event.get("closed", False)
    if not isinstance(which, str) or not isinstance(closed, bool):
        raise TypeError('ask for {"republish": "<event id>"} or "all", perhaps with "closed": true')
    target = auditor_of(event)
    answer = republish(
        target.snapshots,
        target.publisher,
        which,
        now,
        lambda: time_left() - REPUBLISH_MARGIN,
        closed=closed,
    )
    said = asdict(answer)
    logger.info("refused events put back", extra={what: len(ids) for what, ids in said.items()})
    return said


def auditor_of(event: dict[str, Any]) -> Auditor:
    """Return the auditor of the target that is asked for, of the own without one; raise TypeError."""
    if "account" not in event and "region" not in event:
        return auditor
    target = read_message(json.dumps({"due": now().isoformat()} | event))
    if target is None:
        raise TypeError('name a target as {"account": "<twelve digits>", "region": "<region>"}')
    return auditors.of(target.account_id, target.region, now())


def preview(event: dict[str, Any], time_left: Callable[[], float]) -> dict[str, Any]:
    """Say what a document of policies, or its text, would tell of now; write nothing."""
    document = event["preview"]
    text = document if isinstance(document, str) else json.dumps(document)
    try:
        policies = auditor.policies.check(text)
    except PoliciesError as error:
        return {"version": __version__, "error": str(error)}
    found = auditor_of(event).preview(policies, now, time_left)
    logger.info("policies previewed", extra={"policies": len(policies.policies)})
    return {"version": __version__, **ANSWER.dump_python(found, mode="json", by_alias=True)}


def report(summary: Summary) -> None:
    """Log the summary."""
    if summary.outcome is Outcome.FAILED:
        logger.error("nothing was listed: AppStream cannot be asked, or a role not be assumed")
    for scope, reason in list(summary.failures.items())[:FAILURES_LOGGED]:
        logger.warning("scope not covered", stackName=scope.stack, fleetName=scope.fleet, reason=reason)
    for what, reason in list(summary.topology_unread.items())[:FAILURES_LOGGED]:
        logger.warning("not read, what was known before is used", what=what, reason=reason)
    if summary.changes_deferred:
        logger.warning(
            "changes not committed, the next sweep finds them again",
            reasons=dict(summary.changes_deferred),
        )
    if summary.items_unreadable:
        logger.warning(
            "items left alone: broken, or written by a newer release", items=summary.items_unreadable
        )
    if summary.publishing_stopped:
        logger.warning("publishing stopped early, events stay pending", reason=summary.publishing_stopped)
    if summary.policies_problem:
        logger.error(
            "policies not applied, the last good ones stay in force", problem=summary.policies_problem
        )
    if summary.events_refused:
        logger.error("events refused for good, kept apart", errorCodes=dict(summary.events_refused))
    logger.info("sweep %s", summary.outcome.lower(), extra=result(summary))


def count(summary: Summary) -> None:
    """Hand the summary to the metrics."""
    completed = summary.outcome is Outcome.COMPLETED
    for name, unit, value in (
        ("SweepCompleted", MetricUnit.Count, int(completed)),
        ("SweepDuration", MetricUnit.Milliseconds, summary.duration),
        ("SessionsSeen", MetricUnit.Count, summary.sessions_seen),
        ("ScopesFailed", MetricUnit.Count, len(summary.failures)),
        ("EventsPublished", MetricUnit.Count, summary.events_published.total()),
        ("EventsRefused", MetricUnit.Count, summary.events_refused.total()),
        ("OutboxPending", MetricUnit.Count, summary.pending),
        ("OldestPendingAge", MetricUnit.Seconds, summary.oldest_pending_age),
        ("ItemsUnreadable", MetricUnit.Count, summary.items_unreadable),
        ("UnknownAuthenticationTypes", MetricUnit.Count, summary.unknown_authentication_types),
    ):
        metrics.add_metric(name=name, unit=unit, value=value)
    if settings.policies_parameter:
        not_applied = int(bool(summary.policies_problem))
        metrics.add_metric(name="PoliciesNotApplied", unit=MetricUnit.Count, value=not_applied)
    metrics.flush_metrics()


def result(summary: Summary) -> dict[str, Any]:
    """Return the summary as the function's answer."""
    return {
        "version": __version__,
        "sweepId": summary.sweep_id,
        "outcome": summary.outcome.value,
        "scopesListed": summary.scopes_listed,
        "scopesFailed": len(summary.failures),
        "sessionsSeen": summary.sessions_seen,
        "changesUncommitted": summary.changes_deferred.total(),
        "eventsPublished": {name.value: count for name, count in sorted(summary.events_published.items())},
        "eventsRefused": summary.events_refused.total(),
        "pending": summary.pending,
        "itemsUnreadable": summary.items_unreadable,
        "publishingStopped": summary.publishing_stopped,
    } | ({"policiesProblem": summary.policies_problem} if summary.policies_problem else {})
