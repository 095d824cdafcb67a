"""The simulated AWS answers as other implementations of AWS do, operation by operation, error by error.

Each case is a script of calls, played against the simulated AWS and the others. Where another one
answers differently, DISAGREEMENTS says so and whom AWS's documentation supports; a disagreement that is
gone fails the test, so the list stays true.
"""

import base64
import hashlib
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.appstream import AppStreamBackend, StreamingSession
from sandbox.appstream.models import Fleet
from tests.simulation import clouds
from tests.simulation.appstream import AppStream, World
from tests.simulation.aws import EPOCH
from tests.simulation.oracle import FIELDS

Step = tuple[str, dict[str, Any]]
TABLE = {"TableName": "conformance"}


def key(sort: str, partition: str = "p") -> dict[str, Any]:
    return {"pk": {"S": partition}, "sk": {"S": sort}}


def item(sort: str, partition: str = "p", **attributes: Any) -> dict[str, Any]:
    values = {
        name: {"N": str(value)}
        if isinstance(value, int)
        else {"S": value}
        if isinstance(value, str)
        else value
        for name, value in attributes.items()
    }
    return key(sort, partition) | values


def put(sort: str, condition: str = "", values: Any = None, names: Any = None, **attributes: Any) -> Step:
    return "put_item", TABLE | {"Item": item(sort, **attributes)} | given(condition, values, names)


def get(sort: str) -> Step:
    return "get_item", TABLE | {"Key": key(sort), "ConsistentRead": True}


def delete(sort: str, condition: str = "", values: Any = None, **more: Any) -> Step:
    return "delete_item", TABLE | {"Key": key(sort)} | given(condition, values, None) | more


def query(condition: str = "pk = :pk", values: Any = None, **more: Any) -> Step:
    values = {":pk": {"S": "p"}} | (values or {})
    body = {"KeyConditionExpression": condition, "ExpressionAttributeValues": values, "ConsistentRead": True}
    return "query", TABLE | body | more


def transact(*actions: tuple[str, dict[str, Any]]) -> Step:
    return "transact_write_items", {"TransactItems": [{kind: TABLE | body} for kind, body in actions]}


def given(condition: str, values: Any, names: Any) -> dict[str, Any]:
    return (
        ({"ConditionExpression": condition} if condition else {})
        | ({"ExpressionAttributeValues": values} if values else {})
        | ({"ExpressionAttributeNames": names} if names else {})
    )


ONE, TWO, A = {":one": {"N": "1"}}, {":two": {"N": "2"}}, {":a": {"S": "a"}}
LONG = "x" * (400 * 1024)

TABLES: dict[str, list[Step]] = {
    "what is put is there": [put("a", n=1, s="text", empty=""), get("a"), get("b")],
    "all types": [
        put(
            "a",
            m={"M": {"l": {"L": [{"S": "x"}, {"N": "1"}, {"M": {}}]}, "none": {"NULL": True}}},
            b={"BOOL": False},
            bytes={"B": b"\x00\x01"},
            set={"SS": ["x", "y"]},
        ),
        get("a"),
    ],
    "numbers lose their zeros": [put("a", n={"N": "007.50"}, m={"N": "-0"}, big={"N": "1E3"}), get("a")],
    "a number that is none": [put("a", n={"N": "one"})],
    "put replaces the whole item": [put("a", x=1, y=2), put("a", x=3), get("a")],
    "put if it is not there": [
        put("a", "attribute_not_exists(pk)", n=1),
        put("a", "attribute_not_exists(pk)", n=2),
        get("a"),
    ],
    "put if the version is as read": [
        put("a", version=1),
        put("a", "version = :one", ONE, version=2),
        put("a", "version = :one", ONE, version=3),
        get("a"),
    ],
    "put with the version of an item that is not there": [
        put("a", "version = :one", ONE, version=2),
        get("a"),
    ],
    "an item without the key of an index": [put("a", n=1), get("a")],
    "an item with the key of an index": [put("a", userId="ann"), get("a"), put("a", n=1), get("a")],
    "an empty text as the key of an index": [put("a", userId=""), get("a")],
    "a number as the key of an index": [put("a", userId=7), get("a")],
    "an empty text as the key of an index, in a transaction": [
        transact(("Put", {"Item": item("a", userId="")}), ("Put", {"Item": item("b")})),
        query(),
    ],
    "names by placeholder": [
        put("a", state="x"),
        put("a", "#s = :a", A, {"#s": "state"}, state="y"),
        put("a", "#s = :a", {":a": {"S": "x"}}, {"#s": "state"}, state="z"),
        get("a"),
    ],
    "a reserved word bare": [put("a", "state = :a", A)],
    "a number is no text": [put("a", x=1), put("a", "x = :a", {":a": {"S": "1"}}), get("a")],
    "an expression value that is not defined": [put("a", "x = :one", {":two": {"N": "2"}})],
    "an expression value that is not used": [put("a", "attribute_not_exists(x)", ONE)],
    "an expression name that is not defined": [put("a", "#x = :one", ONE)],
    "a condition that does not parse": [put("a", "x = = :one", ONE)],
    "no key in the item": [("put_item", TABLE | {"Item": {"pk": {"S": "p"}, "n": {"N": "1"}}})],
    "an empty sort key": [put("")],
    "a key of the wrong type": [("put_item", TABLE | {"Item": {"pk": {"S": "p"}, "sk": {"N": "1"}}})],
    "more than the key to get": [("get_item", TABLE | {"Key": item("a", x=1)})],
    "a sort key of 1,024 bytes and of 1,025": [put("é" * 512, n=1), put("é" * 512 + "x", n=1)],
    "an item of more than 400 KB": [put("a", x=LONG), get("a")],
    "a table that is not there": [("get_item", {"TableName": "nowhere", "Key": key("a")})],
    "delete": [put("a", x=1), delete("a"), get("a"), delete("a")],
    "delete under a condition": [
        put("a", version=1),
        delete("a", "version = :two", TWO),
        get("a"),
        delete("a", "version = :one", ONE),
        get("a"),
        delete("a", "version = :one", ONE),
    ],
    "query in the order of the bytes": [
        *(put(sort) for sort in ("b", "a", "Z", "é", "\U0001f600", "\uffee", "a#1", "a-1")),
        query(),
    ],
    "query of a partition that is not there": [put("a"), query(values={":pk": {"S": "other"}})],
    "query of more than 1 MB": [
        *(put(sort, x=LONG[: 390 * 1024]) for sort in "abcd"),
        query(),
        query(ExclusiveStartKey=key("c")),
        *(delete(sort) for sort in "abcd"),
    ],
    "query without the partition": [query("sk = :pk")],
    "transaction": [
        put("b", x=1),
        put("c", x=1),
        put("d", x=1),
        transact(
            ("Put", {"Item": item("a", n=1), "ConditionExpression": "attribute_not_exists(pk)"}),
            ("Put", {"Item": item("b", x=2)} | given("x = :one", ONE, None)),
            ("Delete", {"Key": key("c")}),
            ("Delete", {"Key": key("d")} | given("#x = :one", ONE, {"#x": "x"})),
        ),
        query(),
    ],
    "transaction with one condition that fails": [
        put("b", x=1),
        transact(
            ("Put", {"Item": item("a", n=1)}),
            ("Delete", {"Key": key("b")} | given("x = :two", TWO, None)),
            ("Delete", {"Key": key("c")}),
        ),
        query(),
    ],
    "transaction with one item twice": [
        transact(("Put", {"Item": item("a", n=1)}), ("Delete", {"Key": key("a")})),
        query(),
    ],
    "transaction of 100 actions and of 101": [
        transact(*(("Put", {"Item": item(f"{n:03}")}) for n in range(100))),
        transact(*(("Put", {"Item": item(f"x{n:03}")}) for n in range(101))),
        query(),
    ],
    "transaction with an item of more than 400 KB": [
        transact(("Put", {"Item": item("a", n=1)}), ("Put", {"Item": item("b", x=LONG)})),
        query(),
    ],
    "transaction of more than 4 MB": [
        transact(*(("Put", {"Item": item(f"{n}", x=LONG[: 390 * 1024])}) for n in range(11))),
        query(),
    ],
}


def entry(**attributes: Any) -> dict[str, Any]:
    return {
        "EventBusName": "conformance",
        "Source": "appstream.auditor",
        "DetailType": "AppStream Session Started",
        "Detail": '{"a": 1}',
    } | attributes


def events(*entries: dict[str, Any]) -> list[Step]:
    return [("put_events", {"Entries": list(entries)})]


BUSES: dict[str, list[Step]] = {
    "ten entries": events(*[entry()] * 10),
    "eleven entries": events(*[entry()] * 11),
    "no detail": events(entry(Detail="")),
    "no source, among others": events(entry(), entry(Source=""), entry()),
    "no detail-type": events(entry(DetailType="")),
    "detail that is no JSON": events(entry(Detail="{"), entry()),
    "detail that is no object": events(entry(Detail="[1]"), entry()),
    "a source of AWS's own": events(entry(Source="aws.appstream"), entry()),
    "a detail-type of 129 characters": events(entry(DetailType="x" * 129)),
    "a bus that is not there": events(entry(EventBusName="nowhere"), entry()),
    "more than 1 MB": events(*[entry(Detail='{"a": "' + "x" * 300_000 + '"}')] * 4),
}


def play(client: Any, script: list[Step]) -> list[Any]:
    outcomes = []
    for operation, params in script:
        try:
            outcomes.append(plain(getattr(client, operation)(**params)))
        except ClientError as error:
            outcomes.append(refusal(error))
        except (LookupError, ValueError) as crash:  # moto runs in the process and stumbles over bad input
            outcomes.append(type(crash).__name__)
    return outcomes


def refusal(error: ClientError) -> Any:
    reasons = error.response.get("CancellationReasons")
    outcome: list[Any] = [error.response["Error"]["Code"]]
    if reasons is not None:
        outcome.append([(reason["Code"], plain(reason.get("Item", {}))) for reason in reasons])
    outcome += [value for name, value in error.response.items() if name == "Item"]
    return tuple(outcome)


def plain(answer: Any) -> Any:
    """Drop what belongs to the wire or is made up by each implementation, and order what has no order."""
    if not isinstance(answer, dict):
        return answer
    kept = {name: value for name, value in answer.items() if name not in NOISE}
    for name in ("UnprocessedItems", "UnprocessedKeys"):
        if not kept.get(name):
            kept.pop(name, None)
    if "Responses" in kept:
        kept["Responses"] = {
            name: sorted(items, key=lambda each: str(each["sk"])) for name, items in kept["Responses"].items()
        }
    if "FailedEntryCount" in kept:
        kept["Entries"] = [each.get("ErrorCode", "accepted") for each in kept["Entries"]]
    return kept


# (implementation, case) -> what it does otherwise, and what AWS itself says or did.
# "recorded" are answers of AWS that LocalStack's tests keep (tests/aws/services/events, snapshot files).
DISAGREEMENTS: dict[tuple[str, str], str] = {
    ("moto", "numbers lose their zeros"): "keeps the text; AWS trims leading and trailing zeros (documented)",
    ("moto", "an expression value that is not defined"): "crashes; AWS: ValidationException",
    ("moto", "an expression name that is not defined"): "crashes; AWS: ValidationException",
    ("moto", "an expression value that is not used"): "takes it; AWS: ValidationException",
    ("moto", "a condition that does not parse"): "crashes; AWS: ValidationException",
    ("moto", "a number as the key of an index"): "takes it; DynamoDB Local: ValidationException",
    ("moto", "query of more than 1 MB"): "ends a page before the limit; DynamoDB Local after it",
    ("moto", "transaction of more than 4 MB"): "takes it; AWS: ValidationException (documented limit)",
    ("moto", "detail that is no object"): "takes it with a warning; AWS: MalformedDetail (recorded)",
    ("moto", "a source of AWS's own"): "takes it; AWS: NotAuthorizedForSourceException (documented)",
    ("moto", "a detail-type of 129 characters"): "takes it; AWS: 128 at most (documented)",
    ("moto", "a bus that is not there"): "refuses the call; AWS takes and forgets the event (recorded)",
    ("moto", "more than 1 MB"): "takes it; AWS: ValidationException (documented, recorded)",
    ("ministack", "query of more than 1 MB"): "ends a page before the limit; DynamoDB Local after it",
    ("ministack", "no detail"): "takes it; AWS: InvalidArgument (recorded)",
    ("ministack", "no source, among others"): "takes it; AWS: InvalidArgument (recorded)",
    ("ministack", "no detail-type"): "takes it; AWS: InvalidArgument (recorded)",
    ("ministack", "detail that is no JSON"): "takes it; AWS: MalformedDetail (recorded)",
    ("ministack", "detail that is no object"): "takes it; AWS: MalformedDetail (recorded)",
    ("ministack", "a detail-type of 129 characters"): "takes it; AWS: 128 at most (documented)",
    ("ministack", "more than 1 MB"): "takes it; AWS: ValidationException (documented, recorded)",
    ("DynamoDB Local", "what is put is there"): "of January 2020: no empty strings, which came in May 2020",
    ("DynamoDB Local", "transaction of 100 actions and of 101"): "of 2020: 25 actions; 100 since 2022",
}

NOISE = {"ResponseMetadata", "ConsumedCapacity", "ItemCollectionMetrics"}
OTHERS = ("moto", "ministack", "DynamoDB Local")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, clouds.ClientOf | str]]:
    """Start each implementation once; one that can't be had is known by the reason."""
    started: dict[str, clouds.ClientOf | str] = {}
    directory: Path = tmp_path_factory.mktemp("clouds")
    with ExitStack() as stack:
        for name, cloud in (
            ("ministack", clouds.ministack),
            ("DynamoDB Local", clouds.dynamodb_local),
        ):
            Path(directory, name).mkdir()
            try:
                started[name] = stack.enter_context(cloud(Path(directory, name)))
            except clouds.MissingError as missing:
                started[name] = str(missing)
        yield started


def outcomes_of(name: str, service: str, script: list[Step], others: dict[str, Any]) -> list[Any]:
    if name == "moto":
        with clouds.moto() as client_of:
            return play(client_of(service), script)
    if isinstance(others[name], str):
        pytest.skip(f"{name}: {others[name]}")
    client = others[name](service)
    outcome = play(client, script)
    if service == "dynamodb":
        sweep_out(client)
    return outcome


def sweep_out(client: Any) -> None:
    """Leave the table empty for the next case."""
    for page in client.get_paginator("scan").paginate(TableName="conformance", ConsistentRead=True):
        for each in page["Items"]:
            client.delete_item(**TABLE, Key={name: each[name] for name in ("pk", "sk")})


@pytest.mark.filterwarnings("ignore:EventDetail should be of type dict:UserWarning")
@pytest.mark.parametrize(
    ("name", "service", "case"),
    [
        pytest.param(name, service, case, id=f"{service}, {case}-{name}")
        for name in OTHERS
        for service, cases in (("dynamodb", TABLES), ("events", BUSES))
        if (name, service) != ("DynamoDB Local", "events")
        for case in cases
    ],
)
def test_simulated_aws_answers_as(name: str, service: str, case: str, others: dict[str, Any]) -> None:
    script = (TABLES if service == "dynamodb" else BUSES)[case]
    with clouds.simulated() as client_of:
        simulated = play(client_of(service), script)
    other = outcomes_of(name, service, script, others)
    if (name, case) in DISAGREEMENTS:
        assert simulated != other, f"{name} agrees now: drop the disagreement over {case!r}"
    else:
        assert simulated == other


CONFLICT = "TransactionConflictException", "Transaction is ongoing for the item"
# A write that somebody else's write overtook is refused in one of these forms. None of the others runs two
# transactions at once, so botocore's model of the service and its text say what is right.
OVERTAKEN: dict[str, tuple[Step, str, str, list[Any]]] = {
    "put": (put("held", n=2), *CONFLICT, []),
    "put whose condition fails": (put("held", "attribute_not_exists(pk)", n=2), *CONFLICT, []),
    "put of an item that is not there yet": (put("coming", n=2), *CONFLICT, []),
    "delete": (delete("held"), *CONFLICT, []),
    "put whose condition fails, with nobody in the way": (
        put("free", "attribute_not_exists(pk)", n=2),
        "ConditionalCheckFailedException",
        "The conditional request failed",
        [],
    ),
    "transaction": (
        transact(
            ("Put", {"Item": item("new", n=2)}),
            ("Delete", {"Key": key("held")}),
            ("Delete", {"Key": key("free")} | given("n = :two", TWO, None)),
            ("Put", {"Item": item("coming")} | given("attribute_not_exists(pk)", None, None)),
        ),
        "TransactionCanceledException",
        (
            "Transaction cancelled, please refer cancellation reasons for specific reasons "
            "[None, TransactionConflict, ConditionalCheckFailed, TransactionConflict]"
        ),
        [
            {"Code": "None"},
            {"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"},
            {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"},
            {"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"},
        ],
    ),
}


@pytest.mark.parametrize("case", OVERTAKEN)
def test_an_overtaken_write_is_refused_as_the_service_model_says(case: str) -> None:
    (operation, params), code, message, reasons = OVERTAKEN[case]
    locked: set[tuple[str, str]] = set()
    with clouds.simulated(locked=locked) as client_of:
        client = client_of("dynamodb")
        play(client, [put("held", n=1), put("free", n=1)])
        before = play(client, [query()])
        locked |= {("p", "held"), ("p", "coming")}
        with pytest.raises(ClientError) as refused:
            getattr(client, operation)(**params)
        assert play(client, [query()]) == before, "nothing of it was written, and what is held can be read"
        locked.clear()
        if code != "ConditionalCheckFailedException":
            assert play(client, [put("held", n=3)]) == [{}], "the transaction is over"
    response = refused.value.response
    assert (response["Error"]["Code"], response["Error"]["Message"]) == (code, message)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert response.get("CancellationReasons", []) == reasons
    model = client.meta.service_model
    called = model.operation_model(client.meta.method_to_api_mapping[operation])
    shape = next(each for each in called.error_shapes if each.error_code == code)
    assert isinstance(refused.value, client.exceptions.from_code(code))
    assert response.keys() - {"Error", "ResponseMetadata"} <= shape.members.keys()
    documented = model.shape_for("TransactionCanceledException").documentation
    for reason in reasons:
        assert reason.keys() <= model.shape_for("CancellationReason").members.keys()
        assert f"Code: <code>{reason['Code']}</code>" in documented
        assert f"Message: {reason.get('Message', '<code>null</code>')}" in documented


@pytest.mark.parametrize("tampered", [b"", b"x"], ids=["as pinned", "a byte more"])
def test_a_downloaded_package_is_unpacked_only_if_it_is_the_pinned_one(
    tampered: bytes, tmp_path: Path
) -> None:
    package, directory = tmp_path / "package.tgz", tmp_path / "unpacked"
    directory.mkdir()
    with tarfile.open(package, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("code"))
    pinned = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    package.write_bytes(package.read_bytes() + tampered)
    with pytest.raises(clouds.DifferentError) if tampered else nullcontext():
        clouds.unpack(package, pinned, directory)
    assert [each.name for each in directory.iterdir()] == ([] if tampered else ["code"])


SCOPE = {"StackName": "s1", "FleetName": "f1"}
LISTINGS: dict[str, Step] = {
    "stacks": ("describe_stacks", {}),
    "fleets": ("describe_fleets", {}),
    "fleets of a stack": ("list_associated_fleets", {"StackName": "s1"}),
    "fleets of a stack that is not there": ("list_associated_fleets", {"StackName": "nowhere"}),
    "sessions": ("describe_sessions", SCOPE),
    "sessions, a page of two": ("describe_sessions", SCOPE | {"Limit": 2}),
    "sessions, a page of 51": ("describe_sessions", SCOPE | {"Limit": 51}),
    "sessions of a type": ("describe_sessions", SCOPE | {"AuthenticationType": "SAML"}),
    "sessions of a user": ("describe_sessions", SCOPE | {"UserId": "user-3", "AuthenticationType": "API"}),
    "sessions of a user, without the type": ("describe_sessions", SCOPE | {"UserId": "user-3"}),
    "sessions of an instance": ("describe_sessions", SCOPE | {"InstanceId": "i-session-4"}),
    "sessions of a scope where nobody is": ("describe_sessions", SCOPE | {"FleetName": "f2"}),
    "sessions of a fleet that serves another stack": ("describe_sessions", SCOPE | {"FleetName": "f3"}),
    "sessions of a stack that is not there": ("describe_sessions", SCOPE | {"StackName": "nowhere"}),
    "a token that is none": ("describe_sessions", SCOPE | {"NextToken": "?"}),
}


def listed(client: Any, step: Step, between: Callable[[], None] = lambda: None) -> Any:
    """Read all pages: what is in each, or the error; what belongs to a fleet's making is left out."""
    operation, params = step
    pages: list[Any] = []
    try:
        for page in (
            client.get_paginator(operation).paginate(**params)
            if client.can_paginate(operation)
            else [getattr(client, operation)(**params)]
        ):
            pages.append([shown(each) for name in page if name in ANSWERS for each in page[name]])
            between()
    except ClientError as error:
        pages.append(error.response["Error"]["Code"])
    return pages


ANSWERS = ("Stacks", "Fleets", "Names", "Sessions")
SHOWN = {"Name", "Arn", "State", "DisconnectTimeoutInSeconds", "MaxUserDurationInSeconds", *FIELDS}


def shown(each: Any) -> Any:
    return {name: value for name, value in each.items() if name in SHOWN} if isinstance(each, dict) else each


@pytest.fixture
def both() -> Iterator[tuple[AppStream, Any, AppStreamBackend]]:
    """The same world, in the simulated AppStream and in the project's own."""
    with clouds.sandboxed() as (client_of, backend):
        backend.unfiltered_shows_only_api = False
        sandboxed = client_of("appstream")
        world = World()
        simulated = AppStream(world)
        for stack, fleet in (("s1", "f1"), ("s1", "f2"), ("s2", "f3")):
            backend.add_scope(stack, Fleet(fleet))
            world.fleet(fleet, stack)
        # Each has a type: to whom a session without one is shown, nobody knows.
        for number in range(30):
            identity, kind = f"session-{number}", ("API", "SAML", "API")[number % 3]
            world.start(identity, "s1", "f1", at=EPOCH, user=f"user-{number}", authentication=kind)
            record = world.sessions[identity]
            backend.sessions[identity] = StreamingSession(
                identity,
                f"user-{number}",
                "s1",
                "f1",
                authentication_type=kind,
                start_time=record["StartTime"],
                max_expiration_time=record["MaxExpirationTime"],
                instance_id=record["InstanceId"],
                instance_drain_status=record["InstanceDrainStatus"],
            )

        yield simulated, sandboxed, backend


@pytest.mark.parametrize("only_api", [False, True], ids=["unfiltered lists all", "unfiltered lists API only"])
@pytest.mark.parametrize("case", LISTINGS)
def test_simulated_appstream_lists_as_the_sandbox(
    case: str, only_api: bool, both: tuple[AppStream, Any, AppStreamBackend]
) -> None:
    simulated, client, backend = both
    backend.unfiltered_shows_only_api = only_api
    simulated.unfiltered_lists_all = not only_api
    expected = listed(client, LISTINGS[case])
    with clouds.simulated(simulated) as client_of:
        assert listed(client_of("appstream"), LISTINGS[case]) == expected


def test_pages_shift_alike(both: tuple[AppStream, Any, AppStreamBackend]) -> None:
    simulated, client, backend = both

    def ending(end: Callable[[str], object]) -> Callable[[], None]:
        identities = iter(("session-0", "session-1"))

        def between() -> None:
            for identity in islice(identities, 1):
                end(identity)

        return between

    expected = listed(client, ("describe_sessions", SCOPE), ending(backend.sessions.pop))
    with clouds.simulated(simulated) as client_of:
        shifted = listed(client_of("appstream"), ("describe_sessions", SCOPE), ending(simulated.world.end))
    assert shifted == expected
    assert [len(page) for page in expected] == [20, 9]
