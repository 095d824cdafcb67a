"""Hostile and broken input to the real handler, and more of it than a sweep can take.

Whatever AppStream answers and whatever lies in the table: a sweep raises nothing, tells nobody's name,
and what is sound is audited as if the rest were not there.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.simulation import invariants
from tests.simulation.aws import Cloud, Run
from tests.simulation.errors import AwsError
from tests.simulation.trial import ENVIRONMENT, PARTITION, TALLY, Trial

USER = "user-with-a-name@example.com"

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


def estate(cloud: Cloud) -> Trial:
    """Set up two fleets; on one of them two users stream, what the other shows is up to the test."""
    trial = Trial(cloud, ENVIRONMENT, users={USER})
    cloud.world.fleet("sound", "s1")
    cloud.world.fleet("odd", "s1")
    trial.sweep()
    for identity in ("a", "b"):
        cloud.world.start(identity, "s1", "sound", at=cloud.clock.now + 30, user=USER)
    trial.wait(60).sweep()
    return trial


def told(cloud: Cloud, identity: str) -> list[str]:
    entries = [each for each in cloud.eventbridge.accepted if invariants.session_of(each) == identity]
    return [entry["DetailType"].rpartition(" ")[2] for entry in entries]


def nothing_was_said(run: Run) -> None:
    assert run.error is None, run.error
    invariants.nothing_names_a_user(run.printed, {USER}, "what was printed")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(pages, min_size=1, max_size=3))
def test_whatever_appstream_answers(odd_pages: list[dict[str, Any]]) -> None:
    TALLY["hostile answers"] += 1
    with Cloud() as cloud:
        trial = estate(cloud)
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
            getattr(cloud.world, verb)("a")
            nothing_was_said(trial.wait(60).sweep())
        cloud.appstream.call = serve  # type: ignore[method-assign]
        for _ in range(3):
            nothing_was_said(trial.wait(60).sweep())
        assert told(cloud, "a") == ["Started", "Disconnected", "Reconnected"]
        assert told(cloud, "b") == ["Started"]
        invariants.snapshot_is_world(cloud.dynamodb.tables["table"], PARTITION, "SESSION#", {"a", "b"})
        invariants.outbox_is_empty(cloud.dynamodb.tables["table"], PARTITION)
        invariants.sequences_are_gapless_and_in_order(cloud.eventbridge.accepted)


values = st.one_of(
    st.builds(lambda text: {"S": text}, st.text(st.characters(exclude_categories=["Cs"]))),
    st.builds(lambda number: {"N": str(number)}, st.integers(-5, 5)),
    st.just({"NULL": True}),
    st.just({"L": [{"S": "x"}]}),
    st.just({"M": {"type": {"S": "x"}}}),
)
items = st.dictionaries(st.sampled_from(["schema", "version", "state", "outbox", "note"]), values)


@settings(max_examples=200, deadline=None)
@given(items, st.sampled_from(["SESSION#a", "SESSION#x", "NOTES", "SCOPES"]), st.booleans())
def test_whatever_lies_in_the_table(item: dict[str, Any], key: str, keep: bool) -> None:
    """An item that cannot be read is left as it is; `keep` leaves the attributes it does not replace."""
    TALLY["hostile items"] += 1
    with Cloud() as cloud:
        trial = estate(cloud)
        found = cloud.dynamodb.call("GetItem", {"TableName": "table", "Key": key_of(key)}).get("Item", {})
        strange = (found if keep else {}) | item | key_of(key)
        cloud.dynamodb.call("PutItem", {"TableName": "table", "Item": strange})
        cloud.world.disconnect("b")
        cloud.world.start("c", "s1", "sound", at=cloud.clock.now + 30, user=USER)
        for _ in range(3):
            nothing_was_said(trial.wait(60).sweep())
        assert told(cloud, "b") == ["Started", "Disconnected"]
        assert told(cloud, "c") == ["Started"]
        after = cloud.dynamodb.call("GetItem", {"TableName": "table", "Key": key_of(key)})["Item"]
        readable = trial.runs[-1].result["itemsUnreadable"] == 0
        assert after == strange or readable


def key_of(key: str) -> dict[str, Any]:
    return {"pk": {"S": PARTITION}, "sk": {"S": key}}


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
    """20,000 sessions come in one minute and go in one, and every service throttles a third of all tries."""
    sessions, fleets = 20_000, 20
    with Cloud() as cloud:
        cloud.seconds_per_call = 0.02
        trial = Trial(cloud, ENVIRONMENT)
        for number in range(fleets):
            cloud.world.fleet(f"f{number}", "s1")
        trial.sweep()
        throttle(cloud, 1 / 3)
        for number in range(sessions):
            cloud.world.start(str(number), "s1", f"f{number % fleets}", at=cloud.clock.now + 30, user=USER)
        TALLY["sweeps until 20,000 log-ins were told"] = drained(trial, {"Started": sessions})
        for number in range(sessions):
            cloud.world.end(str(number))
        TALLY["sweeps until 20,000 log-offs were told"] = drained(
            trial, {"Started": sessions, "Ended": sessions}
        )
        invariants.one_id_per_transition(cloud.eventbridge.accepted)
        invariants.sequences_are_gapless_and_in_order(cloud.eventbridge.accepted)
        invariants.snapshot_is_world(cloud.dynamodb.tables["table"], PARTITION, "SESSION#", set())


def drained(trial: Trial, expected: dict[str, int]) -> int:
    """Sweep until these events are told of the sessions, and no other; give how many sweeps that took."""
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
