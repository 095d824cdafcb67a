"""probe: what it states of AppStream in each of its modes, and that it names nobody and changes nothing."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result
from moto import mock_aws

from appstream_auditor.errors import Exit, QuestionError
from appstream_auditor.main import cli
from appstream_auditor.probe.calls import client_of
from appstream_auditor.probe.counting import (
    FleetFacts,
    Listed,
    Seen,
    compare,
    durations,
    facts,
    promising,
    unseen_ends,
)
from appstream_auditor.probe.findings import QUESTIONS, Question, Verdict, findings
from appstream_auditor.probe.looking import NOBODY, STACKS_LIMIT, observe
from appstream_auditor.probe.observations import (
    Compared,
    Fleets,
    Observations,
    Operation,
    Pages,
    Replies,
    Stop,
    Values,
)
from appstream_auditor.probe.report import ProbeAnswer, probe_answer, report
from sandbox import appstream
from sandbox.appstream.models import AppStreamBackend, Fault, Fleet, StreamingSession
from sandbox.server import Answer, Post, serving
from session_auditor.model import AuthenticationType, Globs, Scope
from tests.shared.aws import Wire

API, SAML, USERPOOL, AWS_AD = AuthenticationType
ACCOUNT_ID, REGION = "123456789012", "eu-west-1"
REFUSED = "InvalidParameterCombinationException"
GUIDE = Path(__file__).parents[2] / "docs" / "probe.md"
READS = {"DescribeStacks", "DescribeFleets", "ListAssociatedFleets", "DescribeSessions"}


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[AppStreamBackend]:
    """An AppStream in which an administrator's probe tells most: see docs/probe.md."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("COLUMNS", "80")
    appstream.register()
    with mock_aws():
        backend = appstream.appstream_backends[ACCOUNT_ID][REGION]
        backend.add_scope("payroll-stack", Fleet("payroll-fleet", in_use=3))
        backend.add_scope("design-stack", Fleet("design-fleet", max_sessions_per_instance=4))
        backend.add_scope("design-stack", Fleet("kiosk-fleet", fleet_type="ELASTIC"))
        backend.stacks["payroll-stack"].fleets.append("design-fleet")
        start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
        for number in range(54):
            add(
                backend,
                number,
                stack_name="payroll-stack",
                fleet_name="payroll-fleet",
                authentication_type="SAML" if number % 3 else "API",
                start_time=start,
                max_expiration_time=start + timedelta(seconds=57_600 if number else 3_600),
                eni_id=f"eni-0abc{number}",
                eni_private_ip_address=f"10.20.30.{number}",
            )
        for number in range(54, 58):
            add(
                backend,
                number,
                stack_name="design-stack",
                fleet_name="design-fleet",
                instance_id=f"i-0def{number // 2}",
                instance_drain_status="ACTIVE",
            )
        add(backend, 58, stack_name="design-stack", fleet_name="kiosk-fleet", connection_state=None)
        yield backend


def add(backend: AppStreamBackend, number: int, **fields: Any) -> None:
    session_id = f"5e55104e-{number}"
    backend.sessions[session_id] = StreamingSession(session_id, f"jane.doe{number}@acme.example", **fields)


def run(*options: str) -> Result:
    return CliRunner().invoke(cli, ["probe", *options], catch_exceptions=False)


def asked(*options: str) -> dict[Question, Verdict]:
    return {each.question: each.verdict for each in answer_of(run(*options, "-o", "json")).findings}


def answer_of(result: Result) -> ProbeAnswer:
    return ProbeAnswer.model_validate_json(result.stdout)


def test_every_question_is_answered(state: AppStreamBackend) -> None:
    add(
        state,
        70,
        stack_name="payroll-stack",
        fleet_name="payroll-fleet",
        state="EXPIRED",
    )
    result = run("-o", "json")
    assert result.exit_code == Exit.OK
    answer = answer_of(result)
    assert answer.partition == "aws"
    assert (answer.stacks, answer.scopes, answer.scopes_asked, answer.scopes_with_sessions) == (2, 4, 4, 3)
    assert answer.problems == ()
    assert {each.question: each.verdict for each in answer.findings} == {
        Question.AUTHENTICATION_TYPES: Verdict.EVERY_TYPE,
        Question.UNTYPED_CALL: Verdict.EVERY_SESSION,
        Question.USER_ID: Verdict.REFUSED,
        Question.EXPIRED: Verdict.LISTED,
        Question.VALUES: Verdict.KNOWN_ALONE,
        Question.FIELDS: Verdict.KNOWN_ALONE,
        Question.PAGES: Verdict.FULL_PAGES,
        Question.ELASTIC: Verdict.LISTED,
        Question.MULTI_SESSION: Verdict.SHARED,
        Question.SHARED_FLEETS: Verdict.ONE_STACK,
        Question.MAX_EXPIRATION: Verdict.DIFFERENT,
        Question.RATE: Verdict.NOT_THROTTLED,
    }


@pytest.mark.parametrize("types", [("API", "SAML"), ("SAML",), ("API",)], ids=",".join)
def test_a_call_without_a_type_that_lists_api_alone(state: AppStreamBackend, types: tuple[str, ...]) -> None:
    state.unfiltered_shows_only_api = True
    state.sessions = {
        name: each for name, each in state.sessions.items() if each.authentication_type in types
    }
    expected = {
        ("API", "SAML"): Verdict.API_ALONE,
        # Nothing shows that it lists anybody.
        ("SAML",): Verdict.SOME_LEFT_OUT,
        # Nothing shows that it does not list everybody.
        ("API",): Verdict.OPEN,
    }
    assert asked()[Question.UNTYPED_CALL] == expected[types]


@pytest.mark.parametrize(
    ("faults", "types", "untyped"),
    [
        pytest.param([USERPOOL], Verdict.SOME_TYPES, Verdict.EVERY_SESSION, id="GovCloud has no user pools"),
        pytest.param([""], Verdict.EVERY_TYPE, Verdict.REFUSED, id="a type is needed"),
        pytest.param([*AuthenticationType], Verdict.NO_TYPE, Verdict.OPEN, id="no type is taken"),
        pytest.param(["", *AuthenticationType], Verdict.NO_TYPE, Verdict.REFUSED, id="nothing is taken"),
    ],
)
def test_refused_for_good(
    state: AppStreamBackend, faults: list[str], types: Verdict, untyped: Verdict
) -> None:
    state.faults = [Fault(REFUSED, authentication_type=each) for each in faults]
    result = run("-o", "json")
    # A type that is refused is a finding, and no failure.
    assert result.exit_code == Exit.OK
    verdicts = {each.question: each for each in answer_of(result).findings}
    assert verdicts[Question.AUTHENTICATION_TYPES].verdict == types
    assert verdicts[Question.UNTYPED_CALL].verdict == untyped
    named = Question.UNTYPED_CALL if untyped == Verdict.REFUSED else Question.AUTHENTICATION_TYPES
    assert REFUSED in verdicts[named].sentence


def test_a_type_that_one_fleet_refuses(state: AppStreamBackend) -> None:
    state.faults = [Fault(REFUSED, authentication_type="USERPOOL", fleet_name="design-fleet")]
    finding = answer_of(run("-o", "json")).findings[0]
    assert finding.verdict == Verdict.EVERY_TYPE
    assert "refused for some fleets: USERPOOL" in finding.sentence


def test_a_user_id_without_a_type_that_is_taken(
    state: AppStreamBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = AppStreamBackend.describe_sessions

    def lenient(*names: Any, user_id: str | None = None, **options: Any) -> Any:
        # Nobody real is asked for.
        assert user_id in (None, NOBODY)
        return ([], None) if user_id else describe(*names, **options)

    monkeypatch.setattr(AppStreamBackend, "describe_sessions", lenient)
    assert asked()[Question.USER_ID] == Verdict.TAKEN


def test_sessions_that_end_and_vanish(state: AppStreamBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    describe, calls = AppStreamBackend.describe_sessions, count()
    state.sessions = {
        name: each for name, each in state.sessions.items() if each.fleet_name == "design-fleet"
    }

    def ending(*names: Any, **options: Any) -> Any:
        # One more ends before each third call.
        if next(calls) % 3 == 2 and len(state.sessions) > 1:
            state.sessions.popitem()
        return describe(*names, **options)

    monkeypatch.setattr(AppStreamBackend, "describe_sessions", ending)
    found = asked("--stack", "design-*")
    assert found[Question.EXPIRED] == Verdict.NOT_ALWAYS_LISTED
    # Whoever left in between is no evidence against the call without a type.
    assert found[Question.UNTYPED_CALL] == Verdict.EVERY_SESSION


def test_a_session_that_pages_hide_has_not_vanished(
    state: AppStreamBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe, calls = AppStreamBackend.describe_sessions, count()

    def shifting(backend: AppStreamBackend, *names: Any, **options: Any) -> Any:
        # Pages are no snapshot: in the second listing of two pages, a session falls between them.
        sessions, token = describe(backend, *names, **options)
        return (sessions[:-1] if token and next(calls) else sessions), token

    monkeypatch.setattr(AppStreamBackend, "describe_sessions", shifting)
    assert asked()[Question.EXPIRED] == Verdict.OPEN
    assert next(calls) == 2


def test_no_sessions_at_all(state: AppStreamBackend) -> None:
    state.sessions = {}
    result = run()
    assert result.exit_code == Exit.OK
    found = asked()
    assert found[Question.AUTHENTICATION_TYPES] == Verdict.EVERY_TYPE
    assert {question for question, verdict in found.items() if verdict != Verdict.OPEN} == {
        Question.AUTHENTICATION_TYPES,
        Question.USER_ID,
        Question.RATE,
    }
    assert "To answer it, probe while somebody is signed in" in result.stdout


def test_no_stacks_at_all(state: AppStreamBackend) -> None:
    result = run("--stack", "no-such-*", "-o", "json")
    assert result.exit_code == Exit.OK
    answer = answer_of(result)
    assert {each.verdict for each in answer.findings} == {Verdict.OPEN, Verdict.NOT_THROTTLED}
    assert answer.calls == 2


def test_the_first_throttle_ends_it(state: AppStreamBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(monkeypatch)
    state.faults = [Fault("ThrottlingException", fleet_name="design-fleet")]
    result = run("-o", "json")
    assert result.exit_code == Exit.OUT_OF_REACH
    answer = answer_of(result)
    assert answer.stop == Stop.THROTTLED
    assert len(wire.calls) == answer.calls == state.calls.total()
    rate = answer.findings[-1]
    assert rate.verdict == Verdict.THROTTLED
    assert f"call {answer.calls} was throttled, at " in rate.sentence


def test_throttled_at_once(state: AppStreamBackend) -> None:
    state.faults = [Fault("ThrottlingException", operation="describe_stacks")]
    result = run()
    assert result.exit_code == Exit.OUT_OF_REACH
    assert "THROTTLED. Yes: call 1 was throttled" in result.stdout


def test_stacks_may_not_be_described(state: AppStreamBackend) -> None:
    state.faults = [Fault("AccessDeniedException", operation="describe_stacks")]
    result = run()
    assert result.exit_code == Exit.OUT_OF_REACH
    assert result.stdout == ""
    assert "may not appstream:DescribeStacks" in result.stderr


def test_stacks_cannot_be_described(state: AppStreamBackend) -> None:
    state.faults = [Fault("InternalFailure", operation="describe_stacks")]
    result = run()
    assert result.exit_code == Exit.OUT_OF_REACH
    assert "DescribeStacks failed with InternalFailure: 1" in result.stdout
    assert "OPEN. Not every type was asked." in result.stdout


@pytest.mark.parametrize(
    ("fault", "problem", "opened"),
    [
        pytest.param(
            Fault("AccessDeniedException", operation="describe_fleets"),
            (Operation.DESCRIBE_FLEETS, "AccessDeniedException", 1),
            {Question.ELASTIC, Question.MAX_EXPIRATION},
            id="fleets",
        ),
        pytest.param(
            Fault("AccessDeniedException", operation="list_associated_fleets", stack_name="payroll-stack"),
            (Operation.LIST_ASSOCIATED_FLEETS, "AccessDeniedException", 1),
            {Question.PAGES, Question.MAX_EXPIRATION, Question.SHARED_FLEETS},
            id="a stack's fleets",
        ),
        pytest.param(
            Fault("AccessDeniedException", fleet_name="kiosk-fleet"),
            (Operation.DESCRIBE_SESSIONS, "AccessDeniedException", 1),
            {Question.ELASTIC},
            id="the sessions of a fleet",
        ),
        pytest.param(
            Fault("ResourceNotFoundException", fleet_name="kiosk-fleet"),
            (Operation.DESCRIBE_SESSIONS, "ResourceNotFoundException", 1),
            {Question.ELASTIC},
            id="a fleet that was deleted",
        ),
    ],
)
def test_a_part_that_is_denied(
    state: AppStreamBackend,
    fault: Fault,
    problem: tuple[Operation, str, int],
    opened: set[Question],
) -> None:
    state.faults = [fault]
    result = run("-o", "json")
    assert result.exit_code == Exit.OUT_OF_REACH
    answer = answer_of(result)
    assert [(each.operation, each.code, each.times) for each in answer.problems] == [problem]
    open_now = {each.question for each in answer.findings if each.verdict == Verdict.OPEN}
    assert open_now == opened | {Question.EXPIRED}


def test_credentials_that_expire_meanwhile(state: AppStreamBackend) -> None:
    state.faults = [Fault("ExpiredTokenException", authentication_type="SAML")]
    result = run()
    assert result.exit_code == Exit.OUT_OF_REACH
    assert "It ended early, because the credentials have expired." in " ".join(result.stdout.split())
    # An expired credential is no refused type.
    assert "ExpiredTokenException" not in result.stdout


def test_credentials_that_have_expired(state: AppStreamBackend) -> None:
    state.faults = [Fault("ExpiredTokenException", operation="describe_stacks")]
    result = run()
    assert (result.exit_code, result.stdout) == (Exit.OUT_OF_REACH, "")
    assert "have expired" in result.stderr


def test_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    assert run().exit_code == Exit.USAGE


# What is asked, and how often.


def test_it_only_reads(state: AppStreamBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(monkeypatch)
    before = {name: replace(each) for name, each in state.sessions.items()}
    answer = answer_of(run("-o", "json"))
    assert set(wire.operations()) == READS == set(Operation)
    assert len(wire.calls) == answer.calls == state.calls.total()
    assert state.sessions == before
    assert {each["UserId"] for each in wire.parameters("DescribeSessions") if "UserId" in each} == {NOBODY}


@pytest.mark.parametrize("limit", range(1, 40, 3))
def test_it_never_calls_more_often_than_it_may(
    state: AppStreamBackend, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    state.unfiltered_shows_only_api = True
    needed = answer_of(run("-o", "json")).calls
    wire = Wire(monkeypatch)
    result = run("--calls", str(limit), "-o", "json")
    assert result.exit_code == Exit.OK
    answer = answer_of(result)
    assert len(wire.calls) == answer.calls == min(limit, needed)
    assert (answer.stop == Stop.CALLS_USED_UP) == (limit < needed)


def test_of_many_stacks_the_first_have_to_do(state: AppStreamBackend) -> None:
    for number in range(40):
        state.add_scope(f"more-{number}", Fleet(f"fleet-{number}", in_use=0))
    answer = answer_of(run("--scopes", "3", "-o", "json"))
    assert (answer.stacks, answer.stacks_asked, answer.scopes_asked) == (42, STACKS_LIMIT, 3)
    # Idle fleets go last.
    assert answer.scopes_with_sessions == 3
    assert answer.calls < answer.calls_limit


def test_a_listing_without_an_end(state: AppStreamBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(monkeypatch)
    pages = count()
    wire.answers["DescribeSessions"] = lambda _: {"Sessions": [], "NextToken": f"page-{next(pages)}"}
    answer = answer_of(run("--scopes", "1", "-o", "json"))
    assert answer.findings[6].verdict == Verdict.SHORT_PAGES
    # 20 pages without a type, the made-up user, one page for each type.
    assert wire.operations().count("DescribeSessions") == 25
    assert [(each.code, each.times) for each in answer.problems] == [("CUT_SHORT", 5)]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"Sessions": None}, id="no list"),
        pytest.param({"Sessions": [], "NextToken": "same"}, id="a token that repeats"),
        pytest.param({"Sessions": [None, {}, {"Id": 5}, {"Id": ""}, "Id"]}, id="no sessions"),
        pytest.param(
            {"Sessions": [{"Id": "s", "State": {}, "StartTime": "soon", "InstanceId": [], "StackName": 1}]},
            id="no such fields",
        ),
    ],
)
def test_broken_answers(
    state: AppStreamBackend, monkeypatch: pytest.MonkeyPatch, broken: dict[str, Any]
) -> None:
    Wire(monkeypatch).answers["DescribeSessions"] = lambda _: broken
    assert run().exit_code in (Exit.OK, Exit.OUT_OF_REACH)


def test_fields_that_the_model_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore drops them, so they are counted on the wire."""
    answers: dict[str, Any] = {
        "DescribeStacks": {"Stacks": [{"Name": "acme"}]},
        "DescribeFleets": {"Fleets": [{"Name": "acme"}]},
        "ListAssociatedFleets": {"Names": ["acme"]},
        "DescribeSessions": {"Sessions": [{"Id": "s", "AcmeSecret": 1, "State": "ACME", "UserId": "jane"}]},
    }

    def answer(post: Post) -> Answer:
        operation = post.headers["X-Amz-Target"].rpartition(".")[2]
        return Answer(200, json.dumps(answers[operation]), {"Content-Type": "application/x-amz-json-1.1"})

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with serving(answer) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_APPSTREAM", url)
        result = run("--region", REGION, "-o", "json")
    found = {each.question: each for each in answer_of(result).findings}
    assert found[Question.FIELDS].verdict == Verdict.OTHERS_TOO
    assert found[Question.VALUES].verdict == Verdict.OTHERS_TOO
    # Every type lists the same session, so that nothing tells which type it is of.
    assert found[Question.AUTHENTICATION_TYPES].verdict == Verdict.NOT_TOLD_APART
    assert found[Question.UNTYPED_CALL].verdict == Verdict.OPEN
    assert "acme" not in result.output.lower()


# Nothing of the account is in the report.

HOSTILE = [
    "acme-payroll",
    "jane.doe@acme.example",
    "\N{RIGHT-TO-LEFT OVERRIDE}evil\x1b[31m",
    "{account}%s\n1. forged",
    "=cmd|' /C calc'!A0",
    "d" * 200,
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("output", ["table", "json"])
@pytest.mark.parametrize(
    "fault",
    [
        None,
        Fault("ThrottlingException", authentication_type="AWS_AD"),
        Fault(REFUSED, authentication_type="SAML"),
        Fault("AccessDeniedException", operation="describe_stacks"),
        Fault("jane.doe@acme.example"),
        Fault("AcmePayrollException", authentication_type="API"),
    ],
    ids=lambda fault: fault.code if fault else "none",
)
def test_it_names_nobody(state: AppStreamBackend, name: str, output: str, fault: Fault | None) -> None:
    state.add_scope(name, Fleet(name + "-fleet", fleet_type=name, in_use=9))
    state.sessions[name] = StreamingSession(
        name,
        name,
        name,
        name + "-fleet",
        state=name,
        connection_state=name,
        authentication_type=name,
        instance_id=name,
        eni_id=name,
        eni_private_ip_address="10.20.30.99",
        instance_drain_status=name,
    )
    state.faults = [fault] if fault else []
    result = run("-o", output)
    secrets = {name, ACCOUNT_ID, REGION, "acme", "jane", "10.20.30.", "arn:"}
    secrets |= {text for each in state.sessions.values() for text in (each.session_id, each.user_id)}
    secrets |= {each.eni_id or each.session_id for each in state.sessions.values()}
    secrets |= {each.instance_id or each.session_id for each in state.sessions.values()}
    secrets |= set(state.stacks) | set(state.fleets)
    said = result.stdout + result.stderr
    for text in (said, said.lower(), json.dumps(said), " ".join(said.split())):
        assert not [secret for secret in secrets if secret in text]
    assert said.isascii()
    assert said.replace("\n", "").isprintable()


def test_a_report_fits_a_terminal(state: AppStreamBackend) -> None:
    lines = run().stdout.splitlines()
    assert max(map(len, lines)) < 80


# The judgement, as plain data.

NONE = Observations(replies={kind: Replies() for kind in (None, *AuthenticationType)})
TAKEN = {kind: Replies(answered=1) for kind in (None, *AuthenticationType)}


@pytest.mark.parametrize(
    ("seen", "question", "verdict"),
    [
        pytest.param(
            replace(NONE, replies=TAKEN), Question.AUTHENTICATION_TYPES, Verdict.EVERY_TYPE, id="taken"
        ),
        pytest.param(
            replace(NONE, replies=TAKEN, compared=Compared(both={API: 3}, unsettled=4)),
            Question.UNTYPED_CALL,
            Verdict.OPEN,
            id="who came and went proves nothing",
        ),
        pytest.param(
            replace(NONE, replies=TAKEN, compared=Compared(both={API: 3, SAML: 1})),
            Question.UNTYPED_CALL,
            Verdict.EVERY_SESSION,
            id="one SAML session in both",
        ),
        pytest.param(
            replace(NONE, replies=TAKEN, compared=Compared(both={SAML: 1}, untyped_alone=2)),
            Question.UNTYPED_CALL,
            Verdict.MORE_THAN_TYPED,
            id="sessions that no type lists",
        ),
        pytest.param(
            replace(NONE, replies=TAKEN, compared=Compared(both={API: 1, SAML: 1}, absent={SAML: 1})),
            Question.UNTYPED_CALL,
            Verdict.SOME_LEFT_OUT,
            id="some SAML sessions left out",
        ),
        pytest.param(
            replace(NONE, replies=TAKEN, compared=Compared(absent={API: 1}, both={API: 1})),
            Question.UNTYPED_CALL,
            Verdict.SOME_LEFT_OUT,
            id="an API session left out",
        ),
        pytest.param(
            replace(NONE, replies=TAKEN, compared=Compared(both={API: 2}, absent={SAML: 1, AWS_AD: 1})),
            Question.UNTYPED_CALL,
            Verdict.API_ALONE,
            id="API alone",
        ),
        pytest.param(replace(NONE, user_id_reply=REFUSED), Question.USER_ID, Verdict.REFUSED, id="user id"),
        pytest.param(
            replace(NONE, values={"State": Values({"EXPIRED": 2})}),
            Question.EXPIRED,
            Verdict.LISTED,
            id="expired",
        ),
        pytest.param(replace(NONE, vanished=1), Question.EXPIRED, Verdict.NOT_ALWAYS_LISTED, id="vanished"),
        pytest.param(
            replace(NONE, sessions=9),
            Question.EXPIRED,
            Verdict.OPEN,
            id="sessions of which none is EXPIRED",
        ),
        pytest.param(
            replace(NONE, values={"State": Values({"ACTIVE": 2}, others=1)}),
            Question.VALUES,
            Verdict.OTHERS_TOO,
            id="another state",
        ),
        pytest.param(
            replace(NONE, sessions=2, fields={"Id": 2}),
            Question.FIELDS,
            Verdict.OPEN,
            id="not in JSON",
        ),
        pytest.param(
            replace(NONE, sessions=2, fields={"Id": 2}, unknown_fields=0),
            Question.FIELDS,
            Verdict.KNOWN_ALONE,
            id="known fields alone",
        ),
        pytest.param(
            replace(NONE, pages=Pages(more=2, largest=50, short=1)),
            Question.PAGES,
            Verdict.SHORT_PAGES,
            id="a short page with more to come",
        ),
        pytest.param(
            replace(NONE, pages=Pages(more=2, largest=60, short=1)),
            Question.PAGES,
            Verdict.BEYOND_LIMIT,
            id="a page beyond the limit",
        ),
        pytest.param(replace(NONE, pages=Pages(largest=50)), Question.PAGES, Verdict.OPEN, id="one page"),
        pytest.param(
            replace(NONE, fleets=Fleets(elastic_scopes=1)),
            Question.ELASTIC,
            Verdict.OPEN,
            id="elastic, nobody",
        ),
        pytest.param(
            replace(NONE, fleets=Fleets(multi_sessions=2, multi_sessions_without_instance=2)),
            Question.MULTI_SESSION,
            Verdict.NOT_NAMED,
            id="no InstanceId",
        ),
        pytest.param(
            replace(NONE, fleets=Fleets(shared_fleet_sessions=2, listed_twice=1)),
            Question.SHARED_FLEETS,
            Verdict.EVERY_STACK,
            id="listed by two stacks",
        ),
        pytest.param(
            replace(NONE, durations=2, durations_equal=2),
            Question.MAX_EXPIRATION,
            Verdict.EQUAL,
            id="durations",
        ),
        pytest.param(
            replace(NONE, stop=Stop.THROTTLED, calls=7, seconds=2.0),
            Question.RATE,
            Verdict.THROTTLED,
            id="throttled",
        ),
    ],
)
def test_judgement(seen: Observations, question: Question, verdict: Verdict) -> None:
    found = findings(seen)[question]
    assert found.verdict is verdict
    # An open question says what would answer it.
    assert bool(found.needs) == (verdict is Verdict.OPEN)


def test_nothing_seen_is_open() -> None:
    verdicts = {each.verdict for each in findings(Observations()).values()}
    assert verdicts == {Verdict.OPEN, Verdict.NOT_THROTTLED}
    assert report(probe_answer(Observations(), partition="aws", botocore_version="1", day=date(2026, 3, 2)))


def whole(ids: str) -> Listed:
    """Return a listing of one page; each letter is a session."""
    return Listed(frozenset(ids), whole=True, pages=1)


@pytest.mark.parametrize(
    ("before", "typed", "after", "again", "expected"),
    [
        pytest.param("ab", ("a", "b"), "ab", "", (1, 1, 0, 0, 0, 0), id="the same"),
        pytest.param("a", ("a", "b"), "a", "b", (1, 0, 1, 0, 0, 0), id="left out"),
        pytest.param("a", ("a", "b"), "a", "", (1, 0, 0, 0, 1, 0), id="ended before it could be left out"),
        pytest.param("a", ("a", "b"), "ab", "", (1, 1, 0, 0, 0, 0), id="began in between"),
        pytest.param("ax", ("a", ""), "ax", "", (1, 0, 0, 1, 0, 0), id="listed by no type"),
        pytest.param("ax", ("a", ""), "a", "", (1, 0, 0, 0, 1, 0), id="ended before the calls with a type"),
        pytest.param("a", ("a", ""), "ax", "", (1, 0, 0, 0, 1, 0), id="began after the calls with a type"),
        pytest.param("b", ("a", "b"), "b", "", (0, 1, 0, 0, 1, 0), id="an API session that ended"),
        pytest.param("ab", ("ab", "ab"), "ab", "", (0, 0, 0, 0, 0, 2), id="types that do not tell apart"),
    ],
)
def test_comparison(
    before: str, typed: tuple[str, str], after: str, again: str, expected: tuple[int, ...]
) -> None:
    api, saml = map(whole, typed)
    listed = dict.fromkeys(AuthenticationType, whole("")) | {API: api, SAML: saml}
    assert counted(compare(whole(before), listed, whole(after), {SAML: whole(again)})) == expected


@pytest.mark.parametrize(
    ("before", "saml", "after", "expected"),
    [
        pytest.param(whole("x"), Listed(refused=True), whole("x"), (0, 0, 0, 1, 0, 0), id="a refused type"),
        pytest.param(whole("x"), Listed(), whole("x"), (0, 0, 0, 0, 1, 0), id="a type that failed"),
        pytest.param(whole("a"), whole("b"), Listed(frozenset("a")), (0, 0, 0, 1, 1, 0), id="cut short"),
        pytest.param(
            Listed(refused=True), whole("b"), Listed(), (0, 0, 0, 0, 0, 0), id="none without a type"
        ),
    ],
)
def test_comparison_of_what_did_not_arrive(
    before: Listed, saml: Listed, after: Listed, expected: tuple[int, ...]
) -> None:
    typed = dict.fromkeys(AuthenticationType, whole("")) | {SAML: saml}
    # What a type failed to list, or listed whole beside a listing cut short, proves nothing.
    assert counted(compare(before, typed, after, {SAML: saml})) == expected


def counted(found: Compared) -> tuple[int, ...]:
    return (
        found.both.get(API, 0),
        found.both.get(SAML, 0),
        found.absent.get(SAML, 0),
        found.untyped_alone,
        found.unsettled,
        found.of_several_types,
    )


def test_fleets_in_use_go_first_and_kinds_take_turns() -> None:
    facts = {
        "idle": FleetFacts("ON_DEMAND", in_use=0),
        "busy": FleetFacts("ON_DEMAND", in_use=5),
        "kiosk": FleetFacts("ELASTIC"),
        "multi": FleetFacts("ON_DEMAND", max_sessions_per_instance=8, in_use=1),
    }
    scopes = [
        Scope("a", "idle"),
        Scope("a", "busy"),
        Scope("b", "busy"),
        Scope("c", "kiosk"),
        Scope("d", "multi"),
    ]
    order = promising(scopes, facts)
    assert {scope.fleet for scope in order[:3]} == {"busy", "kiosk", "multi"}
    assert order[-1] == Scope("a", "idle")


def seen(**record: Any) -> Seen:
    return Seen(record, FleetFacts(max_user_duration=3_600))


NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def test_a_session_that_was_expired_has_not_vanished_unseen() -> None:
    sessions = {
        "expired": seen(State="EXPIRED"),
        "active": seen(State="ACTIVE"),
    }
    assert unseen_ends(sessions, {"expired"}) == 0
    assert unseen_ends(sessions, {"expired", "active"}) == 1


def test_durations_are_compared_with_the_fleets() -> None:
    hour = timedelta(hours=1)
    found = durations(
        [
            seen(StartTime=NOON - hour, MaxExpirationTime=NOON),
            seen(StartTime=NOON, MaxExpirationTime=NOON + 2 * hour),
            # Equal to a second.
            seen(StartTime=NOON + timedelta(seconds=0.9), MaxExpirationTime=NOON + hour),
            seen(StartTime=NOON),
            seen(StartTime="noon", MaxExpirationTime=NOON),
        ]
    )
    assert found == (3, 2)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        pytest.param({}, FleetFacts(), id="nothing said"),
        pytest.param({"ComputeCapacityStatus": {"InUse": 0}}, FleetFacts(in_use=0), id="idle"),
        pytest.param(
            {"ComputeCapacityStatus": {"InUse": 1, "ActiveUserSessions": 9}, "MaxSessionsPerInstance": 9},
            FleetFacts(in_use=9, max_sessions_per_instance=9),
            id="multi-session",
        ),
        pytest.param(
            {"FleetType": 1, "MaxUserDurationInSeconds": "long", "ComputeCapacityStatus": []},
            FleetFacts(),
            id="broken",
        ),
    ],
)
def test_facts_of_a_fleet(record: dict[str, Any], expected: FleetFacts) -> None:
    assert facts(record) == expected


def test_a_client_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_APPSTREAM", "http://127.0.0.1:9")
    aws = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION)
    with pytest.raises(QuestionError, match="cannot be reached"):
        observe(client_of(aws), Globs(), 1, 10, lambda: 0.0)


# The guide says what each answer would change here.


def test_the_guide_knows_every_question_and_answer() -> None:
    chapters = re.split(r"^## \d+\. ", GUIDE.read_text(), flags=re.MULTILINE)[1:]
    assert [each.partition("\n")[0] for each in chapters] == [asks.text for asks in QUESTIONS.values()]
    for chapter, asks in zip(chapters, QUESTIONS.values(), strict=True):
        rows = re.findall(r"^\| `([A-Z_]+)` \|", chapter.partition("\n## ")[0], re.MULTILINE)
        assert set(rows) == {*asks.verdicts, Verdict.OPEN}


def test_the_guides_example_is_what_it_says(state: AppStreamBackend) -> None:
    example = GUIDE.read_text().split("```\n$ appstream-auditor probe\n")[1].split("```")[0]
    assert steady(run().stdout) == steady(example)


def steady(text: str) -> str:
    """Return a report without what differs from day to day and machine to machine."""
    text = re.sub(r"auditor \S+ probe, \S+, partition aws, botocore \S+", "", " ".join(text.split()))
    return re.sub(r"at (\S+ calls a second|an unknown rate)", "", text)
