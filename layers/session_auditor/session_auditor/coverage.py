"""What was listed when, and what may be claimed of it: windows, holes, gaps, the authentication mode.

Plain data in, plain data out. A gap is a scope that a sweep could not cover; a hole is a time in which
nobody listed a scope whole, so that nothing is known of it. No write a session is needed for either: they
are remembered with the target.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from json import dumps
from typing import NamedTuple

from session_auditor.model import (
    WHOLE_TARGET,
    AuditType,
    AuthenticationMode,
    DetailType,
    Failure,
    Gap,
    Hole,
    Listing,
    Options,
    Remembered,
    Scope,
    Snapshot,
    Target,
)

# Bytes of audit events in the target's outbox: an item may have 400 KB at most, and the rest needs some.
AUDIT_OUTBOX_BYTES = 200_000
# Ids kept as evidence that a call without AuthenticationType leaves sessions out; bounds the target's item.
EVIDENCE_LIMIT = 8
# Holes that are remembered for a scope each; of more, the latest counts for every scope.
HOLES_LIMIT = 1_000
# How long it is remembered when a scope was listed that a filter leaves out since.
LEFT_OUT_FOR = timedelta(days=30)
FILTERED = "FILTERED"


class Watch(NamedTuple):
    """How a scope was watched until this listing.

    `covered` is when the last sweep that covered it began, `listed` the last that listed it whole, whatever
    it could commit. Its latest hole was over at `since`, with the listing of the sweep that began at `found`.
    In a hole that is not over, no clock is `running`, and `since` is now.
    """

    covered: datetime | None
    listed: datetime | None
    found: datetime | None
    since: datetime | None
    running: bool

    def hole_after(self, time: datetime) -> bool:
        """Return whether there was a hole between that time and now."""
        return not self.running or (self.found is not None and self.found > time)


class Coverage:
    """What the snapshot tells of earlier listings; a time in the future, if clocks differ, counts as now."""

    def __init__(self, snapshot: Snapshot, listing: Listing, options: Options) -> None:
        target = snapshot.target
        self.gaps = {gap.scope: gap for gap in target.gaps} if target else {}
        self.holes = {hole.scope: hole for hole in target.holes} if target else {}
        self._scopes = snapshot.scopes
        self._last_begin = target.last_begin if target else None
        self.listing = listing
        self.options = options
        self._watched: dict[Scope, Watch] = {}

    def of(self, scope: Scope) -> Watch:
        """Return how a scope was watched."""
        if scope not in self._watched:
            self._watched[scope] = self._watch(scope)
        return self._watched[scope]

    def _watch(self, scope: Scope) -> Watch:
        covered, listed = self._covered(scope), self.listed(scope)
        if self.in_hole(scope):
            running = scope not in self.listing.failed and self.options.wants(scope)
            return Watch(covered, listed, self.listing.begin, self.listing.observed_at, running)
        holes = [hole for key in (None, scope) if (hole := self.holes.get(key))]
        latest = max(holes, key=lambda hole: hole.end) if holes else None
        if latest is None:
            return Watch(covered, listed, None, None, running=True)
        return Watch(covered, listed, latest.found, self._until_now(latest.end), running=True)

    def listed(self, scope: Scope) -> datetime | None:
        """Return when the last sweep that listed the scope whole began, whatever it could commit."""
        if gap := self.gaps.get(scope):
            return self._until_now(gap.listed or gap.covered)
        return self._covered(scope)

    def unlisted_since(self, scope: Scope) -> datetime | None:
        """Return the same; for a scope that never was listed, when its first failure began."""
        listed = self.listed(scope)
        if listed is None and (gap := self.gaps.get(scope)) and gap.failing:
            return self._until_now(gap.begin or gap.since)
        return listed

    def in_hole(self, scope: Scope) -> bool:
        """Return whether nobody had listed the scope whole for too long before this listing."""
        since = self.unlisted_since(scope)
        return since is not None and self.listing.observed_at - since > self.options.hole

    def _covered(self, scope: Scope) -> datetime | None:
        if gap := self.gaps.get(scope):
            return self._until_now(gap.covered)
        known = scope in self._scopes or scope == WHOLE_TARGET
        return self._until_now(self._last_begin) if known else None

    def _until_now(self, time: datetime | None) -> datetime | None:
        return min(time, self.listing.observed_at) if time else None


class AuditChange(NamedTuple):
    """A scope that became degraded, or recovered."""

    detail_type: AuditType
    gap: Gap
    previous_observed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Audit:
    """The target's next state and scopes, and the changes of its coverage."""

    target: Target
    scopes: frozenset[Scope]
    changes: tuple[AuditChange, ...]


def audit(
    snapshot: Snapshot,
    listing: Listing,
    uncommitted: Mapping[Scope, str],
    options: Options,
) -> Audit:
    """Return the target's next state, once it is known of which scopes changes were not committed, and why.

    A change that was not committed will be found again; as its scope counts as not covered until
    then, the window it is reported with stays true.
    """
    if not listing.topology_read:
        return _audit_failure(snapshot, listing, options)
    coverage = Coverage(snapshot, listing, options)
    announcements = _Announcements(snapshot, coverage)
    gaps = [
        _failed(scope, failure, coverage, announcements) for scope, failure in sorted(listing.failed.items())
    ]
    left_out = {scope for scope in snapshot.scopes if not options.wants(scope)}
    for scope in sorted((coverage.gaps.keys() | uncommitted.keys() | left_out) - listing.failed.keys()):
        gap = _not_failed(scope, uncommitted.get(scope), coverage, announcements)
        gaps += [gap] if gap else []
    target = snapshot.target or Target(first_begin=None)
    mode, absent = _settle_authentication(target, listing)
    types = listing.authentication_types
    target = replace(
        target,
        first_begin=target.first_begin or listing.begin,
        last_begin=listing.begin,
        last_end=listing.observed_at,
        authentication=mode,
        absent_unfiltered=absent,
        gaps=tuple(gaps),
        holes=_holes(snapshot, coverage),
        authentication_types=None if types is None else tuple(sorted(types)),
    )
    live = {remembered.session.scope for remembered in _live(snapshot)}
    kept = {scope for scope in live if options.wants(scope)}
    scopes = (listing.scopes | frozenset(listing.failed) | kept) - {WHOLE_TARGET}
    return Audit(target, scopes, tuple(announcements.changes))


def _audit_failure(snapshot: Snapshot, listing: Listing, options: Options) -> Audit:
    """Return the target's next state after a sweep that could list nothing: a gap of its own, no more."""
    coverage = Coverage(snapshot, listing, options)
    announcements = _Announcements(snapshot, coverage)
    failure = listing.failed[WHOLE_TARGET]
    gap = _failed(WHOLE_TARGET, failure, coverage, announcements)
    target = snapshot.target or Target(first_begin=None)
    others = tuple(each for each in target.gaps if each.scope != WHOLE_TARGET)
    return Audit(replace(target, gaps=(gap, *others)), snapshot.scopes, tuple(announcements.changes))


class _Announcements:
    """The audit events of a sweep, as many as the target's item can take; others wait for a later sweep."""

    def __init__(self, snapshot: Snapshot, coverage: Coverage) -> None:
        self.changes: list[AuditChange] = []
        self._coverage = coverage
        waiting = [*(event.detail for event in snapshot.outbox), *(str(entry) for entry in snapshot.broken)]
        self._left = AUDIT_OUTBOX_BYTES - sum(len(text.encode(errors="replace")) for text in waiting)

    def add(self, detail_type: AuditType, gap: Gap) -> bool:
        """Announce a change of coverage; return whether there was room."""
        # The names stand whole in the data, where a character may take six bytes; the summary cuts them.
        self._left -= 1_000 + len(dumps(gap.scope))
        if self._left < 0:
            return False
        self.changes.append(AuditChange(detail_type, gap, self._coverage.of(gap.scope).covered))
        return True


def _failed(scope: Scope, failure: Failure, coverage: Coverage, announcements: _Announcements) -> Gap:
    """Return the gap of a scope that was not listed whole; it is announced when its hole opens."""
    known, listing = coverage.gaps.get(scope), coverage.listing
    if known is None or not (known.failing or known.announced):
        watch = coverage.of(scope)
        known = Gap(
            scope,
            since=listing.observed_at,
            covered=watch.covered,
            reason=failure.reason,
            begin=listing.begin,
            listed=None if watch.listed == watch.covered else watch.listed,
        )
    untried_since = None if failure.tried else known.untried_since or listing.begin
    gap = replace(known, failing=True, reason=failure.reason, untried_since=untried_since)
    since = coverage.unlisted_since(scope)
    hole_is_open = since is not None and listing.begin - since > coverage.options.hole
    if hole_is_open and not gap.announced and announcements.add(DetailType.AUDIT_DEGRADED, gap):
        gap = replace(gap, announced=True, told=failure.reason)
    return gap


def _not_failed(
    scope: Scope, uncommitted: str | None, coverage: Coverage, announcements: _Announcements
) -> Gap | None:
    """Return the gap that is left of a scope that was listed whole, is gone, or that a filter leaves out.

    There is one if changes were not committed, for that reason; if its Audit Recovered has to wait; or if the
    scope was left out not long ago: nobody looks at it, and it may be wanted again before its stack is read.
    """
    listing, wanted = coverage.listing, coverage.options.wants(scope)
    known, watch = coverage.gaps.get(scope), coverage.of(scope)
    listed = listing.begin if wanted else watch.listed
    covered = listing.begin if wanted and not uncommitted else watch.covered
    if known and known.announced:
        recovered = replace(known, reason=(known.told or known.reason) if wanted else FILTERED)
        if not announcements.add(DetailType.AUDIT_RECOVERED, recovered):
            return replace(known, failing=False, untried_since=None, covered=covered, listed=listed)
    since = known.since if known else listing.observed_at
    if not uncommitted and (wanted or listing.begin - (listed or since) > LEFT_OUT_FOR):
        return None
    return Gap(
        scope,
        since=since,
        covered=covered,
        reason=uncommitted or FILTERED,
        listed=None if listed == covered else listed,
        failing=False,
    )


def _holes(snapshot: Snapshot, coverage: Coverage) -> tuple[Hole, ...]:
    """Return the latest hole of each scope, as far as a session lived through it, and that of the target."""
    listing, options = coverage.listing, coverage.options
    last_begin = snapshot.target.last_begin if snapshot.target else None
    if last_begin is not None and listing.observed_at - last_begin > options.hole:
        # Whatever a scope has of its own is older, or is not over.
        return (Hole(None, listing.begin, listing.observed_at),)
    holes = dict(coverage.holes)
    for scope in coverage.gaps.keys() - listing.failed.keys():
        if scope != WHOLE_TARGET and options.wants(scope) and coverage.in_hole(scope):
            holes[scope] = Hole(scope, listing.begin, listing.observed_at)
    if holes.keys() <= {None}:
        return tuple(holes.values())
    oldest: dict[Scope | None, datetime] = {}
    for remembered in _live(snapshot):
        scope = remembered.session.scope
        oldest[scope] = min(remembered.first_seen, oldest.get(scope, remembered.first_seen))
    lived_through = [
        hole
        for scope, hole in sorted(holes.items(), key=lambda each: each[0] or WHOLE_TARGET)
        if scope is None or (scope in oldest and oldest[scope] <= hole.end)
    ]
    if len(lived_through) > HOLES_LIMIT:
        return (max(lived_through, key=lambda hole: hole.end)._replace(scope=None),)
    return tuple(lived_through)


def _live(snapshot: Snapshot) -> Iterable[Remembered]:
    return (each.remembered for each in snapshot.sessions.values() if not each.remembered.ending)


def _settle_authentication(target: Target, listing: Listing) -> tuple[AuthenticationMode, tuple[str, ...]]:
    if target.authentication is not AuthenticationMode.UNKNOWN:
        return target.authentication, ()
    absent = listing.evidence.absent_unfiltered
    # Once may be chance: the session can have come between the two listings.
    if absent.intersection(target.absent_unfiltered):
        return AuthenticationMode.BY_TYPE, ()
    if listing.evidence.unfiltered_lists_others and not absent:
        return AuthenticationMode.UNFILTERED, ()
    # A sweep that did not see a session at all takes nothing back.
    unseen = set(target.absent_unfiltered) - listing.sessions.keys()
    return AuthenticationMode.UNKNOWN, tuple(sorted(absent | unseen)[:EVIDENCE_LIMIT])
