"""Which accounts and regions a hub sweeps: what its settings want, and the last good lists of accounts.

Plain data in, plain data out. A list that failed or came back empty drops nobody; an account leaves after two
complete lists in a row without it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from session_auditor.model import Count, TargetId, Time

ACCOUNT = r"[0-9]{12}"
# A root or an organizational unit (Organizations, API reference).
PARENT = r"r-[0-9a-z]{4,32}|ou-[0-9a-z]{4,32}-[0-9a-z]{8,32}"
# Partitions name their regions as they like: eusc-de-east-1 has neither two letters nor two parts.
REGION = r"[a-z]{2,8}(-[a-z0-9]{1,16}){1,4}"

# How often Organizations is asked for the accounts below a parent that has answered.
ASK_EVERY = timedelta(minutes=15)
# Complete lists in a row without an account, until it leaves.
LISTS_TO_LEAVE = 2


class Wanted(NamedTuple):
    """What the settings ask for: accounts by number, and the accounts below parents (roots, OUs)."""

    accounts: tuple[str, ...]
    parents: tuple[str, ...]
    regions: tuple[str, ...]
    excluded: frozenset[str] = frozenset()


class AccountList(NamedTuple):
    """Accounts below a parent, names by id, as Organizations listed them just now.

    `reason` says why the list is not complete, "" if it is.
    """

    accounts: Mapping[str, str]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """An account below a parent; `missing` counts the complete lists in a row without it."""

    name: str = ""
    missing: Count = 0


@dataclass(frozen=True, slots=True)
class Branch:
    """The last good list of the accounts below a parent, by id, and when it was asked for last."""

    members: Mapping[str, Member]
    asked: Time


Directory = Mapping[str, Branch]


def wanted(targets: Iterable[str], regions: Iterable[str], excluded: Iterable[str]) -> Wanted:
    """Return what is wanted; whatever of the targets is no account is a parent."""
    each = dict.fromkeys(targets)
    accounts = tuple(target for target in each if re.fullmatch(ACCOUNT, target))
    return Wanted(
        accounts,
        tuple(target for target in each if target not in accounts),
        tuple(dict.fromkeys(regions)),
        frozenset(excluded),
    )


def parents_due(wants: Wanted, directory: Directory, now: datetime) -> tuple[str, ...]:
    """Return the parents whose accounts have to be listed now: known for a while, or not at all."""

    def is_due(branch: Branch | None) -> bool:
        return branch is None or not branch.members or now - branch.asked >= ASK_EVERY

    return tuple(parent for parent in wants.parents if is_due(directory.get(parent)))


def merge(known: Branch | None, listing: AccountList, now: datetime) -> Branch:
    """Return the branch after a new list of its accounts."""
    members = dict(known.members) if known else {}
    found = {account: Member(name) for account, name in listing.accounts.items()}
    if listing.accounts and not listing.reason:
        missing = {
            account: replace(member, missing=member.missing + 1)
            for account, member in members.items()
            if account not in found
        }
        members = {account: each for account, each in missing.items() if each.missing < LISTS_TO_LEAVE}
    return Branch(members | found, now)


def of_these(wants: Wanted, directory: Directory) -> Directory:
    """Return the branches that are still wanted: what is taken out of the settings leaves at once."""
    return {parent: branch for parent, branch in directory.items() if parent in wants.parents}


def targets(wants: Wanted, directory: Directory, partition: str) -> tuple[TargetId, ...]:
    """Return every target that is to be swept, sorted by account and region."""
    below = (account for branch in of_these(wants, directory).values() for account in branch.members)
    accounts = {*wants.accounts, *below} - wants.excluded
    return tuple(
        TargetId(partition, account, region)
        for account in sorted(accounts)
        for region in sorted(wants.regions)
    )


def names(directory: Directory) -> dict[str, str]:
    """Return the names of accounts, by id, where Organizations gave them."""
    return {
        account: member.name
        for branch in directory.values()
        for account, member in branch.members.items()
        if member.name
    }
