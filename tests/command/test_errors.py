"""Every way in which AWS does not answer is a sentence that says what to do, and an exit code."""

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
    ReadTimeoutError,
    SSOTokenLoadError,
    UnauthorizedSSOTokenError,
    UnknownRegionError,
)

from appstream_auditor.errors import Exit, QuestionError, asking, reading
from session_auditor.errors import SnapshotError

SECRET = "ann@example.com"
ACTION = "cloudformation:DescribeStacks"


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": f"not for {SECRET}"}}, "DescribeStacks")


@pytest.mark.parametrize(
    ("error", "words", "exit_code", "needs"),
    [
        (
            refused("AccessDenied"),
            "may not cloudformation:DescribeStacks",
            3,
            "cloudformation:DescribeStacks",
        ),
        (refused("AccessDeniedException"), "ReaderPolicyArn", 3, "cloudformation:DescribeStacks"),
        (refused("ExpiredToken"), "aws sso login", 3, ""),
        (refused("InvalidClientTokenId"), "does not know these credentials", 3, ""),
        (refused("Throttling"), "cloudformation:DescribeStacks failed (Throttling)", 3, ""),
        (NoCredentialsError(), "no AWS credentials", 3, ""),
        (NoRegionError(), "--region eu-west-1", 2, ""),
        (UnknownRegionError(region_name=SECRET, error_msg=SECRET), "no such region", 2, ""),
        (ProfileNotFound(profile=SECRET), "--profile", 2, ""),
        (UnauthorizedSSOTokenError(), "have expired", 3, ""),
        (SSOTokenLoadError(error_msg=SECRET), "have expired", 3, ""),
        (EndpointConnectionError(endpoint_url=f"https://{SECRET}"), "cannot be reached", 3, ""),
        (ReadTimeoutError(endpoint_url=f"https://{SECRET}"), "cannot be reached", 3, ""),
        (BotoCoreError(), "cannot be asked (BotoCoreError)", 3, ""),
    ],
    ids=lambda each: str(each) if isinstance(each, int) else type(each).__name__,
)
def test_what_aws_does_not_answer(
    error: ClientError | BotoCoreError, words: str, exit_code: int, needs: str
) -> None:
    with pytest.raises(QuestionError) as caught, asking("cloudformation"):
        raise error
    assert words in str(caught.value)
    assert (caught.value.exit_code, caught.value.needs) == (exit_code, needs)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("reason", "words", "exit_code"),
    [
        ("ResourceNotFoundException", "no such table", Exit.USAGE),
        ("AccessDeniedException", "may not dynamodb:Query", Exit.OUT_OF_REACH),
        ("", "the item is broken", Exit.OUT_OF_REACH),
    ],
)
def test_a_table_that_cannot_be_read(reason: str, words: str, exit_code: Exit) -> None:
    with pytest.raises(QuestionError) as caught, reading():
        raise SnapshotError("the item is broken", reason)
    assert words in str(caught.value)
    assert caught.value.exit_code == exit_code
