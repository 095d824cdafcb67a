"""Hostile and broken input to the real handler, and more of it than a sweep can take.

Whatever AppStream, EventBridge and DynamoDB answer, and whatever lies in the table: a sweep raises nothing
but for the target's own item, tells nobody's name, leaves what it cannot read as it is and counts it, and
audits what is sound as if the rest were not there.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import pytest
from botocore.exceptions import ParamValidationError
from botocore.parsers import ResponseParserError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import session_auditor.coverage
import session_auditor.table
from session_auditor.errors import SnapshotError
from tests.simulation import invariants
from tests.simulation import trial as trial_module
from tests.simulation.aws import Blow, Cloud, Fault, Run
from tests.simulation.dynamodb import ITEM_BYTES, TRANSACTION_BYTES, size
from tests.simulation.errors import AwsError
from tests.simulation.trial import ENVIRONMENT, PARTITION, SCOPES, SESSION, TALLY, TARGET_ITEM, WRITES, Trial

USER = "user-with-a-name@example.com"
Path = tuple[str | int, ...]

# Stand for what no value can say: that an attribute is missing, and lists within lists, 2,000 deep.
REMOVED = object()
DEEP = "lists within lists within lists"
LEVELS = 2_000
KINDS: Mapping[str, Any] = {
    "none": None,
    "true": True,
    "zero": 0,
    "minus one": -1,
    "10**30": 10**30,
    "1e308": 1e308,
    "nan": float("nan"),
    "empty": "",
    "10,000 characters": "x" * 10_000,
    "a lone surrogate": f"\ud800{USER}",
    "control characters": f"\x00\x1b[2J\n\u202e{USER}",
    "a list": [USER],
    "a list in a list": [["x"], [None]],
    "a dict": {"S": USER},
    "the year 1": datetime(1, 1, 1, tzinfo=UTC),
    "the year 9999": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    "a naive time": datetime(2026, 1, 1),  # noqa: DTZ001 - as a client never should
    "bytes": b"\xff\x00",
    "deep": DEEP,
    "removed": REMOVED,
}
# How many kinds each place is given: all of them would take minutes, and each is tried in many places.
KINDS_A_PLACE = 3
JSON = "json"


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(LEVELS):
        value = [value]
    return value


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Return the way to every place in a value, those in texts that are JSON, too."""
    yield path
    match value:
        case dict():
            for name, each in value.items():
                yield from places(each, (*path, name))
        case list():
            for number, each in enumerate(value):
                yield from places(each, (*path, number))
        case str() if value[:1] in {"{", "["}:
            yield from places(json.loads(value), (*path, JSON))


def replaced(value: Any, path: Path, new: Any) -> Any:
    """Copy a value with something else at a place; a value that has no such place is returned as it is."""
    if not path:
        return deep() if new is DEEP else new
    step, rest = path[0], path[1:]
    if step == JSON:
        if not isinstance(value, str) or value[:1] not in {"{", "["}:
            return value
        if not rest:
            return deep() if new is DEEP else new
        as_text = replaced_in_json(json.loads(value), rest, new)
        return json.dumps(as_text, default=str).replace(f'"{DEEP}"', "[" * LEVELS + "]" * LEVELS)
    if isinstance(value, dict) and step in value:
        if not rest and new is REMOVED:
            return {name: each for name, each in value.items() if name != step}
        return value | {step: replaced(value[step], rest, new)}
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        middle = [] if not rest and new is REMOVED else [replaced(value[step], rest, new)]
        return [*value[:step], *middle, *value[step + 1 :]]
    return value


def replaced_in_json(value: Any, path: Path, new: Any) -> Any:
    """Do the same in what was read from JSON: what is deep is put in when it is written again."""
    last = path[-1]
    holder: Any = value
    for step in path[:-1]:
        holder = holder[step]
    if new is REMOVED:
        del holder[last]
    else:
        holder[last] = new
    return value


def cases(value: Any) -> Iterator[tuple[str, Path, Any]]:
    """Return places with kinds of values for them: some kinds for every place, every kind for a token."""
    names = list(KINDS)
    for number, path in enumerate(places(value)):
        for turn in range(len(names) if path[-1:] == ("NextToken",) else KINDS_A_PLACE):
            # Kinds meet places in ever other company.
            name = names[(number * 7 + turn * 3 + number // 20) % len(names)]
            if path or KINDS[name] is not REMOVED:
                yield f"{'.'.join(map(str, path)) or 'all'}: {name}", path, KINDS[name]


def told(cloud: Cloud, identity: str) -> list[str]:
    entries = [each for each in cloud.eventbridge.accepted if invariants.session_of(each) == identity]
    return [entry["DetailType"].rpartition(" ")[2] for entry in invariants.once(entries)]


def nothing_was_said(run: Run, *, may_raise: bool = False) -> None:
    """Hold that a sweep raised nothing, or what it may, and that it told nobody's name."""
    assert run.error is None or (may_raise and isinstance(run.error, SnapshotError)), repr(run.error)
    invariants.nothing_names_a_user(f"{run.error}{run.printed}", {USER}, "what was said")


def rows(cloud: Cloud, partition: str = PARTITION) -> dict[str, Any]:
    return cloud.dynamodb.tables["table"].partitions[partition]


@contextmanager
def small_items() -> Iterator[None]:
    """Let few gaps and scopes fill an item, so that some lie in further ones."""
    with (
        patch.object(session_auditor.table, "PART_BYTES", 330),
        patch.object(session_auditor.table, "INLINE_BYTES", 330),
    ):
        yield


def estate(cloud: Cloud) -> Trial:
    """Set up an estate of which everything that can be remembered is remembered.

    On the fleet `odd` streams `a`, who has disconnected; `gone` has been missing once, and the end of `over`
    waits to be published, as all events do. Others are on `sound`. Three fleets have failed for a while, and
    others did before.
    """
    trial = Trial(cloud, ENVIRONMENT, users={USER})
    world = cloud.world
    world.stack("apart", "odd")
    lost = [f"lost-{number}-{'x' * 80}" for number in range(3)]
    for fleet in ("odd", "sound", *lost, "found"):
        world.fleet(fleet, *(() if fleet == "odd" else ("s1",)))
    world.start("early", "s1", "found", at=cloud.clock.now - 3600, user=USER)
    trial.sweep()
    starts = {"a": "odd", "gone": "odd", "over": "odd", "b": "sound", "c": "sound"}
    for identity, fleet in starts.items():
        stack = "apart" if fleet == "odd" else "s1"
        world.start(identity, stack, fleet, at=cloud.clock.now + 30, user=USER)
        world.change(identity, NetworkAccessConfiguration={"EniId": "e-1", "EniPrivateIpAddress": "10.0.0.1"})
    cloud.eventbridge.refuses = lambda _entry, _place: "ThrottlingException"
    failing = {*lost, "found"}
    cloud.appstream.fails = lambda operation, params: (
        "InternalFailure" if operation == "DescribeSessions" and params["FleetName"] in failing else None
    )
    for _ in range(7):
        trial.wait(60).sweep()
    failing -= {"found"}
    world.disconnect("a")
    world.expire("over")
    trial.wait(60).sweep()
    world.end("over")
    world.end("gone")
    trial.wait(60).sweep()
    cloud.eventbridge.refuses = lambda _entry, _place: None
    return trial


def neighbours_are_told(cloud: Cloud, but: str = "") -> None:
    """Hold that all was told of whoever is on a sound fleet, and that nobody `but` one lost a scope."""
    assert told(cloud, "b") == ["Started", "Disconnected"]
    assert told(cloud, "c") == ["Started"]
    assert told(cloud, "d") == ["Started"]
    gone = [entry for entry in cloud.eventbridge.accepted if "SCOPE_GONE" in entry["Detail"]]
    assert not {invariants.session_of(entry) for entry in gone} - {but}


def published_once(cloud: Cloud) -> None:
    """Hold that nothing was published again."""
    repeated = Counter(map(invariants.event_id, cloud.eventbridge.accepted)).most_common(1)
    assert repeated[0][1] == 1, repeated


def tampered(trial: Trial, key: str, strange: Any, *, again: bool) -> None:
    """Sweep with a strange item in the table; all but that item is audited, and it is counted and kept.

    `again` if its state says, as it well may, that something was not told yet.
    """
    cloud = trial.cloud
    with trial.rehearsal():
        TALLY["hostile items"] += 1
        trial.container = None
        rows(cloud)[key] = strange
        cloud.world.disconnect("b")
        cloud.world.start("d", "s1", "sound", at=cloud.clock.now + 30, user=USER)
        own = key == TARGET_ITEM
        runs = [trial.wait(60).sweep() for _ in range(2)]
        for run in runs:
            nothing_was_said(run, may_raise=own)
        if own and any(run.error for run in runs):
            assert all(run.error for run in runs)
            assert rows(cloud)[key] is strange
            return
        # A session that is gone may have been on any stack, for all that its item tells.
        neighbours_are_told(cloud, but=key.removeprefix(SESSION))
        if not again:
            published_once(cloud)
        counted = [run.result["itemsUnreadable"] for run in runs]
        if not own and counted[0]:
            assert rows(cloud)[key] is strange, "it was written over"
            assert counted[-1], "it is counted no more"
        elif not own:
            assert not invariants.ids_in(rows(cloud).get(key, {})), "its events are stuck, and not counted"


def attribute_cases(item: Mapping[str, Any]) -> Iterator[tuple[str, Path, Any]]:
    """Return places in an item but for its key, which is how it is found.

    The trial reads when a session started from what is told of it, and a first sweep in the future makes
    every session one of the baseline.
    """
    for name, path, new in cases(dict(item)):
        future = path[-1:] == ("first_begin",) and new is KINDS["the year 9999"]
        if path and path[0] not in {"pk", "sk"} and path[-1] != "startTime" and not future:
            yield name, path, new


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(f"{SESSION}a", id="a session"),
        pytest.param(f"{SESSION}gone", id="a session that was missed"),
        pytest.param(f"{SESSION}over", id="a session whose end waits to be published"),
        pytest.param(SCOPES, id="the scopes"),
        pytest.param(f"{SCOPES}#1", id="a part of the scopes"),
        pytest.param(f"{TARGET_ITEM}#1", id="a part of the target's gaps"),
        pytest.param(f"{TARGET_ITEM}#2", id="another part of the target's gaps"),
        pytest.param(TARGET_ITEM, id="the target"),
    ],
)
def test_every_origin_of_an_item(cloud: Cloud, key: str) -> None:
    with small_items():
        trial = estate(cloud)
        broken = []
        for name, path, new in attribute_cases(rows(cloud)[key]):
            try:
                strange = replaced(rows(cloud)[key], path, new)
                tampered(trial, key, strange, again=path[-1] == "announced")
            except Exception as error:  # noqa: BLE001 - to tell of all
                broken.append(f"{name}: {type(error).__name__}: {error}"[:160])
        none_is(broken)


def none_is(broken: Sequence[str]) -> None:
    """Hold that no case breaks a promise."""
    assert not broken, f"{len(broken)} broken:\n" + "\n".join(broken[:20])


# Where another text is another name, or another session, and no broken one.
NAMES = {("Stacks", 0, "Name"), ("Fleets", 0, "Name"), ("Names", 0), ("Sessions", 0, "Id")}
ODD: Mapping[str, tuple[str, str]] = {
    "DescribeSessions": ("FleetName", "odd"),
    "ListAssociatedFleets": ("StackName", "apart"),
}


def answer_cases(answer: Mapping[str, Any]) -> Iterator[tuple[str, Path, Any]]:
    """Return places in an answer, without what is well-formed and says something else."""
    for name, path, new in cases(dict(answer)):
        another = path in NAMES and new is KINDS["control characters"]
        another |= path == ("Names",) and new is KINDS["a list"]
        fewer = path and isinstance(path[-1], int) and new is REMOVED
        last = path in {("NextToken",), ("LastEvaluatedKey",)} and new in (None, "", REMOVED)
        if path[:1] != ("ResponseMetadata",) and not (another or fewer or last):
            yield name, path, new


@contextmanager
def distorted(cloud: Cloud, operation: str, path: Path, new: Any) -> Iterator[None]:
    """Let a service answer with something else at a place; of sessions and associations, one odd scope's."""
    service = {"PutEvents": cloud.eventbridge, "Query": cloud.dynamodb}.get(operation, cloud.appstream)
    serve = service.call  # type: ignore[attr-defined]
    of, odd = ODD.get(operation, ("", ""))

    def call(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
        token = params.get("NextToken", "")
        if not isinstance(token, str):
            # As botocore's client does.
            raise ParamValidationError(report="not a token")
        answer: dict[str, Any] = serve(name, params)
        if name != operation or (of and params[of] != odd):
            return answer
        strange: dict[str, Any] = replaced(answer, path, new)
        return strange

    # The trial reads answers, too, and takes them for sound.
    known = (frozenset[str](), dict[str, frozenset[str]]())
    with (
        patch.object(service, "call", call),
        patch.object(trial_module, "_timeouts"),
        patch.object(trial_module, "_stacks_and_fleets", return_value=known),
    ):
        yield


def sound_estate(cloud: Cloud) -> Trial:
    """Set up `a` on a stack and fleet of its own, others on another; listings have several pages."""
    trial = Trial(cloud, ENVIRONMENT, users={USER})
    cloud.appstream.topology_page = cloud.appstream.most_a_page = 1
    cloud.world.fleet("odd", "apart")
    cloud.world.fleet("sound", "s1")
    trial.sweep()
    for identity, stack, fleet in (("a", "apart", "odd"), ("z", "apart", "odd"), ("b", "s1", "sound")):
        cloud.world.start(identity, stack, fleet, at=cloud.clock.now + 30, user=USER)
        cloud.world.change(
            identity, NetworkAccessConfiguration={"EniId": "e-1", "EniPrivateIpAddress": "10.0.0.1"}
        )
    cloud.world.start("c", "s1", "sound", at=cloud.clock.now + 30, user=USER)
    trial.wait(60).sweep()
    return trial


def heard(estate: Trial, operation: str, answer: Mapping[str, Any]) -> list[str]:
    """Let two sweeps hear each broken form of an answer; name those that break a promise, and how."""
    cloud = estate.cloud
    broken = []
    for name, path, new in answer_cases(answer):
        if operation == "DescribeStacks" and path == ("NextToken",) and isinstance(new, str):
            # AWS refuses it, and a refusal ends the sweep as FAILED.
            continue
        TALLY["hostile answers"] += 1
        try:
            with estate.rehearsal():
                cloud.world.disconnect("b")
                cloud.world.start("d", "s1", "sound", at=cloud.clock.now + 30, user=USER)
                with distorted(cloud, operation, path, new):
                    nothing_was_said(estate.wait(60).sweep())
                    nothing_was_said(estate.wait(60).sweep())
                if operation != "PutEvents":
                    neighbours_are_told(cloud)
                refuses, cloud.eventbridge.refuses = cloud.eventbridge.refuses, lambda _entry, _place: None
                cloud.world.disconnect("z")
                nothing_was_said(estate.wait(60).sweep())
                cloud.eventbridge.refuses = refuses
                neighbours_are_told(cloud)
                assert told(cloud, "a") == ["Started"]
                assert told(cloud, "z") == ["Started", "Disconnected"]
                invariants.outbox_is_empty(cloud.dynamodb.tables["table"], PARTITION)
                if operation != "PutEvents":
                    published_once(cloud)
        except Exception as error:  # noqa: BLE001 - to tell of all
            broken.append(f"{name}: {type(error).__name__}: {error}"[:160])
    return broken


@pytest.mark.parametrize(
    "operation",
    ["DescribeStacks", "DescribeFleets", "ListAssociatedFleets", "DescribeSessions", "PutEvents"],
)
def test_every_origin_of_an_answer(cloud: Cloud, operation: str) -> None:
    """Whoever is on a sound fleet is told of meanwhile, and nobody is ended by it."""
    estate = sound_estate(cloud)
    answers = (call.answer for call in estate.runs[-1].calls if call.operation == operation)
    none_is(heard(estate, operation, next(filter(None, answers))))


def test_every_origin_of_an_answer_that_refuses_an_event(cloud: Cloud) -> None:
    estate = sound_estate(cloud)
    cloud.eventbridge.refuses = lambda _entry, place: None if place else "ThrottlingException"
    with estate.rehearsal():
        cloud.world.disconnect("b")
        run = estate.wait(60).sweep()
    answers = (call.answer for call in run.calls if call.operation == "PutEvents")
    none_is(heard(estate, "PutEvents", next(filter(None, answers))))


@pytest.mark.parametrize("fleet", [None, {}, {"Name": ""}, "odd"], ids=repr)
def test_a_fleet_that_cannot_be_read_keeps_its_last_known_timeout(cloud: Cloud, fleet: Any) -> None:
    """It does not count as a fleet that has none: whoever is away too long was ended by it."""
    estate = sound_estate(cloud)
    cloud.world.disconnect("a")
    with distorted(cloud, "DescribeFleets", ("Fleets", 0), fleet):
        cloud.world.start("new", "apart", "odd", at=cloud.clock.now + 30, user=USER)
        run = estate.wait(60).sweep()
        nothing_was_said(run)
        cloud.world.disconnect("new")
        nothing_was_said(estate.wait(60).sweep())
    assert '"what":"fleets","reason":"MALFORMED_ANSWER"' in run.printed.replace(": ", ":").replace(", ", ",")
    disconnected = [
        each for each in cloud.eventbridge.accepted if each["DetailType"].endswith("Disconnected")
    ]
    causes = [invariants.detail(each["Detail"])["data"]["deadline"]["cause"] for each in disconnected]
    assert causes == ["DISCONNECT_TIMEOUT"] * 2


@pytest.mark.parametrize("answered", [True, False], ids=["after its effect", "instead of it"])
@pytest.mark.parametrize(
    "operation",
    [
        "DescribeStacks",
        "DescribeFleets",
        "ListAssociatedFleets",
        "DescribeSessions",
        "PutEvents",
        "Query",
        "TransactWriteItems",
        "PutItem",
    ],
)
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ResponseParserError(f"invalid response: {USER}"), id="no JSON"),
        pytest.param(RecursionError(USER), id="JSON that is too deep"),
        pytest.param(KeyError(USER), id="a field that is missing"),
        pytest.param(AttributeError(USER), id="a field of another type"),
        pytest.param(OverflowError(USER), id="a number out of range"),
        pytest.param(UnicodeDecodeError("utf-8", USER.encode(), 0, 1, USER), id="no UTF-8"),
    ],
)
def test_what_botocore_raises_where_an_answer_is_not_of_the_models_form(
    cloud: Cloud, operation: str, error: Exception, *, answered: bool
) -> None:
    """Its parser checks nothing; without its table a sweep cannot go on, but tells nobody's name."""
    estate = sound_estate(cloud)
    cloud.world.disconnect("b")
    cloud.world.start("d", "s1", "sound", at=cloud.clock.now + 30, user=USER)
    of, odd = ODD.get(operation, ("", ""))
    own = operation in {"Query", "TransactWriteItems", "PutItem"}

    @contextmanager
    def breaking() -> Iterator[None]:
        with ExitStack() as stack:
            for service in cloud.services.values():

                def call(
                    name: str, params: Mapping[str, Any], serve: Callable[..., Any] = service.call
                ) -> Any:
                    breaks = name == operation and (not of or params[of] == odd)
                    if not breaks or answered:
                        answer = serve(name, params)
                    if breaks:
                        raise error
                    return answer

                stack.enter_context(patch.object(service, "call", call))
            yield

    with breaking():
        nothing_was_said(estate.wait(60).sweep(), may_raise=own)
        nothing_was_said(estate.wait(60).sweep(), may_raise=own)
    for _ in range(2):
        nothing_was_said(estate.wait(60).sweep())
    neighbours_are_told(cloud)
    assert told(cloud, "a") == ["Started"]
    invariants.outbox_is_empty(cloud.dynamodb.tables["table"], PARTITION)


def test_every_origin_of_the_reasons_of_a_cancelled_transaction(cloud: Cloud) -> None:
    """What could not be committed is found again."""
    estate = sound_estate(cloud)
    reasons = [
        {"Code": "None"},
        {"Code": "ConditionalCheckFailed", "Message": "x", "Item": {"x": {"S": USER}}},
    ]
    serve = cloud.dynamodb.call
    broken = []
    for name, path, new in cases({"CancellationReasons": reasons}):
        if not path:
            continue
        TALLY["hostile answers"] += 1
        extra = replaced({"CancellationReasons": reasons}, path, new)

        def call(
            operation: str, params: Mapping[str, Any], extra: Mapping[str, Any] = extra
        ) -> dict[str, Any]:
            if operation == "TransactWriteItems":
                raise AwsError("TransactionCanceledException", USER, extra)
            return serve(operation, params)

        try:
            with estate.rehearsal():
                cloud.world.disconnect("b")
                cloud.world.start("d", "s1", "sound", at=cloud.clock.now + 30, user=USER)
                with patch.object(cloud.dynamodb, "call", call):
                    nothing_was_said(estate.wait(60).sweep())
                nothing_was_said(estate.wait(60).sweep())
                neighbours_are_told(cloud)
                published_once(cloud)
        except Exception as error:  # noqa: BLE001 - to tell of all
            broken.append(f"{name}: {type(error).__name__}: {error}"[:160])
    none_is(broken)


def test_every_origin_of_a_page_of_the_table(cloud: Cloud) -> None:
    """An item whose key cannot be read is counted; a page that cannot be read stops the sweep, no more."""
    estate = sound_estate(cloud)
    key = {"pk": {"S": PARTITION}, "sk": {"S": f"{SESSION}a"}}
    page = {"Items": [key], "Count": 1, "LastEvaluatedKey": key}
    broken = []
    for name, path, new in answer_cases(page):
        TALLY["hostile answers"] += 1
        try:
            with estate.rehearsal():
                estate.container = None
                with distorted(cloud, "Query", path, new):
                    cloud.dynamodb.page_items = 1
                    run = estate.wait(60).sweep()
                cloud.dynamodb.page_items = 1000
                nothing_was_said(run, may_raise=True)
                if run.error is None and path[:3] in {("Items", 0), ("Items", 0, "sk")}:
                    assert run.result["itemsUnreadable"]
                cloud.world.disconnect("b")
                cloud.world.start("d", "s1", "sound", at=cloud.clock.now + 30, user=USER)
                for _ in range(2):
                    nothing_was_said(estate.wait(60).sweep())
                neighbours_are_told(cloud)
                published_once(cloud)
        except Exception as error:  # noqa: BLE001 - to tell of all
            broken.append(f"{name}: {type(error).__name__}: {error}"[:160])
    none_is(broken)


def put_back(estate: Trial) -> Run:
    """Ask the function to put back all events that were refused."""
    container, run = estate.container, estate.cloud.invocation()
    assert container is not None
    handler = container.app.handler
    with (
        estate.cloud.floor(run),
        patch.object(container.app, "handler", lambda _, context: handler({"republish": "all"}, context)),
    ):
        container.invoke(run)
    return run


def test_every_origin_of_an_event_that_was_refused(cloud: Cloud) -> None:
    """The others are put back, in order, and once; one that cannot be read is left as it is."""
    estate = sound_estate(cloud)
    cloud.eventbridge.refuses = lambda _entry, _place: "NotAuthorizedForDetailTypeException"
    cloud.world.disconnect("a")
    cloud.world.disconnect("b")
    estate.wait(60).sweep()
    cloud.world.connect("b")
    estate.wait(60).sweep()
    cloud.eventbridge.refuses = lambda _entry, _place: None
    partition = next(each for each in cloud.dynamodb.tables["table"].partitions if each.startswith("REFUSED"))
    (key,) = (key for key, item in rows(cloud, partition).items() if '"id":"a"' in item["detail"]["S"])
    broken = []
    for name, path, new in attribute_cases(rows(cloud, partition)[key]):
        TALLY["hostile items"] += 1
        strange = replaced(rows(cloud, partition)[key], path, new)
        try:
            with estate.rehearsal():
                rows(cloud, partition)[key] = strange
                for _ in range(2):
                    nothing_was_said(put_back(estate))
                assert told(cloud, "b") == ["Started", "Disconnected", "Reconnected"]
                published_once(cloud)
                left = rows(cloud, partition)
                assert left == {} or (left.keys() == {key} and left[key] is strange)
        except Exception as error:  # noqa: BLE001 - to tell of all
            broken.append(f"{name}: {type(error).__name__}: {error}"[:160])
    none_is(broken)


# At random

numbers = st.one_of(st.integers(-(10**18), 10**18), st.floats(allow_nan=True))
texts = st.one_of(
    st.sampled_from(
        ["", "ACTIVE", "EXPIRED", "CONNECTED", "NOT_CONNECTED", "SAML", "\ud800", "\u202eabc", "\x1b[2J"]
    ),
    st.text(),
    st.just("x" * 10_000),
)
times = st.datetimes(timezones=st.sampled_from([UTC, None]))
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts, times),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
FIELDS = (
    "UserId",
    "StackName",
    "FleetName",
    "State",
    "ConnectionState",
    "StartTime",
    "MaxExpirationTime",
    "AuthenticationType",
    "NetworkAccessConfiguration",
    "InstanceId",
    "InstanceDrainStatus",
    "Novelty",
)
records = st.one_of(
    anything,
    st.builds(
        lambda identity, fields: {"Id": identity} | fields,
        st.one_of(st.sampled_from(["odd-1", "odd-2"]), anything),
        st.dictionaries(st.sampled_from(FIELDS), anything, max_size=12),
    ),
)
pages = st.builds(
    lambda sessions, rest: ({} if sessions is None else {"Sessions": sessions}) | rest,
    st.one_of(st.none(), anything, st.lists(records, max_size=4)),
    st.one_of(st.just({}), st.fixed_dictionaries({"NextToken": st.one_of(anything, st.just("again"))})),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(pages, min_size=1, max_size=3))
def test_whatever_appstream_answers(odd_pages: list[dict[str, Any]]) -> None:
    TALLY["hostile answers"] += 1
    with Cloud() as cloud:
        trial = sound_estate(cloud)
        for identity in ("a", "z"):
            cloud.world.end(identity)
        for _ in range(2):
            trial.wait(60).sweep()
        serve = cloud.appstream.call

        def call(operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
            if operation == "DescribeSessions" and params["FleetName"] == "odd":
                place = min(served[0], len(odd_pages) - 1)
                served[0] += 1
                return dict(odd_pages[place])
            return serve(operation, params)

        cloud.appstream.call = call  # type: ignore[method-assign]
        for verb in ("disconnect", "connect"):
            served = [0]
            getattr(cloud.world, verb)("b")
            nothing_was_said(trial.wait(60).sweep())
        cloud.appstream.call = serve  # type: ignore[method-assign]
        for _ in range(3):
            nothing_was_said(trial.wait(60).sweep())
        assert told(cloud, "b") == ["Started", "Disconnected", "Reconnected"]
        assert told(cloud, "c") == ["Started"]
        invariants.snapshot_is_world(cloud.dynamodb.tables["table"], PARTITION, SESSION, {"b", "c"})
        invariants.outbox_is_empty(cloud.dynamodb.tables["table"], PARTITION)
        invariants.sequences_are_gapless_and_in_order(cloud.eventbridge.accepted)


@pytest.mark.parametrize(
    "user_id",
    [
        "<!channel>",
        '","x":"',
        "jane\nERROR",
        "=cmd()",
        "<script>",
        "\x1b[31m",
        "\u202e",
        "a`b\\c",
        "\U0001f600" * 64,
    ],
)
def test_names_that_would_do_harm(user_id: str) -> None:
    with Cloud() as cloud:
        trial = Trial(cloud, ENVIRONMENT, users={user_id})
        cloud.world.fleet("f1", "s1")
        trial.sweep()
        cloud.world.start("a", "s1", "f1", at=cloud.clock.now + 30, user=user_id)
        run = trial.wait(60).sweep()
        assert run.error is None
        invariants.nothing_names_a_user(run.printed, {user_id}, "what was printed")
        (entry,) = cloud.eventbridge.accepted
        data = invariants.detail(entry["Detail"])["data"]
        assert data["session"]["userId"] == user_id
        assert data["summary"].isprintable()
        assert not set(data["summary"]) & set('<>&"\\`')


def throttle(cloud: Cloud, share: float) -> None:
    """Let every service throttle this share of all tries, of which botocore makes four a call."""
    generator = random.Random("throttled")  # noqa: S311 - to replay, not to hide
    for service in cloud.services.values():

        def call(
            operation: str,
            params: Mapping[str, Any],
            serve: Callable[..., dict[str, Any]] = service.call,
        ) -> dict[str, Any]:
            for _ in range(4):
                if generator.random() >= share:
                    return serve(operation, params)
                cloud.clock.advance(0.1)
            raise AwsError("ThrottlingException", "simulated")

        service.call = call  # type: ignore[method-assign]


def test_a_mass_login_and_log_off_with_every_service_throttled() -> None:
    """10,000 sessions come in one minute and go in one, and every service throttles a third of all tries."""
    sessions, fleets = 10_000, 20
    with Cloud() as cloud:
        cloud.seconds_per_call = 0.02
        trial = Trial(cloud, ENVIRONMENT)
        for number in range(fleets):
            cloud.world.fleet(f"f{number}", "s1")
        trial.sweep()
        throttle(cloud, 1 / 3)
        for number in range(sessions):
            cloud.world.start(str(number), "s1", f"f{number % fleets}", at=cloud.clock.now + 30, user=USER)
        TALLY["sweeps until 10,000 log-ins were told"] = drained(trial, {"Started": sessions})
        for number in range(sessions):
            cloud.world.end(str(number))
        TALLY["sweeps until 10,000 log-offs were told"] = drained(
            trial, {"Started": sessions, "Ended": sessions}
        )
        # What was published, and could not be cleared in the same sweep, is cleared by the next.
        trial.wait(60).sweep()
        invariants.one_id_per_transition(cloud.eventbridge.accepted)
        invariants.sequences_are_gapless_and_in_order(cloud.eventbridge.accepted)
        invariants.snapshot_is_world(cloud.dynamodb.tables["table"], PARTITION, "SESSION#", set())


def drained(trial: Trial, expected: dict[str, int]) -> int:
    """Sweep until these events are told of the sessions, and no other; return how many sweeps that took."""
    told: Counter[str] = Counter()
    for sweeps in range(1, 40):
        trial.wait(60).sweep()
        once = invariants.once(trial.cloud.eventbridge.accepted)
        told = Counter(
            entry["DetailType"].rpartition(" ")[2] for entry in once if "Session" in entry["DetailType"]
        )
        if told == expected:
            return sweeps
    pytest.fail(f"not told after {sweeps} sweeps: {told}")


# Growth


class Crowd:
    """An estate of many fleets with long names, on each of which somebody streams."""

    def __init__(self, cloud: Cloud, scopes: int, length: int, letter: str = "x") -> None:
        self.cloud = cloud
        self.trial = Trial(cloud, {**ENVIRONMENT, "TOPOLOGY_MINUTES": "60"})
        self.names = [f"{number:04}-".ljust(length, letter) for number in range(scopes)]
        # Seconds that each scope takes to fail; a sweep has no time for all if they are many.
        self.slow = 0.0
        cloud.seconds_per_call = 0.001
        cloud.appstream.topology_page = 1_000
        for name in self.names:
            cloud.world.fleet(name, f"stack-{int(name[:4]) % 4}")
        self.trial.sweep()
        self.largest = 0

    def fail(self) -> None:
        """Let AppStream fail to list any sessions."""

        def fails(operation: str, _params: Mapping[str, Any]) -> str | None:
            if operation != "DescribeSessions":
                return None
            self.cloud.clock.advance(self.slow)
            return "InternalFailure"

        self.cloud.appstream.fails = fails

    def mend(self) -> None:
        """Let it list them again."""
        self.cloud.appstream.fails = lambda _operation, _params: None

    def sweep(self, *faults: Fault) -> Run:
        """Sweep; it raises nothing, and nothing that it writes comes near DynamoDB's limits."""
        run = self.trial.wait_for_the_minute().sweep(*faults)
        if not run.dead:
            nothing_was_said(run)
        for call in run.calls:
            if call.operation in WRITES:
                actions = call.params.get("TransactItems", [{"Put": call.params}])
                items = [action["Put"]["Item"] for action in actions if "Put" in action]
                assert sum(map(size, items)) < TRANSACTION_BYTES * 7 / 8
                assert all(size(item) < ITEM_BYTES * 3 / 4 for item in items)
                own = [size(item) for item in items if item["sk"]["S"] == TARGET_ITEM]
                self.largest = max(self.largest, *own, 0)
        return run

    def until_told(self, kind: str) -> int:
        """Sweep until every scope was told of, each once; give how many sweeps that took."""
        sweeps = 0
        while sweeps < 100 and len(self.told(kind)) < len(self.names):
            self.sweep()
            sweeps += 1
        assert self.told(kind) == Counter(self.names)
        return sweeps

    def told(self, kind: str) -> Counter[str]:
        """Count the audit events of each scope."""
        return Counter(
            invariants.detail(entry["Detail"])["data"]["fleetName"]
            for entry in invariants.once(self.cloud.eventbridge.accepted)
            if entry["DetailType"] == f"AppStream Audit {kind}"
        )


def writes(run: Run) -> list[str]:
    return [call.operation for call in run.calls if call.operation in WRITES]


@pytest.mark.parametrize(
    ("scopes", "length", "letter"),
    [
        pytest.param(2_000, 100, "x", id="2,000 scopes with names of 100 characters"),
        pytest.param(300, 1_000, "x", id="300 scopes with names of 1,000 characters"),
        pytest.param(300, 250, "\U0001f600", id="300 scopes with names of four bytes a character"),
        pytest.param(100, 1_000, "\x01", id="100 scopes with names of control characters"),
    ],
)
def test_more_scopes_fail_than_fit_an_item(cloud: Cloud, scopes: int, length: int, letter: str) -> None:
    """Each is told to be degraded once, and once to have recovered; a sweep in between writes one item."""
    crowd = Crowd(cloud, scopes, length, letter)
    crowd.slow = 2.0
    crowd.fail()
    TALLY[f"sweeps until {scopes:,} degraded scopes were told of"] = crowd.until_told("Degraded")
    crowd.slow = 0.0
    crowd.sweep()
    crowd.sweep()
    assert writes(crowd.sweep()) == ["PutItem"]
    if scopes < 2_000:
        crowd.mend()
        crowd.until_told("Recovered")
    assert crowd.largest < 300_000


def test_an_outbox_that_nobody_empties_stays_small(cloud: Cloud) -> None:
    crowd = Crowd(cloud, 200, 500)
    crowd.fail()
    cloud.eventbridge.refuses = lambda _entry, _place: "InternalFailure"
    for _ in range(12):
        crowd.sweep()
    assert crowd.largest < 300_000
    cloud.eventbridge.refuses = lambda _entry, _place: None
    crowd.until_told("Degraded")
    crowd.mend()
    crowd.until_told("Recovered")
    crowd.sweep()
    assert size(rows(cloud)[TARGET_ITEM]) < 1_024


def test_more_holes_than_fit_an_item(cloud: Cloud) -> None:
    """Each scope has a hole of its own, which somebody lived through."""
    crowd = Crowd(cloud, 150, 500)
    for name in crowd.names:
        cloud.world.start(name[:4], f"stack-{int(name[:4]) % 4}", name, at=cloud.clock.now + 30, user=USER)
    crowd.sweep()
    crowd.fail()
    for _ in range(7):
        crowd.sweep()
    crowd.mend()
    crowd.sweep()
    for _ in range(5):
        crowd.sweep()
    assert crowd.largest < 300_000
    assert "parts" in rows(cloud)[TARGET_ITEM]
    assert writes(crowd.sweep()) == ["PutItem"]


@pytest.mark.parametrize("kept", [100_000, 2_000], ids=["all gaps fit", "some gaps are left out"])
def test_a_crash_while_gaps_lie_in_several_items(cloud: Cloud, kept: int) -> None:
    """Between any two calls, before their effect and after it: all is told, and no window is too narrow."""
    limits = {"PART_BYTES": 1_000, "INLINE_BYTES": 500, "PARTS_BYTES": kept}
    with ExitStack() as stack:
        for name, limit in limits.items():
            stack.enter_context(patch.object(session_auditor.table, name, limit))
        stack.enter_context(patch.object(session_auditor.coverage, "AUDIT_OUTBOX_BYTES", 5_000))
        crowd = Crowd(cloud, 12, 100)
        for name in crowd.names:
            cloud.world.start(
                name[:4], f"stack-{int(name[:4]) % 4}", name, at=cloud.clock.now + 30, user=USER
            )
        last = crowd.sweep()
        crowd.fail()
        for _ in range(4):
            crowd.sweep()
        for name in crowd.names:
            cloud.world.disconnect(name[:4])
        for _ in range(4):
            crashes_are_survived(crowd, last)
            crowd.sweep()
        crowd.mend()
        for _ in range(3):
            crashes_are_survived(crowd, last)
            crowd.sweep()


def crashes_are_survived(crowd: Crowd, last: Run) -> None:
    """Let the next sweep die at each call that another could feel."""
    with crowd.trial.rehearsal():
        calls = [call.operation for call in crowd.sweep().calls]
    for at, operation in enumerate(calls):
        if not operation.startswith(("Describe", "List")):
            for blow in (Blow.DIE_BEFORE, Blow.DIE_AFTER):
                with crowd.trial.rehearsal():
                    crash_is_survived(crowd, Fault(at, blow), last)


def crash_is_survived(crowd: Crowd, fault: Fault, last: Run) -> None:
    TALLY["crashes while gaps lay in several items"] += 1
    crowd.sweep(fault)
    cloud, everything_fits = crowd.cloud, session_auditor.table.PARTS_BYTES > 10_000
    if everything_fits:
        crowd.until_told("Degraded")
    crowd.mend()
    if everything_fits:
        crowd.until_told("Recovered")
    for _ in range(4):
        crowd.sweep()
    covered = datetime.fromtimestamp(last.begin, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for entry in cloud.eventbridge.accepted:
        if entry["DetailType"].endswith("Disconnected"):
            assert invariants.detail(entry["Detail"])["metadata"]["previousObservedAt"] <= covered
    assert {name[:4]: told(cloud, name[:4]) for name in crowd.names} == {
        name[:4]: ["Started", "Disconnected"] for name in crowd.names
    }
