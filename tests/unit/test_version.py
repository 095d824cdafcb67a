"""The release's number is one number, and every call to AWS says it."""

import gc
import tomllib
from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import boto3
import pytest

from sandbox.cloud import ROOT
from session_auditor import USER_AGENT, __version__

AWS = {
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
}
ENVIRONMENTS = {
    "auditor": {
        "TABLE_NAME": "sessions",
        "EVENT_BUS_NAME": "bus",
        "TARGET_ACCOUNT_ID": "123456789012",
        "TARGET_REGION": "eu-west-1",
        "POWERTOOLS_METRICS_NAMESPACE": "AppStreamSessionAuditor",
    },
    "board": {
        "TABLE_NAME": "sessions",
        "TARGET_ACCOUNT_ID": "123456789012",
        "TARGET_REGION": "eu-west-1",
    },
    "notifier": {
        "QUEUE_URL": "https://sqs.example/waiting",
        "DEAD_LETTERS_URL": "https://sqs.example/undelivered",
    },
}


def test_the_package_has_the_number_of_the_project() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__


CHANNELS = {
    "mail": {"TOPIC_ARN": "arn:aws:sns:eu-west-1:123456789012:notices"},
    "slack": {"WEBHOOK": "/notices/webhook"},
    "teams": {"WEBHOOK": "a-secret"},
}


def user_agents(
    function: str, monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, str]
) -> Mapping[str, str]:
    """Load a function; return what each client that it makes adds to its user agent, by service."""
    made: dict[str, str] = {}
    original = boto3.Session.client

    def client(self: boto3.Session, service: Any, *arguments: Any, **named: Any) -> Any:
        new = original(self, service, *arguments, **named)
        made[service] = new.meta.config.user_agent_extra
        return new

    monkeypatch.setattr(boto3.Session, "client", client)
    for name, value in {**AWS, **ENVIRONMENTS[function], **settings}.items():
        monkeypatch.setenv(name, value)
    spec = spec_from_file_location(f"loaded_{function}", ROOT / "functions" / function / f"{function}.py")
    assert spec
    assert spec.loader
    spec.loader.exec_module(module_from_spec(spec))
    # A function freezes what its container keeps for good; here it goes.
    gc.enable()
    gc.unfreeze()
    return made


def test_every_client_of_the_auditor_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = user_agents("auditor", monkeypatch, {})
    assert made == dict.fromkeys(["appstream", "dynamodb", "events"], USER_AGENT)


@pytest.mark.parametrize(
    ("channel", "service"), [("mail", "sns"), ("slack", "ssm"), ("teams", "secretsmanager")]
)
def test_every_client_of_the_notifier_says_it(
    channel: str, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = user_agents("notifier", monkeypatch, {"CHANNEL": channel, **CHANNELS[channel]})
    assert made == dict.fromkeys(["sqs", service], USER_AGENT)


def test_every_client_of_the_board_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert user_agents("board", monkeypatch, {}) == {"dynamodb": USER_AGENT}
