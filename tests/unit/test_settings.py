"""Settings: read once, and a wrong one is named."""

from datetime import UTC, timedelta
from zoneinfo import ZoneInfo

import pytest

from session_auditor.errors import SettingsError
from session_auditor.model import AuthenticationType, Globs, UserIdMode
from session_auditor.settings.auditor import AuditorSettings
from session_auditor.settings.notifier import NotifierSettings

NEEDED = {
    "TABLE_NAME": "sessions",
    "EVENT_BUS_NAME": "bus",
    "TARGET_ACCOUNT_ID": "123456789012",
    "TARGET_REGION": "eu-west-1",
}


def test_defaults() -> None:
    settings = AuditorSettings.from_environment(NEEDED)
    assert settings.expiring_minutes == (60, 15, 5)
    assert settings.abandoned_minutes == (15, 60)
    assert settings.authentication_types is None
    assert settings.user_id_mode is UserIdMode.PLAIN
    assert settings.options.baseline_events is False
    assert (settings.options.hole, settings.sweep_time_limit) == (timedelta(minutes=5), 50)
    assert settings.options.time_zone is UTC


def test_every_variable_is_read() -> None:
    settings = AuditorSettings.from_environment(
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
            "SWEEP_EVERY": "180",
            "SWEEP_TIME_LIMIT": "300",
            "TIME_ZONE": "Europe/Berlin",
            "PATH": "/usr/bin",
        }
    )
    assert settings.options.expiring_minutes == (30, 10)
    assert settings.options.abandoned_minutes == ()
    assert settings.options.stacks == Globs(include=("prod-*",), exclude=("prod-test",))
    assert settings.options.authentication_types == {AuthenticationType.API, AuthenticationType.SAML}
    assert settings.options.baseline_events is True
    assert settings.options.user_id_mode is UserIdMode.HASH
    assert settings.options.time_zone == ZoneInfo("Europe/Berlin")
    assert (settings.sweep_every, settings.sweep_time_limit) == (180, 300)
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
        ("TARGET_REGION", "", "an AWS region, such as eu-west-1"),
        ("EXPIRING_MINUTES", "60,soon", "up to ten whole minutes from 1 to 9999, such as 60,15,5"),
        ("EXPIRING_MINUTES", "10000", "up to ten whole minutes from 1 to 9999, such as 60,15,5"),
        ("EXPIRING_MINUTES", "0", "up to ten whole minutes from 1 to 9999, such as 60,15,5"),
        ("ABANDONED_MINUTES", "15;60", "up to ten whole minutes from 1 to 9999, such as 60,15,5"),
        ("AUTHENTICATION_TYPES", "KERBEROS", "auto, or some of API,SAML,USERPOOL,AWS_AD"),
        ("AUTHENTICATION_TYPES", "", "auto, or some of API,SAML,USERPOOL,AWS_AD"),
        ("BASELINE_EVENTS", "perhaps", "true or false"),
        ("USER_ID_MODE", "secret", "plain, hash or omit"),
        ("WORKERS", "0", "a whole number from 1 to 64"),
        ("TOPOLOGY_MINUTES", "61", "whole minutes from 0 to 60"),
        ("API_TIME_LIMIT", "", "whole seconds from 1 to 60"),
        ("HISTORY_DAYS", "forever", "whole days from 1 to 3650"),
        ("HISTORY_DAYS", "Infinity", "whole days from 1 to 3650"),
        ("HISTORY_DAYS", "NaN", "whole days from 1 to 3650"),
        ("SWEEP_EVERY", "rate(1 minute)", "whole seconds from 1 to 86400"),
        ("SWEEP_EVERY", "0", "whole seconds from 1 to 86400"),
        ("SWEEP_TIME_LIMIT", "0", "whole seconds from 1 to 900"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_should_be(name: str, value: str | None, expected: str) -> None:
    environment = {key: each for key, each in (NEEDED | {name: value}).items() if each is not None}
    with pytest.raises(SettingsError) as caught:
        AuditorSettings.from_environment(environment)
    assert str(caught.value) == f"{name} should be {expected}"


@pytest.mark.parametrize(
    "zone",
    [
        pytest.param("Europe/Bonn", id="no such zone"),
        pytest.param("Europe", id="a folder of zones"),
        pytest.param("tzdata.zi", id="a file beside them"),
        pytest.param("../Europe/Berlin", id="a path out of them"),
        pytest.param("/etc/passwd", id="a path"),
        pytest.param("Europe/Berlin\0", id="no name of a file"),
        pytest.param("\ud800", id="no text"),
        pytest.param("x" * 5_000, id="long"),
        pytest.param("", id="nothing"),
    ],
)
def test_a_zone_that_there_is_not_is_named(zone: str) -> None:
    wanted = "^TIME_ZONE should be a time zone by its IANA name, such as Europe/Berlin, or UTC$"
    with pytest.raises(SettingsError, match=wanted):
        AuditorSettings.from_environment(NEEDED | {"TIME_ZONE": zone})
    channel = {"CHANNEL": "mail", "QUEUE_URL": "q", "DEAD_LETTERS_URL": "d", "TOPIC_ARN": "t"}
    with pytest.raises(SettingsError, match=wanted):
        NotifierSettings.from_environment(channel | {"TIME_ZONE": zone})


def test_hashing_needs_its_secret() -> None:
    with pytest.raises(SettingsError, match="USER_ID_SECRET_ARN should be the ARN of the secret"):
        AuditorSettings.from_environment(NEEDED | {"USER_ID_MODE": "hash"})


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"WORKERS": "many", "HISTORY_DAYS": "0"}, id="two values"),
        pytest.param(
            {"USER_ID_SECRET_ARN": "", "WORKERS": "0"}, id="a secret that is missing beside a value"
        ),
        pytest.param({"AUTHENTICATION_TYPES": " ,", "WORKERS": "0"}, id="no type beside a value"),
        pytest.param(dict.fromkeys(NEEDED, "") | {"SWEEP_EVERY": ""}, id="every name"),
    ],
)
def test_all_that_is_wrong_is_named_at_once(wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        AuditorSettings.from_environment(
            NEEDED | {"USER_ID_MODE": "hash", "USER_ID_SECRET_ARN": "arn"} | wrong
        )
    assert {each.split(" ")[0] for each in str(caught.value).split("; ")} == wrong.keys()


@pytest.mark.parametrize(
    "region", ["eu-west-1", "us-gov-west-1", "us-isob-east-1", "eusc-de-east-1", "ap-southeast-12"]
)
def test_a_region_of_any_partition_is_taken(region: str) -> None:
    assert AuditorSettings.from_environment(NEEDED | {"TARGET_REGION": region}).target_region == region


@pytest.mark.parametrize(
    ("every", "limit", "hole"),
    [
        pytest.param("15", "50", timedelta(minutes=5), id="four times a minute"),
        pytest.param("60", "50", timedelta(minutes=5), id="every minute"),
        pytest.param("120", "60", timedelta(minutes=5), id="just five minutes"),
        pytest.param("120", "61", timedelta(seconds=301), id="every two minutes, slow sweeps"),
        pytest.param("180", "50", timedelta(seconds=410), id="every three minutes"),
        pytest.param("3600", "50", timedelta(seconds=7250), id="every hour"),
    ],
)
def test_a_hole_is_five_minutes_or_two_intervals_and_a_sweep(every: str, limit: str, hole: timedelta) -> None:
    settings = AuditorSettings.from_environment(NEEDED | {"SWEEP_EVERY": every, "SWEEP_TIME_LIMIT": limit})
    assert settings.hole == settings.options.hole == hole


NOTIFIER = {
    "CHANNEL": "slack",
    "QUEUE_URL": "https://queue",
    "DEAD_LETTERS_URL": "https://dead",
    "WEBHOOK": "/notices/slack",
}


def test_a_notifier_tells_of_what_its_filters_want_and_of_the_whole_target() -> None:
    settings = NotifierSettings.from_environment(
        NOTIFIER | {"NOTICE_STACKS": "prod-*,!prod-test", "NOTICE_FLEETS": "cad"}
    )
    asked = [("prod-1", "cad"), ("prod-1", "gis"), ("prod-test", "cad"), ("office", "cad"), ("", "")]
    assert [settings.wants(*each, ()) for each in asked] == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("notice_tags", "tags", "wanted"),
    [
        pytest.param("*", ["notify=off"], True, id="by default all are"),
        pytest.param("*", [], True, id="by default without tags, too"),
        pytest.param("!notify=off", ["department=sales", "notify=off"], False, id="one that is left out"),
        pytest.param("!notify=off", ["department=sales", "notify="], True, id="one that is not"),
        pytest.param("!notify=off", [], True, id="one of which no tags are known"),
        pytest.param("department=s*", ["department=sales", "notify="], True, id="one of its tags"),
        pytest.param("department=s*", ["department=", "notify="], False, id="none of its tags"),
        pytest.param("department=sales", [], False, id="no tags at all"),
        pytest.param("department=sales,!notify=off", ["department=sales", "notify=off"], False, id="both"),
        pytest.param("department=it,department=hr", ["department=hr"], True, id="one of two values"),
    ],
)
def test_a_notifier_tells_of_the_tags_that_are_wanted(
    notice_tags: str, tags: list[str], wanted: bool
) -> None:
    settings = NotifierSettings.from_environment(NOTIFIER | {"NOTICE_TAGS": notice_tags})
    assert settings.wants("office", "cad", tags) == wanted
    assert settings.wants("", "cad", tags) == wanted, "a fleet's event"
    assert settings.wants("", "", tags), "the whole target"


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        pytest.param({"CHANNEL": "fax"}, "CHANNEL should be slack, teams, mail or chat", id="a channel"),
        pytest.param({"WEBHOOK": ""}, "WEBHOOK should be the name of", id="no webhook"),
        pytest.param({"CHANNEL": "mail"}, "TOPIC_ARN should be the ARN", id="no topic"),
        pytest.param({"QUEUE_URL": "", "WEBHOOK": ""}, "QUEUE_URL should be", id="the first of two"),
    ],
)
def test_a_wrong_variable_of_a_notifier_is_named(changed: dict[str, str], wrong: str) -> None:
    with pytest.raises(SettingsError, match=wrong):
        NotifierSettings.from_environment(NOTIFIER | changed)
