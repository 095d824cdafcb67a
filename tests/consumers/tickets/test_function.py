"""One ticket per episode, whatever happens on the way: the handler against a vendor that checks and fails."""

import json
import logging
from collections import Counter
from copy import deepcopy
from io import StringIO
from itertools import permutations
from typing import Any

import pytest

from sandbox.vendors.jira import LocalJira
from sandbox.vendors.servicenow import CLOSED, LocalServiceNow
from sandbox.vendors.ticketing import Answer, Fault, Request
from tests.consumers.tickets.conftest import (
    BEGIN,
    CREDENTIALS,
    TRIES,
    Consumer,
    load_app,
    template,
    tickets,
)
from tests.consumers.tickets.events import event, fault, gap, violation
from tests.shared.aws import Wire, client_error, raising
from tickets.episode import Event
from tickets.vendor import TryLaterError

ABANDONED, RECONNECTED = event("Abandoned", 3), event("Reconnected", 4)
LEFT_AGAIN, ENDED = event("Disconnected", 5), event("Ended", 6)


def mark(of: dict[str, Any]) -> str:
    return f"Event {of['detail']['metadata']['eventId']}"


def delete(consumer: Consumer, ticket: str) -> None:
    """Delete a ticket, as people do."""
    if isinstance(consumer.vendor, LocalJira):
        del consumer.vendor.issues[ticket]
        consumer.vendor.index()
    else:
        del consumer.vendor.incidents[ticket]


def elsewhere(of: dict[str, Any]) -> dict[str, Any]:
    """The same event in another region; its id is another one, as the auditor hashes the region with it."""
    moved = deepcopy(of)
    moved["detail"]["metadata"] |= {"region": "us-east-1", "eventId": "f" * 32}
    return moved


class TestEpisode:
    """What a ticket says when nothing goes wrong."""

    def test_it_is_opened_told_and_closed(self, consumer: Consumer) -> None:
        consumer.deliver(ABANDONED)
        (opened,) = tickets(consumer.vendor)
        assert opened.open
        assert opened.lines[:2] == ["Abandoned number 3", "User: jane.doe@example.com"]
        consumer.deliver(RECONNECTED, LEFT_AGAIN)
        (followed,) = tickets(consumer.vendor)
        assert followed.open
        assert followed.lines[len(opened.lines) :] == [
            *("Reconnected number 4", "Observed at 2026-03-02T10:00:00Z", mark(RECONNECTED)),
            *("Disconnected number 5", "Observed at 2026-03-02T10:00:00Z", mark(LEFT_AGAIN)),
        ]
        consumer.deliver(ENDED)
        (ended,) = tickets(consumer.vendor)
        assert not ended.open
        assert ended.marks == [mark(each) for each in (ABANDONED, RECONNECTED, LEFT_AGAIN, ENDED)]

    def test_a_session_that_is_not_audited_any_more_closes_its_ticket(self, consumer: Consumer) -> None:
        unwatched = event("Unwatched", 4, summary="A session is not audited any more: a filter leaves it out")
        consumer.deliver(ABANDONED, unwatched)
        (ticket,) = tickets(consumer.vendor)
        assert not ticket.open
        assert ticket.marks == [mark(ABANDONED), mark(unwatched)]
        assert "A session is not audited any more: a filter leaves it out" in ticket.lines
        assert not [line for line in ticket.lines if "ended" in line]

    @pytest.mark.parametrize("reason", ["FILTERED", "ThrottlingException"])
    def test_a_gap_is_closed_whatever_the_reason(self, consumer: Consumer, reason: str) -> None:
        recovered = gap("Recovered")
        recovered["detail"]["data"]["reason"] = reason
        consumer.deliver(gap("Degraded"), recovered)
        assert [each.open for each in tickets(consumer.vendor)] == [False]

    def test_a_gap_of_another_region_is_another_ticket(self, consumer: Consumer) -> None:
        consumer.deliver(elsewhere(gap("Degraded")), gap("Degraded"), gap("Recovered"))
        assert [each.open for each in tickets(consumer.vendor)] == [True, False]

    def test_a_gap_of_a_whole_target_names_account_and_region(self, consumer: Consumer) -> None:
        degraded = gap("Degraded")
        degraded["detail"]["data"] |= {"stackName": "", "fleetName": ""}
        consumer.deliver(degraded)
        (ticket,) = tickets(consumer.vendor)
        assert ticket.lines[:4] == [
            "Audit Degraded",
            "Not listed since: 2026-03-02T10:00:00Z",
            "Account: text",
            "Region: text",
        ]

    def test_a_fleets_fault_is_opened_told_of_its_changes_and_closed(self, consumer: Consumer) -> None:
        faulted, changed, recovered = fault("Faulted"), fault("Faulted", 2, "OTHER"), fault("Recovered", 3)
        consumer.deliver(faulted, changed)
        (open_ticket,) = tickets(consumer.vendor)
        assert open_ticket.open
        consumer.deliver(recovered, fault("Faulted", since="2026-03-02T12:00:00Z"))
        over, again = tickets(consumer.vendor)
        assert (over.open, again.open) == (False, True)
        assert over.marks == [mark(faulted), mark(changed), mark(recovered)]

    def test_a_violation_opens_nothing_unless_it_shall(self, consumer: Consumer) -> None:
        consumer.deliver(violation("Violated", 2), violation("Cleared", 3))
        assert not consumer.vendor.requests

    def test_what_opens_nothing_asks_nobody(self, consumer: Consumer) -> None:
        consumer.deliver(
            event("Disconnected", 2), event("Reconnected", 3), event("Expiring", 4), event("Ended", 5)
        )
        assert not consumer.vendor.requests

    def test_a_gap_has_a_ticket_of_its_own(self, consumer: Consumer) -> None:
        consumer.deliver(
            ABANDONED, gap("Degraded"), gap("Recovered"), gap("Degraded", "2026-03-02T12:00:00Z")
        )
        assert [each.open for each in tickets(consumer.vendor)] == [True, False, True]

    def test_a_ticket_that_people_closed_stays_closed(self, consumer: Consumer) -> None:
        consumer.deliver(ABANDONED)
        (ticket,) = tickets(consumer.vendor)
        if isinstance(consumer.vendor, LocalJira):
            consumer.vendor.issues[ticket.id]["status"] = "Done"
        else:
            consumer.vendor.incidents[ticket.id]["state"] = CLOSED
        consumer.deliver(RECONNECTED, ENDED)
        (closed,) = tickets(consumer.vendor)
        assert not closed.open
        # Nothing can be added to a closed incident.
        added = [mark(RECONNECTED), mark(ENDED)] if isinstance(consumer.vendor, LocalJira) else []
        assert closed.marks == [mark(ABANDONED), *added]
        assert not consumer.given_up()

    def test_a_ticket_that_people_reopened_is_not_closed_again(self, consumer: Consumer) -> None:
        consumer.deliver(ABANDONED, ENDED)
        (ticket,) = tickets(consumer.vendor)
        if isinstance(consumer.vendor, LocalJira):
            consumer.vendor.issues[ticket.id]["status"] = "In Progress"
        else:
            consumer.vendor.incidents[ticket.id]["state"] = "2"
        consumer.deliver(LEFT_AGAIN)
        (reopened,) = tickets(consumer.vendor)
        assert reopened.open
        assert mark(LEFT_AGAIN) in reopened.marks

    def test_a_ticket_that_people_deleted_is_not_opened_again(self, consumer: Consumer) -> None:
        consumer.deliver(ABANDONED)
        delete(consumer, tickets(consumer.vendor)[0].id)
        consumer.deliver(RECONNECTED, event("Abandoned", 5), ENDED)
        consumer.work_for(600, 30)
        assert not tickets(consumer.vendor)
        assert not consumer.given_up()

    def test_a_ticket_that_is_deleted_while_it_is_told(self, consumer: Consumer) -> None:
        consumer.deliver(ABANDONED)
        (ticket,) = tickets(consumer.vendor)

        def delete_once_read(request: Request) -> None:
            if request.method == "GET":
                consumer.vendor.interrupt = lambda _: None
                delete(consumer, ticket.id)

        consumer.vendor.interrupt = delete_once_read
        consumer.deliver(ENDED)
        assert not tickets(consumer.vendor)
        assert not consumer.given_up()

    @pytest.mark.parametrize("stack", ["jira"], indirect=True)
    def test_an_issue_that_searches_still_find(self, consumer: Consumer) -> None:
        assert isinstance(consumer.vendor, LocalJira)
        consumer.deliver(ABANDONED)
        del consumer.vendor.issues[tickets(consumer.vendor)[0].id]
        consumer.deliver(ENDED)
        assert consumer.failures
        consumer.vendor.index()
        consumer.work_for(60)
        assert not consumer.failures
        assert not consumer.given_up()

    def test_a_vendor_that_shows_nothing_at_all_is_no_deletion(self, consumer: Consumer) -> None:
        consumer.deliver(ABANDONED)
        consumer.vendor.outage = Fault("", "", 404)
        consumer.deliver(ENDED)
        assert [json.loads(each) for each in consumer.given_up()] == [ENDED]

    def test_once_told_an_event_is_not_kept(self, consumer: Consumer) -> None:
        consumer.deliver(event("Disconnected", 2), ABANDONED)
        kept = json.dumps(consumer.table.scan()["Items"], default=str)
        assert "Disconnected number 2" in kept
        assert "Abandoned number 3" not in kept


class TestDeliveries:
    """EventBridge and SQS repeat, reorder and deliver side by side."""

    def test_the_same_event_twice_is_one_ticket(self, consumer: Consumer) -> None:
        consumer.deliver(ABANDONED)
        asked = len(consumer.vendor.requests)
        consumer.deliver(ABANDONED, ABANDONED)
        assert len(tickets(consumer.vendor)) == 1
        assert len(consumer.vendor.requests) == asked, "idempotency spares the vendor"

    def test_without_the_idempotency_records_too(self, consumer: Consumer) -> None:
        consumer.deliver(ABANDONED, RECONNECTED)
        consumer.forget_events()
        consumer.deliver(RECONNECTED, ABANDONED)
        (ticket,) = tickets(consumer.vendor)
        assert ticket.marks == [mark(ABANDONED), mark(RECONNECTED)]

    def test_without_the_table_too(self, consumer: Consumer) -> None:
        consumer.deliver(ABANDONED, RECONNECTED)
        consumer.forget_all()
        consumer.deliver(ABANDONED, RECONNECTED, ENDED)
        (ticket,) = tickets(consumer.vendor)
        assert ticket.marks == [mark(ABANDONED), mark(RECONNECTED), mark(ENDED)]
        assert not ticket.open

    def test_two_workers_at_once(self, consumer: Consumer) -> None:
        outcomes = []
        second = load_app()

        def meanwhile(request: Request) -> None:
            if (request.method, request.path) == consumer.create():
                # The first worker still waits for its answer: the same event again, and the next one.
                consumer.send(ABANDONED, event("Abandoned", 4))
                outcomes.append((consumer.invoke(batch_size=10, app=second), len(consumer.failures)))

        consumer.vendor.interrupt = meanwhile
        consumer.deliver(ABANDONED)
        assert outcomes == [(2, 2)], "both have to come again"
        assert len(tickets(consumer.vendor)) == 1
        consumer.work_for(60)
        (ticket,) = tickets(consumer.vendor)
        assert ticket.marks == [mark(ABANDONED), mark(event("Abandoned", 4))]

    @pytest.mark.parametrize("stack", ["servicenow"], indirect=True)
    def test_any_order_ends_in_the_same_ticket(self, consumer: Consumer) -> None:
        kinds = [("Abandoned", 3), ("Disconnected", 4), ("Abandoned", 5), ("Ended", 6)]
        ends = set()
        for number, order in enumerate(permutations(kinds)):
            before = {each.id for each in tickets(consumer.vendor)}
            for kind, sequence in order:
                arrived = Event.model_validate(event(kind, sequence, session_id=f"s-{number}"))
                consumer.app.desk.take(arrived, "worker", BEGIN, BEGIN + 60)
            (ticket,) = (each for each in tickets(consumer.vendor) if each.id not in before)
            said = [line for line in ticket.lines if " number " in line]
            ends.add((frozenset(Counter(said).items()), ticket.open))
        assert ends == {(frozenset((f"{kind} number {number}", 1) for kind, number in kinds), False)}

    def test_a_batch_in_any_order(self, consumer: Consumer) -> None:
        consumer.send(ENDED, ABANDONED, RECONNECTED, ABANDONED)
        consumer.work()
        (ticket,) = tickets(consumer.vendor)
        assert sorted(ticket.marks) == sorted(mark(each) for each in (ABANDONED, RECONNECTED, ENDED))
        assert not ticket.open


def with_field(section: str, name: str, value: Any) -> dict[str, Any]:
    """An event of a third session with another value in one field."""
    changed = event("Abandoned", 3, session_id="s-3")
    detail = changed["detail"]
    (detail["metadata"] if section == "metadata" else detail["data"][section])[name] = value
    return changed


FAULTS = [
    pytest.param(
        status, after_effect, id=f"{status or 'no answer'} {'after' if after_effect else 'before'} the effect"
    )
    for status in (500, 503, None)
    for after_effect in (False, True)
]


@pytest.mark.usefixtures("impatient")
class TestVendorFails:
    """Errors, limits and silence, before and after the vendor did what it was asked."""

    @pytest.mark.parametrize(("status", "after_effect"), FAULTS)
    def test_when_a_ticket_is_opened(
        self, consumer: Consumer, status: int | None, *, after_effect: bool
    ) -> None:
        consumer.vendor.faults.append(Fault(*consumer.create(), status, after_effect))
        consumer.deliver(ABANDONED)
        assert consumer.failures
        consumer.work_for(600, 30)
        (ticket,) = tickets(consumer.vendor)
        assert ticket.marks == [mark(ABANDONED)]
        assert not consumer.given_up()

    @pytest.mark.parametrize(("status", "after_effect"), FAULTS)
    def test_when_a_ticket_is_told(
        self, consumer: Consumer, status: int | None, *, after_effect: bool
    ) -> None:
        consumer.deliver(ABANDONED)
        (ticket,) = tickets(consumer.vendor)
        consumer.vendor.faults.append(Fault(*consumer.comment(ticket.id), status, after_effect))
        consumer.deliver(RECONNECTED)
        assert consumer.failures
        consumer.work_for(60)
        (ticket,) = tickets(consumer.vendor)
        assert ticket.marks == [mark(ABANDONED), mark(RECONNECTED)]

    @pytest.mark.parametrize(("status", "after_effect"), FAULTS)
    def test_when_a_ticket_is_closed(
        self, consumer: Consumer, status: int | None, *, after_effect: bool
    ) -> None:
        consumer.deliver(ABANDONED)
        (ticket,) = tickets(consumer.vendor)

        def comment_is_there(_: Request) -> None:
            if mark(ENDED) in tickets(consumer.vendor)[0].marks and not consumer.vendor.faults:
                consumer.vendor.interrupt = lambda _: None
                consumer.vendor.faults.append(Fault(*consumer.end(ticket.id), status, after_effect))

        consumer.vendor.interrupt = comment_is_there
        consumer.deliver(ENDED)
        assert consumer.failures
        consumer.work_for(60)
        (ticket,) = tickets(consumer.vendor)
        assert ticket.marks == [mark(ABANDONED), mark(ENDED)]
        assert not ticket.open

    @pytest.mark.parametrize("stack", ["jira"], indirect=True)
    def test_a_ticket_that_searches_do_not_find_yet(self, consumer: Consumer) -> None:
        assert isinstance(consumer.vendor, LocalJira)
        consumer.vendor.lagging = True
        consumer.vendor.faults.append(Fault(*consumer.create(), None, after_effect=True))
        consumer.deliver(ABANDONED)
        consumer.work_for(240)
        assert consumer.vendor.count(*consumer.create()) == 1, "it waits for the index"
        consumer.vendor.index()
        consumer.work_for(120)
        (ticket,) = tickets(consumer.vendor)
        assert ticket.marks == [mark(ABANDONED)]

    def test_a_function_that_dies_with_the_answer(
        self, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wire = Wire(monkeypatch)

        def die(request: Request) -> None:
            if (request.method, request.path) == consumer.create():
                wire.answers = {
                    name: raising(client_error("InternalServerError"))
                    for name in ("UpdateItem", "DeleteItem")
                }

        consumer.vendor.interrupt = die
        consumer.deliver(ABANDONED)
        assert consumer.failures
        wire.answers = {}
        consumer.work_for(600, 30)
        (ticket,) = tickets(consumer.vendor)
        assert ticket.marks == [mark(ABANDONED)]
        assert consumer.vendor.count(*consumer.create()) == 1

    def test_a_limit_is_kept_for_as_long_as_the_vendor_says(self, consumer: Consumer) -> None:
        consumer.vendor.faults.append(Fault(*consumer.create(), 429, retry_after="100"))
        consumer.deliver(ABANDONED)
        asked = len(consumer.vendor.requests)
        consumer.clock.shift(95)
        assert not consumer.invoke()
        consumer.clock.shift(10)
        consumer.work()
        assert len(consumer.vendor.requests) > asked
        assert len(tickets(consumer.vendor)) == 1, "a limit did nothing, so there is nothing to wait for"

    def test_an_outage_of_half_an_hour_is_sat_out(self, consumer: Consumer) -> None:
        consumer.vendor.faults += [Fault(*consumer.create(), 503)] * 100
        consumer.send(ABANDONED)
        consumer.work_for(1800, 60)
        assert not consumer.given_up()
        consumer.vendor.faults.clear()
        consumer.work_for(900, 60)
        assert len(tickets(consumer.vendor)) == 1

    @pytest.mark.parametrize("after", [None, 0, 1, 60])
    def test_the_tries_take_75_minutes_at_least_whatever_they_wait_for(
        self, consumer: Consumer, after: int | None
    ) -> None:
        pauses = [consumer.app.wait(TryLaterError("HTTP 429", after), tries) for tries in range(1, TRIES)]
        assert sum(pauses) >= 75 * 60
        assert consumer.app.wait(TryLaterError("HTTP 429", 5000), 1) == 5000

    @pytest.mark.parametrize("retry_after", ["", "0", "1", "5", "60"])
    def test_a_limit_of_three_quarters_of_an_hour_is_sat_out(
        self, consumer: Consumer, retry_after: str
    ) -> None:
        consumer.vendor.outage = Fault("", "", 429, retry_after=retry_after)
        consumer.send(*(event("Abandoned", 3, session_id=f"s-{number}") for number in range(5)), RECONNECTED)
        consumer.work_for(45 * 60)
        assert not consumer.given_up()
        assert len(consumer.vendor.requests) < 60, "a vendor that is short of breath is spared"
        consumer.vendor.outage = None
        consumer.work_for(900)
        assert len(tickets(consumer.vendor)) == 5
        assert not consumer.given_up()

    def test_a_slow_vendor_loses_no_ticket(self, consumer: Consumer) -> None:
        # As slow as this with every request, and ten messages at a time would not fit into an invocation.
        consumer.vendor.interrupt = lambda _: consumer.clock.shift(7)
        consumer.send(*(event("Abandoned", 3, session_id=f"s-{number}") for number in range(60)))
        consumer.work_for(7200, 60)
        assert len(tickets(consumer.vendor)) == 60
        assert not consumer.given_up()
        assert consumer.most_tries == 1, "nobody waited for time at the expense of a try"

    @pytest.mark.usefixtures("patient")
    def test_a_burst_of_one_episode_is_told_whole(self, consumer: Consumer) -> None:
        burst = [event("Abandoned", number) for number in range(3, 23)]
        second = load_app()
        working = False

        def meanwhile(_: Request) -> None:
            nonlocal working
            if not working:
                # While one worker waits for the vendor, the other finds the episode held, again and again.
                working = True
                while consumer.invoke(app=second):
                    pass
                working = False

        consumer.vendor.interrupt = meanwhile
        consumer.send(*burst)
        consumer.work_for(300)
        (ticket,) = tickets(consumer.vendor)
        assert sorted(ticket.marks) == sorted(mark(each) for each in burst)
        consumer.work_for(1800, 60)
        assert sorted(tickets(consumer.vendor)[0].marks) == sorted(mark(each) for each in burst)
        assert not consumer.given_up()

    @pytest.mark.parametrize("status", [302, 400, 403, 404])
    def test_what_is_refused_is_given_up_and_the_rest_done(self, consumer: Consumer, status: int) -> None:
        consumer.vendor.faults += [Fault(*consumer.create(), status)] * TRIES
        consumer.send(ABANDONED)
        consumer.work()
        consumer.send(event("Abandoned", 3, session_id="s-2"))
        consumer.work()
        assert len(tickets(consumer.vendor)) == 1
        assert [json.loads(each) for each in consumer.given_up()] == [ABANDONED]

    def test_a_redriven_event_is_seen_to(self, consumer: Consumer) -> None:
        consumer.vendor.faults += [Fault(*consumer.create(), 403)] * TRIES
        consumer.deliver(ABANDONED)
        (body,) = consumer.given_up()
        consumer.deliver(body)
        assert len(tickets(consumer.vendor)) == 1

    @pytest.mark.parametrize(
        "poison",
        [
            pytest.param("not JSON", id="not JSON"),
            pytest.param({"detail-type": "AppStream Session Abandoned", "detail": {}}, id="no fields"),
            pytest.param({**ABANDONED, "detail-type": ""}, id="no detail-type"),
            pytest.param(
                {**ABANDONED, "detail-type": [ABANDONED["detail-type"]]}, id="a list of detail-types"
            ),
            *(
                pytest.param(with_field(section, name, value), id=f"{name} {why}")
                for section, name in (
                    ("metadata", "accountId"),
                    ("metadata", "observedAt"),
                    ("session", "userId"),
                    ("session", "id"),
                )
                for why, value in (
                    ("with a lone surrogate", "x\ud800"),
                    ("as a list", ["text"]),
                    ("as a number", 10**40),
                    ("too long", "x" * 200_000),
                )
            ),
            pytest.param(with_field("metadata", "sequence", 10**40), id="sequence too large for DynamoDB"),
            pytest.param(with_field("metadata", "sequence", float("inf")), id="an endless sequence"),
            pytest.param(with_field("metadata", "eventId", "\ud800" * 32), id="eventId of surrogates"),
            pytest.param('{"detail": ' + "[" * 50_000, id="deep JSON"),
        ],
    )
    def test_poison_is_given_up_and_the_rest_of_its_batch_done(self, consumer: Consumer, poison: Any) -> None:
        consumer.send(ABANDONED, poison, event("Abandoned", 3, session_id="s-2"))
        assert consumer.invoke(batch_size=3) == 3
        assert len(consumer.failures) == 1
        assert len(tickets(consumer.vendor)) == 2
        consumer.work()
        (body,) = consumer.given_up()
        assert body == (poison if isinstance(poison, str) else json.dumps(poison))


class TestCredentials:
    """The secret, and who gets to see it."""

    def test_it_is_read_once(self, consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
        wire = Wire(monkeypatch)
        consumer.deliver(ABANDONED, RECONNECTED, ENDED)
        assert wire.operations().count("GetSecretValue") == 1

    def test_a_new_password_is_found(self, consumer: Consumer) -> None:
        consumer.set_secret('{"username": "x", "password": "old"}')
        consumer.deliver(ABANDONED)
        assert consumer.failures
        consumer.set_secret(CREDENTIALS)
        consumer.work_for(600, 30)
        assert len(tickets(consumer.vendor)) == 1

    @pytest.mark.usefixtures("impatient")
    def test_logs_hold_neither_users_nor_secrets_nor_answers(
        self, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written = StringIO()
        monkeypatch.setattr(consumer.app.logger.registered_handler, "stream", written)
        consumer.vendor.faults += [Fault(*consumer.create(), status) for status in (500, 429, 400, None)]
        consumer.send(ABANDONED, "jane.doe@example.com")
        consumer.work_for(900, 60)
        logged = written.getvalue()
        assert '"reason":"HTTP 500"' in logged
        assert '"reason":"ValidationError"' in logged
        assert not [each for each in ("jane", "number 3", "auditor@", "local", "fault") if each in logged]


LEVELS = template("jira")["Parameters"]["LogLevel"]["AllowedValues"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(with_field("session", "userId", ["jane.doe@example.com"]), id="a list"),
        pytest.param(with_field("session", "userId", "jane.doe@example.com" * 100), id="too long"),
        pytest.param(with_field("session", "stackName", 1), id="another field"),
        pytest.param({"detail-type": ["jane.doe@example.com"]}, id="another place"),
        pytest.param('{"user": "jane.doe@example.com', id="cut off"),
        pytest.param(ABANDONED, id="in order"),
    ],
)
def test_no_level_of_the_log_shows_a_user(
    consumer: Consumer, level: str, broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    written = StringIO()
    handler = logging.StreamHandler(written)
    powertools = logging.getLogger("aws_lambda_powertools")
    with (
        caplog.at_level(level, powertools.name),
        caplog.at_level(level, consumer.app.logger.name),
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        monkeypatch.setattr(powertools, "handlers", [*powertools.handlers, handler])
        monkeypatch.setattr(consumer.app.logger.registered_handler, "stream", written)
        consumer.vendor.outage = Fault("", "", 500)
        consumer.send(broken)
        consumer.invoke()
    assert level != "DEBUG" or "Record processing exception" in written.getvalue(), (
        "Powertools says what failed"
    )
    assert "jane" not in written.getvalue()


HOSTILE = [
    pytest.param("[code]<img src=x onerror=alert(1)>[/code]", id="code tags"),
    pytest.param('x" OR labels = "y', id="JQL"),
    pytest.param("x^state=1^NQactive=true", id="encoded query"),
    pytest.param("x\nEvent " + "0" * 32, id="line break"),
    pytest.param("\u202eresu\u202c\x00\x1b[31m", id="control and format characters"),
    pytest.param("[~accountid:5b10ac8d82e05b22cc7d4ef5] {color:red}@all{color}", id="wiki markup"),
    pytest.param("😀" * 64, id="beyond the basic plane"),
    pytest.param("=cmd|' /C calc'!A0", id="formula"),
    pytest.param("corp\\jane", id="domain and user"),
]


@pytest.mark.parametrize("user_id", HOSTILE)
def test_hostile_user_ids_are_text(consumer: Consumer, user_id: str) -> None:
    summary = f"The session of {user_id} is abandoned"
    consumer.deliver(event("Abandoned", 3, user_id=user_id, summary=summary))
    consumer.deliver(event("Ended", 4, user_id=user_id, summary=summary))
    (ticket,) = tickets(consumer.vendor)
    assert len(ticket.lines) == 13, "ten lines of description, three of comment: none was added"
    assert len(ticket.marks) == 2
    assert not ticket.open
    assert all(line.isprintable() for line in ticket.lines)
    if isinstance(consumer.vendor, LocalServiceNow):
        assert "<" not in consumer.vendor.rendered(ticket.id)
    assert not consumer.given_up()


def test_a_user_cannot_forge_what_was_told(consumer: Consumer) -> None:
    forged = f"x\n{mark(RECONNECTED)}"
    consumer.deliver(event("Abandoned", 3, user_id=forged, summary=forged), RECONNECTED)
    (ticket,) = tickets(consumer.vendor)
    assert mark(RECONNECTED) in ticket.marks


@pytest.mark.parametrize("stack", ["servicenow"], indirect=True)
def test_an_incident_of_somebody_else_is_never_taken(consumer: Consumer) -> None:
    assert isinstance(consumer.vendor, LocalServiceNow)
    consumer.deliver(event("Abandoned", 3, session_id="s-2"))
    consumer.vendor.understood = frozenset()
    consumer.deliver(ABANDONED)
    assert len(tickets(consumer.vendor)) == 2


class TestServiceNow:
    """What only ServiceNow has."""

    @pytest.mark.parametrize("stack", ["servicenow"], indirect=True)
    @pytest.mark.parametrize("hidden", ["work_notes", "description", "state"])
    def test_a_field_that_is_hidden_from_us(self, consumer: Consumer, hidden: str) -> None:
        consumer.vendor.hidden = frozenset([hidden])
        consumer.deliver(ABANDONED, RECONNECTED)
        consumer.forget_events()
        consumer.deliver(RECONNECTED, ENDED)
        (ticket,) = tickets(consumer.vendor)
        assert not ticket.open
        # What can't be read can't be looked for: a repeated event is noted again.
        repeated = 2 if hidden == "work_notes" else 1
        assert Counter(ticket.marks) == {mark(ABANDONED): 1, mark(RECONNECTED): repeated, mark(ENDED): 1}
        assert not consumer.given_up()

    @pytest.mark.parametrize("stack", ["servicenow"], indirect=True)
    def test_a_hidden_correlation_id_is_no_reason_for_a_second_incident(
        self, consumer: Consumer, caplog: pytest.LogCaptureFixture
    ) -> None:
        consumer.deliver(ABANDONED)
        consumer.forget_all()
        consumer.vendor.hidden = frozenset(["correlation_id"])
        consumer.deliver(RECONNECTED, ABANDONED)
        assert vars(caplog.records[-1])["reason"] == "CORRELATION_ID_HIDDEN"
        assert len(tickets(consumer.vendor)) == 1
        assert len(consumer.given_up()) == 1

    @pytest.mark.parametrize("stack", ["servicenow"], indirect=True)
    @pytest.mark.parametrize("granted", [{}, {"access_token": 1}, {"access_token": "local-token"}, []])
    def test_oauth_with_an_answer_that_lacks_something(self, consumer: Consumer, granted: Any) -> None:
        assert isinstance(consumer.vendor, LocalServiceNow)
        consumer.vendor.oauth = True
        consumer.set_secret(json.dumps({"client_id": "client", "client_secret": "local-secret"}))
        consumer.vendor.garble = lambda answer: (
            Answer(200, granted) if "access_token" in (answer.body or {}) else answer
        )
        consumer.deliver(ABANDONED)
        consumer.vendor.garble = lambda answer: answer
        consumer.work_for(60)
        assert [each.marks for each in tickets(consumer.vendor)] == [[mark(ABANDONED)]]

    @pytest.mark.parametrize("stack", ["servicenow"], indirect=True)
    def test_oauth(self, consumer: Consumer) -> None:
        assert isinstance(consumer.vendor, LocalServiceNow)
        consumer.vendor.oauth = True
        consumer.set_secret(json.dumps({"client_id": "client", "client_secret": "local-secret"}))
        consumer.deliver(ABANDONED, RECONNECTED)
        assert consumer.vendor.count("POST", "/oauth_token.do") == 1
        consumer.clock.shift(1000)
        consumer.deliver(ENDED)
        assert consumer.vendor.count("POST", "/oauth_token.do") == 2
        assert [each.open for each in tickets(consumer.vendor)] == [False]

    @pytest.mark.parametrize("stack", ["servicenow"], indirect=True)
    def test_an_answer_that_was_cut_off_is_not_believed(
        self, consumer: Consumer, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert isinstance(consumer.vendor, LocalServiceNow)
        consumer.vendor.faults.append(Fault(*consumer.create(), 200, after_effect=True))
        consumer.deliver(ABANDONED)
        assert vars(caplog.records[-1])["reason"] == "NO_RESULT"
        consumer.work_for(120)
        assert [each.marks for each in tickets(consumer.vendor)] == [[mark(ABANDONED)]]


@pytest.mark.parametrize("stack", ["jira"], indirect=True)
@pytest.mark.parametrize("hidden", ["status", "description", "comments", "body"])
def test_a_field_that_jira_leaves_out(consumer: Consumer, hidden: str) -> None:
    consumer.vendor.hidden = frozenset([hidden])
    consumer.deliver(ABANDONED, RECONNECTED, ENDED)
    (ticket,) = tickets(consumer.vendor)
    assert not ticket.open
    assert ticket.marks == [mark(ABANDONED), mark(RECONNECTED), mark(ENDED)]
    assert not consumer.given_up()


@pytest.mark.parametrize("stack", ["jira"], indirect=True)
def test_a_workflow_without_an_end_is_told_of(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(consumer.vendor, LocalJira)
    consumer.deliver(ABANDONED)
    monkeypatch.setattr("sandbox.vendors.jira.WORKFLOW", {"To Do": [("11", "Start work", "In Progress")]})
    consumer.deliver(ENDED)
    assert len(consumer.given_up()) == 1
