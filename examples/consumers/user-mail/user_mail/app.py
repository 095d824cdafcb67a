"""The Lambda function: settings, clients, messages of SQS, one mail for an event, what becomes of failures.

It is the only place with an environment and a clock. What it logs are ids of events and messages and codes;
never anything of a user, and nothing that SES answered, since that quotes addresses.
"""

import os
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

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
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from user_mail.message import Event, Settings, Skipped, TooLateError, address_of, mail_of

# EventBridge repeats within a day (its retry policy); a session's warnings are all told by then.
KEEP_SECONDS = 86_400
# With the queue's maxReceiveCount this makes ten minutes of trying; a warning is worth nothing much later.
FIRST_WAIT, LONGEST_WAIT = 15, 120
# What SES answers to a mail that it would refuse again (API reference of SES version 2, SendEmail).
REFUSED = frozenset(["BadRequestException", "MessageRejected", "NotFoundException"])

logger = Logger()
settings = Settings(
    domains=frozenset(os.environ["DOMAINS"].lower().split(",")),
    minutes=frozenset(int(each) for each in os.environ["MINUTES"].split(",")),
    subject=os.environ["SUBJECT"],
    words=os.environ["WORDS"],
    zone=ZoneInfo(os.environ["TIME_ZONE"]),
)
config = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2})
aws = boto3.Session()
sqs = aws.client("sqs", config=config)
# The queue is what tries again: of a mail whose answer got lost, nobody here sends a second at once.
ses: Any = aws.client("sesv2", config=config.merge(Config(retries={"total_max_attempts": 1})))
idempotency = IdempotencyConfig(expires_after_seconds=KEEP_SECONDS, hash_function="sha256")
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def send(*, event_id: str, event: Event, address: str) -> None:
    """Mail the user of an event; raise TooLateError, ClientError or BotoCoreError."""
    mail = mail_of(event, settings, datetime.now(UTC))
    ses.send_email(
        FromEmailAddress=os.environ["FROM_ADDRESS"],
        Destination={"ToAddresses": [address]},
        Content={
            "Simple": {
                "Subject": {"Data": mail.subject, "Charset": "UTF-8"},
                "Body": {"Text": {"Data": mail.text, "Charset": "UTF-8"}},
            }
        },
    )
    logger.info("mailed", eventId=event_id)


# An event that was mailed is known when it comes again; one that raised an error may come again. The table
# knows ids of events, no address.
send_once = idempotent_function(
    send,
    data_keyword_argument="event_id",
    persistence_store=DynamoDBPersistenceLayer(
        os.environ["TABLE_NAME"], boto3_client=aws.client("dynamodb", config=config)
    ),
    config=idempotency,
)


def process(record: SQSRecord) -> None:
    """Process one message; if that fails it stays in the queue, for a time of its own."""
    try:
        event = Event.model_validate_json(record.body)
        event_id = event.detail.metadata.event_id
        address = address_of(event, settings)
        if isinstance(address, Skipped):
            logger.info("nobody is mailed", eventId=event_id, reason=address.value)
            return
        send_once(event_id=event_id, event=event, address=address)
    except Exception as error:
        postpone(record, error)
        raise


def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Process the messages; the answer names those that failed."""
    idempotency.register_lambda_context(context)
    return process_partial_response(event, process, processor, context)


def postpone(record: SQSRecord, error: Exception) -> None:
    """Say why a message failed, and hide it until its next try; SQS gives it up after some tries."""
    tries = int(record.attributes.approximate_receive_count)
    seconds = 0 if is_refused(error) else min(FIRST_WAIT << (tries - 1), LONGEST_WAIT)
    logger.warning(
        "not mailed", messageId=record.message_id, reason=reason(error), tries=tries, seconds=seconds
    )
    try:
        sqs.change_message_visibility(
            QueueUrl=os.environ["QUEUE_URL"], ReceiptHandle=record.receipt_handle, VisibilityTimeout=seconds
        )
    except (ClientError, BotoCoreError) as failure:
        # It is tried again all the same, when the queue's own time is over.
        logger.warning("tried again later", messageId=record.message_id, reason=reason(failure))


def is_refused(error: Exception) -> bool:
    """Return whether another try would fail as well; such a message uses up its tries at once."""
    return isinstance(error, ValidationError | TooLateError) or reason(error) in REFUSED


def reason(error: Exception) -> str:
    """Name an error by what holds nothing of an event."""
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__
