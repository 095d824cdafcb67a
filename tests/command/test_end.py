"""`end`: one call, after a look that found all as it was shown; else none, with what to do instead."""

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import click
import pytest
import time_machine
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from appstream_auditor import deployment, end
from appstream_auditor.answers import Outcome
from appstream_auditor.deployment import Deployment
from appstream_auditor.end import changes, require_endable, watched
from appstream_auditor.errors import QuestionError
from appstream_auditor.main import cli
from sandbox import appstream
from sandbox.appstream.models import Fault, Fleet, StreamingSession
from sandbox.command import SCHEMAS
from session_auditor import table as layout
from session_auditor.model import Ending, EndReason, Presence, Remembered, Session, Snapshot, Stored, Target
from session_auditor.stories import told_of
from session_auditor.table import StoredTarget
from tests.shared.aws import Wire, client_error, raising
from tests.shared.aws import session as aws_session
from tests.shared.history import AWAY, CONNECTED, SCOPE, TARGET, at, session
from tests.shared.hub import RENDER, target_id
from tests.shared.table import Table
from tests.shared.table import table as mocked_table

LAYOUT = layout.Table("sessions", TARGET, timedelta(days=90))
NOW = at(60)
ID = "8f3c2b1e-0d4a"
USER = "jane.doe@example.com"
SURE = ("--yes", "--reason", "left open")
HOSTILE = "=cmd|'\x1b[2J\u202e<script>"


def remembered(session_id: str = ID, **fields: Any) -> Remembered:
    fields = {"instance_id": "i-1"} | fields
    found = session(session_id=session_id, **fields)
    return Remembered(found, at(1), baseline=False, presence=Presence.CONNECTED, presence_since=at(1))


class Desk:
    """A table, AppStream, a clock, and somebody who ends sessions."""

    def __init__(self, table: Table, clock: time_machine.Traveller) -> None:
        self.table = table
        self.clock = clock
        self.pauses: list[float] = []
        self.appstream = appstream.appstream_backends[TARGET.account_id][TARGET.region]
        self.appstream.add_scope(SCOPE.stack, Fleet(SCOPE.fleet))
        target = Target(at(0), NOW, NOW)
        self.table.put(LAYOUT.put_target(0, StoredTarget(target, 1, (), (), 0, 1))["Put"]["Item"])
        self.put(remembered())

    def put(self, what: Remembered) -> None:
        """Put a session into the table, and into AppStream as the table has it."""
        self.table.put(LAYOUT.put_session(0, Stored(what, (), 1))["Put"]["Item"])
        each = what.session
        self.appstream.sessions[each.id] = StreamingSession(
            each.id,
            each.user_id,
            each.scope.stack,
            each.scope.fleet,
            connection_state=each.connection_state or None,
            authentication_type=each.authentication_type or None,
            start_time=each.start_time,
            max_expiration_time=each.max_expiration_time,
            instance_id=each.instance_id or None,
        )

    @property
    def live(self) -> StreamingSession:
        return self.appstream.sessions[ID]

    @property
    def ended(self) -> int:
        """How often AppStream was asked to end a session."""
        return self.appstream.calls["expire_session"]

    def end(self, *words: str, typed: str | None = None) -> Result:
        words = ("end", *words, "--table", "sessions", "--utc")
        return CliRunner().invoke(cli, words, input=typed, catch_exceptions=False)

    def answer(self, *words: str) -> Any:
        found = json.loads(self.end(*words, "-o", "json").stdout)
        Draft202012Validator(json.loads((SCHEMAS / "end.json").read_text())).validate(found)
        return found

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.shift(seconds)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    appstream.register()
    appstream.appstream_backends.reset()
    with mocked_table() as table, time_machine.travel(NOW, tick=False) as clock:
        # To make a session, and to read what it reads, takes longer than the rest of a test.
        monkeypatch.setattr(deployment, "sign_in", lambda *_: aws_session())
        desk = Desk(table, clock)
        monkeypatch.setattr(time, "sleep", desk.pause)
        yield desk


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end, "at_terminal", lambda: True)


class TestEnded:
    """The call is made, once, and its effect is watched."""

    @pytest.mark.usefixtures("terminal")
    def test_the_whole_id_is_typed(self, desk: Desk) -> None:
        asked = desk.end("8f3c", typed=f"{ID}\n")
        assert (asked.exit_code, desk.ended, desk.appstream.sessions) == (0, 1, {})
        assert (
            asked.stdout
            == f"Ended session {ID}. AppStream took the call at 09:00, and it was gone 5 s later.\n"
        )
        first, second, third, *others = asked.stderr.splitlines()
        assert (first, second) == (f"“{USER}” on stack office, fleet cad", f"session {ID}, SAML, i-1")
        assert third.startswith("connected since 08:01; ")
        assert [line.rstrip() for line in others] == [
            f"“{USER}” is connected right now, and will be cut off at work.",
            "Work that is not saved is lost. AppStream ends the session at once and warns nobody.",
            f"To end it, type its whole id: {ID}",
        ]

    def test_who_is_away_is_not_said_to_be_at_work(self, desk: Desk) -> None:
        desk.put(remembered(connection=AWAY))
        asked = desk.end(ID, *SURE)
        assert f"“{USER}” is not connected right now." in asked.stderr
        assert "at work" not in asked.stderr

    def test_why_it_was_ended_stands_in_the_answer(self, desk: Desk) -> None:
        assert desk.end(ID, *SURE).stdout.endswith("it was gone 5 s later. Reason: left open\n")

    def test_a_script_says_why(self, desk: Desk) -> None:
        assert desk.answer(ID, *SURE) == {
            "accountId": TARGET.account_id,
            "region": TARGET.region,
            "accountName": "",
            "sessionId": ID,
            "userId": USER,
            "stackName": "office",
            "fleetName": "cad",
            "connectionState": "CONNECTED",
            "reason": "left open",
            "calledAt": "2026-03-02T09:00:00Z",
            "outcome": "GONE",
            "seenAt": "2026-03-02T09:00:05Z",
        }

    def test_as_csv(self, desk: Desk) -> None:
        (row,) = csv.DictReader(io.StringIO(desk.end(ID, *SURE, "-o", "csv").stdout))
        assert (row["sessionId"], row["outcome"], row["reason"]) == (ID, "GONE", "left open")

    def test_one_that_is_listed_as_expired_is_gone(self, desk: Desk) -> None:
        desk.appstream.ended_are_listed = True
        assert desk.answer(ID, *SURE)["outcome"] == "GONE"

    def test_one_that_lasts_longer_than_anybody_waits(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Wire(monkeypatch).answers["ExpireSession"] = lambda _: {}
        asked = desk.end(ID, *SURE, "--wait", "30")
        assert asked.exit_code == 1
        assert f"still lists session {ID} 30 s later" in asked.stdout
        assert "with `appstream-auditor sessions --now --stack office --fleet cad`" in asked.stdout
        assert desk.pauses == [5.0] * 6

    def test_one_that_nobody_can_look_for_any_more(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        def ended(_: dict[str, Any]) -> dict[str, Any]:
            desk.appstream.faults.append(Fault("AccessDeniedException", "describe_sessions"))
            return {}

        Wire(monkeypatch).answers["ExpireSession"] = ended
        asked = desk.end(ID, *SURE, "-o", "json")
        assert (asked.exit_code, json.loads(asked.stdout)["outcome"]) == (3, "UNKNOWN")

    def test_who_stops_watching_is_told_that_the_call_was_made(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(_: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(time, "sleep", interrupt)
        asked = desk.end(ID, *SURE)
        assert (asked.exit_code, desk.ended) == (130, 1)
        assert "Interrupted after the call was begun: look whether it has ended, with `app" in asked.stderr

    def test_only_its_own_stack_fleet_and_type_are_listed(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        desk.appstream.add_scope("lab", Fleet("render"))
        wire = Wire(monkeypatch)
        desk.end(ID, *SURE)
        looks = wire.parameters("DescribeSessions")
        assert len(looks) == 4
        own = {"StackName": "office", "FleetName": "cad", "AuthenticationType": "SAML"}
        assert all(own.items() <= each.items() for each in looks)

    def test_one_of_no_known_type_is_looked_for_by_each(self, desk: Desk) -> None:
        desk.put(remembered(authentication_type=""))
        assert desk.answer(ID, *SURE)["outcome"] == "GONE"
        assert desk.ended == 1

    def test_a_hashed_user_is_shown_as_appstream_has_it(self, desk: Desk) -> None:
        desk.put(remembered(user_id="a" * 32))
        desk.live.user_id = USER
        asked = desk.end(ID, *SURE)
        assert asked.exit_code == 0
        assert f"“{USER}” is connected right now" in asked.stderr

    def test_a_hostile_user_reaches_no_terminal(self, desk: Desk) -> None:
        desk.put(remembered(user_id=HOSTILE))
        asked = desk.end(ID, *SURE)
        assert asked.exit_code == 0
        assert all(each.isprintable() or each == "\n" for each in asked.output)
        assert "=cmd|'" in asked.stderr


def gone(desk: Desk) -> None:
    del desk.appstream.sessions[ID]


def expired(desk: Desk) -> None:
    desk.live.state = "EXPIRED"


def left(desk: Desk) -> None:
    desk.live.connection_state = "NOT_CONNECTED"


def handed_over(desk: Desk) -> None:
    desk.live.user_id = "mallory@example.com"


def moved(desk: Desk) -> None:
    desk.live.instance_id = "i-2"


def began_again(desk: Desk) -> None:
    desk.live.start_time = at(59)


CHANGED = [
    pytest.param(gone, "AppStream does not list the session any more", id="gone"),
    pytest.param(expired, "AppStream does not list the session any more", id="expired"),
    pytest.param(left, "its user was connected, and is not connected now", id="its user left"),
    pytest.param(handed_over, "its user is “mallory@example.com”", id="of another user"),
    pytest.param(moved, "its instance is i-2", id="on another instance"),
    pytest.param(began_again, "it is another session of the same id", id="an id that came back"),
]


class TestRefused:
    """Nothing is ended, and what to do is said."""

    @pytest.fixture(autouse=True)
    def nothing_is_ended(self, desk: Desk) -> Iterator[None]:
        yield
        assert desk.ended == 0

    @pytest.mark.parametrize(("change", "said"), CHANGED)
    def test_what_is_not_as_the_table_says(
        self, desk: Desk, change: Callable[[Desk], None], said: str
    ) -> None:
        change(desk)
        asked = desk.end(ID, *SURE)
        assert (asked.exit_code, asked.stdout) == (1, "")
        assert "Error: nothing was ended" in asked.stderr
        assert said in asked.stderr
        assert ("; then ask again" in asked.stderr) is (change not in (gone, expired))

    @pytest.mark.parametrize(("change", "said"), CHANGED)
    @pytest.mark.usefixtures("terminal")
    def test_what_changes_while_somebody_hesitates(
        self, desk: Desk, change: Callable[[Desk], None], said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def prompt(*_: Any, **__: Any) -> str:
            desk.clock.shift(300)
            change(desk)
            return ID

        monkeypatch.setattr(click, "prompt", prompt)
        asked = desk.end(ID)
        assert (asked.exit_code, asked.stdout) == (1, "")
        assert said in asked.stderr

    @pytest.mark.parametrize("typed", ["", "8f3c", f"{ID}x", "yes", USER])
    @pytest.mark.usefixtures("terminal")
    def test_what_is_not_the_whole_id(self, desk: Desk, typed: str) -> None:
        asked = desk.end(ID, typed=f"{typed}\n")
        assert (asked.exit_code, "nothing was ended, since that is not its id" in asked.stderr) == (1, True)

    @pytest.mark.usefixtures("terminal")
    def test_who_goes_away_instead_of_typing(self, desk: Desk) -> None:
        asked = desk.end(ID, typed="")
        assert (asked.exit_code, "Nothing was ended." in asked.stderr) == (130, True)

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            pytest.param((ID,), "no terminal to ask at", id="nobody to ask"),
            pytest.param((ID, "--reason", "x"), "no terminal to ask at", id="a reason alone"),
            pytest.param((ID, "--yes"), "--yes needs --reason", id="yes alone"),
            pytest.param((ID, "--yes", "--reason", " "), "--yes needs --reason", id="an empty reason"),
            pytest.param(("8f3c", *SURE), f"has to be the whole id: {ID}", id="yes with a beginning"),
            pytest.param((USER, *SURE), "looks like a user", id="a user"),
            pytest.param((ID, *SURE, "--wait", "0"), "not in the range", id="no time to watch"),
        ],
    )
    def test_mistakes_of_the_command_line(self, desk: Desk, words: tuple[str, ...], said: str) -> None:
        asked = desk.end(*words)
        assert (asked.exit_code, said in asked.stderr) == (2, True)
        assert desk.appstream.calls["describe_sessions"] == 0

    def test_a_beginning_of_several(self, desk: Desk) -> None:
        desk.put(remembered("8f3c-other"))
        asked = desk.end("8f3c", *SURE)
        assert (asked.exit_code, "2 sessions begin with" in asked.stderr) == (2, True)

    def test_one_that_nobody_knows(self, desk: Desk) -> None:
        asked = desk.end("0000", *SURE)
        assert (asked.exit_code, "no session 0000 is live" in asked.stderr) == (1, True)

    def test_one_whose_end_is_known(self, desk: Desk) -> None:
        desk.put(replace(remembered(), ending=Ending(EndReason.USER_OR_ADMIN, at(58), at(59))))
        asked = desk.end(ID, *SURE)
        assert asked.exit_code == 1
        assert "there is nothing to end: it ended between 08:58 and 08:59" in asked.stderr

    def test_a_listing_that_fails_ends_nobody(self, desk: Desk) -> None:
        desk.appstream.faults.append(Fault("OperationNotPermittedException"))
        asked = desk.end(ID, *SURE)
        assert asked.exit_code == 3
        assert "cannot be asked whether the session is still there (OperationNotP" in asked.stderr

    def test_one_of_another_account_of_a_hub(self) -> None:
        aws: Any = aws_session()
        target = Deployment(aws, target_id(RENDER), "sessions", hub=TARGET)
        snapshot = Snapshot(sessions={ID: Stored(remembered(), (), 1)})
        with pytest.raises(QuestionError, match=f"in account {RENDER}") as refused:
            require_endable(target, told_of(snapshot, ID, NOW, target.options), None)
        assert f"`aws appstream expire-session --session-id {ID} --region eu-west-1`" in str(refused.value)


def of_server(code: str) -> ClientError:
    return client_error(code, "ExpireSession", ResponseMetadata={"HTTPStatusCode": 500})


class TestCall:
    """ExpireSession has no condition and no documented error, so what is not known is said to be so."""

    @pytest.mark.parametrize(
        "error",
        [
            pytest.param(ReadTimeoutError(endpoint_url="x"), id="no answer in time"),
            pytest.param(ConnectionClosedError(endpoint_url="x"), id="a connection that broke"),
            pytest.param(of_server("InternalServiceException"), id="an error of the server"),
        ],
    )
    def test_what_may_have_been_taken_is_not_repeated(
        self, desk: Desk, error: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wire = Wire(monkeypatch)
        wire.answers["ExpireSession"] = raising(error)
        asked = desk.end(ID, *SURE)
        assert (asked.exit_code, asked.stdout, wire.operations().count("ExpireSession")) == (3, "", 1)
        assert "it is not known whether AppStream took the call" in asked.stderr
        assert "look with `appstream-auditor sessions --now --stack office --fleet cad`" in asked.stderr

    def test_the_client_repeats_nothing_by_itself(self, desk: Desk) -> None:
        desk.appstream.faults.append(Fault("ThrottlingException", "expire_session"))
        asked = desk.end(ID, *SURE)
        assert (asked.exit_code, desk.ended) == (3, 1)
        assert "Error: nothing was ended: AppStream refused it (ThrottlingException)" in asked.stderr

    @pytest.mark.parametrize(
        ("error", "code", "said"),
        [
            pytest.param(
                client_error("AccessDeniedException"), 3, "may not appstream:ExpireSession", id="not allowed"
            ),
            pytest.param(
                client_error("ResourceNotFoundException"), 1, "does not know the session", id="gone just now"
            ),
            pytest.param(client_error("ExpiredTokenException"), 3, "have expired", id="an old token"),
            pytest.param(
                EndpointConnectionError(endpoint_url="x"), 3, "cannot be reached", id="nobody was reached"
            ),
        ],
    )
    def test_what_was_not_taken_is_said(
        self,
        desk: Desk,
        error: ClientError | BotoCoreError,
        code: int,
        said: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        Wire(monkeypatch).answers["ExpireSession"] = raising(error)
        asked = desk.end(ID, *SURE)
        assert (asked.exit_code, said in asked.stderr) == (code, True)
        assert "not known whether" not in asked.stderr
        assert "ReaderPolicyArn" not in asked.stderr


THERE, FAILS = session(session_id=ID), QuestionError("AppStream cannot be asked")


class TestWatched:
    """What a row of looks means; each is five seconds after the one before."""

    @pytest.mark.parametrize(
        ("looks", "outcome", "seconds"),
        [
            pytest.param([None, None], Outcome.GONE, 5, id="gone at once"),
            pytest.param([THERE, None, None], Outcome.GONE, 10, id="gone after a while"),
            pytest.param([None, THERE, None, None], Outcome.GONE, 15, id="missed by one listing"),
            pytest.param([None, FAILS, None, None], Outcome.GONE, 15, id="a look that failed is no absence"),
            pytest.param([THERE, THERE, None, THERE], Outcome.STILL_LISTED, 15, id="missed at the end"),
            pytest.param([THERE, THERE, THERE], Outcome.STILL_LISTED, 10, id="listed to the end"),
            pytest.param([THERE, THERE, FAILS], Outcome.UNKNOWN, 10, id="the last look failed"),
            pytest.param([THERE, THERE, None, None], Outcome.GONE, 15, id="missing at the end, so once more"),
        ],
    )
    def test_it_is_gone_when_two_looks_in_a_row_lack_it(
        self, looks: list[Session | QuestionError | None], outcome: Outcome, seconds: int
    ) -> None:
        seen, clock = iter(looks), Clock()

        def look() -> Session | None:
            found = next(seen)
            if isinstance(found, QuestionError):
                raise found
            return found

        assert watched(look, timedelta(seconds=10), clock, clock.pause, lambda _: None) == (
            outcome,
            NOW + timedelta(seconds=seconds),
        )


class Clock:
    """A clock that goes on while somebody pauses."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def test_what_was_not_known_cannot_have_changed() -> None:
    known = session(session_id=ID, connection=CONNECTED)
    assert not [*changes(replace(known, user_id="", start_time=None), known)]
    assert len([*changes(known, replace(known, user_id="", instance_id="i-2"))]) == 2
