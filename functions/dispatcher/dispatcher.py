"""The Lambda function that asks, once a minute, for the sweeps of every target that is due in the next one.

It is the only place with a clock and an environment. It sweeps nothing itself: the auditor takes the messages
from the queue, each when it is due.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from session_auditor import USER_AGENT, __version__
from session_auditor.aws_errors import error_code
from session_auditor.directory import Directory, merge, of_these, parents_due, targets
from session_auditor.errors import SnapshotError
from session_auditor.hub import Hub
from session_auditor.messages import VOID_AFTER, Message
from session_auditor.model import Target, TargetId
from session_auditor.organizations import Organizations
from session_auditor.settings.dispatcher import DispatcherSettings
from session_auditor.tempo import Pace, Tempo, due_times, is_overdue, tempo, why_overdue

if TYPE_CHECKING:
    from mypy_boto3_organizations import OrganizationsClient

CONNECT_SECONDS, ANSWER_SECONDS = 2, 5
# The most that SendMessageBatch takes (API reference).
ENTRIES_LIMIT = 10
TRIES = 3
# Seconds that have to be left for another call, with its retries, and for what is said at the end.
MARGIN = 15.0
# Enough to see what is wrong.
TARGETS_LOGGED = 20

logger = Logger(version=__version__)
metrics = Metrics()
settings = DispatcherSettings.from_environment(os.environ)
wants = settings.wanted
aws = boto3.Session(region_name=settings.target_region)
config = Config(
    connect_timeout=CONNECT_SECONDS,
    read_timeout=ANSWER_SECONDS,
    retries={"mode": "standard", "total_max_attempts": 2},
    user_agent_extra=USER_AGENT,
)
own = TargetId(
    aws.get_partition_for_region(settings.target_region), settings.target_account_id, settings.target_region
)
sqs = aws.client("sqs", config=config)
hub = Hub(aws.client("dynamodb", config=config), settings.table_name, own)


def now() -> datetime:
    """Return the time, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Ask for the sweeps of one minute; raise SnapshotError if the table is out of reach.

    What Organizations says now counts from the next minute: no sweep waits for it.
    """

    def time_left() -> float:
        return context.get_remaining_time_in_millis() / 1000 - MARGIN

    begin = minute_of(event)
    directory = of_these(wants, hub.directory()) if wants.parents else {}
    each = targets(wants, directory, own.partition)
    swept = hub.swept(each)
    tempos = {
        target: tempo(swept.get(target), settings.sweep_every, begin, types_given=settings.types_given)
        for target in each
    }
    messages = due_messages(tempos, begin)
    unsent = send(messages, time_left)
    directory = discover(directory, time_left)
    unlisted = [parent for parent in wants.parents if parent not in directory]
    return report(swept, tempos, len(messages), unsent, unlisted)


def minute_of(event: Mapping[str, Any]) -> datetime:
    """Return when the minute begins that is asked for: the one after that for which the schedule asks.

    A schedule is kept within a minute (EventBridge Scheduler, "Schedule types"), and what is due before it is
    kept would come late. The minutes of two invocations neither overlap nor leave a second out. Who asks by
    hand means the minute from now on.
    """
    at = now()
    try:
        scheduled = datetime.fromisoformat(event["scheduledTime"]).astimezone(UTC)
    except (LookupError, TypeError, ValueError):
        return at
    return scheduled + timedelta(minutes=1) if abs(at - scheduled) <= VOID_AFTER else at


def due_messages(tempos: Mapping[TargetId, Tempo], begin: datetime) -> list[Message]:
    """Return the messages of the minute in their order; those that would be void already are left out."""
    messages = [
        Message(target.account_id, target.region, due)
        for target, how_often in tempos.items()
        for due in due_times(target, how_often.seconds, begin)
    ]
    return sorted((each for each in messages if now() - each.due <= VOID_AFTER), key=lambda each: each.due)


def send(messages: Sequence[Message], time_left: Callable[[], float]) -> Counter[str]:
    """Send messages, each to appear when it is due; return how many could not be sent, by error code."""
    unsent: Counter[str] = Counter()
    for start in range(0, len(messages), ENTRIES_LIMIT):
        some = messages[start : start + ENTRIES_LIMIT]
        unsent += send_batch(some) if time_left() > 0 else Counter(DEADLINE=len(some))
    return unsent


def send_batch(messages: Iterable[Message]) -> Counter[str]:
    """Send up to ten messages; those that SQS does not take are sent again."""
    at = now()
    waiting: dict[str, Any] = {
        str(number): {
            "Id": str(number),
            "MessageBody": message.text,
            "DelaySeconds": max(0, int((message.due - at).total_seconds())),
            # Of a target that takes long, others do not wait for the next messages (fair queues).
            "MessageGroupId": f"{message.account_id}#{message.region}",
        }
        for number, message in enumerate(messages)
    }
    refused: Counter[str] = Counter()
    for _ in range(TRIES):
        try:
            answer = sqs.send_message_batch(QueueUrl=settings.queue_url, Entries=[*waiting.values()])
        except (ClientError, BotoCoreError) as error:
            # botocore has tried it again by now.
            return refused + Counter({error_code(error): len(waiting)})
        failed = answer.get("Failed", [])
        refused += Counter(each["Code"] for each in failed if each["SenderFault"])
        waiting = {each["Id"]: waiting[each["Id"]] for each in failed if not each["SenderFault"]}
        if not waiting:
            return refused
    return refused + Counter(each["Code"] for each in failed if not each["SenderFault"])


def discover(directory: Directory, time_left: Callable[[], float]) -> Directory:
    """List the accounts below the parents for which it is time; return what is kept from now on."""
    due = parents_due(wants, directory, now())
    if not due:
        return directory
    try:
        organizations = Organizations(organizations_client())
    except (ClientError, BotoCoreError) as error:
        logger.warning("role for Organizations not assumed", reason=error_code(error))
        return directory
    found = dict(directory)
    for parent in due:
        listed = organizations.accounts_below(parent, time_left)
        if listed.reason or not listed.accounts:
            reason = listed.reason or "NO_ACTIVE_ACCOUNT"
            logger.warning("accounts not listed, the last good list stays", parent=parent, reason=reason)
            if parent not in directory and not listed.accounts:
                continue
        found[parent] = merge(directory.get(parent), listed, now())
        if directory.get(parent) is None or found[parent].members.keys() != directory[parent].members.keys():
            logger.info("accounts changed", parent=parent, accounts=len(found[parent].members))
    try:
        if found != directory:
            hub.keep(found)
    except SnapshotError as error:
        logger.warning("accounts not kept, they are listed again", reason=error.reason)
        return directory
    return found


def organizations_client() -> "OrganizationsClient":
    """Return a client of Organizations: the hub's own, or that of a role in the management account."""
    if not settings.organizations_role:
        return aws.client("organizations", config=config)
    credentials = aws.client("sts", config=config).assume_role(
        RoleArn=settings.organizations_role, RoleSessionName="appstream-session-auditor"
    )["Credentials"]
    return aws.client(
        "organizations",
        config=config,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )


def report(
    swept: Mapping[TargetId, Target | None],
    tempos: Mapping[TargetId, Tempo],
    messages: int,
    unsent: Counter[str],
    unlisted: Sequence[str],
) -> dict[str, Any]:
    """Log and count what was done, and which targets were not swept when they should have been.

    A parent whose accounts nobody knows counts as one that is overdue.
    """
    at = now()
    overdue = [
        (target, why_overdue(known))
        for target, known in swept.items()
        if is_overdue(known, tempos[target].seconds, at)
    ]
    slow = [
        (target, f"every {how_often.seconds} seconds")
        for target, how_often in tempos.items()
        if how_often.pace is Pace.SLOW
    ]
    if unsent:
        logger.error("sweeps not asked for, the next minute makes up for it", errorCodes=dict(unsent))
    if overdue:
        logger.error("targets overdue", targets=said(overdue), more=max(0, len(overdue) - TARGETS_LOGGED))
    if unlisted:
        logger.error("nothing is known of the accounts below", parents=unlisted)
    if slow:
        logger.warning(
            "targets swept less often: a sweep takes more than half the interval",
            targets=said(slow),
            more=max(0, len(slow) - TARGETS_LOGGED),
        )
    late = len(overdue) + len(unlisted)
    answer = {
        "version": __version__,
        "targets": len(tempos),
        "messages": messages,
        "unsent": unsent.total(),
        "overdue": late,
        "paces": {
            pace.value: count for pace, count in Counter(each.pace for each in tempos.values()).items()
        },
    }
    logger.info("dispatched", extra=answer)
    metrics.add_metric(name="TargetsSwept", unit=MetricUnit.Count, value=len(swept) - len(overdue))
    metrics.add_metric(name="TargetsOverdue", unit=MetricUnit.Count, value=late)
    metrics.flush_metrics()
    return answer


def said(about: Sequence[tuple[TargetId, str]]) -> list[str]:
    """Return some targets, with what is to be said of each."""
    return [
        f"{target.account_id} {target.region}: {words}" for target, words in sorted(about)[:TARGETS_LOGGED]
    ]
