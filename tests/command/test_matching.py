"""Which sessions of a report were seen: figures by hand, the two ways to match, and what is not counted."""

import gc
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appstream_auditor.reconcile.matching import Ours, Outside, Reconciled, View, one_to_one, reconcile
from appstream_auditor.reconcile.usage_report import ReportRow, UsageReport
from sandbox.appstream.usage_reports import COLUMNS, report
from sandbox.appstream.usage_reports import row as line
from session_auditor.model import AuthenticationType, EndReason, Globs, Life, Options, Scope, UserIdMode
from tests.shared.history import TARGET

SCOPE = Scope("office", "cad")
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
VIEW = View(TARGET, date(2026, 3, 2), MINUTE, Options(), MIDNIGHT - 30 * DAY)
HASHED, OMITTED = (replace(VIEW, options=Options(user_id_mode=UserIdMode(mode))) for mode in ("hash", "omit"))


def at(clock: str, day: int = 0) -> datetime:
    hours, minutes, *seconds = map(int, clock.split(":"))
    return MIDNIGHT + day * DAY + timedelta(hours=hours, minutes=minutes, seconds=sum(seconds))


def row(session_id: str = "s-1", start: str = "08:00", end: str = "09:00", **fields: Any) -> ReportRow:
    user, day, begun = fields.pop("user", "ann"), fields.pop("day", 0), fields.pop("begun", 0)
    found = ReportRow(
        session_id, SCOPE, user, "SAML", "123456789012", "eu-west-1", at(start, begun), at(end, day)
    )
    return found._replace(**fields)


def life(session_id: str = "s-1", start: str = "08:00", end: str | None = "09:00", **fields: Any) -> Life:
    day, begun, user = fields.pop("day", 0), fields.pop("begun", 0), fields.pop("user", "ann")
    known: dict[str, Any] = {"start": at(start, begun), "first_seen": at(start, begun), "user_id": user}
    if end:
        known |= {"end": at(end, day), "ended_after": at(end, day) - MINUTE}
        known |= {"reason": EndReason.USER_OR_ADMIN}
    return Life(session_id, **({"scope": SCOPE} | known | fields))


def counts(found: Reconciled) -> tuple[int, int, int, int]:
    return found.matched, len(found.missed), len(found.extra), len(found.differing)


@pytest.mark.parametrize(
    ("theirs", "ours", "expected"),
    [
        pytest.param([], [], (0, 0, 0, 0), id="an empty day"),
        pytest.param([row()], [life()], (1, 0, 0, 0), id="seen"),
        pytest.param([row()], [], (0, 1, 0, 0), id="missed"),
        pytest.param([], [life()], (0, 0, 1, 0), id="extra"),
        pytest.param([row(), row("s-2")], [life()], (1, 1, 0, 0), id="by id, whatever its user did besides"),
        pytest.param([row()], [life(end="09:01")], (1, 0, 0, 0), id="an interval late is no difference"),
        pytest.param([row()], [life(end="09:01:01")], (1, 0, 0, 1), id="it ended otherwise"),
        pytest.param([row()], [life(start="07:58:59")], (1, 0, 0, 1), id="it started otherwise"),
        pytest.param([row()], [life(end=None)], (1, 0, 0, 1), id="ours lives on"),
        pytest.param([row(begun=-1)], [life(begun=-1)], (1, 0, 0, 0), id="over midnight"),
        pytest.param(
            [row(end="23:59:50")], [life(end="00:00:20", day=1)], (1, 0, 0, 0), id="ours on the next day"
        ),
        pytest.param(
            [row(end="23:59", day=-1, begun=-1)],
            [life(end="23:59:30", day=-1, begun=-1)],
            (1, 0, 0, 0),
            id="ours on the day before",
        ),
        pytest.param([], [life(end="00:00:50")], (0, 0, 0, 0), id="perhaps of the day before"),
        pytest.param([], [life(end="00:01:30")], (0, 0, 0, 0), id="clocks may differ by an interval"),
        pytest.param([], [life(end="23:59:30")], (0, 0, 0, 0), id="perhaps of the next day"),
        pytest.param([], [life(end="00:02")], (0, 0, 1, 0), id="a sweep saw it on the day"),
        pytest.param([], [life(end="09:00", day=1)], (0, 0, 0, 0), id="ours of the next day is not extra"),
        pytest.param([], [life(end=None)], (0, 0, 0, 0), id="nor is one that lives"),
        pytest.param(
            [], [life(ended_after=at("23:00", -1))], (0, 0, 0, 0), id="nor is one that ended in a hole"
        ),
        pytest.param(
            [], [life(reason=EndReason.UNWATCHED)], (0, 0, 0, 0), id="nor is one that a filter closed"
        ),
        pytest.param(
            [row()], [life(end="08:30", reason=EndReason.UNWATCHED)], (1, 0, 0, 0), id="which claims no end"
        ),
        pytest.param(
            [row()],
            [life(), life(end="08:30", first_seen=at("08:10"))],
            (1, 0, 0, 0),
            id="one life of several agrees",
        ),
        pytest.param(
            [row()],
            [life(end="08:30", first_seen=at("08:10")), life()],
            (1, 0, 0, 0),
            id="or the last of them",
        ),
    ],
)
def test_by_id(theirs: list[ReportRow], ours: list[Life], expected: tuple[int, int, int, int]) -> None:
    # One common id says that ids are comparable.
    found = reconcile([row("common"), *theirs], [life("common"), *ours], VIEW)
    matched, *others = counts(found)
    assert (matched - 1, *others) == expected
    assert (found.matched_by_id, found.matched_by_start) == (1 + expected[0], 0)


A, B = "0d8f-a", "0d8f-b"


@pytest.mark.parametrize(
    ("theirs", "ours", "view", "expected"),
    [
        pytest.param([row(A)], [life("1")], VIEW, (1, 0, 0, 0), id="a user's session"),
        pytest.param([row(A)], [life("1", "08:03")], VIEW, (1, 0, 0, 1), id="180 s apart"),
        pytest.param([row(A)], [life("1", "08:03:01")], VIEW, (0, 1, 1, 0), id="181 s apart"),
        pytest.param([row(A)], [life("1", user="bob")], VIEW, (0, 1, 1, 0), id="another user"),
        pytest.param([row(A)], [life("1", user="Ann")], VIEW, (0, 1, 1, 0), id="case matters"),
        pytest.param(
            [row(A)], [life("1", scope=Scope("office", "gis"))], VIEW, (0, 1, 1, 0), id="another fleet"
        ),
        pytest.param([row(A), row(B)], [life("1")], VIEW, (1, 1, 0, 0), id="one to one, theirs"),
        pytest.param([row(A)], [life("1"), life("2")], VIEW, (1, 0, 1, 0), id="one to one, ours"),
        pytest.param([row(A)], [life("1", user="5f3e")], HASHED, (1, 0, 0, 0), id="hashed users are no help"),
        pytest.param([row(A)], [life("1", user="5f3e")], VIEW, (0, 1, 1, 0), id="but plain ones are"),
        pytest.param([row(A)], [life("1", user="")], OMITTED, (1, 0, 0, 0), id="nor are omitted ones"),
        pytest.param([row(A, begun=-1)], [life("1", begun=-1)], VIEW, (1, 0, 0, 0), id="over midnight"),
        pytest.param(
            [row(A, end="23:59:50")],
            [life("1", end="00:00:20", day=1)],
            VIEW,
            (1, 0, 0, 0),
            id="the next day",
        ),
        pytest.param([row(A)], [life("1", end=None)], VIEW, (1, 0, 0, 1), id="ours lives on"),
        pytest.param(
            [row(A)],
            [life("1", end=None), life("1", end="08:30", reason=EndReason.UNWATCHED)],
            VIEW,
            (1, 0, 0, 1),
            id="ours lives on, after a filter had closed it",
        ),
        pytest.param(
            [row(A, end="00:00:10", begun=-1)],
            [life("1", end="23:59:40", begun=-1, day=-1)],
            VIEW,
            (1, 0, 0, 0),
            id="ours on the day before, by clocks that differ",
        ),
        pytest.param(
            [row(A)],
            [life("1", first_seen=at("08:01")), life("1")],
            VIEW,
            (1, 0, 0, 0),
            id="read twice, while it ended",
        ),
        pytest.param(
            [row(A, "08:00", "08:00:30"), row(B, "08:02")],
            [life("1", "08:02")],
            VIEW,
            (1, 1, 0, 0),
            id="the start that agrees goes before one that is near",
        ),
        pytest.param(
            [row(A, "08:00"), row(B, "08:01:40")],
            [life("1", "08:02"), life("2", "08:03:40")],
            VIEW,
            (2, 0, 0, 2),
            id="starts that are all late by two minutes",
        ),
    ],
)
def test_by_stack_fleet_user_and_start(
    theirs: list[ReportRow], ours: list[Life], view: View, expected: tuple[int, int, int, int]
) -> None:
    found = reconcile(theirs, ours, view)
    assert counts(found) == expected
    assert (found.matched_by_id, found.matched_by_start) == (0, expected[0])


def test_the_one_that_was_missed_is_named() -> None:
    found = reconcile([row(A, "08:00", "08:00:30"), row(B, "08:02")], [life("1", "08:02")], VIEW)
    assert [each.session_id for each in found.missed] == [A]


def test_where_ids_are_the_same_a_start_matches_what_would_be_extra_alone() -> None:
    """Who tried in vain, and then came back for a night, was seen once."""
    common = [life("common")]
    theirs = [row("common"), row(A, "20:00", "20:00:20")]
    overnight = life("1", "20:01", "07:00", day=1)
    assert counts(reconcile(theirs, [*common, overnight], VIEW)) == (1, 1, 0, 0)
    found = reconcile(theirs, [*common, life("1", "20:00", "20:01:20")], VIEW)
    assert (found.matched_by_id, found.matched_by_start, *counts(found)[1:]) == (1, 1, 0, 0, 0)


@pytest.mark.parametrize(
    ("seconds", "chance"),
    [(0, 0.0), (15, 0.25), (30, 0.5), (59, 59 / 60), (60, 1.0), (90, 1.0), (36_000, 1.0)],
)
def test_a_session_is_seen_by_chance_if_it_is_shorter_than_an_interval(seconds: int, chance: float) -> None:
    session = row()._replace(end=at("08:00") + timedelta(seconds=seconds))
    assert VIEW.chance(session) == pytest.approx(chance)


def test_coverage_stands_beside_what_polling_could_have_seen() -> None:
    """By hand: of 60 s sweeps, 1 + 1 + 0.5 + 0.25 of four sessions; two were seen."""
    theirs = [
        row("s-1"),
        row("s-2", "10:00", "10:01"),
        row("s-3", "11:00", "11:00:30"),
        row("s-4", "12:00", "12:00:15"),
    ]
    found = reconcile(theirs, [life(), life("s-2", "10:00", "10:01")], VIEW)
    assert (found.coverage, found.expected) == (0.5, 2.75)
    assert found.expected_coverage == pytest.approx(0.6875)
    quarter = replace(VIEW, interval=15 * timedelta(seconds=1))
    assert reconcile(theirs, [], quarter).expected == 4


def test_of_no_session_there_is_no_coverage() -> None:
    found = reconcile([], [life()], VIEW)
    assert (found.coverage, found.expected_coverage, found.rows) == (None, None, 0)


FILTERED = Options(
    stacks=Globs(exclude=("lab",)),
    fleets=Globs(include=("cad", "gis")),
    authentication_types=frozenset([AuthenticationType.SAML]),
)
DOMAIN = Options(authentication_types=frozenset([AuthenticationType.AWS_AD]))


@pytest.mark.parametrize(
    ("session", "view", "why"),
    [
        pytest.param(row(), replace(VIEW, options=FILTERED), None, id="within the filters"),
        pytest.param(
            row(scope=Scope("lab", "cad")), replace(VIEW, options=FILTERED), Outside.FILTERED, id="a stack"
        ),
        pytest.param(
            row(scope=Scope("office", "x")), replace(VIEW, options=FILTERED), Outside.FILTERED, id="a fleet"
        ),
        pytest.param(
            row(authentication_type="API"), replace(VIEW, options=FILTERED), Outside.FILTERED, id="a type"
        ),
        pytest.param(
            row(authentication_type="API"), replace(VIEW, options=DOMAIN), None, id="a type without a word"
        ),
        pytest.param(
            row(authentication_type="NEW"), replace(VIEW, options=FILTERED), None, id="a type of the future"
        ),
        pytest.param(row(account_id="1" * 12), VIEW, Outside.OTHER_TARGET, id="another account"),
        pytest.param(row(region="us-east-1"), VIEW, Outside.OTHER_TARGET, id="another region"),
        pytest.param(row(account_id="", region=""), VIEW, None, id="neither is said"),
        pytest.param(row(day=2), VIEW, Outside.OTHER_DAY, id="a day that was not looked at"),
        pytest.param(row(begun=-9, day=-2, end="23:59:59"), VIEW, Outside.OTHER_DAY, id="a day too early"),
        pytest.param(row(day=1), VIEW, None, id="the next day"),
        pytest.param(
            row(), replace(VIEW, audited_since=at("09:00")), Outside.BEFORE_AUDIT, id="before the audit"
        ),
        pytest.param(row(), replace(VIEW, audited_since=at("08:59:59")), None, id="when the audit began"),
        pytest.param(row(), replace(VIEW, audited_since=None), None, id="there was no audit"),
    ],
)
def test_what_is_outside_is_not_missed(session: ReportRow, view: View, why: Outside | None) -> None:
    found = reconcile([session, row("common", "08:59:59", "09:00:01")], [life("common")], view)
    assert found.outside == ({why: 1} if why else {})
    assert [each.session_id for each in found.missed] == ([] if why else ["s-1"])
    # What does not count for one figure does not for the other.
    assert found.expected == pytest.approx((0 if why else VIEW.chance(session)) + 2 / 60)


def test_what_was_seen_is_matched_whatever_the_filters_are_now() -> None:
    found = reconcile([row(scope=Scope("lab", "cad"))], [life()], replace(VIEW, options=FILTERED))
    assert (found.matched, found.outside) == (1, {})


def test_an_id_that_is_repeated_counts_once() -> None:
    found = reconcile([row(), row(), row("s-2")], [], VIEW)
    assert (found.rows, found.repeated, len(found.missed)) == (3, 1, 2)


STARTS = st.integers(0, 600).map(lambda seconds: at("08:00") + timedelta(seconds=seconds))
USERS = st.sampled_from(["ann", "bob"])


@given(st.lists(st.tuples(STARTS, USERS), max_size=8), st.lists(st.tuples(STARTS, USERS), max_size=8))
def test_pairs_are_one_to_one_and_nothing_that_fits_is_left(
    theirs: list[tuple[datetime, str]], ours: list[tuple[datetime, str]]
) -> None:
    def fits(row: ReportRow, each: Ours) -> bool:
        return row.user_id == each.user_id and abs(row.start - each.start) <= timedelta(seconds=180)

    rows = [row(str(number), user=user)._replace(start=start) for number, (start, user) in enumerate(theirs)]
    lives = [
        Ours(f"our-{number}", SCOPE, user, start, None, watched=True, ended=False)
        for number, (start, user) in enumerate(ours)
    ]
    paired, left = one_to_one(rows, [*lives], by_user=True)
    used = [each for each in paired if each]
    assert sorted([*used, *left]) == sorted(lives)
    assert all(fits(row, each) for row, each in zip(rows, paired, strict=True) if each)
    alone = [row for row, each in zip(rows, paired, strict=True) if not each]
    assert not any(fits(row, each) for row in alone for each in left)


BALLAST = "x" * 700
LONG_ROW = report([dict.fromkeys(COLUMNS, BALLAST) | line("ID", at("08:00"), at("09:00"), user_id="USER")])


def most_memory(number: int) -> int:
    """Return how many bytes it takes to compare so many rows with as many lives, none of the same id."""

    def lines() -> Iterator[str]:
        header, text = LONG_ROW.splitlines()
        yield header
        for each in range(number):
            yield text.replace("ID", f"{each:036}").replace("USER", f"user{each}@example.com")

    def ours() -> Iterator[Life]:
        for each in range(number):
            fields = {"user": f"user{each}@example.com", "timeline": f"{each}{BALLAST * 20}"}
            # Nor has it its scope from anywhere else.
            yield life(f"{-each - 1:036}", scope=Scope("office", "cad"), **fields)

    gc.collect()
    tracemalloc.start()
    try:
        found = reconcile(UsageReport(lines()), ours(), VIEW)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.matched_by_start == number
    return most


def test_memory_grows_with_what_is_compared_and_with_nothing_else() -> None:
    """A row has 14 KB that nobody reads, and a life as long a timeline: neither is kept.

    760 bytes for each of 200,000 are 152 MB, and what the command imports takes 85 MB.
    """
    # What Python makes once, at whichever moment, is in one try of the two at most.
    many, few = (min(most_memory(number) for _ in range(2)) for number in (800, 200))
    assert 0 < (many - few) / 600 < 760
