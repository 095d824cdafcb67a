"""The audit log end to end: events on the bus, objects in S3, and the saved queries answered from them.

Rule, stream, bucket and table are those that the local cloud made of the template. What it cannot do, the
tests do: it takes no saved queries, its rules do not deliver to Firehose, its Firehose neither compresses nor
ends a line, and its Athena knows no structs. DuckDB answers the queries, translated by sqlglot. So what the
queries say is proved, and that events, days and table fit together. That Athena's dialect, its SerDe and its
partition projection agree is not.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
from samtranslator.yaml_helper import yaml_parse
from sqlglot import exp, parse_one

from sandbox.cloud import ROOT, LocalCloud, Stack, local_cloud, wait_for
from session_auditor.model import Event, Scope
from session_auditor.publisher import Publisher
from tests.shared.history import AWAY, SCOPE, History, at, session

BUS = "session-auditor"
TEMPLATE = ROOT / "examples" / "consumers" / "audit-log" / "template.yaml"
README = TEMPLATE.with_name("README.md").read_text()
(README_QUERY,) = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
QUERIES = {
    name: resource["Properties"]["QueryString"]
    for name, resource in yaml_parse(TEMPLATE.read_text())["Resources"].items()
    if resource["Type"] == "AWS::Athena::NamedQuery"
}
# What a spreadsheet may take for a formula, or drop before it does.
HOSTILE = [
    pytest.param(start, id=ascii(start))
    for start in (
        *"=+-@\t\r\n|%",
        *(" =", '"=', "'=", "\t@", "\u00a0=", "\u200b=", "\ufeff="),
        # The same signs in full width, which some spreadsheets read alike.
        *("\uff1d", "\uff0b", "\uff0d", "\uff20", " \uff1d"),
    )
]
LAB = Scope("lab", "render")
Row = dict[str, Any]
Ask = Callable[..., list[Row]]


def two_days() -> list[Event]:
    """Three sessions that end, and one that is there past midnight; minutes count from 08:00."""
    ann: Row = {"session_id": "s-ann", "user_id": "ann@example.com"}
    bob: Row = {"session_id": "s-bob", "user_id": "bob@example.com"}
    kim: Row = {"session_id": "s-kim", "user_id": "kim@example.com", "scope": LAB}
    eva: Row = {
        "session_id": "s-eva",
        "user_id": "eva@example.com",
        "scope": LAB,
        "start_time": at(950),
        "max_expiration_time": at(1500),
    }
    history = History(timeout=7200)
    for minute, sessions in (
        (0, ()),
        (1, (session(**ann), session(**bob), session(AWAY, **kim))),
        (61, (session(**ann), session(AWAY, **bob), session(AWAY, **kim))),
        (121, (session(**ann), session(AWAY, **bob), session(AWAY, **kim))),
        # Bob's disconnect timeout is over: one look without him is enough. Kim is missed twice.
        (181, (session(**ann),)),
        (182, (session(**ann),)),
        (301, ()),
        (302, ()),
        (951, (session(**eva),)),
        (970, (session(AWAY, **eva),)),
    ):
        history.observe(minute, *sessions, scopes=frozenset([SCOPE, LAB]))
    return history.events


EVENTS = two_days()


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with local_cloud() as cloud:
        yield cloud


@pytest.fixture(scope="module")
def deployed(cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    template = yaml_parse(TEMPLATE.read_text())
    for name in QUERIES:
        del template["Resources"][name]
    known = tmp_path_factory.mktemp("audit-log") / "template.yaml"
    known.write_text(json.dumps(template))
    cloud.client("events").create_event_bus(Name=BUS)
    cloud.client("ssm").put_parameter(
        Name="/appstream-session-auditor/appstream-session-auditor/bus-name", Value=BUS, Type="String"
    )
    return cloud.deploy({}, name="audit-log", template=known)


@pytest.fixture(scope="module")
def objects(cloud: LocalCloud, deployed: Stack) -> dict[str, str]:
    """Publish every event twice, through the rule and the stream; return the objects in the bucket by key."""
    events, firehose, s3 = cloud.client("events"), cloud.client("firehose"), cloud.client("s3")
    (rule,) = events.list_rules(EventBusName=BUS)["Rules"]
    (target,) = events.list_targets_by_rule(EventBusName=BUS, Rule=rule["Name"])["Targets"]
    assert target["Arn"].endswith(f":deliverystream/{deployed.outputs['LogStreamName']}")
    queue = cloud.subscribe_queue(BUS, "instead-of-firehose", json.loads(rule["EventPattern"]))
    for _ in range(2):
        published = Publisher(events, BUS, workers=1).publish([EVENTS], lambda: 60.0)
        assert len(published.accepted) == len(EVENTS)
    delivered: list[Row] = []

    def all_there() -> bool:
        delivered.extend(cloud.drain(queue))
        return len(delivered) >= 2 * len(EVENTS)

    wait_for(all_there, 30, "the events at the rule's target")
    for event in delivered:
        firehose.put_record(
            DeliveryStreamName=deployed.outputs["LogStreamName"],
            Record={"Data": json.dumps(event).encode()},
        )
    bucket = deployed.outputs["LogBucketName"]

    def keys() -> list[str]:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        found = [each["Key"] for page in pages for each in page.get("Contents", [])]
        return found if len(found) >= len(delivered) else []

    return {
        key: s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
        for key in wait_for(keys, 30, "the objects in the bucket")
    }


@pytest.fixture(scope="module")
def table(cloud: LocalCloud, deployed: Stack) -> Row:
    """The table as Glue describes it."""
    found: Row = cloud.client("glue").get_table(DatabaseName="appstream_audit", Name="events")["Table"]
    return found


@pytest.fixture(scope="module")
def ask(table: Row, objects: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Return what answers a query, as of a day, from what is in the bucket."""
    with asking(table, rows(table, objects), tmp_path_factory.mktemp("table")) as answer:
        yield answer


@contextmanager
def asking(table: Row, lines: Iterable[Row], directory: Path) -> Iterator[Ask]:
    """Return what answers a query, as of a day, from the lines in a table as Glue describes it."""
    path = directory / "events.json"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    described = [*table["StorageDescriptor"]["Columns"], *table["PartitionKeys"]]
    columns = {
        each["Name"]: exp.DataType.build(each["Type"], dialect="hive").sql("duckdb") for each in described
    }
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        connection.execute(
            "CREATE TABLE events AS SELECT * FROM read_json($path, columns = $columns, format = 'nd')",
            {"path": str(path), "columns": columns},
        )

        def answer(name: str, today: date = date(2026, 3, 10)) -> list[Row]:
            found = connection.execute(translated(QUERIES.get(name, README_QUERY), today))
            names = [each[0] for each in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

        yield answer


def rows(table: dict[str, Any], objects: dict[str, str]) -> Iterator[Row]:
    """Read the objects as Athena's SerDe does: keys in lower case or as mapped, the day from the location."""
    place = re.escape(table["Parameters"]["storage.location.template"].split("/", 3)[3])
    location = re.compile(place.replace(re.escape("${day}"), r"(\d{4}-\d{2}-\d{2})"))
    parameters = table["StorageDescriptor"]["SerdeInfo"]["Parameters"]
    mapped = {key: name.removeprefix("mapping.") for name, key in parameters.items()}

    def named(pairs: list[tuple[str, Any]]) -> Row:
        return {mapped.get(key, key.lower()): value for key, value in pairs}

    for key, body in objects.items():
        found = location.match(key)
        assert found, f"{key} is nowhere the table looks"
        row: Row = json.loads(body, object_pairs_hook=named)
        yield row | {"day": found[1]}


def translated(query: str, today: date) -> str:
    """Put an Athena query into DuckDB's words, with the day as an argument."""

    def fixed(node: exp.Expression) -> exp.Expression:
        return exp.cast(exp.Literal.string(str(today)), "date") if isinstance(node, exp.CurrentDate) else node

    tree = parse_one(query, read="athena")
    return tree.transform(fixed).sql("duckdb")


def test_every_event_is_an_object_of_its_own_day(objects: dict[str, str]) -> None:
    days = {"2026-03-02": 0, "2026-03-03": 0}
    for key, body in objects.items():
        event = json.loads(body)
        assert event["source"] == "appstream.auditor"
        day = event["detail"]["metadata"]["observedAt"][:10]
        assert key.startswith(f"events/day={day}/")
        days[day] += 1
    assert days == {"2026-03-02": 2 * (len(EVENTS) - 1), "2026-03-03": 2}


def test_what_has_no_day_is_kept_with_the_errors(
    cloud: LocalCloud, deployed: Stack, objects: dict[str, str]
) -> None:
    cloud.client("firehose").put_record(
        DeliveryStreamName=deployed.outputs["LogStreamName"], Record={"Data": b'{"detail": {}}'}
    )
    s3, bucket = cloud.client("s3"), deployed.outputs["LogBucketName"]
    (kept,) = wait_for(
        lambda: s3.list_objects_v2(Bucket=bucket, Prefix="errors/").get("Contents"), 10, "the error"
    )
    assert re.match(r"errors/[a-z-]+/day=\d{4}-\d{2}-\d{2}/", kept["Key"])


def test_who_used_what_and_when(ask: Ask) -> None:
    assert ask("WhoUsedWhat") == [
        {
            "user_id": "eva@example.com",
            "stack": "lab",
            "fleet": "render",
            "began": "2026-03-02T23:50:00Z",
            "ended": "",
            "why_ended": "",
            "hours_connected": 0.32,
            "disconnects": 1,
            "as_of": "2026-03-03T00:10:00Z",
        },
        {
            "user_id": "ann@example.com",
            "stack": "office",
            "fleet": "cad",
            "began": "2026-03-02T08:00:30Z",
            "ended": "2026-03-02T13:01:00Z",
            "why_ended": "USER_OR_ADMIN",
            "hours_connected": 5.0,
            "disconnects": 0,
            "as_of": "2026-03-02T13:02:00Z",
        },
        {
            "user_id": "bob@example.com",
            "stack": "office",
            "fleet": "cad",
            "began": "2026-03-02T08:00:30Z",
            "ended": "2026-03-02T11:01:00Z",
            "why_ended": "DISCONNECT_TIMEOUT",
            "hours_connected": 1.0,
            "disconnects": 1,
            "as_of": "2026-03-02T11:01:00Z",
        },
        {
            "user_id": "kim@example.com",
            "stack": "lab",
            "fleet": "render",
            "began": "2026-03-02T08:00:30Z",
            "ended": "2026-03-02T11:01:00Z",
            "why_ended": "NEVER_CONNECTED",
            "hours_connected": 0.0,
            "disconnects": 0,
            "as_of": "2026-03-02T11:02:00Z",
        },
    ]


def test_sessions_abandoned_longest(ask: Ask) -> None:
    assert [(row["user_id"], row["hours_abandoned"], row["ended"]) for row in ask("AbandonedLongest")] == [
        ("kim@example.com", 3.01, "2026-03-02T11:01:00Z"),
        ("bob@example.com", 2.0, "2026-03-02T11:01:00Z"),
    ]


def test_hours_wasted_per_fleet_count_a_repeated_event_once(ask: Ask) -> None:
    assert ask("HoursWasted") == [
        {
            "stack": "lab",
            "fleet": "render",
            "sessions": 1,
            "hours_used": 0.0,
            "hours_disconnected": 0.0,
            "hours_never_connected": 3.01,
        },
        {
            "stack": "office",
            "fleet": "cad",
            "sessions": 2,
            "hours_used": 6.0,
            "hours_disconnected": 2.0,
            "hours_never_connected": 0.0,
        },
    ]


def spoiled(value: Any, start: str) -> Any:
    """Let every text of an event begin with something hostile."""
    if isinstance(value, dict):
        return {name: spoiled(each, start) for name, each in value.items()}
    return start + value if isinstance(value, str) else value


@pytest.mark.parametrize("name", [*QUERIES, "the README's"])
@pytest.mark.parametrize("start", HOSTILE)
def test_no_text_is_a_formula_in_a_spreadsheet(
    name: str, start: str, table: Row, objects: dict[str, str], tmp_path: Path
) -> None:
    lines = (row | {"detail": spoiled(row["detail"], start)} for row in rows(table, objects))
    with asking(table, lines, tmp_path) as ask:
        found = ask(name)
    texts = [text for row in found for text in row.values() if isinstance(text, str) and text]
    assert len(texts) >= len(found) > 0
    assert all(text.startswith(f"'{start}") for text in texts)


def test_an_ordinary_text_stays_as_it_is(ask: Ask) -> None:
    assert {row["user_id"] for row in ask("the README's")} == {"bob@example.com", "eva@example.com"}


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize(
    ("today", "found"),
    [
        pytest.param(date(2026, 4, 1), True, id="within them"),
        pytest.param(date(2026, 4, 3), False, id="after them"),
    ],
)
def test_a_query_looks_at_thirty_days(ask: Ask, name: str, today: date, found: bool) -> None:
    assert bool(ask(name, today)) == found
