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
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import botocore.session
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from session_auditor import USER_AGENT, __version__
from session_auditor.documents import PoliciesReader
from session_auditor.errors import PoliciesError
from session_auditor.listing import SessionLister, utc
from session_auditor.model import TargetId, UserIdMode
from session_auditor.preview import ANSWER
from session_auditor.publisher import Publisher
from session_auditor.reading import TableReader
from session_auditor.republishing import republish
from session_auditor.settings.auditor import AuditorSettings
from session_auditor.snapshots import Snapshots
from session_auditor.sweep import Auditor, Outcome, Summary
from session_auditor.table import Table
from session_auditor.tags import TagReader
from session_auditor.topology import TopologyReader
from session_auditor.user_ids import user_ids

# Enough to see what is wrong; the alarms and Audit Degraded events speak for the rest.
FAILURES_LOGGED = 20
# Seconds without which no further events are put back: those that were taken have to be forgotten.
REPUBLISH_MARGIN = 5.0

logger = Logger(version=__version__)
metrics = Metrics()
settings = AuditorSettings.from_environment(os.environ)


def build_auditor() -> Auditor:
    """Make the clients and what uses them; once a container."""
    core = botocore.session.get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=utc)
    aws = boto3.Session(region_name=settings.target_region, botocore_session=core)
    config = Config(
        connect_timeout=settings.api_time_limit,
        read_timeout=settings.api_time_limit,
        max_pool_connections=settings.workers,
        retries={"mode": "standard", "max_attempts": 4},
        user_agent_extra=USER_AGENT,
    )
    secret = ""
    if settings.user_id_mode is UserIdMode.HASH:
        secrets = aws.client("secretsmanager", config=config)
        secret = secrets.get_secret_value(SecretId=settings.user_id_secret_arn)["SecretString"]
    in_mode = user_ids(settings.user_id_mode, secret)
    target = TargetId(
        aws.get_partition_for_region(settings.target_region),
        settings.target_account_id,
        settings.target_region,
    )
    # AppStream publishes no rate, and others need some of it: this mode finds out how much there is.
    gentle = config.merge(Config(retries={"mode": "adaptive", "max_attempts": 4}))
    appstream = aws.client("appstream", config=gentle)
    dynamodb = aws.client("dynamodb", config=config)
    # Tags and policies are worth no more than a few seconds of a sweep.
    once_more = config.merge(Config(retries={"mode": "standard", "max_attempts": 2}))
    tags = None
    if settings.tag_keys:
        tags = TagReader(aws.client("resourcegroupstaggingapi", config=once_more), settings.tag_keys)
    keep_for = timedelta(minutes=settings.topology_minutes)
    topology = TopologyReader(appstream, tags, workers=settings.workers, keep_for=keep_for)
    policies = PoliciesReader(
        aws.client("ssm", config=once_more) if settings.policies_parameter else None,
        settings.policies_parameter,
        tag_keys=settings.tag_keys,
        user_id_mode=settings.user_id_mode,
        keep_for=keep_for,
    )
    table = Table(settings.table_name, target, timedelta(days=settings.history_days))
    reader = TableReader(dynamodb, table, user_id_mode=settings.user_id_mode, user_id=in_mode)
    return Auditor(
        SessionLister(appstream, topology, workers=settings.workers, user_id=in_mode),
        policies,
        Snapshots(dynamodb, table, reader),
        Publisher(aws.client("events", config=config), settings.event_bus_name, workers=settings.workers),
        target,
        settings.options,
    )


auditor = build_auditor()
gc.freeze()
gc.enable()


def now() -> datetime:
    """Return the time, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Make one sweep, or what else the event asks for.

    That is to put events back that EventBridge refused, or to say what policies would tell of.
    """

    def time_left() -> float:
        return context.get_remaining_time_in_millis() / 1000

    if "republish" in event:
        return put_back(event, time_left)
    if "preview" in event:
        return preview(event["preview"], time_left)
    sweep_id = f"{now():%Y%m%dT%H%M%SZ}-{context.aws_request_id[:8]}"
    summary = auditor.sweep(sweep_id, now, time_left)
    report(summary)
    return result(summary)


def put_back(event: dict[str, Any], time_left: Callable[[], float]) -> dict[str, Any]:
    """Put the events that are asked for back on the bus; raise TypeError if that cannot be understood."""
    which, closed = event["republish"], event.get("closed", False)
    if not isinstance(which, str) or not isinstance(closed, bool):
        raise TypeError('ask for {"republish": "<event id>"} or "all", perhaps with "closed": true')
    answer = republish(
        auditor.snapshots,
        auditor.publisher,
        which,
        now,
        lambda: time_left() - REPUBLISH_MARGIN,
        closed=closed,
    )
    said = asdict(answer)
    logger.info("refused events put back", extra={what: len(ids) for what, ids in said.items()})
    return said


def preview(document: Any, time_left: Callable[[], float]) -> dict[str, Any]:
    """Say what a document of policies, or its text, would tell of now; write nothing."""
    text = document if isinstance(document, str) else json.dumps(document)
    try:
        policies = auditor.policies.check(text)
    except PoliciesError as error:
        return {"version": __version__, "error": str(error)}
    found = auditor.preview(policies, now, time_left)
    logger.info("policies previewed", extra={"policies": len(policies.policies)})
    return {"version": __version__, **ANSWER.dump_python(found, mode="json", by_alias=True)}


def report(summary: Summary) -> None:
    """Log the summary and count it."""
    if summary.outcome is Outcome.FAILED:
        logger.error("stacks cannot be read, nothing was listed; the function needs appstream:DescribeStacks")
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
