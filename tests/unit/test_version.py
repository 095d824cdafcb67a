"""The release's number is one number, and every call to AWS says it."""

import gc
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

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
    "notifier": {
        "CHANNEL": "mail",
        "QUEUE_URL": "https://sqs.example/waiting",
        "DEAD_LETTERS_URL": "https://sqs.example/undelivered",
        "TOPIC_ARN": "arn:aws:sns:eu-west-1:123456789012:notices",
    },
}


def test_the_package_has_the_number_of_the_project() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__


def loaded(function: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name, value in {**ENVIRONMENTS[function], **AWS}.items():
        monkeypatch.setenv(name, value)
    spec = spec_from_file_location(f"loaded_{function}", ROOT / "functions" / function / f"{function}.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    # A function freezes what its container keeps for good; here it goes.
    gc.unfreeze()
    return module


def test_the_auditors_clients_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    auditor = loaded("auditor", monkeypatch).auditor
    for client in (auditor.publisher._client, auditor.snapshots._client):
        assert client.meta.config.user_agent_extra == USER_AGENT


def test_the_notifiers_clients_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded("notifier", monkeypatch).sqs.meta.config.user_agent_extra == USER_AGENT
