"""The Lambda function: settings, clients, messages of SQS, what becomes of those that failed.

It is the only place with an environment. What it logs are ids of events and messages, detail-types and
codes; never anything of a user, and nothing that a vendor answered.
"""

import os
import time
from collections.abc import Mapping
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.parameters import SecretsProvider
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from tickets.desk import Desk, TicketSystem
from tickets.episode import Event
from tickets.episodes import KEEP_SECONDS, Episodes
from tickets.jira import Jira
from tickets.servicenow import ServiceNow
from tickets.vendor import RefusedError, TryLaterError

# A new password is found this many seconds after it was stored.
SECRET_SECONDS = 300
# Clocks differ, and a function that ran out of time is not stopped to the second.
LEASE_MARGIN = 5
# With the queue's maxReceiveCount this makes an hour and a quarter of trying, whatever the reasons to wait.
FIRST_WAIT, LONGEST_WAIT = 30, 900

logger = Logger()
config = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "max_attempts": 3})
aws = boto3.Session()
sqs = aws.client("sqs", config=config)
table_name = os.environ["TABLE_NAME"]
idempotency = IdempotencyConfig(
    event_key_jmespath="detail.metadata.event_id",
    raise_on_no_idempotency_key=True,
    expires_after_seconds=KEEP_SECONDS,
    hash_function="sha256",
)
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def build_system() -> TicketSystem:
    """Return the ticket system of this stack; its credentials are read when they are first needed."""
    secrets = SecretsProvider(boto3_client=aws.client("secretsmanager", config=config))

    def credentials() -> Mapping[str, str]:
        stored: Any = secrets.get(os.environ["SECRET_ARN"], transform="json", max_age=SECRET_SECONDS)
        return {name: str(each) for name, each in stored.items()}

    if os.environ["TICKET_SYSTEM"] == "jira":
        return Jira(
            os.environ["JIRA_URL"],
            credentials,
            project=os.environ["JIRA_PROJECT"],
            issue_type=os.environ["JIRA_ISSUE_TYPE"],
            transition=os.environ["JIRA_TRANSITION"],
            resolution=os.environ["JIRA_RESOLUTION"],
        )
    fields = ("assignment_group", "caller_id", "category", "impact", "urgency")
    extra = {name: os.environ[f"SERVICENOW_{name.upper()}"] for name in fields}
    return ServiceNow(
        os.environ["SERVICENOW_URL"],
        credentials,
        close_code=os.environ["SERVICENOW_CLOSE_CODE"],
        end_state=os.environ["SERVICENOW_END_STATE"],
        extra={name: value for name, value in extra.items() if value},
    )


desk = Desk(
    build_system(),
    Episodes(aws.resource("dynamodb", config=config).Table(table_name)),
    frozenset(each.strip() for each in os.environ["OPENED_BY"].split(",")),
)


def process(*, event: Event, context: LambdaContext) -> None:
    """Process one event; raise an error if its ticket does not say it yet."""
    left = context.get_remaining_time_in_millis() / 1000
    now = time.time()
    state = desk.take(event, context.aws_request_id, now, now + left + LEASE_MARGIN)
    logger.info(
        "processed",
        eventId=event.detail.metadata.event_id,
        detailType=event.detail_type,
        episode=event.key,
        ticket=state.name if state else "NONE",
    )


# An event that was processed is known at once when it comes again; one that raised an error may come again.
process_once = idempotent_function(
    process,
    data_keyword_argument="event",
    persistence_store=DynamoDBPersistenceLayer(
        table_name, boto3_client=aws.client("dynamodb", config=config)
    ),
    config=idempotency,
)


def process_record(record: SQSRecord, lambda_context: LambdaContext) -> None:
    """Process one message; if that fails it stays in the queue, for a time of its own."""
    try:
        process_once(event=Event.model_validate_json(record.body), context=lambda_context)
    except Exception as error:
        postpone(record, error)
        raise


def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Process the messages; the answer names those that failed."""
    idempotency.register_lambda_context(context)
    return process_partial_response(event, process_record, processor, context)


def postpone(record: SQSRecord, error: Exception) -> None:
    """Say why a message failed, and hide it until its next try; SQS gives it up after some tries."""
    tries = int(record.attributes.approximate_receive_count)
    seconds = wait(error, tries)
    logger.warning(
        "message is retried", messageId=record.message_id, reason=reason(error), tries=tries, seconds=seconds
    )
    try:
        sqs.change_message_visibility(
            QueueUrl=os.environ["QUEUE_URL"], ReceiptHandle=record.receipt_handle, VisibilityTimeout=seconds
        )
    except (ClientError, BotoCoreError) as failure:
        # It is retried all the same, when the queue's own time is over.
        logger.warning("message is retried later", messageId=record.message_id, reason=reason(failure))


def wait(error: Exception, tries: int) -> int:
    """Return the seconds until the next try; 0 where waiting mends nothing.

    What the vendor says, or we ourselves, is a minimum: SQS counts tries, so each has to be worth its pause.
    """
    pause = min(FIRST_WAIT << (tries - 1), LONGEST_WAIT)
    match error:
        # No other try will make it an event, or have it accepted.
        case RefusedError() | ValidationError():
            return 0
        case TryLaterError(after=int(after)):
            return max(after, pause)
        case _:
            return pause


def reason(error: Exception) -> str:
    """Name an error by what holds nothing of an event."""
    match error:
        case RefusedError() | TryLaterError():
            return str(error)
        case ClientError():
            return str(error.response["Error"]["Code"])
        case _:
            return type(error).__name__
