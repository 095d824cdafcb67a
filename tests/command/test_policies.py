"""`policies`: a document is judged without asking anybody, and previewed by the deployed function alone."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ReadTimeoutError
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from appstream_auditor.main import cli
from sandbox.command import SCHEMAS
from session_auditor.model import PolicyKind
from session_auditor.preview import ANSWER, Offender, Preview, Previewed, Unlisted
from tests.shared.aws import Answer, Wire, client_error, raising

GOOD = """\
{"version": 1, "timeZone": "Europe/Berlin",
 "hours": {"office": {"days": "mon-fri", "from": "07:00", "to": "19:00", "skip": ["2026-12-25"]}},
 "policies": {
  "after-hours": {"kind": "OUTSIDE_HOURS", "hours": "office", "graceMinutes": 30, "fleets": "!render-*"},
  "two-at-most": {"kind": "TOO_MANY_SESSIONS", "limit": 2},
  "too-long":    {"kind": "TOO_LONG", "minutes": [600, 720]},
  "draining":    {"kind": "DRAINING", "minutes": [30]}}}
"""
MISSPELT = GOOD.replace('"hours": "office"', '"hours": "ofice"')
WRONG = 'policies.after-hours.hours: no such hours "ofice"; known: office'
FUNCTION = "appstream-session-auditor-AuditorFunction-0123456789ab"
HOSTILE = "=cmd|'\x1b[2J\u202e<script>"


def parameters(**others: str) -> list[dict[str, str]]:
    told = {"PoliciesParameter": "", "SweepTimeLimit": "50"} | others
    return [{"ParameterKey": name, "ParameterValue": value} for name, value in told.items()]


def stack_of(parameters: list[dict[str, str]]) -> Answer:
    outputs = {"SessionsTableName": "sessions", "SessionBusName": "bus", "AuditorFunctionName": FUNCTION}
    stack = {
        "StackName": "appstream-session-auditor",
        "StackStatus": "CREATE_COMPLETE",
        "Outputs": [{"OutputKey": name, "OutputValue": value} for name, value in outputs.items()],
        "Parameters": parameters,
    }
    return lambda _: {"Stacks": [stack]}


def saying(payload: Any, **fields: Any) -> Answer:
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return lambda _: {"StatusCode": 200, "Payload": io.BytesIO(text)} | fields


def offender(user_id: str = "ann@example.com", number: int = 1, **fields: Any) -> Offender:
    defaults: dict[str, Any] = {"threshold_minutes": 600, "limit": "600", "actual": "603"}
    return Offender(f"session-{number}", user_id, "office", "cad", **(defaults | fields))


def answered(
    *offenders: Offender, failed: int = 0, others: Mapping[str, Previewed] | None = None
) -> dict[str, Any]:
    too_long = Previewed(PolicyKind.TOO_LONG, violated=len(offenders), cleared=1, sessions=list(offenders))
    unlisted = tuple(Unlisted("office", f"gis-{number}", "ThrottlingException") for number in range(failed))
    policies = {"too-long": too_long, **(others or {})}
    found = Preview(policies, sessions=12, scopes_failed=failed, unlisted=unlisted[:20])
    return {"version": "1.0.0", **ANSWER.dump_python(found, mode="json", by_alias=True)}


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """Whatever AWS is asked: a deployed auditor is found, and nothing else is answered."""
    for name, value in {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "REGION": "eu-west-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    wire = Wire(monkeypatch)
    wire.answers["GetCallerIdentity"] = lambda _: {"Account": "123456789012"}
    wire.answers["DescribeStacks"] = stack_of(parameters())
    yield wire
    assert set(wire.operations()) <= {"GetCallerIdentity", "DescribeStacks", "Invoke"}


@pytest.fixture
def document(tmp_path: Path) -> str:
    path = tmp_path / "policies.json"
    path.write_text(GOOD)
    return str(path)


def ask(*words: str, typed: str | bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["policies", *words], input=typed, catch_exceptions=False)


def judged(name: str, answer: str) -> Any:
    """Return an answer that its published schema allows."""
    found = json.loads(answer)
    Draft202012Validator(json.loads((SCHEMAS / f"policies-{name}.json").read_text())).validate(found)
    return found


class TestValidate:
    """Nobody is asked, and there are no credentials."""

    @pytest.fixture(autouse=True)
    def nobody(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION"):
            monkeypatch.delenv(f"AWS_{name}")
        yield
        assert wire.calls == []

    def test_a_good_document_is_shown_as_it_was_understood(self, document: str) -> None:
        asked = ask("validate", document)
        assert asked.exit_code == 0
        assert [line.rstrip() for line in asked.stdout.splitlines()] == [
            "NAME         KIND               LIMIT            HOURS",
            "after-hours  OUTSIDE_HOURS      30 min of grace  mon-fri 07:00-19:00 Europe/Berlin",
            "draining     DRAINING           30 min",
            "too-long     TOO_LONG           600, 720 min",
            "two-at-most  TOO_MANY_SESSIONS  2 at once",
            "4 policies, 5 pairs of policy and threshold",
        ]

    def test_a_document_without_policies_is_good(self) -> None:
        asked = ask("validate", "-", typed='{"version": 1, "timeZone": "UTC", "policies": {}}')
        assert asked.exit_code == 0
        assert asked.stdout.splitlines()[-1] == "0 policies, 0 pairs of policy and threshold"

    def test_what_is_wrong_is_said_by_its_path_with_what_to_do(self) -> None:
        asked = ask("validate", "-", typed=MISSPELT)
        assert (asked.exit_code, asked.stdout, asked.stderr) == (1, "", f"Error: {WRONG}\n")

    def test_as_json_it_is_a_field(self, document: str) -> None:
        good = ask("validate", document, "-o", "json")
        found = judged("validate", good.stdout)
        assert (good.exit_code, found["error"], found["pairs"]) == (0, "", 5)
        assert found["policies"][2] == {
            "name": "too-long",
            "kind": "TOO_LONG",
            "limit": "600, 720 min",
            "hours": "",
            "pairs": 2,
        }
        wrong = ask("validate", "-", "-o", "json", typed=MISSPELT)
        assert judged("validate", wrong.stdout) == {"policies": [], "pairs": 0, "error": WRONG}
        assert wrong.exit_code == 1

    def test_as_csv(self, document: str) -> None:
        rows = list(csv.DictReader(io.StringIO(ask("validate", document, "-o", "csv").stdout)))
        assert [(row["name"], row["pairs"]) for row in rows][1:3] == [("draining", "1"), ("too-long", "2")]

    @pytest.mark.parametrize(
        ("typed", "said"),
        [
            pytest.param(
                b"\xff\xfe{", "document: no UTF-8 at byte 1; save it as UTF-8", id="another encoding"
            ),
            pytest.param(
                "\ufeff" + GOOD, "document: no JSON at line 1, column 1", id="as the function reads it"
            ),
            pytest.param(b" " * 8_193, "document: has 8193 bytes; at most 8192 fit", id="too large"),
            pytest.param(b" " * 2_000_000, "document: has more than 1000000 bytes", id="no document at all"),
            pytest.param("", "document: no JSON at line 1, column 1", id="nothing"),
            # How deep is too deep is Python's to say: from 3.13 on it reads to the end of this.
            pytest.param("[" * 5_000, "document: n", id="too deep"),
            pytest.param("7", "document: is 7; should be an object with", id="a number"),
            pytest.param(
                GOOD.replace("draining", "dr\x1b[2Jaining").replace('"minutes": [30]', '"limit": 1'),
                "document: no JSON at line 7",
                id="a control character",
            ),
            pytest.param(
                GOOD.replace('"draining"', '"\\u001b[2Jdraining"'), "policies.?[2Jdraining", id="one escaped"
            ),
        ],
    )
    def test_whatever_it_is_given_it_says_what_is_wrong(self, typed: str | bytes, said: str) -> None:
        asked = ask("validate", "-", typed=typed)
        assert (asked.exit_code, asked.stdout) == (1, "")
        assert asked.stderr.startswith(f"Error: {said}")
        assert asked.stderr.rstrip("\n").isprintable()

    def test_no_such_file_is_a_mistake_in_the_command_line(self, tmp_path: Path) -> None:
        for path in (tmp_path / "nothing.json", tmp_path):
            assert ask("validate", str(path)).exit_code == 2
        assert ask("validate").exit_code == 2
        # A file that opens, and cannot be read.
        asked = ask("validate", "/proc/self/mem")
        assert (asked.exit_code, asked.stderr.startswith("Error: FILE cannot be read (")) == (2, True)


class TestPreview:
    """The function is asked, once, and its answer is shown."""

    def test_what_would_be_violated_and_cleared(self, wire: Wire, document: str) -> None:
        late = offender(
            "bob@example.com", 2, threshold_minutes=0, limit="mon-fri 07:00-19:00", actual="19:31 CET"
        )
        after_hours = Previewed(PolicyKind.OUTSIDE_HOURS, violated=23, sessions=[late])
        wire.answers["Invoke"] = saying(answered(offender(), others={"after-hours": after_hours}))
        asked = ask("preview", document)
        assert asked.exit_code == 0
        assert [line.rstrip() for line in asked.stdout.splitlines()] == [
            "POLICY       KIND           VIOLATED  CLEARED",
            "too-long     TOO_LONG              1        1",
            "after-hours  OUTSIDE_HOURS        23        0",
            "",
            "POLICY       USER             STACK   FLEET  SESSION    ACTUAL     LIMIT",
            "too-long     ann@example.com  office  cad    session-1  603 min    600 min",
            "after-hours  bob@example.com  office  cad    session-2  19:31 CET  mon-fri 07:00-19:00",
            "and 22 more",
            "looked at 12 sessions; nothing was written, so the policies in force are as before",
        ]
        (call,) = wire.parameters("Invoke")
        assert json.loads(call.pop("Payload")) == {"preview": GOOD}
        assert call == {"FunctionName": FUNCTION, "InvocationType": "RequestResponse"}

    def test_a_document_that_finds_nobody(self, wire: Wire, document: str) -> None:
        wire.answers["Invoke"] = saying(answered())
        asked = ask("preview", document)
        assert (asked.exit_code, "USER" in asked.stdout) == (0, False)

    def test_as_json_and_as_csv(self, wire: Wire, document: str) -> None:
        wire.answers["Invoke"] = saying(answered(offender()))
        found = judged("preview", ask("preview", document, "-o", "json").stdout)
        assert (found["sessions"], found["scopesFailed"], found["error"]) == (12, 0, "")
        (policy,) = found["policies"]
        assert (policy["name"], policy["violated"], policy["cleared"]) == ("too-long", 1, 1)
        assert policy["sessions"][0]["thresholdMinutes"] == 600
        wire.answers["Invoke"] = saying(answered(offender()))
        (row,) = csv.DictReader(io.StringIO(ask("preview", document, "-o", "csv").stdout))
        assert (row["region"], row["violated"], row["sessions"]) == ("eu-west-1", "1", "1")

    def test_what_could_not_be_listed_is_said(self, wire: Wire, document: str) -> None:
        wire.answers["Invoke"] = saying(answered(offender(), failed=22))
        asked = ask("preview", document)
        assert (asked.exit_code, "ann@example.com" in asked.stdout) == (3, True)
        notes = asked.stderr.splitlines()
        assert notes[0] == "Note: stack office, fleet gis-0 could not be listed: ThrottlingException"
        assert (len(notes), notes[-1]) == (21, "Note: 2 more could not be listed")
        wire.answers["Invoke"] = saying(answered(failed=1))
        found = judged("preview", ask("preview", document, "-o", "json").stdout)
        assert (found["scopesFailed"], [each["fleetName"] for each in found["unlisted"]]) == (1, ["gis-0"])

    def test_the_function_says_what_is_wrong(self, wire: Wire) -> None:
        wrong = {"version": "1.0.0", "error": 'policies.x.tags: TagKeys has no "team\x1b"; known: none'}
        for form, code in (("table", 1), ("json", 1)):
            wire.answers["Invoke"] = saying(wrong)
            asked = ask("preview", "-", "-o", form, typed=MISSPELT)
            assert asked.exit_code == code
            assert 'Error: policies.x.tags: TagKeys has no "team\ufffd"; known: none' in asked.stderr
        assert judged("preview", asked.stdout)["error"] == wrong["error"]

    def test_whatever_policies_and_users_are_called(self, wire: Wire, document: str) -> None:
        named = {
            HOSTILE: Previewed(PolicyKind.DRAINING, violated=1, sessions=[offender(HOSTILE, limit=HOSTILE)])
        }
        for form in ("table", "csv", "json"):
            wire.answers["Invoke"] = saying(answered(others=named))
            asked = ask("preview", document, "-o", form)
            assert asked.exit_code == 0
            assert all(each.isprintable() or each == "\n" for each in asked.stdout)
            assert "\n=cmd" not in asked.stdout.replace(",", "\n") or form == "table"

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            pytest.param(
                raising(client_error("AccessDeniedException", "Invoke")),
                f"your AWS credentials may not lambda:InvokeFunction on {FUNCTION}, and ReaderPolicyArn",
                id="denied",
            ),
            pytest.param(
                raising(client_error("TooManyRequestsException", "Invoke")),
                f"Lambda throttles {FUNCTION} (TooManyRequestsException): try again in a minute",
                id="throttled",
            ),
            pytest.param(
                raising(client_error("ResourceNotFoundException", "Invoke")),
                f"the function {FUNCTION} does not exist any more",
                id="deleted",
            ),
            pytest.param(
                raising(client_error("KMSAccessDeniedException", "Invoke")),
                "lambda:Invoke failed (KMSAccessDeniedException)",
                id="refused",
            ),
            pytest.param(
                raising(ReadTimeoutError(endpoint_url="https://ann@example.com")),
                "lambda cannot be reached (ReadTimeoutError)",
                id="out of reach",
            ),
            pytest.param(
                saying({"errorType": "TopologyError", "errorMessage": "ann"}, FunctionError="Unhandled"),
                f"the function {FUNCTION} failed (TopologyError): look into its log",
                id="a function that failed",
            ),
            pytest.param(
                saying({"errorType": ["ann"]}, FunctionError="Unhandled"),
                f"the function {FUNCTION} failed (no reason given)",
                id="for no reason",
            ),
            pytest.param(
                saying(b"<html>", FunctionError="Unhandled"),
                f"the function {FUNCTION} failed (no reason given)",
                id="without JSON",
            ),
            *(
                pytest.param(saying(payload), "the function's answer cannot be understood", id=name)
                for name, payload in {
                    "a sweep's answer": {
                        "version": "0.3.0",
                        "sweepId": "20260302T080000Z-1",
                        "sessionsSeen": 3,
                    },
                    "a kind of a later release": answered() | {"policies": {"x": {"kind": "TOO_IDLE"}}},
                    "no object": [],
                    "no JSON": b"{",
                    "nested deeply": b"[" * 100_000,
                }.items()
            ),
        ],
    )
    def test_what_is_not_answered(self, wire: Wire, document: str, *, answer: Answer, said: str) -> None:
        wire.answers["Invoke"] = answer
        asked = ask("preview", document)
        assert (asked.exit_code, asked.stdout) == (3, "")
        assert asked.stderr.startswith(f"Error: {said}")
        assert "ann" not in asked.stderr.replace("cannot", "")

    def test_there_has_to_be_an_auditor_that_knows_policies(self, wire: Wire, document: str) -> None:
        wire.answers["DescribeStacks"] = stack_of([])
        older = ask("preview", document)
        assert (older.exit_code, "of a release without policies: deploy a newer" in older.stderr) == (2, True)
        wire.answers["DescribeStacks"] = raising(client_error("ValidationError", "DescribeStacks"))
        nothing = ask("preview", document)
        assert (nothing.exit_code, "no stack appstream-session-auditor in" in nothing.stderr) == (2, True)
        table = ask("preview", document, "--table", "sessions")
        assert (table.exit_code, "leave out --table" in table.stderr) == (2, True)
        assert ask("preview", document, "--region", "eu-west-1", "--region", "us-east-1").exit_code == 2
        assert wire.parameters("Invoke") == []

    def test_a_document_that_cannot_be_sent_is_not_sent(self, wire: Wire) -> None:
        asked = ask("preview", "-", typed=b"\xff")
        assert (asked.exit_code, wire.calls) == (1, [])

    def test_it_waits_as_long_as_a_sweep_may_take(
        self, wire: Wire, document: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waits: dict[str, float] = {}
        below = vars(BaseClient)["_make_api_call"]

        def make_api_call(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
            waits[operation] = client.meta.config.read_timeout
            return below(client, operation, parameters)

        monkeypatch.setattr(BaseClient, "_make_api_call", make_api_call)
        wire.answers["DescribeStacks"] = stack_of(parameters(SweepTimeLimit="300"))
        wire.answers["Invoke"] = saying(answered())
        assert ask("preview", document).exit_code == 0
        assert waits["Invoke"] > 300 > waits["DescribeStacks"]
