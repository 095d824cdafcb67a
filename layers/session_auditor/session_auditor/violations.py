"""Which violations of policies are new, and which are over.

Plain data in, plain data out. What violates a policy now is the rules' to say; here it is held against what
is open. Each violation is told once when it begins, and once when it is over.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from session_auditor.model import Change, ClearReason, DetailType, Facts, Remembered, Violation
from session_auditor.policies import Document
from session_auditor.rules import violated

# A session with what it violates now, and what of that is new or over.
Judged = tuple[Remembered, tuple[Change, ...]]


def judge(
    document: Document, facts: Facts, live: Mapping[str, Remembered], seen: Collection[str], now: datetime
) -> Iterator[tuple[str, Judged]]:
    """Return what has changed of the sessions that were `seen` whole; `live` are all that count, by id."""
    found: defaultdict[str, list[Violation]] = defaultdict(list)
    scopes = {remembered.session.scope for remembered in live.values()}
    for policy in document.policies.values():
        matched = {scope for scope in scopes if policy.matches(scope, facts.tags(scope))}
        sessions = [remembered for remembered in live.values() if remembered.session.scope in matched]
        for session_id, violations in violated(policy, sessions, now).items():
            found[session_id] += violations
    for session_id in seen:
        remembered = live[session_id]
        crossed = found.get(session_id, ())
        if crossed or remembered.violations:
            after, changes = _compared(remembered, crossed, document)
            if after != remembered.violations:
                yield session_id, (replace(remembered, violations=after), changes)


def cleared_by(violation: Violation, reason: ClearReason) -> Change:
    """Return that a violation is over."""
    return Change(DetailType.POLICY_CLEARED, violation.threshold, violation, reason)


def _compared(
    remembered: Remembered, crossed: Iterable[Violation], document: Document
) -> tuple[tuple[Violation, ...], tuple[Change, ...]]:
    """Return the violations that are open from now on, and the changes that led there."""
    now = {(each.policy, each.threshold): each for each in crossed}
    kept: list[Violation] = []
    over: list[Change] = []
    for before in remembered.violations:
        again = now.get((before.policy, before.threshold))
        if again is not None and again.kind is before.kind:
            # An edited policy that still finds it keeps it open, as it was told.
            same = again.edition == before.edition
            kept.append(before if same else replace(before, edition=again.edition))
        else:
            over.append(cleared_by(before, _reason(before, document)))
    # Of several thresholds the largest alone is told; what is below an open one counts as told.
    told = {each.policy: each.threshold for each in sorted(kept, key=_order)}
    largest = {each.policy: each for each in sorted(now.values(), key=_order)}
    new = [each for each in largest.values() if each.threshold > told.get(each.policy, -1)]
    begun = [Change(DetailType.POLICY_VIOLATED, each.threshold, each) for each in sorted(new, key=_order)]
    return tuple(sorted([*kept, *new], key=_order)), (*over, *begun)


def _reason(violation: Violation, document: Document) -> ClearReason:
    policy = document.policies.get(violation.policy)
    as_it_was = policy is not None and policy.edition == violation.edition
    return ClearReason.RESOLVED if as_it_was else ClearReason.POLICY_CHANGED


def _order(violation: Violation) -> tuple[str, int]:
    return violation.policy, violation.threshold
