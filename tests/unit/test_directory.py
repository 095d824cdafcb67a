"""The directory: which targets the settings want, and who stays when Organizations answers badly."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_auditor.directory import (
    ASK_EVERY,
    LISTS_TO_LEAVE,
    AccountList,
    Branch,
    Directory,
    Member,
    merge,
    names,
    of_these,
    parents_due,
    targets,
    wanted,
)
from tests.shared.history import at

A, B, C = "111111111111", "222222222222", "333333333333"
UNIT, ROOT = "ou-ab12-12345678", "r-ab12"
AB = AccountList({A: "alpha", B: "beta"})


def branch(*lists: AccountList) -> Branch:
    known: Branch | None = None
    for number, each in enumerate(lists):
        known = merge(known, each, at(15 * number))
    assert known
    return known


@pytest.mark.parametrize(
    ("lists", "members"),
    [
        pytest.param([AB], {A, B}, id="the first list counts at once"),
        pytest.param([AB, AccountList({A: "", C: ""})], {A, B, C}, id="a newcomer at once, a leaver not"),
        pytest.param([AB, AccountList({A: ""}), AccountList({A: ""})], {A}, id="two complete lists drop"),
        pytest.param([AB, AccountList({A: ""}), AB, AccountList({A: ""})], {A, B}, id="two in a row"),
        pytest.param([AB, AccountList({}), AccountList({})], {A, B}, id="an empty list drops nobody"),
        pytest.param(
            [AB, AccountList({A: ""}, "AccessDeniedException"), AccountList({A: ""}, "DEADLINE")],
            {A, B},
            id="a list that broke off drops nobody",
        ),
        pytest.param(
            [AB, AccountList({A: ""}), AccountList({}, "ServiceException"), AccountList({A: ""})],
            {A},
            id="a failure between the two does not count",
        ),
        pytest.param([AB, AccountList({C: ""}, "DEADLINE")], {A, B, C}, id="what broke off may add"),
    ],
)
def test_who_is_in(lists: list[AccountList], members: set[str]) -> None:
    assert branch(*lists).members.keys() == members


@given(
    st.lists(
        st.builds(
            AccountList,
            st.dictionaries(st.sampled_from([A, B, C]), st.just("")),
            st.sampled_from(["", "", "ServiceException"]),
        ),
        min_size=1,
    )
)
def test_whoever_leaves_was_in_none_of_the_latest_complete_lists(lists: list[AccountList]) -> None:
    known: Branch | None = None
    for number, each in enumerate(lists):
        before, known = known, merge(known, each, at(number))
        gone = (before.members.keys() if before else set()) - known.members.keys()
        complete = [one for one in lists[: number + 1] if one.accounts and not one.reason]
        for account in gone:
            assert len(complete) >= LISTS_TO_LEAVE
            assert all(account not in one.accounts for one in complete[-LISTS_TO_LEAVE:])
        assert each.accounts.keys() <= known.members.keys()


def test_targets_are_accounts_times_regions_less_the_excluded() -> None:
    wants = wanted([A, UNIT], ["eu-west-1", "us-east-1"], [C])
    found = {UNIT: branch(AccountList({A: "alpha", B: "", C: ""}))}
    assert [(each.account_id, each.region) for each in targets(wants, found, "aws")] == [
        (A, "eu-west-1"),
        (A, "us-east-1"),
        (B, "eu-west-1"),
        (B, "us-east-1"),
    ]


def test_a_number_needs_no_directory() -> None:
    wants = wanted([A], ["eu-west-1"], [])
    assert parents_due(wants, {}, at(0)) == ()
    assert [each.account_id for each in targets(wants, {}, "aws-us-gov")] == [A]


def test_what_is_taken_out_of_the_settings_leaves_at_once() -> None:
    found: Directory = {UNIT: branch(AB), ROOT: branch(AccountList({C: ""}))}
    wants = wanted([ROOT], ["eu-west-1"], [])
    assert of_these(wants, found) == {ROOT: found[ROOT]}
    assert [each.account_id for each in targets(wants, found, "aws")] == [C]


@pytest.mark.parametrize(
    ("known", "due"),
    [
        pytest.param(None, True, id="never asked"),
        pytest.param(Branch({}, at(0)), True, id="nobody known"),
        pytest.param(Branch({A: Member()}, at(0)), False, id="asked just now"),
        pytest.param(Branch({A: Member()}, at(1) - ASK_EVERY), True, id="asked a while ago"),
    ],
)
def test_when_a_parent_is_asked(known: Branch | None, due: bool) -> None:
    wants = wanted([UNIT], ["eu-west-1"], [])
    asked = parents_due(wants, {UNIT: known} if known else {}, at(1))
    assert asked == ((UNIT,) if due else ())


def test_one_parent_that_fails_holds_up_no_other() -> None:
    wants = wanted([UNIT, ROOT], ["eu-west-1"], [])
    found = {ROOT: branch(AB)}
    assert parents_due(wants, found, at(1)) == (UNIT,)
    assert parents_due(wants, found, at(0) + timedelta(minutes=15)) == (UNIT, ROOT)


def test_names_are_the_latest() -> None:
    renamed = AccountList({A: "omega"}, "DEADLINE")
    assert names({UNIT: branch(AB, renamed), ROOT: branch(AccountList({C: ""}))}) == {A: "omega", B: "beta"}
