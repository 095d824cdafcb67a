"""What must have been published, told from what the sweeps saw; written from the rules alone.

It shares nothing with the auditor's core, not even its words, and is built the other way round: it
keeps no state from sweep to sweep but replays the whole log of a session for every answer. It is
slow, plain, and knows no AWS client, no table and no fault: a sight that was never committed is not in
the log it is given.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any

from tests.simulation import policies
from tests.simulation.policies import DRAINING, OUTSIDE_HOURS, TOO_LONG, Document, Found

Scope = tuple[str, str]
Record = Mapping[str, Any]
Expected = dict[str, Any]
Sights = tuple["Sight", ...]
# ("fleet" or "stack", its name)
Resource = tuple[str, str]

NO_POLICIES: Document = {"policies": {}}

# In the order of the table of docs/events.md, which is the order within one observation.
STARTED, CONNECTED, DISCONNECTED, RECONNECTED, EXPIRING, ABANDONED, CLEARED, VIOLATED, ENDED, UNWATCHED = (
    f"AppStream Session {word}"
    for word in (
        *("Started", "Connected", "Disconnected", "Reconnected", "Expiring", "Abandoned"),
        *("Policy Cleared", "Policy Violated", "Ended", "Unwatched"),
    )
)
DEGRADED, RECOVERED = "AppStream Audit Degraded", "AppStream Audit Recovered"
FAULTED, MENDED = "AppStream Fleet Faulted", "AppStream Fleet Recovered"
# Stands for the whole target where its topology cannot be read.
TARGET: Scope = ("", "")

# AWS's name -> the event's.
FIELDS = {
    "Id": "id",
    "UserId": "userId",
    "StackName": "stackName",
    "FleetName": "fleetName",
    "State": "state",
    "ConnectionState": "connectionState",
    "AuthenticationType": "authenticationType",
    "StartTime": "startTime",
    "MaxExpirationTime": "maxExpirationTime",
    "InstanceId": "instanceId",
    "InstanceDrainStatus": "instanceDrainStatus",
}
# The same of a fleet, with what stands where AWS says nothing.
FACTS = {
    "InstanceType": ("instanceType", ""),
    "FleetType": ("fleetType", ""),
    "Platform": ("platform", ""),
    "MaxSessionsPerInstance": ("maxSessionsPerInstance", 0),
}


@dataclass(frozen=True)
class Rules:
    """What an administrator set. Thresholds are minutes, a hole is seconds."""

    expiring: tuple[int, ...] = (60, 15, 5)
    abandoned: tuple[int, ...] = (15, 60)
    baseline_events: bool = False
    hole: int = 300


@dataclass(frozen=True, eq=False)
class Reading:
    """What was read beside the sessions by a sweep that began at `begin`; None where it could not be read.

    `fleets` are AWS's records by name; `tags` are of each fleet and stack that was there, or was tagged.
    """

    begin: int = 0
    fleets: Mapping[str, Record] | None = None
    tags: Mapping[Resource, Mapping[str, str]] | None = None


@dataclass(frozen=True, eq=False)
class Sweep:
    """What one sweep saw, and what of it was committed.

    Times are whole seconds. `failed` are the scopes of the topology that were not listed whole, with
    the reason; a scope in neither `scopes` nor `failed` is gone. `timeouts` are the fleets' seconds.
    `order` is when the target's item was committed, in the order of all writes; None if it never was.
    `kept` are the sessions whose items it wrote, each with its place in that order; `lost` those that it
    could not write, or that another sweep wrote in the meantime. `uncommitted` are the scopes of sessions
    that were lost. `load` is when it read the table, in the same order.
    `unwanted` are scopes that the filters exclude. `kept_scopes` unless the list of scopes had to be
    written and could not be, `kept_facts` the same of what was read. `unreadable` is why the topology could
    not be read: nothing was listed.
    `types` are the AuthenticationTypes that were asked for, None if none was left out; `listed_as` is the
    type of the call that listed a session, if it had one; `refused` are types not taken for a scope.
    `reading` is what it read beside the sessions, `remembered` what its container read when it last could
    read the fleets.
    `document` are the policies in force. `topology_whole` if no scope can have vanished
    unread. `waiting` are sessions that came back before their end was published.
    """

    begin: int
    observed: int
    records: Mapping[str, Record]
    scopes: frozenset[Scope]
    failed: Mapping[Scope, str] = field(default_factory=dict)
    timeouts: Mapping[str, int] = field(default_factory=dict)
    rules: Rules = Rules()
    load: int = 0
    order: int | None = None
    kept: Mapping[str, int] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()
    uncommitted: frozenset[Scope] = frozenset()
    unwanted: frozenset[Scope] = frozenset()
    kept_scopes: bool = True
    kept_facts: bool = True
    unreadable: str = ""
    types: frozenset[str] | None = None
    listed_as: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[Scope, frozenset[str]] = field(default_factory=dict)
    reading: Reading = Reading()
    remembered: Reading = Reading()
    tag_keys: tuple[str, ...] = ()
    document: Document = field(default_factory=lambda: NO_POLICIES)
    topology_whole: bool = True
    waiting: frozenset[str] = frozenset()

    def place(self, identity: str) -> int | None:
        """Return where in the order of writes its sight of a session stands; None if it does not count."""
        if identity in self.kept:
            return self.kept[identity]
        return None if identity in self.lost else self.order

    @cached_property
    def first_write(self) -> int:
        """Where in the order of writes it first left anything behind."""
        return min([*self.kept.values(), *([] if self.order is None else [self.order])])

    def covered(self, scope: Scope) -> bool:
        """Return whether the scope was listed whole; one that is gone counts as listed, empty."""
        return scope not in self.failed and scope not in self.unwanted and not self.unreadable


@dataclass(frozen=True, eq=False)
class Sight:
    """One entry of a session's log: the sweep, the record if it was listed, and what was known before.

    `out` if a changed filter took it out of view.
    """

    sweep: Sweep
    record: Record | None
    first_sweep: bool
    target_begin: int
    oracle: "Oracle"
    scope: Scope
    out: bool = False
    # Of this session alone: when it was listed last before its type was refused; its holes, and an open one.
    refused_since: int | None = None
    own_holes: tuple[tuple[int, int], ...] = ()
    own_open: bool = False

    @property
    def covered_before(self) -> int | None:
        """When the last commit that the sweep had read, and that covered the scope, began.

        Never after the sweep itself, should their clocks differ.
        """
        begin = self.oracle.covered_before(self.scope, self.sweep.load)
        begin = begin if self.refused_since is None else self.refused_since
        return None if begin is None else min(begin, self.sweep.observed)

    @property
    def listed_before(self) -> int | None:
        """When the last sweep began that had listed the scope whole, whatever it could commit."""
        begin = self.oracle.listed_before(self.scope, self.sweep.load)
        return None if begin is None else min(begin, self.sweep.observed)

    @property
    def holes(self) -> list[tuple[int, int]]:
        """The holes of the scope that are over: when the sweep that ended each began, and observed it."""
        return [*self.oracle.holes(self.scope, self.sweep), *self.own_holes]

    @property
    def open(self) -> bool:
        """Return whether this is in a hole that is not over."""
        in_hole = self.oracle.in_hole(self.scope, self.sweep)
        return self.own_open or (not self.sweep.covered(self.scope) and in_hole)

    @property
    def hole_end(self) -> int | None:
        """The end of the latest hole; now, while it is not over, or if another's clock was fast."""
        if self.open:
            return self.sweep.observed
        return max((min(end, self.sweep.observed) for _, end in self.holes), default=None)


@dataclass(frozen=True)
class Life:
    """One life of a session id: the sights from its first listing on, up to its closing event if it has one.

    A life of which nothing was told is forgotten when a filter takes it out of view.
    """

    sights: tuple[Sight, ...]
    over: bool = False


@dataclass(frozen=True)
class Known:
    """The last that is known of fleets and tags; `at` is when the fleets were read."""

    fleets: Mapping[str, Record] = field(default_factory=dict)
    tags: Mapping[Resource, Mapping[str, str]] = field(default_factory=dict)
    at: int = -1

    def after(self, reading: Reading) -> "Known":
        """Return the same after a sweep has learned of a reading; what is gone stays known as it was."""
        return Known(
            {**self.fleets, **(reading.fleets or {})},
            {**self.tags, **(reading.tags or {})},
            self.at if reading.fleets is None else reading.begin,
        )

    def beside(self, reading: Reading) -> "Known":
        """Return the same, and what an older reading knows of others."""
        fleets, tags = {**(reading.fleets or {}), **self.fleets}, {**(reading.tags or {}), **self.tags}
        return replace(self, fleets=fleets, tags=tags)


class Oracle:
    """Answers for a whole history of sweeps, in the order in which they were committed."""

    def __init__(self, history: Sequence[Sweep]) -> None:
        self.history = list(history)
        self.all_committed = sorted(
            (sweep for sweep in history if sweep.order is not None), key=lambda sweep: sweep.order or 0
        )
        # A sweep that could read no topology covers nothing and ends nobody.
        self.committed = [sweep for sweep in self.all_committed if not sweep.unreadable]
        self._lives: dict[str, list[Life]] = {}
        self._holes: dict[tuple[Scope, int], list[tuple[int, int]]] = {}
        self._lasts: dict[tuple[Scope, int, bool], tuple[int | None, int | None]] = {}
        self._knowns: dict[int, Known] = {}
        self._tables: dict[int, Known] = {}
        self._companies: dict[int, list[Life]] = {}

    @cached_property
    def first(self) -> Sweep:
        """The sweep that was the first to write anything of what it listed."""
        listed = [sweep for sweep in self.history if not sweep.unreadable]
        return min(listed or self.history, key=lambda sweep: sweep.first_write)

    def events(self) -> dict[str, list[list[Expected]]]:
        """Return the events that must have been published: by session id, by life, in order."""
        identities = dict.fromkeys(each for sweep in self.history for each in sweep.records)
        told = {identity: [_events(life) for life in self.lives(identity)] for identity in identities}
        return {identity: lives for identity, lives in told.items() if lives}

    def living(self) -> frozenset[str]:
        """Return the sessions that the snapshot must hold: seen, and not yet known to have ended."""
        identities = dict.fromkeys(each for sweep in self.history for each in sweep.records)
        return frozenset(
            identity for identity in identities if (lives := self.lives(identity)) and not lives[-1].over
        )

    def changed_by(self, sweep: Sweep) -> frozenset[str]:
        """Return the sessions of whom this sweep, the last one, told something that was not known before."""
        identities = dict.fromkeys(each for sweep in self.history for each in sweep.records)
        changed = set()
        for identity in identities:
            lives = self.lives(identity)
            if not lives or lives[-1].sights[-1].sweep is not sweep:
                continue
            *before, now = lives[-1].sights
            known = _last(tuple(before)) if before else None
            kinds = [kind for sight in before if (kind := sight.sweep.listed_as.get(identity))]
            seen_before = bool(before) and before[-1].record is not None
            # What is known of its fleet is stored with a session that is listed.
            knew = _timeout(tuple(before)) if before else None
            if (
                # A further miss is not stored, unless it ends the session.
                (now.record is None and seen_before)
                or (now.record is not None and (not seen_before or now.record != known))
                or (now.record is not None and _timeout((*before, now)) != knew)
                or now.sweep.listed_as.get(identity, "") not in {"", *kinds[-1:]}
                or lives[-1].over
                or _violations((*before, now)).open != (_violations(tuple(before)).open if before else ())
                or _draining((*before, now)) != (_draining(tuple(before)) if before else None)
                or _events(lives[-1], tail=True)
            ):
                changed.add(identity)
        return frozenset(changed)

    def lives(self, identity: str) -> list[Life]:
        """Cut a session's log into lives."""
        if identity not in self._lives:
            self._lives[identity] = self._cut_lives(identity)
        return self._lives[identity]

    def _cut_lives(self, identity: str) -> list[Life]:
        lives: list[Life] = []
        current: Sights = ()
        for sight in self._log(identity):
            if not current and (sight.record is None or sight.record.get("State") == "EXPIRED"):
                continue
            current = (*current, _with_own_holes(sight, current) if current else sight)
            if _end(current) is not None:
                lives.append(Life(current, over=True))
                current = ()
        return [*lives, Life(current)] if current else lives

    def _log(self, identity: str) -> Iterable[Sight]:
        """Return the sights of a session: listings with it, and whole listings of its scope without it.

        A listing that is not whole and lacks the session says nothing, and is left out.
        """
        placed = sorted(
            (place, number)
            for number, sweep in enumerate(self.history)
            if (place := sweep.place(identity)) is not None
        )
        scope: Scope | None = None
        kind = ""
        refused_since: int | None = None
        for _, number in placed:
            sweep = self.history[number]
            record = sweep.records.get(identity)
            if record is not None:
                scope = _scope(record)
                listed_as = sweep.listed_as.get(identity, "")
                kind = listed_as or kind
            if scope is None or sweep.unreadable:
                continue
            # The type of the call that listed it decides; what AWS's record says only where there was none.
            type_of = kind or (self._last_type(identity, sweep) if record is None else "")
            narrowed = sweep.types is not None and type_of not in sweep.types
            out = record is None and (scope in sweep.unwanted or narrowed)
            whole = sweep.covered(scope) and type_of not in sweep.refused.get(scope, ())
            if record is None and not out and sweep.covered(scope) and not whole and refused_since is None:
                refused_since = self.covered_before(scope, sweep.load)
            if record is not None or out or whole:
                # The first sweep of all is the first that left anything behind, whole or not.
                is_first = sweep.load < self.first.first_write
                began = sweep.begin if is_first else self.first.begin
                yield Sight(sweep, record, is_first, began, self, scope, out, refused_since)
                refused_since = None if sweep.covered(scope) else refused_since
            if out:
                kind = ""

    def _last_type(self, identity: str, sweep: Sweep) -> str:
        place = sweep.place(identity) or 0
        seen = [
            (at, each.records[identity].get("AuthenticationType", ""))
            for each in self.history
            if identity in each.records and (at := each.place(identity)) is not None and at < place
        ]
        return max(seen, key=lambda each: each[0])[1] if seen else ""

    def covered_before(self, scope: Scope, load: int) -> int | None:
        """Return when the last commit that a sweep had read, and that covered the scope, began.

        A scope that has gone is remembered as long as one of its sessions is, and counts as covered until
        then. A scope whose session could not be committed was not covered.
        """
        return self._last_whole(scope, load, committed=True)[0]

    def listed_before(self, scope: Scope, load: int) -> int | None:
        """Return the same of the last sweep that listed it whole, whatever that could commit."""
        return self._last_whole(scope, load, committed=False)[0]

    def in_hole(self, scope: Scope, sweep: Sweep) -> bool:
        """Return whether nobody had listed the scope whole for too long at a sweep."""
        since = self._unlisted_since(scope, sweep)
        return since is not None and sweep.observed - min(since, sweep.observed) > sweep.rules.hole

    def holes(self, scope: Scope, sweep: Sweep) -> list[tuple[int, int]]:
        """Return the holes of a scope that a sweep knows to be over: begin and end of what ended each."""
        key = scope, id(sweep)
        if key not in self._holes:
            known = [each for each in self.committed if (each.order or 0) < sweep.load and each is not sweep]
            self._holes[key] = [
                (each.begin, each.observed)
                for each in (*known, sweep)
                # Where nobody swept, that is remembered for every scope; but a session of one that was not
                # listed whole yet may have been committed meanwhile, and has holes of its own.
                if (each.covered(scope) and self.in_hole(scope, each))
                or (each is not sweep and self._nobody_swept_before(each))
            ]
        return self._holes[key]

    def _nobody_swept_before(self, sweep: Sweep) -> bool:
        """Return whether no sweep that read the topology was committed for too long before this one."""
        before = [each for each in self.committed if (each.order or 0) < sweep.load and not each.unreadable]
        return bool(before) and sweep.observed - before[-1].begin > sweep.rules.hole

    def _unlisted_since(self, scope: Scope, sweep: Sweep) -> int | None:
        listed, failing_since = self._last_whole(scope, sweep.load, committed=False)
        return failing_since if listed is None else listed

    def _last_whole(self, scope: Scope, load: int, *, committed: bool) -> tuple[int | None, int | None]:
        """Return when the last sweep that covered the scope began, and the first that failed after it."""
        key = scope, load, committed
        if key not in self._lasts:
            self._lasts[key] = self._replay_coverage(scope, load, committed=committed)
        return self._lasts[key]

    def _replay_coverage(self, scope: Scope, load: int, *, committed: bool) -> tuple[int | None, int | None]:
        covered: int | None = None
        failing_since: int | None = None
        stored = missed = False
        for sweep in (each for each in self.committed if (each.order or 0) < load):
            missed_before = missed
            lost = committed and scope in sweep.uncommitted
            missed = scope in sweep.failed or scope in sweep.unwanted or lost
            if sweep.kept_scopes:
                listed = scope in sweep.scopes or scope in sweep.failed
                stored = listed or self._is_remembered(scope, sweep)
            # What is noted with the target stands there whatever became of the list of scopes; what the
            # filters left out, there alone.
            known = scope == TARGET or stored or missed or scope in sweep.uncommitted
            if not missed:
                covered = sweep.begin if known else None
                failing_since = None
            else:
                if covered is not None and not missed_before:
                    # Noted by a sweep whose clock may differ: never after that sweep itself.
                    covered = min(covered, sweep.observed)
                if scope in sweep.failed and failing_since is None:
                    failing_since = sweep.begin
                if scope in sweep.unwanted:
                    failing_since = None
        return covered, failing_since

    def asked_before(self, sweep: Sweep) -> frozenset[str] | None:
        """Return the AuthenticationTypes that the sweep before asked for; None if none was left out."""
        before = [each for each in self.committed if (each.order or 0) < sweep.load]
        return before[-1].types if before else None

    def _is_remembered(self, scope: Scope, upto: Sweep) -> bool:
        """Return whether a session of a scope that is gone was still believed to live after a sweep."""
        until_then = [sweep for sweep in self.history if sweep.first_write <= upto.first_write]
        before = Oracle(until_then)
        return any(_scope(_last(before.lives(each)[-1].sights)) == scope for each in before.living())

    def known(self, sweep: Sweep) -> "Known":
        """Return what is known of fleets and tags at a sweep: the last of the table and its container."""
        if id(sweep) not in self._knowns:
            known = self._in_table(sum((each.order or 0) < sweep.load for each in self.committed))
            kept = sweep.remembered
            if kept.fleets is not None:
                known = known.after(kept) if kept.begin >= known.at else known.beside(kept)
            self._knowns[id(sweep)] = known.after(sweep.reading)
        return self._knowns[id(sweep)]

    def _in_table(self, number: int) -> "Known":
        """Return what the table knows after a number of commits, of what is in view or has sessions."""
        if number == 0:
            return Known()
        if number not in self._tables:
            sweep = self.committed[number - 1]
            known = self.known(sweep)
            if not sweep.kept_facts:
                # When the fleets were read stands with the target.
                return replace(self._in_table(number - 1), at=known.at)
            names = _resources((*sweep.scopes, *sweep.failed))
            if not known.tags.keys() | {("fleet", fleet) for fleet in known.fleets} <= names:
                before = Oracle([each for each in self.history if each.first_write < sweep.load])
                lives = [before.lives(identity)[-1].sights for identity in before.living()]
                names |= _resources({_scope(_last(sights)) for sights in lives} - sweep.unwanted)
                names |= {("fleet", fleet) for fleet in known.fleets if self._has_fault(fleet, number)}
            self._tables[number] = replace(
                known,
                fleets={name: record for name, record in known.fleets.items() if ("fleet", name) in names},
                tags={resource: tags for resource, tags in known.tags.items() if resource in names},
            )
        return self._tables[number]

    def facts(self, fleet: str, sweep: Sweep) -> Expected:
        """Return what an event says of a fleet: the last that is known."""
        record = self.known(sweep).fleets.get(fleet, {})
        return {ours: record.get(theirs, nothing) for theirs, (ours, nothing) in FACTS.items()}

    def tags(self, scope: Scope, sweep: Sweep) -> dict[str, str]:
        """Return what an event says of tags: a fleet's before its stack's, the last that is known."""
        known = self.known(sweep).tags
        stack, fleet = (known.get(each, {}) for each in (("stack", scope[0]), ("fleet", scope[1])))
        return {key: fleet.get(key, stack.get(key, "")) for key in sweep.tag_keys}

    def company(self, sweep: Sweep) -> list[Life]:
        """Return the sessions that live as far as a sweep knows, whatever of it could be committed."""
        if id(sweep) not in self._companies:
            known = [_until(each, sweep.load) for each in self.history if each is not sweep]
            now = replace(sweep, kept={}, lost=sweep.waiting, order=sweep.load)
            until_now = Oracle([*(each for each in known if each is not None), now])
            lives = [until_now.lives(identity)[-1] for identity in until_now.living()]
            self._companies[id(sweep)] = lives
        return self._companies[id(sweep)]

    def faults(self) -> dict[str, list[Expected]]:
        """Return the events of fleets that must have been published, by fleet, in order."""
        told: dict[str, list[Expected]] = {}
        fleets = [*(fleet for sweep in self.history for fleet in sweep.reading.fleets or {})]
        for fleet in dict.fromkeys(fleets):
            said: tuple[str, ...] = ()
            since = sequence = 0
            for sweep, before, codes in self._codes_of(fleet):
                if codes != said:
                    since, sequence = (since, sequence + 1) if said else (sweep.observed, 1)
                    told.setdefault(fleet, []).append(
                        {
                            "detailType": FAULTED if codes else MENDED,
                            "metadata": {
                                "sequence": sequence,
                                "observedAt": text(sweep.observed),
                                "previousObservedAt": ""
                                if before is None
                                else text(min(before, sweep.observed)),
                            },
                            "data": {
                                "stackName": "",
                                "fleetName": fleet,
                                "since": text(since),
                                "codes": ",".join(codes or said),
                                "fleet": self.facts(fleet, sweep),
                                "tags": self.tags(("", fleet), sweep),
                            },
                        }
                    )
                    said = codes
        return told

    def _codes_of(self, fleet: str) -> Iterable[tuple[Sweep, int | None, tuple[str, ...]]]:
        """Return of each commit when the fleets were read before, and the errors that a fleet has since."""
        before: int | None = None
        codes: tuple[str, ...] = ()
        for sweep in self.committed:
            read = _fleets_read(sweep, before)
            codes = codes if read is None else _new_codes(fleet, read, sweep, codes)
            yield sweep, before, codes
            before = before if read is None else read.begin

    def _has_fault(self, fleet: str, number: int) -> bool:
        """Return whether a fleet's errors are not over after a number of commits."""
        return any(codes for _, _, codes in list(self._codes_of(fleet))[number - 1 : number])

    def audits(self) -> dict[Scope, list[Expected]]:
        """Return the audit events that must have been published, by scope, in order."""
        told: dict[Scope, list[Expected]] = {}
        failed = [*(each for sweep in self.committed for each in sweep.failed)]
        failed += [TARGET for sweep in self.all_committed if sweep.unreadable]
        for scope in dict.fromkeys(failed):
            since: int | None = None
            reason = ""
            for sweep in self.all_committed:
                if sweep.unreadable and scope != TARGET:
                    continue
                problem = (
                    sweep.unreadable if scope == TARGET and sweep.unreadable else sweep.failed.get(scope)
                )
                if problem:
                    since = sweep.observed if since is None else since
                    if not reason and self._hole_is_open(scope, sweep):
                        reason = problem
                        told.setdefault(scope, []).append(self._audit(DEGRADED, scope, sweep, since, reason))
                    continue
                if reason and since is not None:
                    reason = "FILTERED" if scope in sweep.unwanted else reason
                    told.setdefault(scope, []).append(self._audit(RECOVERED, scope, sweep, since, reason))
                since, reason = None, ""
        return told

    def _hole_is_open(self, scope: Scope, sweep: Sweep) -> bool:
        """Return whether a sweep began more than a hole after the last that listed the scope whole."""
        since = self._unlisted_since(scope, sweep)
        if scope == TARGET and self.listed_before(scope, sweep.load) is None:
            failures = [each for each in self.all_committed if each.unreadable or TARGET in each.failed]
            since = next((each.begin for each in failures if (each.order or 0) < sweep.load), None)
        return since is not None and sweep.begin - since > sweep.rules.hole

    def _audit(self, kind: str, scope: Scope, sweep: Sweep, since: int, reason: str) -> Expected:
        data = {"stackName": scope[0], "fleetName": scope[1], "since": text(since), "reason": reason}
        about = {"fleet": self.facts(scope[1], sweep), "tags": self.tags(scope, sweep)}
        metadata = {"observedAt": text(sweep.observed)}
        return {"detailType": kind, "metadata": metadata, "data": data | about}


def _until(sweep: Sweep, load: int) -> Sweep | None:
    """Return what of a sweep was written before another one read the table."""
    if sweep.first_write >= load:
        return None
    if all(place < load for place in (*sweep.kept.values(), sweep.order or 0)):
        return sweep
    kept = {identity: place for identity, place in sweep.kept.items() if place < load}
    order = sweep.order if sweep.order is not None and sweep.order < load else None
    return replace(sweep, kept=kept, lost=sweep.lost | (sweep.kept.keys() - kept.keys()), order=order)


def _resources(scopes: Iterable[Scope]) -> set[Resource]:
    return {each for stack, fleet in scopes for each in (("stack", stack), ("fleet", fleet))}


def _fleets_read(sweep: Sweep, before: int | None) -> Reading | None:
    """Return what a sweep read of the fleets, or its container if that is newer than what the table knows."""
    if sweep.reading.fleets is not None:
        return sweep.reading
    kept = sweep.remembered
    return kept if kept.fleets is not None and (before is None or kept.begin > before) else None


def _new_codes(fleet: str, read: Reading, sweep: Sweep, said: tuple[str, ...]) -> tuple[str, ...]:
    """Return the codes of a fleet's errors; none if it is gone or out of view, those of before if unknown.

    While it is not known whether a fleet is still in view, one with errors is looked at as before.
    """
    named = (read.fleets or {}).get(fleet)
    in_view = fleet in {each for _, each in sweep.scopes}
    if sweep.topology_whole and not (in_view and named):
        return ()
    codes = _codes(named) if named and (in_view or said) else None
    return said if codes is None else codes


def _codes(record: Record) -> tuple[str, ...] | None:
    """Return the distinct codes of a fleet's errors; None if they can't be read."""
    errors = record.get("FleetErrors", [])
    if not isinstance(errors, list) or not all(isinstance(each, dict) for each in errors):
        return None
    codes = [each.get("ErrorCode") for each in errors]
    return tuple(sorted(set(codes))) if all(isinstance(code, str) and code for code in codes) else None


# One session's life, replayed. The answers are kept for the same sights only: the log itself never changes.


@dataclass(frozen=True)
class Presence:
    """What history says of the user at some sight: since when, and how much went before."""

    word: str  # UNKNOWN, NEVER, CONNECTED, GONE
    since: int
    connected: int = 0
    disconnected: int = 0
    disconnects: int = 0

    def until(self, at: int, hole_end: int | None) -> "Presence":
        """Return the same with the time that has passed counted in; after a hole it counts anew."""
        passed = max(0, at - self._clock(hole_end))
        return replace(
            self,
            since=at,
            connected=self.connected + (passed if self.word == "CONNECTED" else 0),
            disconnected=self.disconnected + (passed if self.word == "GONE" else 0),
        )

    def _clock(self, hole_end: int | None) -> int:
        return self.since if hole_end is None else max(self.since, hole_end)


def _with_own_holes(sight: Sight, before: Sights) -> Sight:
    """Note holes of one session: its type was refused, or nothing tells when its scope was listed."""
    own = before[-1].own_holes
    since = sight.refused_since
    if since is None and sight.listed_before is None:
        since = max(before[0].sweep.observed, _presence(before).since)
    if since is None or sight.sweep.observed - since <= sight.sweep.rules.hole:
        return replace(sight, own_holes=own)
    if sight.sweep.covered(sight.scope) and not sight.out:
        return replace(sight, own_holes=(*own, (sight.sweep.begin, sight.sweep.observed)))
    return replace(sight, own_holes=own, own_open=True)


@lru_cache(maxsize=20_000)
def _presence(sights: Sights) -> Presence:
    """Replay the connection states of a life; only what was listed alive says anything."""
    now = Presence("UNKNOWN", sights[0].sweep.observed)
    for sight in sights:
        if sight.record is None or sight.record.get("State") == "EXPIRED":
            continue
        said = sight.record.get("ConnectionState")
        word = now.word
        if said == "CONNECTED":
            word = "CONNECTED"
        elif said == "NOT_CONNECTED":
            word = {"UNKNOWN": "NEVER", "CONNECTED": "GONE"}.get(now.word, now.word)
        if word != now.word:
            moved = now.until(sight.sweep.observed, sight.hole_end)
            now = replace(moved, word=word, disconnects=moved.disconnects + (word == "GONE"))
    return now


def _clocks(sights: Sights) -> Sight:
    """Return the sight that says when clocks began: those of a session that is missing stand still."""
    return sights[-1] if sights[-1].out else (_misses(sights) or [sights[-1]])[0]


def _transition(sights: Sights) -> str | None:
    """Return the detail-type of the connection change that the last of the sights shows."""
    if len(sights) == 1:
        return None
    before, after = _presence(sights[:-1]).word, _presence(sights).word
    return {
        ("NEVER", "CONNECTED"): CONNECTED,
        ("CONNECTED", "GONE"): DISCONNECTED,
        ("GONE", "CONNECTED"): RECONNECTED,
    }.get((before, after))


def _baseline(sights: Sights) -> bool:
    """Return whether the session was there before the auditor was."""
    first = sights[0]
    start = _seconds((first.record or {}).get("StartTime"))
    return first.first_sweep or (start is not None and start <= first.target_begin)


def _timeout(sights: Sights) -> int | None:
    """Return the fleet's disconnect timeout, as last known."""
    fleet = _scope(_last(sights))[1]
    for sight in reversed(sights):
        if fleet in sight.sweep.timeouts:
            return sight.sweep.timeouts[fleet]
    return None


@lru_cache(maxsize=20_000)
def _deadline(sights: Sights) -> tuple[int, str] | None:
    """Return when the session must end, and why: the earlier one, MAX_DURATION on a tie."""
    both = []
    expires = _seconds(_last(sights).get("MaxExpirationTime"))
    if expires is not None:
        both.append((expires, 0, "MAX_DURATION"))
    presence, timeout, known_at = _presence(sights), _timeout(sights), _clocks(sights)
    # A partial listing starts no clock while a hole is open.
    if presence.word == "GONE" and timeout is not None and not known_at.open:
        away_since = presence.since if known_at.hole_end is None else max(presence.since, known_at.hole_end)
        both.append((away_since + timeout, 1, "DISCONNECT_TIMEOUT"))
    if not both:
        return None
    at, _, cause = min(both)
    return at, cause


def _born(sights: Sights) -> int:
    """Return when the session began, as AWS says or as it was first seen."""
    start = _seconds(_last(sights).get("StartTime"))
    return sights[0].sweep.observed if start is None else start


def _misses(sights: Sights) -> list[Sight]:
    """Return the whole listings without the session since it was last listed."""
    missing: list[Sight] = []
    for sight in sights:
        missing = [*missing, sight] if sight.record is None else []
    return missing


def _end(sights: Sights) -> dict[str, Any] | None:
    """Return how a life closed if it did at the last of the sights; `after` is the first without it."""
    last = sights[-1]
    if last.out:
        # What is told of its use goes up to where it was missed.
        missed = (_misses(sights[:-1]) or [last])[0]
        return {"reason": "UNWATCHED", "after": last, "before": missed.sweep.observed}
    if last.record is not None:
        if last.record.get("State") != "EXPIRED":
            return None
        pending = _misses(sights[:-1])
        after = pending[0] if pending else last
        before, known_at = last.sweep.observed, last
    else:
        missing = _misses(sights)
        after = known_at = missing[0]
        before = missing[0].sweep.observed
        deadline = _deadline(sights)
        overdue = deadline is not None and deadline[0] <= last.sweep.observed
        if last.sweep.begin - missing[0].sweep.begin < 30 and not overdue:
            return None
    return {
        "reason": _reason(sights, _ended_after(sights, after), before, known_at),
        "after": after,
        "before": before,
    }


def _ended_after(sights: Sights, after: Sight) -> int:
    # Nobody can end before he began, so that is what is left where nothing was covered before.
    return _born(sights) if after.covered_before is None else after.covered_before


def _reason(sights: Sights, after: int, before: int, known_at: Sight) -> str:
    scope = _scope(_last(sights))
    sweep = sights[-1].sweep
    if scope not in sweep.scopes and scope not in sweep.failed:
        return "SCOPE_GONE"
    never_seen_connected = _presence(sights).word in {"UNKNOWN", "NEVER"}
    if known_at.open or any(begin > after for begin, _ in known_at.holes):
        return "UNKNOWN"
    if never_seen_connected and (_baseline(sights) or not _watched(sights, known_at)):
        return "UNKNOWN"
    deadline = _deadline(sights)
    if deadline is not None and deadline[0] <= before:
        return deadline[1]
    return "NEVER_CONNECTED" if _presence(sights).word == "NEVER" else "USER_OR_ADMIN"


def _watched(sights: Sights, upto: Sight) -> bool:
    """Return whether there was no hole in a life, nor in the window in which it was first seen."""
    first = sights[0]
    if any(end > first.sweep.observed for _, end in upto.holes) or first.open:
        return False
    before = first.oracle.asked_before(first.sweep)
    record = first.record or {}
    kind = first.sweep.listed_as.get(str(record.get("Id")), record.get("AuthenticationType", ""))
    if before is not None and kind not in before:
        return False
    # Of a scope that was never listed before nothing is known but when the session started.
    start = _seconds(record.get("StartTime"))
    since = start if first.listed_before is None else first.listed_before
    return since is not None and first.sweep.observed - since <= first.sweep.rules.hole


# Thresholds: which fire at the last sight of a log. What fired before is asked of the shorter logs.


@lru_cache(maxsize=20_000)
def _crossed_expiring(sights: Sights) -> tuple[str, int, int] | None:
    """Return cause, spell and tightest threshold crossed at the last sight; a spell is a disconnect."""
    record, sweep = sights[-1].record, sights[-1].sweep
    deadline = _deadline(sights)
    if record is None or deadline is None or record.get("State") == "EXPIRED":
        return None
    at, cause = deadline
    spell = 0
    if cause == "MAX_DURATION":
        start = _seconds(record.get("StartTime"))
        period = at - start if start is not None else None
    else:
        period = _timeout(sights)
        spell = _presence(sights).disconnects
    crossed = [
        minutes
        for minutes in sweep.rules.expiring
        if (period is None or minutes * 60 < period) and at - sweep.observed <= minutes * 60
    ]
    return (cause, spell, min(crossed)) if crossed else None


def _expiring(sights: Sights) -> int | None:
    now = _crossed_expiring(sights)
    if now is None:
        return None
    earlier = (_crossed_expiring(sights[:length]) for length in range(1, len(sights)))
    fired = [each[2] for each in earlier if each is not None and each[:2] == now[:2]]
    return now[2] if not fired or now[2] < min(fired) else None


@lru_cache(maxsize=20_000)
def _crossed_abandoned(sights: Sights) -> tuple[int, int] | None:
    """Return spell and largest threshold crossed at the last sight."""
    record, sweep = sights[-1].record, sights[-1].sweep
    if record is None or record.get("State") == "EXPIRED":
        return None
    presence, hole_end = _presence(sights), sights[-1].hole_end
    start, expires = _seconds(record.get("StartTime")), _seconds(record.get("MaxExpirationTime"))
    if presence.word == "GONE":
        since, period = presence.since, _timeout(sights)
    elif presence.word == "NEVER":
        since = sights[0].sweep.observed
        period = expires - start if start is not None and expires is not None else None
    else:
        return None
    # Nothing is claimed of a hole, and a partial listing starts no clock while one is open.
    if sights[-1].open:
        return None
    since = since if hole_end is None else max(since, hole_end)
    crossed = [
        minutes
        for minutes in sweep.rules.abandoned
        if (period is None or minutes * 60 < period) and sweep.observed - since >= minutes * 60
    ]
    return (presence.disconnects, max(crossed)) if crossed else None


def _abandoned(sights: Sights) -> int | None:
    now = _crossed_abandoned(sights)
    if now is None:
        return None
    earlier = (_crossed_abandoned(sights[:length]) for length in range(1, len(sights)))
    fired = [each[1] for each in earlier if each is not None and each[0] == now[0]]
    return now[1] if not fired or now[1] > max(fired) else None


# Policies: what is open after the last sight of a log, and what that sight opened and closed.


@dataclass(frozen=True)
class Violation:
    """A policy's threshold that a session violates, as it was told; `edition` as it was found last."""

    policy: str
    threshold: int
    kind: str
    found: Found
    edition: str

    @property
    def key(self) -> tuple[str, int]:
        """What it is told once by, and in the order of."""
        return self.policy, self.threshold


@dataclass(frozen=True)
class Violations:
    """The open violations after a sight, those that it raised, and those that it cleared, with the reason."""

    open: tuple[Violation, ...] = ()
    raised: tuple[Violation, ...] = ()
    cleared: tuple[tuple[Violation, str], ...] = ()


@lru_cache(maxsize=20_000)
def _violations(sights: Sights) -> Violations:
    before = _violations(sights[:-1]).open if len(sights) > 1 else ()
    end = _end(sights)
    if end is not None:
        reason = "UNWATCHED" if end["reason"] == "UNWATCHED" else "ENDED"
        return Violations(cleared=tuple((each, reason) for each in _in_order(before)))
    if not _is_looked_at(sights[-1]):
        return Violations(before)
    sight = sights[-1]
    document = sight.sweep.document
    stays: list[Violation] = []
    cleared: list[tuple[Violation, str]] = []
    raised: list[Violation] = []
    found = {name: _found(sights, document, name, before) for name in document["policies"]}
    for each in before:
        policy = document["policies"].get(each.policy, {})
        now = policies.edition(document, each.policy) if policy else ""
        if policy.get("kind") == each.kind and each.threshold in found[each.policy]:
            stays.append(replace(each, edition=now))
        else:
            cleared.append((each, "RESOLVED" if now == each.edition else "POLICY_CHANGED"))
    for name, of_policy in found.items():
        # The largest alone; what is below one that is open counts as fired.
        largest = max(of_policy, default=-1)
        if largest > max((each.threshold for each in stays if each.policy == name), default=-1):
            kind, edition = document["policies"][name]["kind"], policies.edition(document, name)
            raised.append(Violation(name, largest, kind, of_policy[largest], edition))
    in_order = sorted(cleared, key=lambda each: each[0].key)
    return Violations((*stays, *raised), _in_order(raised), tuple(in_order))


def _in_order(violations: Iterable[Violation]) -> tuple[Violation, ...]:
    return tuple(sorted(violations, key=lambda each: each.key))


def _is_looked_at(sight: Sight) -> bool:
    """Return whether a sight can raise and clear: it was listed, in a scope that was listed whole."""
    alive = sight.record is not None and sight.record.get("State") != "EXPIRED"
    return alive and sight.sweep.covered(sight.scope)


def _found(sights: Sights, document: Document, name: str, before: Sequence[Violation]) -> dict[int, Found]:
    """Return how a session violates a policy at the last sight, by threshold; 0 where its kind has none."""
    sight, policy, record = sights[-1], document["policies"][name], _last(sights)
    oracle, sweep = sight.oracle, sight.sweep
    if not policies.concerns(policy, _scope(record), oracle.tags(_scope(record), sweep)):
        return {}
    at, start = sweep.observed, _born(sights)
    if policy["kind"] == OUTSIDE_HOURS:
        outside = policies.outside_hours(document, name, at, start)
        return {0: outside} if outside else {}
    if policy["kind"] == TOO_LONG:
        return policies.thresholds(policy, at, start)
    if policy["kind"] == DRAINING:
        since = _draining(sights)
        clock = since if since is None or sight.hole_end is None else max(since, sight.hole_end)
        # What has fired stays fired: a hole says nothing of it.
        fired = [] if since is None else [each for each in before if each.policy == name]
        kept = {each.threshold: each.found for each in fired if each.threshold in policy["minutes"]}
        return kept | policies.thresholds(policy, at, clock)
    company = [
        (_born(life.sights), str(other["Id"]))
        for life in oracle.company(sweep)
        if (other := _last(life.sights))["UserId"] == record["UserId"]
        and policies.concerns(policy, _scope(other), oracle.tags(_scope(other), sweep))
    ]
    beyond = policies.beyond(policy["limit"], company, str(record["Id"]), at) if record["UserId"] else None
    return {0: beyond} if beyond else {}


@lru_cache(maxsize=20_000)
def _draining(sights: Sights) -> int | None:
    """Return since when a session's host was seen draining; None if it is not."""
    since: int | None = None
    for sight in sights:
        if sight.record is not None and _is_looked_at(sight):
            draining = sight.record.get("InstanceDrainStatus") == "DRAINING"
            since = (sight.sweep.observed if since is None else since) if draining else None
    return since


# Events


def _events(life: Life, *, tail: bool = False) -> list[Expected]:
    """Return all events of a life, or those of its last sight only."""
    told: list[Expected] = []
    for length in range(1, len(life.sights) + 1):
        sights = life.sights[:length]
        end = _end(sights)
        for kind, extra in _happened(sights, end, told):
            told.append(_event(sights, kind, extra, end, len(told) + 1))
    observed = text(life.sights[-1].sweep.observed)
    return [each for each in told if each["metadata"]["observedAt"] == observed] if tail else told


def _happened(
    sights: Sights, end: Mapping[str, Any] | None, told: Sequence[Expected]
) -> Iterable[tuple[str, Expected]]:
    """Return what the last sight shows, in order."""
    violations = _violations(sights)
    if end is not None:
        yield from _cleared(violations)
    if end is not None and end["reason"] == "UNWATCHED":
        if told:
            yield UNWATCHED, {}
        return
    if end is not None:
        after = text(_ended_after(sights, end["after"]))
        yield ENDED, {"endReason": end["reason"], "endedAfter": after, "endedBefore": text(end["before"])}
        return
    if sights[-1].record is None:
        return
    if len(sights) == 1:
        baseline = _baseline(sights)
        if not baseline or sights[0].sweep.rules.baseline_events:
            yield STARTED, {"baseline": baseline}
    transition = _transition(sights)
    if transition is not None:
        yield transition, {}
    for kind, minutes in ((EXPIRING, _expiring(sights)), (ABANDONED, _abandoned(sights))):
        if minutes is not None:
            yield kind, {"thresholdMinutes": minutes}
    yield from _cleared(violations)
    for each in violations.raised:
        yield VIOLATED, _worded(each)


def _cleared(violations: Violations) -> Iterable[tuple[str, Expected]]:
    for each, reason in violations.cleared:
        yield CLEARED, _worded(each) | {"clearReason": reason}


def _worded(violation: Violation) -> Expected:
    found = violation.found
    policy = {"name": violation.policy, "kind": violation.kind, "since": text(found.since)}
    policy |= {"limit": found.limit, "actual": found.actual}
    return {"policy": policy, "thresholdMinutes": violation.threshold}


def _event(
    sights: Sights, kind: str, extra: Expected, end: Mapping[str, Any] | None, sequence: int
) -> Expected:
    sight = sights[-1]
    record = _last(sights)
    if sight.record is None:
        previous: Record = record
    else:
        previous = _last(sights[:-1]) if len(sights) > 1 else {}
    # What the connection was before is what history says, even if AWS left it out in between.
    earlier = sights if sight.record is None else sights[:-1]
    word = _presence(earlier).word if earlier else "UNKNOWN"
    connection_before = {"CONNECTED": "CONNECTED", "UNKNOWN": ""}.get(word, "NOT_CONNECTED")
    deadline = _deadline(sights)
    upto = end["before"] if end is not None else sight.sweep.observed
    presence = _presence(sights).until(upto, _clocks(sights).hole_end)
    born = _born(sights)
    left = max(0, (deadline[0] - sight.sweep.observed) // 60) if deadline is not None else 0
    before = sight.covered_before
    return {
        "detailType": kind,
        "metadata": {
            "sequence": sequence,
            "observedAt": text(sight.sweep.observed),
            "previousObservedAt": "" if before is None else text(before),
        },
        "data": {
            "session": _described(record),
            "previous": {
                "state": previous.get("State", ""),
                "connectionState": connection_before,
            },
            "deadline": {
                "at": text(deadline[0]) if deadline is not None else "",
                "cause": deadline[1] if deadline is not None else "NONE",
                "minutesLeft": left,
            },
            "usage": {
                "ageSeconds": max(0, upto - born),
                "connectedSeconds": presence.connected,
                "disconnectedSeconds": presence.disconnected,
                "disconnects": presence.disconnects,
            },
            "fleet": sight.oracle.facts(record["FleetName"], sight.sweep),
            "tags": sight.oracle.tags(_scope(record), sight.sweep),
        }
        | extra,
    }


def _described(record: Record) -> dict[str, str]:
    network = record.get("NetworkAccessConfiguration", {})
    said = {ours: _text(record.get(theirs, "")) for theirs, ours in FIELDS.items()}
    return said | {
        "eniId": network.get("EniId", ""),
        "eniPrivateIpAddress": network.get("EniPrivateIpAddress", ""),
    }


def _text(value: Any) -> str:
    return text(int(value.timestamp())) if isinstance(value, datetime) else str(value)


def _last(sights: Sights) -> Record:
    """Return the record as it was last listed."""
    return next(sight.record for sight in reversed(sights) if sight.record is not None)


def _scope(record: Record) -> Scope:
    return record["StackName"], record["FleetName"]


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def text(seconds: int) -> str:
    """Return a time as events carry it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
