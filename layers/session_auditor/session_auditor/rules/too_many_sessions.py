"""TOO_MANY_SESSIONS: a user has more sessions at once than allowed; those that came last are too many."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from session_auditor.clocks import start_of
from session_auditor.model import Remembered, Violation
from session_auditor.policies import TooManySessions


def violated(
    policy: TooManySessions, sessions: Iterable[Remembered], now: datetime
) -> dict[str, tuple[Violation, ...]]:
    """Return the violation of every session beyond its user's limit, by its id.

    Sessions without a user id belong to nobody.
    """
    by_user: defaultdict[str, list[Remembered]] = defaultdict(list)
    for each in sessions:
        if each.session.user_id:
            by_user[each.session.user_id].append(each)
    found: dict[str, tuple[Violation, ...]] = {}
    for theirs in by_user.values():
        if len(theirs) <= policy.limit:
            continue
        theirs.sort(key=lambda each: (start_of(each), each.session.id))
        violation = Violation(
            policy=policy.name,
            kind=policy.kind,
            threshold=0,
            since=now,
            limit=str(policy.limit),
            actual=str(len(theirs)),
            edition=policy.edition,
        )
        found.update({each.session.id: (violation,) for each in theirs[policy.limit :]})
    return found
