"""DRAINING: a host is to be freed of its sessions, and this one has stayed too long."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from session_auditor.model import Remembered, Violation
from session_auditor.policies import Draining
from session_auditor.rules.thresholds import crossed


def violated(
    policy: Draining, sessions: Iterable[Remembered], now: datetime
) -> dict[str, tuple[Violation, ...]]:
    """Return the violations of every session that stays too long, by its id: one for each threshold crossed.

    It counts from `draining_since`, which whoever asks has put off to the end of a later hole. A threshold
    that is open stays crossed while the host drains: a hole puts the clock off, and takes nothing back.
    """
    found: dict[str, tuple[Violation, ...]] = {}
    for each in sessions:
        if each.draining_since is None:
            continue
        now_crossed = crossed(policy, each.draining_since, now)
        thresholds = {violation.threshold for violation in now_crossed}
        still = tuple(
            replace(violation, edition=policy.edition)
            for violation in each.violations
            if (violation.policy, violation.kind) == (policy.name, policy.kind)
            and violation.threshold in policy.thresholds
            and violation.threshold not in thresholds
        )
        if still or now_crossed:
            # What is crossed no more is larger than what is: the clock can only have been put off.
            found[each.session.id] = (*now_crossed, *still)
    return found
