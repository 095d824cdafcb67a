"""The Lambda function of one channel: takes events from its queue, and tells people of them.

It is the only place with a clock and an environment. What cannot be told now goes back to the queue and is
never waited for here; what never can be is a dead letter with the reason. What it logs are counts, codes and
statuses; never anything of a user, or of the webhook.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import boto3
import urllib3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.parameters import GetParameterError, SecretsProvider, SSMProvider
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from session_auditor import USER_AGENT, __version__, channels
from session_auditor.aws_errors import error_code, is_refusal
from session_auditor.directory import ASK_EVERY, names
from session_auditor.errors import NoticeError, SnapshotError
from session_auditor.hub import Hub
from session_auditor.model import TargetId
from session_auditor.notices import Message, Notice, messages
from session_auditor.settings.notifier import Channel, NotifierSettings

# Seconds. A webhook that was replaced is found this long after it was stored.
SECRET_SECONDS = 300
CONNECT_SECONDS, ANSWER_SECONDS = 2, 5
# What one message may take at worst: its URL read, the message posted, and both again for a webhook that was
# replaced. With less time left, the rest goes back to the queue.
MESSAGE_SECONDS = 30
# Slack takes a message a second, Teams four (their documentation); what is posted sooner has to wait longer.
PACE = {Channel.SLACK: 1.0, Channel.TEAMS: 0.25}
# A channel that takes some messages is busy and not down: it is tried again sooner. The first wait is short,
# as two containers may meet at Slack, which takes a message a second.
FIRST_WAIT, LONGEST_WAIT, LONGEST_WAIT_WHEN_BUSY = 2, 300, 90
GIVEN_UP_AFTER = 3600
# The most that SendMessageBatch and ChangeMessageVisibilityBatch take (API reference).
ENTRIES_LIMIT = 10
# Whoever answers so has not seen this webhook, or not any more.
GONE = frozenset([401, 403, 404, 410])
LATER = frozenset([408, 425, 429])

logger = Logger(version=__version__)
settings = NotifierSettings.from_environment(os.environ)
aws = boto3.Session()
config = Config(
    connect_timeout=CONNECT_SECONDS,
    read_timeout=ANSWER_SECONDS,
    # The queue is what tries again.
    retries={"mode": "standard", "total_max_attempts": 1},
    user_agent_extra=USER_AGENT,
)
sqs = aws.client("sqs", config=config.merge(Config(retries={"total_max_attempts": 2})))
pause = time.sleep
pool = urllib3.PoolManager(
    timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS), retries=False
)


class LaterError(Exception):
    """The channel cannot be told now, and not before so many seconds if it says when."""

    def __init__(self, reason: str, after: int = 0) -> None:
        super().__init__(reason)
        self.after = after


class RefusedError(Exception):
    """The channel refuses the message, and would again."""


class Webhook:
    """A webhook of Slack's or of Teams'. Its URL is a secret, read when it is needed and kept a while."""

    def __init__(self, name: str, body: Callable[[Message], Mapping[str, Any]]) -> None:
        self._body = body
        self._free_at = 0.0
        self._secret: Callable[..., Any]
        if name.startswith("/"):
            parameters = SSMProvider(boto3_client=aws.client("ssm", config=config))
            self._secret = partial(parameters.get, name, decrypt=True, max_age=SECRET_SECONDS)
        else:
            secrets = SecretsProvider(boto3_client=aws.client("secretsmanager", config=config))
            self._secret = partial(secrets.get, name, max_age=SECRET_SECONDS)

    def __call__(self, message: Message) -> None:
        """Post the message, no sooner than the vendor takes it; raise LaterError or RefusedError."""
        pause(max(0.0, self._free_at - time.time()))
        self._free_at = time.time() + PACE[settings.channel]
        url = self._url()
        answer = self._post(url, message)
        if answer.status in GONE and (replaced := self._url(force_fetch=True)) != url:
            answer = self._post(replaced, message)
        reason = f"HTTP {answer.status}{_reason_in(answer.data)}"
        if answer.status in LATER or answer.status >= 500:
            after = answer.headers.get("Retry-After", "")
            seconds = min(int(after), GIVEN_UP_AFTER) if re.fullmatch("[0-9]{1,9}", after) else 0
            raise LaterError(reason, seconds)
        if not 200 <= answer.status < 300:
            raise RefusedError(reason)

    def _url(self, *, force_fetch: bool = False) -> str:
        try:
            url = str(self._secret(force_fetch=force_fetch)).strip()
        except GetParameterError as error:
            raise LaterError(f"the webhook's URL cannot be read: {_code_in(str(error))}") from None
        # Without https the words of users, and the secret itself, would be sent in the clear.
        if url.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
            return url
        if not force_fetch:
            return self._url(force_fetch=True)
        raise LaterError("what is stored as the webhook's URL is none")

    def _post(self, url: str, message: Message) -> urllib3.BaseHTTPResponse:
        try:
            return pool.request(
                "POST",
                url,
                body=json.dumps(self._body(message)),
                headers={"Content-Type": "application/json"},
            )
        except urllib3.exceptions.LocationValueError:
            raise LaterError("what is stored as the webhook's URL is none") from None
        except urllib3.exceptions.HTTPError as error:
            # It may have arrived all the same; then it is told twice, with the same id.
            raise LaterError(type(error).__name__) from None


class Topic:
    """An SNS topic, for mail or for Amazon Q Developer in chat applications."""

    def __init__(self, arn: str, words: Callable[[Message], tuple[str, str]]) -> None:
        self._arn = arn
        self._words = words
        self._client = aws.client("sns", config=config)

    def __call__(self, message: Message) -> None:
        """Publish the message; raise LaterError or RefusedError."""
        subject, text = self._words(message)
        try:
            self._client.publish(TopicArn=self._arn, Subject=subject, Message=text)
        except ClientError as error:
            kind = RefusedError if is_refusal(error) else LaterError
            raise kind(error_code(error)) from None
        except BotoCoreError as error:
            raise LaterError(error_code(error)) from None


class Accounts:
    """What the accounts of a hub are called, as its dispatcher found last. Nothing waits for a name."""

    def __init__(self) -> None:
        self._names: Mapping[str, str] = {}
        self._read_at = 0.0
        self._hub: Hub | None = None
        if settings.hub_table:
            own = TargetId("", settings.hub_account_id, settings.hub_region)
            self._hub = Hub(aws.client("dynamodb", config=config), settings.hub_table, own)

    def names(self) -> Mapping[str, str]:
        """Return names by id, a while after they were found; none where there is no hub."""
        if self._hub and time.time() - self._read_at >= ASK_EVERY.total_seconds():
            self._read_at = time.time()
            try:
                self._names = names(self._hub.directory())
            except SnapshotError as error:
                logger.warning("names of accounts not read", reason=error.reason)
        return self._names


def _code_in(text: str) -> str:
    """Return the error code that botocore's message names: the rest may name what nobody else should read."""
    found = re.search(r"\((\w+)\) when calling", text)
    return found[1] if found else "unknown error"


def _reason_in(body: bytes) -> str:
    """Return the code that Slack's or Workflows' answer gives, if it is one: other words may be of users."""
    text = body[:1_000].decode(errors="replace")
    found = re.search(r'"code": *"(\w{1,60})"', text) or re.fullmatch(r"(\w{1,60})", text)
    return f": {found[1]}" if found else ""


def _notification(message: Message) -> tuple[str, str]:
    subject, _ = channels.mail(message)
    return subject, json.dumps(channels.amazon_q(message), ensure_ascii=False)


SENDERS: Mapping[Channel, Callable[[], Callable[[Message], None]]] = {
    Channel.SLACK: lambda: Webhook(settings.webhook, channels.slack),
    Channel.TEAMS: lambda: Webhook(settings.webhook, channels.teams),
    Channel.MAIL: lambda: Topic(settings.topic_arn, channels.mail),
    Channel.CHAT: lambda: Topic(settings.topic_arn, _notification),
}
send = SENDERS[settings.channel]()
accounts = Accounts()


@dataclass
class Batch:
    """What becomes of the records of one invocation; those that are in neither list are done with."""

    later: list[tuple[Mapping[str, Any], int]] = field(default_factory=list)
    dead: list[tuple[Mapping[str, Any], str]] = field(default_factory=list)

    def postpone(self, records: Iterable[Mapping[str, Any]], reason: LaterError, *, progress: bool) -> None:
        """Hide records for a while, or give them up when people should have been told an hour ago.

        `progress` is whether others of the batch were told.
        """
        longest = LONGEST_WAIT_WHEN_BUSY if progress else LONGEST_WAIT
        for record in records:
            tries = int(record["attributes"]["ApproximateReceiveCount"])
            waited = time.time() - int(record["attributes"]["SentTimestamp"]) / 1000
            seconds = max(reason.after, min(FIRST_WAIT << min(tries - 1, 10), longest))
            if waited + seconds > GIVEN_UP_AFTER:
                self.dead.append((record, str(reason)))
            else:
                self.later.append((record, seconds))

    def refuse(self, records: Iterable[Mapping[str, Any]], reason: str) -> None:
        """Give records up."""
        self.dead += [(record, reason) for record in records]


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Tell the channel of a batch of events; the answer names the records that SQS has to keep."""
    batch = Batch()
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    notices: list[Notice] = []
    for record in event["Records"]:
        try:
            notice = Notice.of(json.loads(record["body"]))
        except (NoticeError, ValueError, RecursionError) as error:
            batch.refuse([record], str(error) if isinstance(error, NoticeError) else "not JSON")
            continue
        if settings.wants(notice.place.stack, notice.place.fleet, notice.tags):
            notices.append(notice)
            by_id.setdefault(notice.event_id, []).append(record)
    told = 0
    stopped: LaterError | None = None
    told_of = messages(
        notices,
        several_targets=settings.several_targets,
        accounts=accounts.names(),
        time_zone=settings.time_zone,
    )
    for message in told_of:
        records = [record for notice in message.notices for record in by_id[notice.event_id]]
        if stopped is None:
            try:
                tell(message, context)
            except RefusedError as error:
                batch.refuse(records, str(error))
                continue
            except LaterError as error:
                stopped = error
            else:
                told += 1
                continue
        # Whatever follows a message that has to wait waits, too: a channel that is busy is busy for all.
        batch.postpone(records, stopped, progress=told > 0)
    kept = hide(batch.later) | bury(batch.dead)
    say = logger.warning if stopped else logger.info
    say(
        "told",
        messages=told,
        events=len(event["Records"]),
        later=len(batch.later),
        given_up=len(batch.dead),
        reason=str(stopped) if stopped else "",
    )
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in sorted(kept)]}


def tell(message: Message, context: LambdaContext) -> None:
    """Send one message; raise LaterError or RefusedError."""
    if context.get_remaining_time_in_millis() < MESSAGE_SECONDS * 1000:
        raise LaterError("no time left")
    send(message)


def hide(later: Sequence[tuple[Mapping[str, Any], int]]) -> set[str]:
    """Let records come again when it is their time; return their ids, which SQS has to keep."""
    for start in range(0, len(later), ENTRIES_LIMIT):
        entries: Any = [
            {"Id": str(number), "ReceiptHandle": record["receiptHandle"], "VisibilityTimeout": seconds}
            for number, (record, seconds) in enumerate(later[start : start + ENTRIES_LIMIT])
        ]
        try:
            sqs.change_message_visibility_batch(QueueUrl=settings.queue_url, Entries=entries)
        except (ClientError, BotoCoreError) as error:
            # They come again all the same, when the queue's own time is over.
            logger.warning("messages are retried later", reason=error_code(error))
    return {record["messageId"] for record, _ in later}


def bury(dead: Sequence[tuple[Mapping[str, Any], str]]) -> set[str]:
    """Put records into the dead-letter queue, each with its reason; return the ids of those left over."""
    kept: set[str] = set()
    for start in range(0, len(dead), ENTRIES_LIMIT):
        some = dead[start : start + ENTRIES_LIMIT]
        entries: Any = [
            {
                "Id": str(number),
                "MessageBody": record["body"],
                "MessageAttributes": {"reason": {"DataType": "String", "StringValue": reason}},
            }
            for number, (record, reason) in enumerate(some)
        ]
        try:
            answer = sqs.send_message_batch(QueueUrl=settings.dead_letters_url, Entries=entries)
            failed = {int(each["Id"]) for each in answer.get("Failed", [])}
        except (ClientError, BotoCoreError) as error:
            logger.warning("dead letters are kept", reason=error_code(error))
            failed = set(range(len(some)))
        kept |= {some[number][0]["messageId"] for number in failed}
    for reason in sorted({reason for _, reason in dead}):
        logger.error("not told", reason=reason, events=sum(each == reason for _, each in dead))
    return kept
