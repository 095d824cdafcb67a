"""The function of a channel: what it tells, what waits, what is given up, and what it never says."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from sandbox.server import Answer, Post, serving
from sandbox.vendors import slack, teams
from session_auditor.model import DetailType
from tests.notifier.channel import ROOT, START, TOPIC, Line, Queued, line, record
from tests.shared.aws import Context, client_error, raising
from tests.shared.notices import envelope

USER = "jane.doe@example.com"


@pytest.fixture
def hook() -> Iterator[slack.Slack]:
    with slack.slack(second=0) as hook:
        yield hook


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch, hook: slack.Slack) -> Iterator[Line]:
    with line(monkeypatch, "slack") as channel:
        channel.secrets["/notices/webhook"] = hook.url
        yield channel


def texts(hook: slack.Slack) -> list[str]:
    """What Slack took, by its headings."""
    return [hook.received.get()["text"] for _ in range(hook.received.qsize())]


def test_what_it_told_is_done(channel: Line, hook: slack.Slack) -> None:
    channel.send(envelope(1), envelope(2, DetailType.ENDED))
    assert channel.invoke() == {"batchItemFailures": []}
    assert len(texts(hook)) == 2
    assert channel.waiting == {}
    assert channel.dead == []


def test_a_secret_of_secrets_manager_does_as_well(monkeypatch: pytest.MonkeyPatch, hook: slack.Slack) -> None:
    with line(monkeypatch, "slack", WEBHOOK="notices/webhook") as channel:
        channel.secrets["notices/webhook"] = hook.url + "\n"
        channel.send(envelope())
        channel.invoke()
    assert len(texts(hook)) == 1


def test_the_secret_is_read_once_in_five_minutes(channel: Line, hook: slack.Slack) -> None:
    for _ in range(2):
        channel.send(envelope())
        channel.invoke()
    assert channel.wire.operations().count("GetParameter") == 1
    assert len(texts(hook)) == 2


def test_the_secret_is_read_again_after_five_minutes(channel: Line, hook: slack.Slack) -> None:
    channel.send(envelope(1))
    channel.invoke()
    channel.secrets["/notices/webhook"] = f"{hook.url}/revoked"
    channel.pause(301)
    channel.send(envelope(2))
    channel.invoke()
    assert [reason for _, reason in channel.dead] == ["HTTP 404: no_service"]


def test_teams_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with teams.teams() as hook, line(monkeypatch, "teams") as channel:
        channel.secrets["/notices/webhook"] = hook.url
        channel.send(envelope())
        assert channel.invoke() == {"batchItemFailures": []}
    assert hook.received.qsize() == 1


def test_a_topic_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with line(monkeypatch, "mail") as channel:
        channel.send(envelope())
        channel.invoke()
    (mail,) = channel.published
    assert (mail["TopicArn"], mail["Subject"]) == (
        TOPIC,
        "AppStream Session Expiring on stack office, fleet cad",
    )
    with line(monkeypatch, "chat") as channel:
        channel.send(envelope())
        channel.invoke()
    (notification,) = channel.published
    assert json.loads(notification["Message"])["source"] == "custom"


def test_what_the_bus_delivered_twice_is_told_once(channel: Line, hook: slack.Slack) -> None:
    channel.send(envelope(), envelope())
    assert channel.invoke() == {"batchItemFailures": []}
    assert len(texts(hook)) == 1


def test_what_nobody_wants_is_done_with(monkeypatch: pytest.MonkeyPatch, hook: slack.Slack) -> None:
    with line(monkeypatch, "slack", NOTICE_STACKS="prod-*,!prod-test", NOTICE_FLEETS="cad") as channel:
        channel.secrets["/notices/webhook"] = hook.url
        for number, (stack, fleet) in enumerate(
            [("prod-1", "cad"), ("prod-1", "gis"), ("prod-test", "cad"), ("office", "cad")]
        ):
            channel.send(envelope(number, stack=stack, fleet=fleet))
        channel.send(envelope(8, DetailType.AUDIT_DEGRADED, stack="prod-1", fleet=""))
        channel.send(envelope(9, DetailType.AUDIT_DEGRADED, stack="", fleet=""))
        # A fleet's event is of no stack.
        channel.send(
            *(envelope(each, DetailType.FLEET_FAULTED, fleet=f) for each, f in ((10, "cad"), (11, "gis")))
        )
        assert channel.invoke() == {"batchItemFailures": []}
    assert texts(hook) == [
        "AppStream Session Expiring on stack prod-1, fleet cad",
        "AppStream Audit Degraded on stack prod-1",
        "AppStream Audit Degraded in account 123456789012, region eu-west-1",
        "AppStream Fleet Faulted on fleet cad",
    ]


def test_what_nobody_wants_by_its_tags_is_done_with(
    monkeypatch: pytest.MonkeyPatch, hook: slack.Slack
) -> None:
    with line(monkeypatch, "slack", NOTICE_TAGS="!notify=off") as channel:
        channel.secrets["/notices/webhook"] = hook.url
        for number, (kind, tags) in enumerate(
            [
                (DetailType.POLICY_VIOLATED, {"notify": "off"}),
                (DetailType.FLEET_FAULTED, {"notify": "off"}),
                (DetailType.POLICY_CLEARED, {"notify": ""}),
            ]
        ):
            event = envelope(number, kind)
            event["detail"]["data"]["tags"] = tags
            channel.send(event)
        # Of a release without tags.
        channel.send(envelope(8, DetailType.EXPIRING))
        assert channel.invoke() == {"batchItemFailures": []}
    assert sorted(texts(hook)) == [
        "AppStream Session Expiring on stack office, fleet cad",
        "AppStream Session Policy Cleared on stack office, fleet cad",
    ]


def test_with_several_targets_it_says_which(monkeypatch: pytest.MonkeyPatch, hook: slack.Slack) -> None:
    with line(monkeypatch, "slack", SEVERAL_TARGETS="true") as channel:
        channel.secrets["/notices/webhook"] = hook.url
        channel.send(envelope())
        channel.invoke()
    assert texts(hook)[0].endswith("account 123456789012, region eu-west-1")


class TestAccounts:
    """What accounts are called, with a hub."""

    @pytest.fixture
    def channel(self, monkeypatch: pytest.MonkeyPatch, hook: slack.Slack) -> Iterator[Line]:
        where = {"HUB_TABLE": "sessions", "HUB_ACCOUNT_ID": "123456789012", "HUB_REGION": "eu-west-1"}
        with line(monkeypatch, "slack", SEVERAL_TARGETS="true", **where) as channel:
            channel.secrets["/notices/webhook"] = hook.url
            yield channel

    def kept(self, name: str) -> dict[str, Any]:
        branch = {"members": {"123456789012": {"name": name}}, "asked": "2026-03-02T08:00:00Z"}
        return {"Items": [{"schema": {"N": "1"}, "state": {"S": json.dumps({"r-ab12": branch})}}]}

    def test_a_message_names_the_account_and_the_list_is_read_once(
        self, channel: Line, hook: slack.Slack
    ) -> None:
        channel.wire.answers["Query"] = lambda _: self.kept("render-farm")
        for _ in range(2):
            channel.send(envelope())
            channel.invoke()
        where = "account render-farm (123456789012), region eu-west-1"
        assert all(text.endswith(where) for text in texts(hook))
        (asked,) = channel.wire.parameters("Query")
        keys = {":pk": {"S": "HUB#123456789012#eu-west-1"}, ":sk": {"S": "TARGETS"}}
        assert (asked["TableName"], asked["ExpressionAttributeValues"]) == ("sessions", keys)

    def test_nothing_waits_for_a_name(self, channel: Line, hook: slack.Slack) -> None:
        channel.wire.answers["Query"] = raising(client_error("AccessDeniedException", "Query"))
        for _ in range(2):
            channel.send(envelope())
            assert channel.invoke() == {"batchItemFailures": []}
        assert all(text.endswith("account 123456789012, region eu-west-1") for text in texts(hook))
        assert channel.wire.operations().count("Query") == 1

    def test_without_a_hub_no_table_is_read(self, monkeypatch: pytest.MonkeyPatch, hook: slack.Slack) -> None:
        with line(monkeypatch, "slack") as channel:
            channel.secrets["/notices/webhook"] = hook.url
            channel.send(envelope())
            channel.invoke()
            assert "Query" not in channel.wire.operations()


class TestLater:
    """A channel that is busy or down."""

    def test_only_what_was_not_told_is_repeated(self, channel: Line, hook: slack.Slack) -> None:
        channel.send(*[envelope(number, minute=number) for number in range(3)])
        hook.outages.put(503)
        assert len(channel.invoke()["batchItemFailures"]) == 3
        channel.invoke()
        assert len(texts(hook)) == 3
        assert channel.waiting == {}

    def test_nothing_is_sent_after_it_asked_to_wait(self, channel: Line, hook: slack.Slack) -> None:
        channel.send(*[envelope(number) for number in range(3)])
        hook.outages.put(429)
        channel.invoke()
        assert hook.refused.qsize() == 1
        assert texts(hook) == []

    @pytest.mark.parametrize(("receives", "seconds"), [(1, 2), (2, 4), (3, 8), (7, 128), (30, 300)], ids=str)
    def test_our_own_backoff_is_the_least(
        self, channel: Line, hook: slack.Slack, receives: int, seconds: int
    ) -> None:
        """Slack asks for one second."""
        channel.send(envelope())
        (queued,) = channel.waiting.values()
        queued.receives = receives - 1
        hook.outages.put(429)
        channel.invoke()
        assert queued.visible_at - START == seconds

    @pytest.mark.parametrize("status", [408, 425, 429, 503])
    def test_what_it_asks_for_counts_if_it_is_longer(
        self, monkeypatch: pytest.MonkeyPatch, status: int
    ) -> None:
        def busy(_: Post) -> Answer:
            return Answer(status, "", {"Retry-After": "77"})

        with serving(busy) as url, line(monkeypatch, "teams") as channel:
            channel.secrets["/notices/webhook"] = url
            channel.send(envelope())
            channel.invoke()
            assert {each.visible_at - START for each in channel.waiting.values()} == {77.0}

    def test_a_channel_that_is_busy_is_tried_again_soon(self, channel: Line, hook: slack.Slack) -> None:
        """However often its messages were received: some were told, so it is not down."""
        channel.send(envelope(0), envelope(1, minute=1))
        for queued in channel.waiting.values():
            queued.receives = 9
        # A pause of zero makes the second too early for Slack.
        channel.function.__dict__["pause"] = lambda _: None
        hook.second = 1.0
        channel.invoke()
        assert hook.received.qsize() == 1
        assert {each.visible_at - channel.now for each in channel.waiting.values()} == {90.0}

    @pytest.mark.parametrize("progress", [True, False])
    def test_an_hours_tries_are_fewer_than_the_queue_allows(self, channel: Line, *, progress: bool) -> None:
        """What the queue itself takes away has no reason, and is not counted by the alarm."""
        template = yaml_parse((ROOT / "functions" / "notifier" / "template.yaml").read_text())
        allowed = template["Resources"]["Waiting"]["Properties"]["RedrivePolicy"]["maxReceiveCount"]
        waited, tries = 0, 0
        while waited <= 3600:
            tries += 1
            batch = channel.function.Batch()
            queued = Queued("m", "", channel.now, channel.now, tries)
            batch.postpone([record(queued)], channel.function.LaterError("busy"), progress=progress)
            waited += batch.later[0][1]
        assert tries < allowed

    def test_an_hour_is_enough(self, channel: Line, hook: slack.Slack) -> None:
        channel.send(envelope(user=USER))
        (queued,) = channel.waiting.values()
        queued.sent -= 3_599
        hook.outages.put(503)
        assert channel.invoke() == {"batchItemFailures": []}
        ((body, reason),) = channel.dead
        assert (json.loads(body), reason) == (envelope(user=USER), "HTTP 503: outage")

    def test_a_channel_out_of_reach_is_waited_for(self, channel: Line) -> None:
        channel.secrets["/notices/webhook"] = "http://127.0.0.1:1/services/T0/B0/x"
        channel.send(envelope())
        assert len(channel.invoke()["batchItemFailures"]) == 1

    @pytest.mark.parametrize(
        "stored", ['{"url": "x"}', "hooks.slack.com/services/T0", "http://hooks.slack.com/x"]
    )
    def test_what_is_no_url_is_waited_for_and_nothing_is_sent(self, channel: Line, stored: str) -> None:
        channel.secrets["/notices/webhook"] = stored
        channel.send(envelope())
        assert len(channel.invoke()["batchItemFailures"]) == 1
        assert "what is stored as the webhook's URL is none" in channel.log.getvalue()
        assert stored not in channel.log.getvalue()
        # It is read again at once, so that a correction counts.
        assert channel.wire.operations().count("GetParameter") == 2

    def test_a_secret_that_cannot_be_read_is_waited_for(self, channel: Line) -> None:
        def refuse(_: Any) -> Any:
            raise client_error("AccessDeniedException", "GetParameter")

        channel.wire.answers["GetParameter"] = refuse
        channel.send(envelope())
        assert len(channel.invoke()["batchItemFailures"]) == 1
        assert "AccessDeniedException" in channel.log.getvalue()

    def test_without_time_nothing_is_begun(self, channel: Line, hook: slack.Slack) -> None:
        channel.send(envelope())
        assert len(channel.invoke(context=Context(10, "notifier"))["batchItemFailures"]) == 1
        assert texts(hook) == []

    def test_a_busy_topic_is_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with line(monkeypatch, "mail") as channel:
            channel.send(envelope())
            self.fail(channel, "Throttled", 400)
            assert len(channel.invoke()["batchItemFailures"]) == 1

    @staticmethod
    def fail(channel: Line, code: str, status: int) -> None:
        def answer(_: Any) -> Any:
            raise client_error(code, "Publish", ResponseMetadata={"HTTPStatusCode": status})

        channel.wire.answers["Publish"] = answer


class TestGivenUp:
    """What never can be told is a dead letter with the reason."""

    @pytest.mark.parametrize("status", [400, 403, 404, 410])
    def test_a_refusal_for_good(self, channel: Line, hook: slack.Slack, status: int) -> None:
        channel.send(envelope(user=USER))
        hook.outages.put(status)
        assert channel.invoke() == {"batchItemFailures": []}
        assert [reason for _, reason in channel.dead] == [f"HTTP {status}: outage"]

    def test_workflows_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with teams.teams() as hook, line(monkeypatch, "teams") as channel:
            channel.secrets["/notices/webhook"] = f"{hook.url}/gone"
            channel.send(envelope())
            channel.invoke()
        assert [reason for _, reason in channel.dead] == ["HTTP 404: WorkflowNotFound"]

    def test_an_answer_that_is_no_code_is_not_quoted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def quote(_: Post) -> Answer:
            return Answer(400, f"cannot show {USER}", {})

        with serving(quote) as url, line(monkeypatch, "slack") as channel:
            channel.secrets["/notices/webhook"] = url
            channel.send(envelope(user=USER))
            channel.invoke()
            assert [reason for _, reason in channel.dead] == ["HTTP 400"]

    @pytest.mark.parametrize("status", [401, 403, 404, 410])
    def test_whoever_has_not_seen_the_webhook_makes_it_be_read_again(
        self, channel: Line, hook: slack.Slack, status: int
    ) -> None:
        with serving(lambda _: Answer(status, "", {})) as former:
            valid = channel.secrets["/notices/webhook"]
            channel.secrets["/notices/webhook"] = former
            channel.send(envelope(1))
            channel.invoke()
            channel.secrets["/notices/webhook"] = valid
            channel.send(envelope(2))
            channel.invoke()
        assert [reason for _, reason in channel.dead] == [f"HTTP {status}"]
        assert len(texts(hook)) == 1

    def test_a_webhook_that_was_replaced_is_found_at_once(self, channel: Line, hook: slack.Slack) -> None:
        valid = channel.secrets["/notices/webhook"]
        channel.secrets["/notices/webhook"] = hook.url + "/services/T0/B0/revoked"
        channel.send(envelope(1))
        channel.invoke()
        assert [reason for _, reason in channel.dead] == ["HTTP 404: no_service"]
        channel.secrets["/notices/webhook"] = valid
        channel.send(envelope(2))
        channel.invoke()
        assert len(channel.dead) == 1
        assert len(texts(hook)) == 1

    def test_a_broken_record_spares_its_neighbours(self, channel: Line, hook: slack.Slack) -> None:
        channel.send("no JSON", "[" * 100_000, {"source": "somebody.else"}, envelope())
        assert channel.invoke() == {"batchItemFailures": []}
        assert len(channel.dead) == 3
        assert len(texts(hook)) == 1

    def test_a_topic_that_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with line(monkeypatch, "mail") as channel:
            channel.send(envelope())
            TestLater.fail(channel, "AuthorizationError", 403)
            assert channel.invoke() == {"batchItemFailures": []}
        assert [reason for _, reason in channel.dead] == ["AuthorizationError"]

    def test_what_cannot_be_given_up_stays(self, channel: Line, hook: slack.Slack) -> None:
        def refuse(_: Any) -> Any:
            raise client_error("AccessDenied", "SendMessageBatch")

        channel.wire.answers["SendMessageBatch"] = refuse
        channel.send(envelope())
        hook.outages.put(410)
        assert len(channel.invoke()["batchItemFailures"]) == 1

    def test_neither_words_of_users_nor_the_webhook_are_logged(
        self, channel: Line, hook: slack.Slack
    ) -> None:
        for status in (200, 404, 429, 500):
            if status != 200:
                hook.outages.put(status)
            channel.send(envelope(user=USER), f"broken by {USER}")
            channel.invoke()
        printed = channel.log.getvalue()
        assert "HTTP 404" in printed
        assert not any(word in printed for word in ("jane", slack.PATH, hook.url))
