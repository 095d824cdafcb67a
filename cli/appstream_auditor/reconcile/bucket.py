"""Finds a day's usage report in the bucket that AppStream writes reports to, and reads it as a stream."""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError

from appstream_auditor.deployment import Deployment
from appstream_auditor.errors import Exit, QuestionError, asking, is_denied
from session_auditor.aws_errors import error_code

if TYPE_CHECKING:
    from mypy_boto3_appstream.type_defs import UsageReportSubscriptionTypeDef

# AppStream writes a report within 24 hours of the close of its day (Administration Guide, sessions reports).
_WRITTEN_AFTER = timedelta(days=2)
_AT_HAND = "or take the report out of its bucket, and give it with --file"


class Stored(NamedTuple):
    """A report in S3: its address, and its lines as they come."""

    address: str
    lines: Iterator[str]


def find_report(deployment: Deployment, day: date, now: datetime) -> Stored:
    """Return a UTC day's report of a target; raise QuestionError, and so does reading its lines."""
    subscription = _subscription(deployment)
    bucket, key = subscription["S3BucketName"], key_of(day)
    address = f"s3://{bucket}/{key}"
    client = deployment.in_target("s3", f"with credentials of that account {_AT_HAND.removeprefix('or ')}")
    with asking("s3"):
        try:
            body = client.get_object(Bucket=bucket, Key=key)["Body"]
        except ClientError as error:
            raise _no_report(error, address, day, now, subscription) from None
    return Stored(address, _streamed(body.iter_lines()))


def key_of(day: date) -> str:
    """Return the key of a day's report (Administration Guide, sessions reports)."""
    folder = f"sessions/schedule=DAILY/year={day:%Y}/month={day:%m}/day={day:%d}"
    return f"{folder}/daily-session-report-{day:%Y-%m-%d}.csv"


def decoded(lines: Iterable[bytes]) -> Iterator[str]:
    """Return lines as text; what is no UTF-8 in them is replaced."""
    return (line.decode("utf-8", "replace") for line in lines)


def _streamed(lines: Iterable[bytes]) -> Iterator[str]:
    with asking("s3"):
        yield from decoded(lines)


def _subscription(deployment: Deployment) -> "UsageReportSubscriptionTypeDef":
    client = deployment.in_target(
        "appstream", f"with credentials of that account {_AT_HAND.removeprefix('or ')}"
    )
    with asking("appstream"):
        try:
            found = client.describe_usage_report_subscriptions()["UsageReportSubscriptions"]
        except ClientError as error:
            if not is_denied(error_code(error)):
                raise
            raise _denied("appstream:DescribeUsageReportSubscriptions") from None
    target = deployment.target_id
    if not found:
        raise QuestionError(
            f"account {target.account_id} has no subscription to usage reports in {target.region}: "
            f"`aws appstream create-usage-report-subscription --region {target.region}` makes one, and days "
            "from then on have reports",
            Exit.USAGE,
        )
    subscription: UsageReportSubscriptionTypeDef = found[0]
    return subscription


def _no_report(
    error: ClientError,
    address: str,
    day: date,
    now: datetime,
    subscription: "UsageReportSubscriptionTypeDef",
) -> Exception:
    """Return why there is no report, and what to do."""
    code = error_code(error)
    if code == "NoSuchBucket":
        return QuestionError(f"the bucket of {address} does not exist any more: subscribe to reports anew")
    if is_denied(code):
        # Without ListBucket S3 answers so where there is no such object, too (GetObject, permissions).
        return _denied("s3:GetObject and s3:ListBucket", f" for {address}")
    if code != "NoSuchKey":
        return error
    problems = sorted({each["ErrorCode"] for each in subscription.get("SubscriptionErrors", [])})
    if problems:
        return QuestionError(f"no report {address}: AppStream could not write any ({', '.join(problems)})")
    written = datetime.combine(day, time(), UTC) + _WRITTEN_AFTER
    wait = f"try again after {written:%Y-%m-%d %H:%M} UTC: " if now < written else ""
    return QuestionError(
        f"no report {address}: {wait}AppStream writes it within 24 hours of the day's end, and none for a "
        "day on which nobody starts a session"
    )


def _denied(actions: str, what: str = "") -> QuestionError:
    return QuestionError(
        f"your AWS credentials may not {actions}{what}; docs/permissions.md has what reconcile needs beside "
        f"the policy ReaderPolicyArn; {_AT_HAND}",
        needs=actions,
    )
