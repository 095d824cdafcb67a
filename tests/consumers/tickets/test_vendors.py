"""Whatever a vendor answers, its adapter reads a ticket, asks for another try, or says that it is refused."""

import copy
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from sandbox.vendors.jira import LocalJira
from sandbox.vendors.servicenow import LocalServiceNow
from sandbox.vendors.ticketing import PASSWORD, USERNAME, Answer, Fault, serving
from tickets.desk import TicketSystem
from tickets.jira import Jira
from tickets.servicenow import ServiceNow
from tickets.vendor import RefusedError, State, Ticket, TryLaterError

KEY = f"appstream-{'0' * 32}"
LINES = ["A session is abandoned", "Event " + "0" * 32]
LEFT_OUT = object()
VALUES = [
    pytest.param(LEFT_OUT, id="left out"),
    pytest.param(None, id="null"),
    pytest.param("", id="empty"),
    pytest.param("\ud800", id="a lone surrogate"),
    pytest.param("../../x?y#z\r\nA: b", id="another path"),
    pytest.param("x" * 100_000, id="long"),
    pytest.param([], id="no list"),
    pytest.param([None, [], {}, "x"], id="a list of anything"),
    pytest.param({}, id="an empty object"),
    pytest.param(10**4000, id="a huge number"),
    pytest.param(float("inf"), id="endless"),
    pytest.param(True, id="true"),
]
STEPS: dict[str, Callable[[TicketSystem, str], object]] = {
    "find": lambda system, _: system.find(KEY),
    "read": lambda system, ticket: system.read(ticket),
    "create": lambda system, _: system.create(KEY, LINES[0], LINES),
    "comment": lambda system, ticket: system.comment(ticket, LINES),
    "close": lambda system, ticket: system.close(ticket, LINES[0]),
}
Vendor = tuple[LocalServiceNow | LocalJira, TicketSystem]


@pytest.fixture(scope="module", params=["servicenow", "jira"])
def vendor(request: pytest.FixtureRequest) -> Iterator[Vendor]:
    def credentials() -> dict[str, str]:
        return {"username": USERNAME, "password": PASSWORD}

    if request.param == "jira":
        with serving(LocalJira()) as local_jira:
            yield local_jira, Jira(local_jira.url, credentials, "OPS", "Task")
    else:
        with serving(LocalServiceNow()) as local:
            yield local, ServiceNow(local.url, credentials, close_code="Solution provided")


def paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of an answer, the whole of it first."""
    yield above
    for key, each in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from paths(each, (*above, key))


def changed(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The answer with another value in one place."""
    if not path:
        return None if value is LEFT_OUT else value
    whole = copy.deepcopy(body)
    part = whole
    for key in path[:-1]:
        part = part[key]
    if value is LEFT_OUT:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return whole


def garbling(number: int, path: tuple[Any, ...], value: Any) -> Callable[[Answer], Answer]:
    """Change one place of the answer with that number."""
    asked = count()

    def garble(answer: Answer) -> Answer:
        if next(asked) != number:
            return answer
        # An answer of status 204 has no body: what is sent with it would be read as the next answer.
        status = 200 if answer.status == 204 else answer.status
        return Answer(status, changed(answer.body, path, value))

    return garble


def attempt(local: LocalServiceNow | LocalJira, system: TicketSystem, step: str) -> object:
    """Take one step with a vendor that has one ticket."""
    garble, local.garble = local.garble, lambda answer: answer
    ticket = system.create(KEY, LINES[0], LINES)
    system.comment(ticket.id, LINES)
    local.garble = garble
    return STEPS[step](system, ticket.id)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("value", VALUES)
def test_whatever_stands_in_a_field(vendor: Vendor, step: str, value: Any) -> None:
    local, system = vendor
    local.reset()
    answers: list[Any] = []

    def note(answer: Answer) -> Answer:
        answers.append(answer.body)
        return answer

    local.garble = note
    attempt(local, system, step)
    for number, body in enumerate(answers):
        for path in paths(body):
            local.reset()
            local.garble = garbling(number, path, value)
            try:
                found = attempt(local, system, step)
            except (TryLaterError, RefusedError):
                continue
            if step in ("read", "create"):
                assert isinstance(found, Ticket)
            if isinstance(found, Ticket):
                assert found.id.encode()
                assert isinstance(found.state, State)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"result": ' + b"[" * 100_000, id="deep"),
        pytest.param(b'{"issues": [{"id": "\xff"}]}', id="not UTF-8"),
        pytest.param(b'{"result": ' + b"1" * 10_000 + b"}", id="a number of ten thousand digits"),
        pytest.param(b"<html>", id="a page"),
    ],
)
@pytest.mark.parametrize("step", ["find", "read", "create"])
def test_an_answer_that_is_none_is_asked_for_again(vendor: Vendor, step: str, body: bytes) -> None:
    local, system = vendor
    local.reset()
    local.garble = lambda answer: Answer(answer.status, body)
    with pytest.raises(TryLaterError, match="NOT_JSON"):
        attempt(local, system, step)


@pytest.mark.parametrize("after", ["1" * 5000, "-1", "1.5", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_limit_that_is_no_number_of_seconds(vendor: Vendor, after: str) -> None:
    local, system = vendor
    local.reset()
    local.outage = Fault("", "", 429, retry_after=after)
    with pytest.raises(TryLaterError) as caught:
        system.find(KEY)
    assert caught.value.after is None
