"""A mail for each event, once, whatever SES and the queue do; and no word of a user in a log."""

import json
import logging
from io import StringIO
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.consumers.user_mail.conftest import GIVEN, NOW, RESOURCES, USER, Consumer, expiring, loaded
from tests.shared.aws import Answer, Wire, client_error, raising
from tests.shared.history import at

TRIES = RESOURCES["Waiting"]["Properties"]["RedrivePolicy"]["maxReceiveCount"]
TEN_MINUTES = 600


def failing(times: int, error: Exception, below: Answer) -> Answer:
    """Answer so many times with an error, then as it is."""
    left = [error] * times

    def answer(parameters: dict[str, Any]) -> dict[str, Any]:
        if left:
            raise left.pop()
        return below(parameters)

    return answer


def test_a_user_is_mailed(consumer: Consumer) -> None:
    consumer.send(expiring())
    consumer.work()
    (mail,) = consumer.mails
    assert (mail.source, mail.destinations) == (GIVEN["From"], {"ToAddresses": [USER]})
    assert mail.subject == "Your session ends at 19:00 CET"
    assert mail.body == (
        "Your session on office ends at 19:00 CET, in 15 minutes, since it reaches its maximum duration. "
        "What is not saved by then is lost."
    )


def test_a_repeat_is_mailed_once(consumer: Consumer) -> None:
    consumer.send(expiring(), expiring())
    consumer.work()
    # Another container remembers nothing but what is in the table.
    consumer.app = loaded()
    consumer.send(expiring(), expiring(session_id="s-2"))
    consumer.work()
    assert len(consumer.mails) == 2
    assert not consumer.given_up()


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(client_error("TooManyRequestsException"), id="too fast"),
        pytest.param(client_error("SendingPausedException"), id="paused"),
        pytest.param(client_error("InternalFailure"), id="out of order"),
        pytest.param(ReadTimeoutError(endpoint_url="x"), id="no answer"),
    ],
)
def test_what_passes_is_tried_again(
    consumer: Consumer, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(monkeypatch)
    wire.answers["SendEmail"] = failing(3, error, lambda _: {"MessageId": "m"})
    consumer.send(expiring())
    consumer.work(TEN_MINUTES)
    assert wire.operations().count("SendEmail") == 4
    assert not consumer.given_up()


@pytest.mark.parametrize("code", ["MessageRejected", "BadRequestException", "NotFoundException"])
def test_what_is_refused_for_good_is_a_dead_letter_at_once(
    consumer: Consumer, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Wire(monkeypatch).answers["SendEmail"] = raising(client_error(code))
    consumer.send(expiring())
    consumer.work()
    assert [json.loads(each)["detail-type"] for each in consumer.given_up()] == ["AppStream Session Expiring"]


def test_what_is_throttled_for_ten_minutes_is_a_dead_letter(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(monkeypatch)
    wire.answers["SendEmail"] = raising(client_error("TooManyRequestsException"))
    consumer.send(expiring())
    consumer.work(TEN_MINUTES - 30)
    assert not consumer.given_up()
    consumer.work(150)
    assert len(consumer.given_up()) == 1
    assert wire.operations().count("SendEmail") == TRIES


def test_one_refused_mail_keeps_no_other(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters["Destination"] == {"ToAddresses": ["bad@example.com"]}:
            raise client_error("MessageRejected")
        return {"MessageId": "m"}

    wire = Wire(monkeypatch)
    wire.answers["SendEmail"] = answer
    consumer.send(expiring("bad@example.com", "s-1"), expiring("good@example.com", "s-2"))
    consumer.work()
    assert {"ToAddresses": ["good@example.com"]} in [
        each["Destination"] for each in wire.parameters("SendEmail")
    ]
    assert len(consumer.given_up()) == 1


@pytest.mark.parametrize("body", ["no JSON", "{}", json.dumps(expiring() | {"detail-type": "Other"})])
def test_what_is_no_such_event_is_a_dead_letter(consumer: Consumer, body: str) -> None:
    consumer.send(body)
    consumer.work()
    assert consumer.given_up() == [body]


def test_after_the_end_nobody_is_warned(consumer: Consumer) -> None:
    consumer.clock.move_to(at(600))
    consumer.send(expiring())
    consumer.work()
    assert (len(consumer.mails), len(consumer.given_up())) == (0, 1)


def test_a_repeat_after_the_end_is_no_failure(consumer: Consumer) -> None:
    consumer.send(expiring())
    consumer.work()
    consumer.clock.move_to(at(600))
    consumer.send(expiring())
    consumer.work()
    assert (len(consumer.mails), len(consumer.given_up())) == (1, 0)


@pytest.mark.parametrize("user_id", ["d41d8cd98f00b204e9800998ecf8427e", "", "ann@evil.example", "ann"])
def test_whoever_has_no_address_of_the_domains_costs_nothing(consumer: Consumer, user_id: str) -> None:
    consumer.send(expiring(user_id))
    consumer.work()
    assert (consumer.mails, consumer.given_up(), consumer.table.scan()["Items"]) == ([], [], [])


@pytest.mark.parametrize("code", ["", "MessageRejected", "TooManyRequestsException"])
def test_no_word_of_a_user_is_logged_or_stored(
    consumer: Consumer, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if code:
        Wire(monkeypatch).answers["SendEmail"] = raising(client_error(code))
    text = StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(consumer.app.logger.registered_formatter)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    consumer.send(expiring(), expiring("hostile user", "s-2"), "jane.doe@example.com, no JSON")
    consumer.work(60)
    said = text.getvalue()
    assert ("mailed" in said, "NO_ADDRESS" in said) == (True, True)
    assert "jane" not in said + str(consumer.table.scan()["Items"])
    assert "hostile" not in said


def test_the_event_is_of_the_threshold_that_is_mailed_by_default() -> None:
    data = expiring()["detail"]["data"]
    assert (data["thresholdMinutes"], data["deadline"]["minutesLeft"], at(585)) == (15, 15, NOW)
