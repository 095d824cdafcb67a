"""Our own AppStream behaves as the API reference says, under moto's mock and over HTTP alike."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.server import ThreadedMotoServer

from sandbox import appstream
from sandbox.appstream.models import Fault, Fleet, StreamingSession

ACCOUNT_ID, REGION = "123456789012", "eu-west-1"


def client(endpoint: str | None = None, service: str = "appstream") -> Any:
    aws: Any = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION)
    return aws.client(service, endpoint_url=endpoint, config=Config(retries={"total_max_attempts": 1}))


@pytest.fixture(params=["mock", "server"])
def service(request: pytest.FixtureRequest) -> Iterator[Any]:
    appstream.register()
    if request.param == "mock":
        with mock_aws():
            yield client()
        return
    appstream.appstream_backends.reset()
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield client(f"http://{host}:{port}")
    server.stop()


@pytest.fixture
def state(service: Any) -> appstream.AppStreamBackend:
    backend = appstream.appstream_backends[ACCOUNT_ID][REGION]
    backend.add_scope("office", Fleet("cad", disconnect_timeout=1800))
    for number in range(120):
        kind = "API" if number % 3 else "SAML"
        backend.sessions[str(number)] = StreamingSession(
            f"s-{number}", f"user-{number}", "office", "cad", authentication_type=kind
        )
    return backend


def code_of(call: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    code: str = caught.value.response["Error"]["Code"]
    return code


def test_topology(service: Any, state: appstream.AppStreamBackend) -> None:
    assert [each["Name"] for each in service.describe_stacks()["Stacks"]] == ["office"]
    assert service.list_associated_fleets(StackName="office")["Names"] == ["cad"]
    assert service.describe_fleets()["Fleets"][0]["DisconnectTimeoutInSeconds"] == 1800
    state.add_scope("lab", Fleet("gis", fleet_type="ELASTIC", max_sessions_per_instance=4, in_use=2))
    gis = service.describe_fleets()["Fleets"][1]
    assert (gis["FleetType"], gis["MaxSessionsPerInstance"]) == ("ELASTIC", 4)
    assert gis["ComputeCapacityStatus"]["InUse"] == 2
    for number in range(30):
        state.add_scope(f"stack-{number}", Fleet(f"fleet-{number}"))
    names = [
        each["Name"]
        for page in service.get_paginator("describe_stacks").paginate()
        for each in page["Stacks"]
    ]
    assert len(names) == len(set(names)) == 32


@pytest.mark.parametrize(("limit", "pages"), [(None, 6), (50, 3), (7, 18)])
def test_pages(service: Any, state: appstream.AppStreamBackend, limit: int | None, pages: int) -> None:
    paginator = service.get_paginator("describe_sessions")
    found = list(
        paginator.paginate(StackName="office", FleetName="cad", PaginationConfig={"PageSize": limit})
    )
    assert len(found) == pages
    assert len({each["Id"] for page in found for each in page["Sessions"]}) == 120


def test_filters(service: Any, state: appstream.AppStreamBackend) -> None:
    scope = {"StackName": "office", "FleetName": "cad", "Limit": 50}
    assert len(service.describe_sessions(**scope, AuthenticationType="SAML")["Sessions"]) == 40
    (one,) = service.describe_sessions(**scope, UserId="user-3", AuthenticationType="SAML")["Sessions"]
    assert one["Id"] == "s-3"
    state.unfiltered_shows_only_api = True
    shown = {each["AuthenticationType"] for each in service.describe_sessions(**scope)["Sessions"]}
    assert shown == {"API"}


def test_what_is_not_known_is_left_out(service: Any, state: appstream.AppStreamBackend) -> None:
    start = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
    state.sessions = {
        "bare": StreamingSession(
            "bare", "u", "office", "cad", connection_state=None, authentication_type=None
        ),
        "full": StreamingSession("full", "u", "office", "cad", start_time=start, eni_id="eni-1"),
    }
    bare, full = service.describe_sessions(StackName="office", FleetName="cad")["Sessions"]
    assert set(bare) == {"Id", "UserId", "StackName", "FleetName", "State"}
    assert full["StartTime"] == start
    assert full["NetworkAccessConfiguration"] == {"EniId": "eni-1"}


def test_errors(service: Any, state: appstream.AppStreamBackend) -> None:
    scope = {"StackName": "office", "FleetName": "cad"}
    call = service.describe_sessions
    assert code_of(call, **scope, UserId="user-3") == "InvalidParameterCombinationException"
    assert code_of(call, **scope, Limit=51) == "ValidationException"
    assert code_of(call, **scope, NextToken="stale") == "ValidationException"
    assert code_of(call, StackName="office", FleetName="gone") == "ResourceNotFoundException"
    assert code_of(service.list_associated_fleets, StackName="gone") == "ResourceNotFoundException"


def test_faults(service: Any, state: appstream.AppStreamBackend) -> None:
    state.add_scope("lab", Fleet("gis"))
    state.faults = [Fault("ThrottlingException", fleet_name="cad", times=1)]
    assert code_of(service.describe_sessions, StackName="office", FleetName="cad") == "ThrottlingException"
    assert service.describe_sessions(StackName="lab", FleetName="gis")["Sessions"] == []
    assert service.describe_sessions(StackName="office", FleetName="cad")["Sessions"]
    assert state.calls["describe_sessions"] == 3


def test_faults_of_one_type(service: Any, state: appstream.AppStreamBackend) -> None:
    scope = {"StackName": "office", "FleetName": "cad"}
    code = "InvalidParameterCombinationException"
    state.faults = [Fault(code, authentication_type="USERPOOL")]
    assert code_of(service.describe_sessions, **scope, AuthenticationType="USERPOOL") == code
    assert service.describe_sessions(**scope, AuthenticationType="API")["Sessions"]
    assert service.describe_sessions(**scope)["Sessions"]
    state.faults = [Fault(code, authentication_type="")]
    assert code_of(service.describe_sessions, **scope) == code
    assert service.describe_sessions(**scope, AuthenticationType="API")["Sessions"]


def test_errors_of_a_fleet_come_and_go(service: Any, state: appstream.AppStreamBackend) -> None:
    assert service.describe_fleets()["Fleets"][0]["FleetErrors"] == []
    state.fleets["cad"].errors["DOMAIN_JOIN_ERROR_LOGON_FAILURE"] = "The user name or password is incorrect."
    (cad,) = service.describe_fleets()["Fleets"]
    assert cad["FleetErrors"] == [
        {
            "ErrorCode": "DOMAIN_JOIN_ERROR_LOGON_FAILURE",
            "ErrorMessage": "The user name or password is incorrect.",
        }
    ]
    state.fleets["cad"].errors.clear()
    assert service.describe_fleets()["Fleets"][0]["FleetErrors"] == []


def test_what_is_answered_is_in_the_model(service: Any, state: appstream.AppStreamBackend) -> None:
    state.add_scope("lab", Fleet("gis", max_sessions_per_instance=4, errors={"STS_DISABLED_IN_REGION": "no"}))
    model = service.meta.service_model
    for fleet in service.describe_fleets()["Fleets"]:
        assert fleet["FleetType"] in model.shape_for("FleetType").enum
        assert fleet["Platform"] in model.shape_for("PlatformType").enum
        assert fleet.keys() >= set(model.shape_for("Fleet").required_members)
        for error in fleet["FleetErrors"]:
            assert error["ErrorCode"] in model.shape_for("FleetErrorCode").enum


def test_a_host_is_drained_for_all_who_are_on_it(service: Any, state: appstream.AppStreamBackend) -> None:
    state.add_scope("lab", Fleet("gis", max_sessions_per_instance=4))
    state.sessions = {
        name: StreamingSession(name, name, "lab", "gis", instance_id=host)
        for name, host in {"alice": "i-1", "bruno": "i-1", "chiara": "i-2"}.items()
    } | {"own": StreamingSession("own", "u", "office", "cad")}
    service.drain_session_instance(SessionId="bruno")
    found = service.describe_sessions(StackName="lab", FleetName="gis")["Sessions"]
    drained = {each["Id"] for each in found if each.get("InstanceDrainStatus") == "DRAINING"}
    assert drained == {"alice", "bruno"}
    assert code_of(service.drain_session_instance, SessionId="own") == "OperationNotPermittedException"
    assert code_of(service.drain_session_instance, SessionId="gone") == "ResourceNotFoundException"


@pytest.mark.parametrize("listed", [False, True], ids=["it vanishes", "it is listed as expired"])
def test_a_session_is_ended(service: Any, state: appstream.AppStreamBackend, *, listed: bool) -> None:
    state.ended_are_listed = listed
    state.sessions = {name: StreamingSession(name, name, "office", "cad") for name in ("alice", "bruno")}
    service.expire_session(SessionId="bruno")
    found = service.describe_sessions(StackName="office", FleetName="cad")["Sessions"]
    states = {each["Id"]: each["State"] for each in found}
    assert states == {"alice": "ACTIVE"} | ({"bruno": "EXPIRED"} if listed else {})
    assert code_of(service.expire_session, SessionId="gone") == "ResourceNotFoundException"


@pytest.fixture
def tagging(service: Any) -> Any:
    """The tagging service, where AppStream is; moto's own, which asks ours."""
    endpoint = service.meta.endpoint_url
    return client(endpoint if "127.0.0.1" in endpoint else None, "resourcegroupstaggingapi")


def tagged(tagging: Any, **parameters: Any) -> dict[str, dict[str, str]]:
    """Return tags by kind and name of what has any."""
    return {
        mapping["ResourceARN"].split(":")[5]: {tag["Key"]: tag["Value"] for tag in mapping["Tags"]}
        for page in tagging.get_paginator("get_resources").paginate(**parameters)
        for mapping in page["ResourceTagMappingList"]
    }


def test_tags(tagging: Any, state: appstream.AppStreamBackend) -> None:
    state.stacks["office"].tags |= {"department": "planning"}
    state.add_scope("lab", Fleet("gis", tags={"department": "research", "stage": "prod"}))
    assert tagged(tagging) == {
        "fleet/gis": {"department": "research", "stage": "prod"},
        "stack/office": {"department": "planning"},
    }
    assert tagged(tagging, ResourceTypeFilters=["appstream:stack"]).keys() == {"stack/office"}
    assert tagged(tagging, ResourceTypeFilters=["appstream"]).keys() == {"fleet/gis", "stack/office"}
    assert tagged(tagging, ResourceTypeFilters=["s3"]) == {}
    prod = [{"Key": "stage", "Values": ["prod", "test"]}]
    assert tagged(tagging, TagFilters=prod).keys() == {"fleet/gis"}
    (gis,) = tagging.get_resources(TagFilters=prod)["ResourceTagMappingList"]
    assert gis["ResourceARN"] == f"arn:aws:appstream:{REGION}:{ACCOUNT_ID}:fleet/gis"
    state.fleets["gis"].tags.clear()
    assert tagged(tagging).keys() == {"stack/office"}


def test_pages_of_tags(tagging: Any, state: appstream.AppStreamBackend) -> None:
    for number in range(120):
        state.add_scope(f"stack-{number}", Fleet(f"fleet-{number}", tags={"number": str(number)}))
    fleets = {"ResourceTypeFilters": ["appstream:fleet", "appstream:stack"]}
    first = tagging.get_resources(**fleets, ResourcesPerPage=99)
    rest = tagging.get_resources(**fleets, ResourcesPerPage=99, PaginationToken=first["PaginationToken"])
    assert [len(page["ResourceTagMappingList"]) for page in (first, rest)] == [99, 21]
    assert len(tagged(tagging, **fleets, PaginationConfig={"PageSize": 100})) == 120
    assert code_of(tagging.get_resources, ResourcesPerPage=101) == "InvalidParameterException"
    stale = {**fleets, "PaginationToken": "stale"}
    assert code_of(tagging.get_resources, **stale) == "PaginationTokenExpiredException"


def test_faults_of_tags(tagging: Any, state: appstream.AppStreamBackend) -> None:
    state.stacks["office"].tags |= {"department": "planning"}
    state.faults = [Fault("ThrottlingException", operation="get_resources", times=1)]
    assert code_of(tagging.get_resources) == "ThrottlingException"
    assert tagged(tagging)
    assert state.calls["get_resources"] == 2
