"""Targets that messages name: whose credentials are asked for, what is swept, and whose fault is whose.

The handler is the deployed one; AppStream and STS are answered by account at botocore's API-call level, the
table is moto's.
"""

import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any, NoReturn

import botocore
import botocore.client
import moto.core.config
import pytest
import time_machine
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import ReadTimeoutError

from sandbox.cloud import ROOT
from session_auditor.auditors import GIVEN_UP_AFTER, RENEWED_BEFORE_THE_END, TRIES, targets_kept
from session_auditor.messages import Message, read_message
from tests.shared.aws import Context, client_error
from tests.shared.history import START
from tests.shared.table import Table
from tests.shared.table import table as mocked_table

HUB, REGION = "123456789012", "eu-west-1"
SPOKE, OTHER = "111111111111", "222222222222"
MINUTE = timedelta(minutes=1)
MESSAGE = {"account": SPOKE, "region": REGION, "due": "2026-03-02T08:00:00Z"}


class Organisation:
    """Accounts with a session each, in every region; the function that sweeps them, and a bus."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: time_machine.Traveller) -> None:
        self.clock = clock
        self.calls: list[tuple[str, str, str]] = []
        self.roles: list[dict[str, Any]] = []
        self.fails: dict[tuple[str, str], str] = {}
        self.hangs: set[tuple[str, str]] = set()
        self.silent_fleet = ""
        self.states: dict[str, str] = {}
        self.bus: list[dict[str, Any]] = []
        below = vars(botocore.client.BaseClient)["_make_api_call"]

        def make_api_call(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
            signer = client._request_signer
            key = signer._credentials.access_key if signer._credentials else ""
            account = key.removeprefix("ASIA") if key.startswith("ASIA") else HUB
            self.calls.append((account, client.meta.region_name, operation))
            code = self.fails.get((account, operation))
            if code:
                raise client_error(code, operation)
            silent = self.silent_fleet and parameters.get("FleetName") == self.silent_fleet
            if silent or (account, operation) in self.hangs:
                return below(client, operation, parameters)
            answer = getattr(self, f"answer_{botocore.xform_name(operation)}", None)
            return answer(account, parameters) if answer else below(client, operation, parameters)

        monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", make_api_call)

    def answer_assume_role(self, _: str, parameters: dict[str, Any]) -> dict[str, Any]:
        account = parameters["RoleArn"].split(":")[4]
        self.roles.append(parameters)
        if code := self.fails.get((account, "AssumeRole")):
            raise client_error(code, "AssumeRole")
        keys = {"AccessKeyId": f"ASIA{account}", "SecretAccessKey": "secret", "SessionToken": "token"}
        return {"Credentials": keys | {"Expiration": datetime.now(UTC) + timedelta(hours=1)}}

    def answer_describe_stacks(self, _: str, __: dict[str, Any]) -> dict[str, Any]:
        return {"Stacks": [{"Name": "office"}]}

    def answer_describe_fleets(self, _: str, __: dict[str, Any]) -> dict[str, Any]:
        return {"Fleets": [{"Name": "cad"}]}

    def answer_list_associated_fleets(self, _: str, __: dict[str, Any]) -> dict[str, Any]:
        return {"Names": ["cad"]}

    def answer_describe_sessions(self, account: str, _: dict[str, Any]) -> dict[str, Any]:
        session = {
            "Id": f"session-of-{account}",
            "UserId": "jane.doe@example.com",
            "StackName": "office",
            "FleetName": "cad",
            "State": "ACTIVE",
            "ConnectionState": self.states.get(account, "CONNECTED"),
            "AuthenticationType": "SAML",
            "StartTime": START,
        }
        return {"Sessions": [session]}

    def answer_put_events(self, _: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self.bus += [json.loads(entry["Detail"]) | entry for entry in parameters["Entries"]]
        return {"Entries": [{"EventId": "id"} for _ in parameters["Entries"]]}

    def asked(self, account: str, operation: str) -> int:
        return sum((each[0], each[2]) == (account, operation) for each in self.calls)

    def told(self) -> list[tuple[str, str]]:
        """Which account each event is of, and its type, since last asked."""
        told = [(each["metadata"]["accountId"], each["DetailType"].split()[-1]) for each in self.bus]
        self.bus.clear()
        return told


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(START, tick=False) as clock:
        yield clock


@pytest.fixture
def table() -> Iterator[Table]:
    with mocked_table() as table:
        yield table


@pytest.fixture
def organisation(
    table: Table, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> Organisation:
    del table
    return Organisation(monkeypatch, clock)


@pytest.fixture
def container(organisation: Organisation, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return new_container(monkeypatch)


def new_container(monkeypatch: pytest.MonkeyPatch, **environment: str) -> ModuleType:
    """Load the function anew."""
    for name, value in {
        "TABLE_NAME": "sessions",
        "EVENT_BUS_NAME": "bus",
        "TARGET_ACCOUNT_ID": HUB,
        "TARGET_REGION": REGION,
        "WORKERS": "1",
        "POWERTOOLS_SERVICE_NAME": "auditor",
        "POWERTOOLS_METRICS_NAMESPACE": "AppStreamSessionAuditor",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
        **environment,
    }.items():
        monkeypatch.setenv(name, value)
    path = ROOT / "functions/auditor/auditor.py"
    spec = importlib.util.spec_from_file_location("auditor_of_targets", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def ask(container: ModuleType, *targets: tuple[str, str], late: timedelta = timedelta()) -> Counter[str]:
    """Invoke the function with a message for each target, due now or so long ago."""
    due = datetime.now(UTC) - late
    records = [
        {"messageId": str(number), "body": Message(*target, due).text}
        for number, target in enumerate(targets)
    ]
    answer = container.handler({"Records": records}, Context(50, "auditor"))
    return Counter(answer["outcomes"])


SPOKES = ((SPOKE, REGION), (OTHER, REGION))


def minutes(
    container: ModuleType, organisation: Organisation, number: int, *targets: tuple[str, str]
) -> None:
    for _ in range(number):
        ask(container, *targets or SPOKES)
        organisation.clock.shift(MINUTE)


def test_each_target_is_told_of_as_itself(container: ModuleType, organisation: Organisation) -> None:
    targets = (*SPOKES, (SPOKE, "us-east-1"), (HUB, REGION), (HUB, "us-east-1"))
    minutes(container, organisation, 2, *targets)
    organisation.states = dict.fromkeys((SPOKE, OTHER, HUB), "NOT_CONNECTED")
    ask(container, *targets)
    told = [(each["metadata"]["accountId"], each["metadata"]["region"]) for each in organisation.bus]
    assert sorted(told) == sorted(targets)
    assert len({each["metadata"]["eventId"] for each in organisation.bus}) == len(targets)
    assert {each["Resources"][0].split(":")[4] for each in organisation.bus} == {SPOKE, OTHER, HUB}


def test_a_role_is_assumed_where_the_account_is_another(
    container: ModuleType, organisation: Organisation
) -> None:
    ask(container, *SPOKES, (HUB, REGION), (HUB, "us-east-1"))
    assert [each["RoleArn"] for each in organisation.roles] == [
        f"arn:aws:iam::{account}:role/AppStreamSessionAuditorSpoke" for account in (SPOKE, OTHER)
    ]
    assert all("ExternalId" not in each for each in organisation.roles)
    assert {region for _, region, operation in organisation.calls if operation == "AssumeRole"} == {REGION}


def test_the_role_and_its_external_id_are_settings(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(new_container(monkeypatch, SPOKE_ROLE="watch", EXTERNAL_ID="us:only"), (SPOKE, REGION))
    (role,) = organisation.roles
    assert (role["RoleArn"], role["ExternalId"]) == (f"arn:aws:iam::{SPOKE}:role/watch", "us:only")


def test_credentials_are_of_the_account_and_renewed_before_they_end(
    container: ModuleType, organisation: Organisation
) -> None:
    targets = ((SPOKE, REGION), (SPOKE, "us-east-1"))
    minutes(container, organisation, 121, *targets)
    # Twice an hour at most, for all regions together.
    assert len(organisation.roles) == 4
    assert timedelta(hours=1) - RENEWED_BEFORE_THE_END > 30 * MINUTE


@pytest.mark.parametrize(
    ("account", "code", "roles"),
    [
        pytest.param(SPOKE, "ExpiredTokenException", 2, id="ended"),
        pytest.param(SPOKE, "UnrecognizedClientException", 2, id="of a role that was made anew"),
        pytest.param(SPOKE, "AccessDeniedException", 1, id="good, and not enough"),
        # Lambda renews the function's own.
        pytest.param(HUB, "ExpiredTokenException", 0, id="the function's own"),
    ],
)
def test_credentials_that_aws_calls_ended_are_asked_for_anew(
    container: ModuleType, organisation: Organisation, account: str, code: str, roles: int
) -> None:
    target = (account, "us-east-1")
    organisation.fails[account, "DescribeStacks"] = code
    assert ask(container, target) == {"FAILED": 1}
    organisation.fails.clear()
    organisation.clock.shift(MINUTE)
    assert ask(container, target) == {"COMPLETED": 1}
    assert len(organisation.roles) == roles


def test_clients_are_kept_for_the_targets_of_lately(
    container: ModuleType, organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container.auditors, "_targets_kept", 2)
    del organisation

    def auditor(account: str) -> Any:
        return container.auditors.of(account, REGION, START)

    first = auditor(SPOKE)
    second = auditor(OTHER)
    assert (auditor(SPOKE), auditor(OTHER)) == (first, second)
    auditor(SPOKE)
    auditor("333333333333")
    assert auditor(SPOKE) is first
    assert auditor(OTHER) is not second


@pytest.mark.parametrize(("memory", "targets"), [(256, 100), (306, 100), (512, 512), (1024, 1536)])
def test_how_many_are_kept_follows_from_the_functions_memory(
    monkeypatch: pytest.MonkeyPatch, organisation: Organisation, memory: int, targets: int
) -> None:
    del organisation
    assert targets_kept(memory) == targets
    container = new_container(monkeypatch, AWS_LAMBDA_FUNCTION_MEMORY_SIZE=str(memory))
    assert container.auditors._targets_kept == targets


def test_one_large_target_leaves_the_clients_of_others(
    container: ModuleType, organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_auditor.auditors.SESSIONS_KEPT", 2)
    minutes(container, organisation, 2, *SPOKES, (SPOKE, "us-east-1"))
    asked = organisation.asked(SPOKE, "DescribeStacks")
    minutes(container, organisation, 1, *SPOKES, (SPOKE, "us-east-1"))
    assert len(container.auditors._others) == 3
    assert organisation.asked(SPOKE, "DescribeStacks") == asked


def test_all_targets_share_their_connections(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = vars(botocore.client.BaseClient)["_make_api_call"]
    used: dict[str, set[int]] = {}

    def call(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        if client.meta.service_model.service_name in {"appstream", "resourcegroupstaggingapi"}:
            used.setdefault(operation, set()).add(id(client._endpoint.http_session))
        return below(client, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", call)
    container = new_container(monkeypatch, TAG_KEYS="team")
    ask(container, *SPOKES, (SPOKE, "us-east-1"), (HUB, "us-east-1"))
    assert {"DescribeSessions", "GetResources"} < used.keys()
    assert len(set.union(*used.values())) == 1
    assert organisation.asked(OTHER, "DescribeSessions")


class Running(Context):
    """An invocation whose time goes by."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds, "auditor")
        self._end = datetime.now(UTC) + timedelta(seconds=seconds)

    def get_remaining_time_in_millis(self) -> int:
        return int((self._end - datetime.now(UTC)).total_seconds() * 1000)


class TestTargetsThatHang:
    """AppStream takes the connection and never answers, however long the settings would wait."""

    @pytest.fixture
    def waited(self, monkeypatch: pytest.MonkeyPatch, clock: time_machine.Traveller) -> list[float]:
        """What was waited for, in seconds; the clock goes on by it."""
        waited: list[float] = []

        def wait(seconds: float) -> None:
            waited.append(seconds)
            clock.shift(seconds)

        def urlopen(pool: HTTPConnectionPool, *_: object, **__: object) -> NoReturn:
            assert isinstance(pool.timeout.read_timeout, int)
            wait(pool.timeout.read_timeout)
            raise ReadTimeoutError(pool, "/", "no answer")

        # moto answers what it knows, and would answer this, too.
        passes = {"services": [], "urls": [r"https://appstream2.*"]}
        monkeypatch.setitem(moto.core.config.default_user_config["core"], "passthrough", passes)
        monkeypatch.setattr(HTTPConnectionPool, "urlopen", urlopen)
        monkeypatch.setattr("time.sleep", wait)
        return waited

    @pytest.mark.parametrize("seconds", ["1", "5", "60"])
    def test_its_stacks(
        self, organisation: Organisation, monkeypatch: pytest.MonkeyPatch, waited: list[float], seconds: str
    ) -> None:
        container = new_container(monkeypatch, API_TIME_LIMIT=seconds)
        organisation.hangs.add((SPOKE, "DescribeStacks"))
        assert ask(container, *SPOKES) == {"FAILED": 1, "COMPLETED": 1}
        assert TRIES <= sum(waited) <= GIVEN_UP_AFTER

    def test_whatever_is_asked_of_it(
        self, organisation: Organisation, monkeypatch: pytest.MonkeyPatch, waited: list[float]
    ) -> None:
        """What is known of it makes it hang no longer; it is degraded as one, and recovers as one."""
        names = [f"cad{number}" for number in range(9)]
        monkeypatch.setattr(organisation, "answer_list_associated_fleets", lambda *_: {"Names": names})
        container = new_container(monkeypatch)
        minutes(container, organisation, 2, (SPOKE, REGION))
        organisation.told()
        operations = ("DescribeStacks", "DescribeFleets", "ListAssociatedFleets", "DescribeSessions")
        organisation.hangs |= {(SPOKE, operation) for operation in operations}
        for _ in range(12):
            waited.clear()
            assert ask(container, *SPOKES) == {"FAILED": 1, "COMPLETED": 1}
            assert 0 < sum(waited) <= GIVEN_UP_AFTER
            organisation.clock.shift(MINUTE)
        organisation.hangs.clear()
        minutes(container, organisation, 2, (SPOKE, REGION))
        assert [told for told in organisation.told() if told[0] == SPOKE] == [
            (SPOKE, "Degraded"),
            (SPOKE, "Recovered"),
        ]

    def test_one_scope_of_it(
        self, organisation: Organisation, monkeypatch: pytest.MonkeyPatch, waited: list[float]
    ) -> None:
        """Where others answer, only the one that does not is left out."""
        names = [f"cad{number}" for number in range(9)]
        monkeypatch.setattr(organisation, "answer_list_associated_fleets", lambda *_: {"Names": names})
        organisation.silent_fleet = names[4]
        container = new_container(monkeypatch)
        assert ask(container, (SPOKE, REGION)) == {"COMPLETED": 1}
        assert waited
        assert organisation.asked(SPOKE, "DescribeSessions") >= len(names)

    def test_the_own_one_leaves_time_to_commit(
        self, organisation: Organisation, monkeypatch: pytest.MonkeyPatch, waited: list[float]
    ) -> None:
        container = new_container(monkeypatch)
        container.handler({}, Context(50, "auditor"))
        organisation.clock.shift(MINUTE)
        operations = ("DescribeStacks", "DescribeFleets", "ListAssociatedFleets")
        organisation.hangs |= {(HUB, operation) for operation in operations}
        organisation.clock.shift(5 * MINUTE)
        assert container.handler({}, Running(50))["outcome"] == "COMPLETED"
        assert 25 < sum(waited) < 45


def test_the_first_message_is_always_taken(container: ModuleType) -> None:
    """However short SweepTimeLimit is: to leave it out would be to sweep never."""
    records = [
        {"messageId": str(number), "body": Message(*target, datetime.now(UTC)).text}
        for number, target in enumerate(SPOKES)
    ]
    answer = container.handler({"Records": records}, Context(14, "auditor"))
    assert answer["outcomes"] == {"COMPLETED": 1, "NO_TIME": 1}


def test_credentials_whose_end_cannot_be_read_are_not_kept(
    container: ModuleType, organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"AccessKeyId": f"ASIA{SPOKE}", "SecretAccessKey": "secret", "SessionToken": "token"}
    with monkeypatch.context() as broken:
        broken.setattr(
            organisation, "answer_assume_role", lambda *_: {"Credentials": keys | {"Expiration": None}}
        )
        assert ask(container, (SPOKE, REGION)) == {"FAILED": 1}
    organisation.clock.shift(MINUTE)
    assert ask(container, (SPOKE, REGION)) == {"COMPLETED": 1}


def test_the_sessions_of_many_targets_are_not_all_kept(
    container: ModuleType, organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_auditor.auditors.SESSIONS_KEPT", 2)
    targets = [(f"{number:012}", REGION) for number in range(1, 5)]
    minutes(container, organisation, 2, *targets)
    kept = [
        container.auditors.of(*target, datetime.now(UTC)).snapshots.sessions_kept for target in targets[-2:]
    ]
    assert kept == [1, 1]
    assert container.auditors._sessions() == 2


class TestMessages:
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(None, id="none"),
            pytest.param("", id="empty"),
            pytest.param("{", id="no JSON"),
            pytest.param("[]", id="a list"),
            pytest.param(
                '{"account": "1", "region": "eu-west-1", "due": "2026-03-02T08:00:00Z"}', id="no account"
            ),
            pytest.param(
                '{"account": "111111111111", "region": 7, "due": "2026-03-02T08:00:00Z"}', id="no region"
            ),
            pytest.param(
                '{"account": "111111111111", "region": "../x", "due": "2026-03-02T08:00:00Z"}',
                id="a region that is none",
            ),
            pytest.param('{"account": "111111111111", "region": "eu-west-1", "due": "soon"}', id="no time"),
            pytest.param(
                '{"account": "111111111111", "region": "eu-west-1", "due": "2026-03-02T08:00:00"}',
                id="a time of no zone",
            ),
            pytest.param('{"account": "111111111111", "region": "eu-west-1"}', id="never due"),
        ],
    )
    def test_what_is_none_is_dropped_and_counted(
        self, container: ModuleType, organisation: Organisation, body: object
    ) -> None:
        assert read_message(body) is None
        answer = container.handler({"Records": [{"messageId": "1", "body": body}]}, Context(50, "auditor"))
        assert answer["outcomes"] == {"NO_MESSAGE": 1}
        assert organisation.calls == []

    def test_it_reads_as_it_was_written(self) -> None:
        message = Message(SPOKE, REGION, START)
        assert read_message(message.text) == message
        assert json.loads(message.text) == MESSAGE

    def test_one_that_is_late_is_void(self, container: ModuleType, organisation: Organisation) -> None:
        assert ask(container, (SPOKE, REGION), late=timedelta(seconds=61)) == {"VOID": 1}
        assert organisation.calls == []
        assert ask(container, (SPOKE, REGION), late=timedelta(seconds=60)) == {"COMPLETED": 1}

    def test_one_that_comes_twice_sweeps_once(
        self, container: ModuleType, organisation: Organisation
    ) -> None:
        ask(container, (SPOKE, REGION))
        organisation.calls.clear()
        assert ask(container, (SPOKE, REGION)) == {"LEFT_OUT": 1}
        assert {operation for _, _, operation in organisation.calls} == {"Query"}

    def test_one_that_an_earlier_sweep_makes_good_is_left_out(
        self, container: ModuleType, organisation: Organisation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        organisation.clock.shift(timedelta(seconds=40))
        ask(container, (SPOKE, REGION))
        assert ask(new_container(monkeypatch), (SPOKE, REGION), late=timedelta(seconds=40)) == {"LEFT_OUT": 1}


class TestFaults:
    """A fault of a target is told as its own, and costs no other target anything."""

    @pytest.mark.parametrize(
        ("operation", "code"),
        [
            pytest.param("AssumeRole", "AccessDenied", id="no such role"),
            pytest.param("AssumeRole", "RegionDisabledException", id="STS is off"),
            pytest.param("DescribeStacks", "AccessDeniedException", id="topology denied"),
            pytest.param("DescribeStacks", "UnrecognizedClientException", id="no such region"),
        ],
    )
    def test_it_is_degraded_once_and_recovers_once(
        self, container: ModuleType, organisation: Organisation, operation: str, code: str
    ) -> None:
        minutes(container, organisation, 2)
        organisation.fails[SPOKE, operation] = code
        # So that what is kept of the topology and the role is read anew.
        organisation.clock.shift(timedelta(hours=1))
        minutes(container, organisation, 10)
        degraded = [each for each in organisation.bus if each["DetailType"] == "AppStream Audit Degraded"]
        assert [each["metadata"]["accountId"] for each in degraded] == [SPOKE]
        assert degraded[0]["data"]["reason"] == (f"AssumeRole {code}" if operation == "AssumeRole" else code)
        assert (degraded[0]["data"]["stackName"], degraded[0]["data"]["fleetName"]) == ("", "")
        assert "AppStream Session Ended" not in {each["DetailType"] for each in organisation.bus}
        organisation.told()
        organisation.fails.clear()
        minutes(container, organisation, 3)
        assert organisation.told() == [(SPOKE, "Recovered")]

    def test_no_other_target_is_later_by_it(self, container: ModuleType, organisation: Organisation) -> None:
        minutes(container, organisation, 2)
        organisation.fails[SPOKE, "AssumeRole"] = "AccessDenied"
        organisation.clock.shift(timedelta(hours=1))
        organisation.states[OTHER] = "NOT_CONNECTED"
        assert ask(container, *SPOKES) == {"FAILED": 1, "COMPLETED": 1}
        assert (OTHER, "Disconnected") in organisation.told()

    def test_a_role_that_cannot_be_renewed_is_used_to_its_end(
        self, container: ModuleType, organisation: Organisation
    ) -> None:
        ask(container, (SPOKE, REGION))
        organisation.fails[SPOKE, "AssumeRole"] = "ThrottlingException"
        organisation.clock.shift(timedelta(minutes=50))
        assert ask(container, (SPOKE, REGION)) == {"COMPLETED": 1}
        organisation.clock.shift(timedelta(minutes=11))
        assert ask(container, (SPOKE, REGION)) == {"FAILED": 1}

    def test_an_item_of_a_target_that_cannot_be_read_stops_no_other(
        self, container: ModuleType, organisation: Organisation, table: Table
    ) -> None:
        minutes(container, organisation, 1)
        (item,) = [each for each in table.items(f"TARGET#{SPOKE}") if each["sk"]["S"] == "TARGET"]
        table.put(item | {"schema": {"N": "99"}})
        assert ask(container, *SPOKES) == {"NOT_SWEPT": 1, "COMPLETED": 1}


class TestAsked:
    """What is asked by hand is asked of the own target, or of the one that is named."""

    def test_refused_events_of_a_target_are_put_back(
        self, container: ModuleType, organisation: Organisation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        minutes(container, organisation, 2)
        taken = organisation.answer_put_events

        def refuse(_: str, parameters: dict[str, Any]) -> dict[str, Any]:
            return {"Entries": [{"ErrorCode": "InvalidArgument"} for _ in parameters["Entries"]]}

        monkeypatch.setattr(organisation, "answer_put_events", refuse)
        organisation.states[SPOKE] = "NOT_CONNECTED"
        minutes(container, organisation, 1)
        monkeypatch.setattr(organisation, "answer_put_events", taken)
        assert container.handler({"republish": "all"}, Context(50, "auditor"))["republished"] == []
        asked = {"republish": "all", "account": SPOKE, "region": REGION}
        assert len(container.handler(asked, Context(50, "auditor"))["republished"]) == 1
        assert organisation.told() == [(SPOKE, "Disconnected")]

    def test_a_preview_of_a_target(self, container: ModuleType, organisation: Organisation) -> None:
        del organisation
        long = {"kind": "TOO_LONG", "minutes": [1]}
        document = {"version": 1, "timeZone": "UTC", "policies": {"long": long}}
        asked = {"preview": document, "account": SPOKE, "region": REGION}
        with time_machine.travel(START + 5 * MINUTE, tick=False):
            answer = container.handler(asked, Context(50, "auditor"))
        (named,) = answer["policies"]["long"]["sessions"]
        assert named["sessionId"] == f"session-of-{SPOKE}"

    @pytest.mark.parametrize("target", [{"account": SPOKE}, {"region": REGION}, {"account": 7, "region": 7}])
    def test_half_a_target_is_none(self, container: ModuleType, target: dict[str, Any]) -> None:
        with pytest.raises(TypeError, match="name a target"):
            container.handler({"republish": "all"} | target, Context(50, "auditor"))


class TestQuiet:
    def test_nothing_is_logged_or_counted(
        self,
        capsys: pytest.CaptureFixture[str],
        organisation: Organisation,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # A logger of its own, which writes where it is read.
        container = new_container(monkeypatch, POWERTOOLS_SERVICE_NAME="quiet")
        minutes(container, organisation, 2)
        capsys.readouterr()
        minutes(container, organisation, 3)
        assert capsys.readouterr().out == ""

    def test_a_target_that_cannot_be_read_is_logged_when_it_is_told(
        self,
        capsys: pytest.CaptureFixture[str],
        organisation: Organisation,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        container = new_container(monkeypatch, POWERTOOLS_SERVICE_NAME="unreadable")
        organisation.fails[SPOKE, "AssumeRole"] = "AccessDenied"
        minutes(container, organisation, 12)
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        told = [line for line in lines if line.get("message") == "sweep failed"]
        assert [line["eventsPublished"] for line in told] == [{"AppStream Audit Degraded": 1}]
        assert {line["account"] for line in lines if "account" in line} == {SPOKE}

    def test_what_happens_is_logged_with_its_target(
        self,
        capsys: pytest.CaptureFixture[str],
        organisation: Organisation,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        container = new_container(monkeypatch, POWERTOOLS_SERVICE_NAME="busy")
        minutes(container, organisation, 2)
        organisation.states[OTHER] = "NOT_CONNECTED"
        capsys.readouterr()
        ask(container, *SPOKES)
        line, metrics = map(json.loads, capsys.readouterr().out.splitlines())
        assert metrics["EventsPublished"] == [1.0]
        assert (line["account"], line["region"], line["message"]) == (OTHER, REGION, "sweep completed")
