"""Lists the active accounts below a root or an organizational unit, nested units included.

It knows how AWS Organizations pages and names the state of an account, and nothing about who is dropped.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from session_auditor.aws_errors import MALFORMED
from session_auditor.directory import ACCOUNT, AccountList
from session_auditor.errors import CutShortError
from session_auditor.paging import DEADLINE, answers

if TYPE_CHECKING:
    from mypy_boto3_organizations import OrganizationsClient

ACTIVE = "ACTIVE"
# Organizations nests units five deep and takes 2,000 of them (quotas); what goes beyond is no tree.
UNITS_LIMIT = 5_000
Listing = Literal["list_accounts_for_parent", "list_organizational_units_for_parent"]


class Organizations:
    """AWS Organizations, as its management account or a delegated administrator sees it."""

    def __init__(self, client: "OrganizationsClient") -> None:
        self._client = client

    def accounts_below(self, parent: str, time_left: Callable[[], float]) -> AccountList:
        """Return the active accounts below a parent; what was found before it broke off, with the reason."""
        accounts: dict[str, str] = {}
        try:
            for account in self._walk(parent, time_left):
                if _state(account) == ACTIVE:
                    accounts[_number(account)] = _name(account)
        except CutShortError as error:
            return AccountList(accounts, error.reason)
        return AccountList(accounts)

    def _walk(self, parent: str, time_left: Callable[[], float]) -> Iterator[Mapping[str, Any]]:
        """Return every account below a parent; raise CutShortError."""
        waiting, seen = deque([parent]), {parent}
        while waiting:
            if time_left() <= 0:
                raise CutShortError(DEADLINE)
            if len(seen) > UNITS_LIMIT:
                raise CutShortError("TOO_MANY_UNITS")
            unit = waiting.popleft()
            yield from self._listed("list_accounts_for_parent", "Accounts", unit, time_left)
            units = self._listed(
                "list_organizational_units_for_parent", "OrganizationalUnits", unit, time_left
            )
            for nested in map(_id, units):
                if nested not in seen:
                    seen.add(nested)
                    waiting.append(nested)

    def _listed(
        self, operation: Listing, what: str, parent: str, time_left: Callable[[], float]
    ) -> Iterator[Mapping[str, Any]]:
        """Return every record of a listing. A page may be empty and not the last; botocore goes on then."""
        pages = self._client.get_paginator(operation).paginate(ParentId=parent)
        for page in answers(pages, time_left):
            records = page.get(what, [])
            if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
                raise CutShortError(MALFORMED)
            yield from records


def _id(record: Mapping[str, Any]) -> str:
    """Return the id of an account or a unit; without one nobody can say whether the list is complete."""
    found = record.get("Id")
    if not isinstance(found, str):
        raise CutShortError(MALFORMED)
    return found


def _number(account: Mapping[str, Any]) -> str:
    number = _id(account)
    if not re.fullmatch(ACCOUNT, number):
        raise CutShortError(MALFORMED)
    return number


def _state(account: Mapping[str, Any]) -> object:
    """Return the state of an account. `Status`, which AWS retires, counts only where there is no `State`."""
    return account["State"] if "State" in account else account.get("Status")


def _name(account: Mapping[str, Any]) -> str:
    found = account.get("Name")
    return found[:128] if isinstance(found, str) else ""
