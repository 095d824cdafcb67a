"""What policies would tell of, if they were in force: counted by policy, with some names.

Plain data in, plain data out. It is the comparison of a sweep that is not committed, so that what it counts
is what the next sweep tells.
"""

from dataclasses import dataclass, field

from pydantic import ConfigDict, TypeAdapter
from pydantic.alias_generators import to_camel

from session_auditor.comparison import compare
from session_auditor.model import DetailType, Listing, Options, PolicyKind, Snapshot
from session_auditor.policies import Document

# Sessions that are named of each policy, and scopes that could not be listed.
SESSIONS_NAMED = 20
SCOPES_NAMED = 20
# Answers have names as events do.
_AS_TOLD = ConfigDict(alias_generator=to_camel, validate_by_name=True)


@dataclass(frozen=True, slots=True)
class Offender:
    """A session that violates a policy; `threshold_minutes` is 0 where the kind has none."""

    __pydantic_config__ = _AS_TOLD

    session_id: str
    user_id: str
    stack_name: str
    fleet_name: str
    threshold_minutes: int
    limit: str
    actual: str


@dataclass(slots=True)
class Previewed:
    """How many violations of a policy begin and are over, and the first of the sessions that begin one."""

    __pydantic_config__ = _AS_TOLD

    kind: PolicyKind
    violated: int = 0
    cleared: int = 0
    sessions: list[Offender] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A scope that could not be listed whole, and why: an error code or DEADLINE."""

    __pydantic_config__ = _AS_TOLD

    stack_name: str
    fleet_name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What policies would tell of, by name, among the sessions of the scopes that could be listed whole.

    `unlisted` are the first of the scopes that could not be.
    """

    __pydantic_config__ = _AS_TOLD

    policies: dict[str, Previewed]
    sessions: int
    scopes_failed: int
    unlisted: tuple[Unlisted, ...] = ()


ANSWER = TypeAdapter(Preview)


def preview_of(snapshot: Snapshot, listing: Listing, policies: Document, options: Options) -> Preview:
    """Return what a sweep that saw this would tell of policies, if these were in force."""
    found = {name: Previewed(policy.kind) for name, policy in policies.policies.items()}
    for transition in compare(snapshot, listing, options, policies).transitions:
        session = transition.after.session
        for change in transition.changes:
            violation = change.violation
            if violation is None:
                continue
            previewed = found.setdefault(violation.policy, Previewed(violation.kind))
            if change.detail_type is DetailType.POLICY_CLEARED:
                previewed.cleared += 1
                continue
            previewed.violated += 1
            if len(previewed.sessions) < SESSIONS_NAMED:
                offender = Offender(
                    session.id,
                    session.user_id,
                    *session.scope,
                    violation.threshold,
                    violation.limit,
                    violation.actual,
                )
                previewed.sessions.append(offender)
    failed = sorted(listing.failed.items())
    unlisted = tuple(Unlisted(*scope, failure.reason) for scope, failure in failed[:SCOPES_NAMED])
    return Preview(found, len(listing.sessions), len(failed), unlisted)
