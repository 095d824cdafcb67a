"""Settings: read once, and a wrong one is named."""

import pytest

from session_auditor.model import AuthenticationType, Globs, UserIdMode
from session_auditor.settings import Settings, SettingsError

NEEDED = {
    "TABLE_NAME": "sessions",
    "EVENT_BUS_NAME": "bus",
    "TARGET_ACCOUNT_ID": "123456789012",
    "TARGET_REGION": "eu-west-1",
}


def test_defaults() -> None:
    settings = Settings.from_environment(NEEDED)
    assert settings.expiring_minutes == (60, 15, 5)
    assert settings.abandoned_minutes == (15, 60)
    assert settings.authentication_types is None
    assert settings.user_id_mode is UserIdMode.PLAIN
    assert settings.policy.baseline_events is False


def test_every_variable_is_read() -> None:
    settings = Settings.from_environment(
        NEEDED
        | {
            "EXPIRING_MINUTES": "30, 10",
            "ABANDONED_MINUTES": "",
            "STACK_FILTER": "prod-*, !prod-test",
            "FLEET_FILTER": "*",
            "AUTHENTICATION_TYPES": "API,SAML",
            "BASELINE_EVENTS": "true",
            "USER_ID_MODE": "hash",
            "USER_ID_SECRET_ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:x",
            "WORKERS": "3",
            "TOPOLOGY_MINUTES": "0",
            "API_TIME_LIMIT": "7",
            "HISTORY_DAYS": "30",
            "PATH": "/usr/bin",
        }
    )
    assert settings.policy.expiring_minutes == (30, 10)
    assert settings.policy.abandoned_minutes == ()
    assert settings.policy.stacks == Globs(include=("prod-*",), exclude=("prod-test",))
    assert settings.policy.authentication_types == {AuthenticationType.API, AuthenticationType.SAML}
    assert settings.policy.baseline_events is True
    assert (settings.workers, settings.topology_minutes, settings.api_time_limit, settings.history_days) == (
        3,
        0,
        7,
        30,
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TABLE_NAME", None, "the name of the DynamoDB table"),
        ("EVENT_BUS_NAME", "", "the name or ARN of the event bus"),
        ("TARGET_ACCOUNT_ID", "12345", "an AWS account id of twelve digits"),
        ("TARGET_REGION", "Ireland", "an AWS region, such as eu-west-1"),
        ("EXPIRING_MINUTES", "60,soon", "up to ten whole minutes from 1 to 7200, such as 60,15,5"),
        ("EXPIRING_MINUTES", "0", "up to ten whole minutes from 1 to 7200, such as 60,15,5"),
        ("ABANDONED_MINUTES", "15;60", "up to ten whole minutes from 1 to 7200, such as 60,15,5"),
        ("AUTHENTICATION_TYPES", "KERBEROS", "auto, or some of API,SAML,USERPOOL,AWS_AD"),
        ("AUTHENTICATION_TYPES", "", "auto, or some of API,SAML,USERPOOL,AWS_AD"),
        ("BASELINE_EVENTS", "perhaps", "true or false"),
        ("USER_ID_MODE", "secret", "plain, hash or omit"),
        ("WORKERS", "0", "a whole number from 1 to 64"),
        ("TOPOLOGY_MINUTES", "61", "whole minutes from 0 to 60"),
        ("API_TIME_LIMIT", "", "whole seconds from 1 to 60"),
        ("HISTORY_DAYS", "forever", "whole days from 1 to 3650"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_should_be(name: str, value: str | None, expected: str) -> None:
    environment = {key: each for key, each in (NEEDED | {name: value}).items() if each is not None}
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environment)
    assert str(caught.value) == f"{name} should be {expected}"


def test_hashing_needs_its_secret() -> None:
    with pytest.raises(SettingsError, match="USER_ID_SECRET_ARN is needed when USER_ID_MODE is hash"):
        Settings.from_environment(NEEDED | {"USER_ID_MODE": "hash"})


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(NEEDED | {"WORKERS": "many", "HISTORY_DAYS": "0"})
    assert str(caught.value).count("should be") == 2
