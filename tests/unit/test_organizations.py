"""Organizations on its client's wire: pages, empty ones included, nested units, states, refusals."""

from collections.abc import Callable
from typing import Any

import pytest
from moto import mock_aws

from session_auditor.directory import AccountList
from session_auditor.organizations import UNITS_LIMIT, Organizations
from session_auditor.paging import DEADLINE
from tests.shared.aws import Wire, boto_client, client_error, raising

ROOT, UNIT, NESTED = "r-ab12", "ou-ab12-11111111", "ou-ab12-22222222"
A, B, C = "111111111111", "222222222222", "333333333333"


def account(number: str, name: str = "", **rest: Any) -> dict[str, Any]:
    return {"Id": number, "Name": name, "State": "ACTIVE", "Status": "ACTIVE"} | rest


def pages(**by_parent: list[dict[str, Any]]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Answer with the pages of a parent, by its last digits; each but the last names the next."""

    def answer(parameters: dict[str, Any]) -> dict[str, Any]:
        found = by_parent.get(f"of_{parameters['ParentId'][-2:]}", [{}])
        number = int(parameters.get("NextToken", 0))
        return found[number] | ({"NextToken": str(number + 1)} if number + 1 < len(found) else {})

    return answer


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    wire = Wire(monkeypatch)
    wire.answers = {"ListAccountsForParent": pages(), "ListOrganizationalUnitsForParent": pages()}
    return wire


def below(parent: str = ROOT, time_left: Callable[[], float] = lambda: 10.0) -> AccountList:
    return Organizations(boto_client("organizations")).accounts_below(parent, time_left)


def test_an_empty_page_is_not_the_end(wire: Wire) -> None:
    """They can occasionally be empty when more results are available (API reference)."""
    wire.answers["ListAccountsForParent"] = pages(
        of_12=[{"Accounts": []}, {"Accounts": [account(A)]}, {"Accounts": []}, {"Accounts": [account(B)]}]
    )
    assert below() == AccountList({A: "", B: ""})


def test_nested_units_are_walked(wire: Wire) -> None:
    wire.answers["ListAccountsForParent"] = pages(
        of_12=[{"Accounts": [account(A, "alpha")]}],
        of_11=[{"Accounts": [account(B, "beta")]}],
        of_22=[{"Accounts": [account(C, "gamma")]}],
    )
    wire.answers["ListOrganizationalUnitsForParent"] = pages(
        of_12=[{"OrganizationalUnits": []}, {"OrganizationalUnits": [{"Id": UNIT}]}],
        # A unit that is moved meanwhile may be listed twice.
        of_11=[{"OrganizationalUnits": [{"Id": NESTED}, {"Id": NESTED}, {"Id": UNIT}]}],
    )
    assert below() == AccountList({A: "alpha", B: "beta", C: "gamma"})
    assert below(UNIT) == AccountList({B: "beta", C: "gamma"})


@pytest.mark.parametrize(
    ("states", "there"),
    [
        pytest.param({"State": "ACTIVE", "Status": "ACTIVE"}, True, id="active"),
        pytest.param({"State": "PENDING_ACTIVATION", "Status": "ACTIVE"}, False, id="State counts"),
        pytest.param({"State": "CLOSED", "Status": "SUSPENDED"}, False, id="closed"),
        pytest.param({"State": "SUSPENDED"}, False, id="suspended"),
        pytest.param({"State": "SOMETHING_NEW"}, False, id="a state that nobody knows yet"),
        pytest.param({"State": "ACTIVE", "Status": "SUSPENDED"}, True, id="State counts, Status does not"),
        pytest.param({"Status": "ACTIVE"}, True, id="Status where there is no State"),
        pytest.param({"Status": "PENDING_CLOSURE"}, False, id="Status where there is no State, closing"),
        pytest.param({}, False, id="neither"),
    ],
)
def test_active_accounts_alone(wire: Wire, states: dict[str, str], there: bool) -> None:
    record = {"Id": A, "Name": "alpha", **states}
    wire.answers["ListAccountsForParent"] = pages(of_12=[{"Accounts": [record]}])
    assert below().accounts == ({A: "alpha"} if there else {})


@pytest.mark.parametrize(
    "code",
    [
        "AccessDeniedException",
        "AWSOrganizationsNotInUseException",
        "ParentNotFoundException",
        "TooManyRequestsException",
    ],
)
@pytest.mark.parametrize("operation", ["ListAccountsForParent", "ListOrganizationalUnitsForParent"])
def test_whatever_is_refused_makes_it_incomplete_and_is_said(wire: Wire, operation: str, code: str) -> None:
    wire.answers["ListAccountsForParent"] = pages(of_12=[{"Accounts": [account(A)]}])
    wire.answers[operation] = raising(client_error(code))
    found = below()
    assert found.reason == code
    assert found.accounts == ({} if operation == "ListAccountsForParent" else {A: ""})


@pytest.mark.parametrize(
    "records",
    [
        pytest.param("none", id="no list"),
        pytest.param([None], id="no record"),
        pytest.param([{"Name": "no id", "State": "ACTIVE"}], id="no id"),
        pytest.param([account("12")], id="no account number"),
    ],
)
def test_what_cannot_be_read_makes_it_incomplete(wire: Wire, records: Any) -> None:
    wire.answers["ListAccountsForParent"] = lambda _: {"Accounts": records}
    assert below() == AccountList({}, "MALFORMED_ANSWER")


def test_it_ends_with_its_time(wire: Wire) -> None:
    wire.answers["ListAccountsForParent"] = pages(of_12=[{"Accounts": [account(A)]}])
    wire.answers["ListOrganizationalUnitsForParent"] = pages(of_12=[{"OrganizationalUnits": [{"Id": UNIT}]}])
    left = iter([10.0, 0.0])
    assert below(time_left=lambda: next(left)) == AccountList({A: ""}, DEADLINE)


def test_a_tree_without_end_is_none(wire: Wire) -> None:
    def nested(parameters: dict[str, Any]) -> dict[str, Any]:
        return {"OrganizationalUnits": [{"Id": f"{parameters['ParentId']}{each}"} for each in range(1000)]}

    wire.answers["ListOrganizationalUnitsForParent"] = nested
    assert below().reason == "TOO_MANY_UNITS"
    assert len(wire.calls) <= UNITS_LIMIT


def test_a_real_tree_in_moto() -> None:
    """Moto's Organizations: fifty accounts in three levels, pages of twenty, one account closed."""
    with mock_aws():
        client: Any = boto_client("organizations")
        client.create_organization(FeatureSet="ALL")
        (root,) = client.list_roots()["Roots"]
        unit = client.create_organizational_unit(ParentId=root["Id"], Name="streaming")["OrganizationalUnit"]
        nested = client.create_organizational_unit(ParentId=unit["Id"], Name="emea")["OrganizationalUnit"]
        accounts = []
        for number in range(50):
            made = client.create_account(AccountName=f"account {number}", Email=f"a{number}@example.com")
            accounts.append(made["CreateAccountStatus"]["AccountId"])
            if number >= 5:
                there = unit["Id"] if number < 30 else nested["Id"]
                client.move_account(
                    AccountId=accounts[-1], SourceParentId=root["Id"], DestinationParentId=there
                )
        client.close_account(AccountId=accounts[-1])
        found = below(unit["Id"])
        assert found == AccountList({each: f"account {accounts.index(each)}" for each in accounts[5:49]})
        management = set(below(root["Id"]).accounts) - set(accounts)
        assert len(management) == 1, "the management account lies in the root"
