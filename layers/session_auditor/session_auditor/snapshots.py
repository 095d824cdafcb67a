"""Keeps the snapshot in DynamoDB: commits what a sweep decided, and clears what EventBridge took.

It knows versions and what has to be written together, and decides nothing about sessions. All that a sweep
reads lies in one partition; history and refused events lie in others and never slow it down.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError

from session_auditor.aws_errors import error_code, table_in_reach
from session_auditor.errors import FencedError, SnapshotError
from session_auditor.model import Event, KnownPolicies, Remembered, Snapshot, Stored, Target
from session_auditor.plan import SessionsPlan, TargetPlan
from session_auditor.reading import TableReader
from session_auditor.states import SCHEMA
from session_auditor.table import (
    FLEETS_KEY,
    POLICIES_KEY,
    SCOPES_KEY,
    SESSION_PREFIX,
    TARGET_KEY,
    Action,
    Table,
)
from session_auditor.timeline import life_of
from session_auditor.transactions import ACTIONS_LIMIT, OVERTAKEN, Fence, batches, write

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# How long a warm container may go without reading the whole table: bounds how long a change that was made
# by hand goes unseen.
KEPT_FOR = timedelta(hours=1)


class Commit(NamedTuple):
    """The snapshot after a commit, and the ids of the sessions that could not be written this time."""

    snapshot: Snapshot
    uncommitted: frozenset[str]


class Snapshots:
    """The table as the sweep sees it. Every method raises SnapshotError when it is out of reach."""

    def __init__(self, client: "DynamoDBClient", table: Table, reader: TableReader) -> None:
        self._client = client
        self._table = table
        self.reader = reader
        self._kept: Snapshot | None = None
        self._read_at = datetime.min.replace(tzinfo=UTC)
        self._wrote = False

    @property
    def sessions_kept(self) -> int:
        """How many sessions are kept from one sweep to the next."""
        return len(self._kept.sessions) if self._kept else 0

    def forget(self) -> None:
        """Keep nothing; the next sweep reads it again."""
        self._kept = None

    def load(self, now: datetime) -> Snapshot:
        """Return the snapshot, as it is in the table.

        The target's item is read first, so that a commit while the rest is read fences this sweep off. If it
        says that nothing else was changed since this container wrote it, what was kept then still holds.
        """
        kept, self._kept, self._wrote = self._kept, None, False
        target = self.reader.target_alone()
        fresh = timedelta() <= now - self._read_at < KEPT_FOR
        if kept and fresh and _still_holds(kept, target):
            return replace(
                kept,
                target=target.target,
                version=target.version,
                outbox=target.outbox,
                broken=target.broken,
                changed=target.changed,
            )
        self._read_at = now
        return self.reader.snapshot(target)

    def keep(self, snapshot: Snapshot) -> None:
        """Keep the snapshot of a completed sweep, so that the next one need not read it again.

        That is done by a sweep that found everything readable and wrote nothing but the target's item, so
        that what it read is what is there; and only if nothing but a commit can change the table from here
        on, which takes the target's version on: an outbox another sweep could clear.
        """
        waiting = snapshot.outbox or any(stored.outbox for stored in snapshot.sessions.values())
        self._kept = None if self._wrote or waiting or snapshot.unreadable else snapshot

    def adopt(self, snapshot: Snapshot, policies: KnownPolicies, read_at: datetime | None) -> Snapshot:
        """Keep the policies that were read at that time, if ever, before anything is judged by them.

        Every container goes by the table's, so that none can take back what another found by newer ones.
        While they cannot be written, those of before are in force. Raises FencedError.
        """
        target = snapshot.target or Target(first_begin=None)
        if read_at:
            target = replace(target, policies_read=max(read_at, target.policies_read or read_at))
        if policies == snapshot.policies:
            # The time is written with the target, at the end of the sweep.
            return replace(snapshot, target=target) if read_at else snapshot
        after = replace(snapshot, target=target, policies=policies)
        if POLICIES_KEY in snapshot.unreadable:
            # It is left as it is, and read again in each sweep.
            return after
        after = replace(after, version=snapshot.version + 1, changed=snapshot.version + 1)
        fence = Fence(self._table, after, snapshot.version)
        failed = self._write({POLICIES_KEY: [self._table.put_policies(policies)]}, fence)
        return snapshot if failed else after

    def commit(self, snapshot: Snapshot, plan: SessionsPlan, time_left: Callable[[], float]) -> Commit:
        """Write what becomes of each session, its state and its outbox in one step.

        Every transaction is fenced: it takes the version of the target's item one up from the one that
        was read, so that whoever read before it can commit nothing after it. What `time_left()` seconds do
        not suffice for stays uncommitted. Raises FencedError.
        """
        target = plan.target if snapshot.left_alone else replace(plan.target, sessions_schema=SCHEMA)
        sessions = dict(snapshot.sessions)
        written: dict[str, Stored | None] = {}

        def groups() -> Iterator[tuple[str, list[Action]]]:
            for session_id, (remembered, outbox) in plan.writes.items():
                known = snapshot.sessions.get(session_id)
                version = known.version if known else 0
                if remembered is None:
                    written[session_id] = None
                    yield session_id, [self._table.delete(SESSION_PREFIX + session_id, version)]
                else:
                    after = Stored(remembered, outbox, version + 1 if known else first_version(remembered))
                    written[session_id] = after
                    yield session_id, [self._table.put_session(version, after)]

        fence = Fence(self._table, replace(snapshot, target=target), snapshot.version)
        uncommitted: set[str] = set()
        for batch in batches(groups(), ACTIONS_LIMIT - 1):
            uncommitted |= self._write(batch, fence) if time_left() > 0 else batch.keys()
        _apply(sessions, written, uncommitted)
        if fence.version != snapshot.version:
            snapshot = replace(snapshot, target=target, version=fence.version, changed=fence.version)
        return Commit(replace(snapshot, sessions=sessions), frozenset(uncommitted))

    def commit_target(self, snapshot: Snapshot, plan: TargetPlan) -> Snapshot:
        """Write the target's item, the last of a sweep, and what lies beside it. Raises FencedError.

        Where an older release left sessions alone, that is known until a sweep has listed anything.
        """
        target, rest = self._table.put_rest(plan.target, snapshot.unreadable)
        looked = snapshot.target is None or plan.target.last_begin != snapshot.target.last_begin
        left_alone = snapshot.left_alone and not looked
        if not left_alone:
            target = replace(target, sessions_schema=SCHEMA)
        parts = max(rest, default=0)
        # What is left out must not read as covered.
        scopes = plan.scopes - ({gap.scope for gap in plan.target.gaps} - {gap.scope for gap in target.gaps})
        known = snapshot.target
        as_before = (
            known is not None
            and snapshot.parts == parts
            and (known.gaps, known.holes, known.faults) == (target.gaps, target.holes, target.faults)
        )
        version = snapshot.version + 1
        after = replace(
            snapshot,
            target=target,
            version=version,
            outbox=plan.outbox,
            parts=parts,
            changed=version,
            left_alone=left_alone,
        )
        fence = Fence(self._table, after, snapshot.version)
        beside = [] if as_before else list(rest.values())
        after_beside = after
        left_alone_keys = {key.split("#")[0] for key in snapshot.unreadable}
        if scopes != snapshot.scopes and SCOPES_KEY not in left_alone_keys:
            beside += self._table.put_scopes(scopes)
            after_beside = replace(after_beside, scopes=scopes)
        if plan.facts != snapshot.facts and FLEETS_KEY not in left_alone_keys:
            facts, puts = self._table.put_facts(plan.facts)
            if facts != snapshot.facts:
                beside += puts
                after_beside = replace(after_beside, facts=facts)
        if beside:
            if not self._write({TARGET_KEY: beside}, fence):
                return after_beside
            # Without its gaps a scope would read as covered; without the new list of scopes none does.
            if rest and not as_before:
                raise SnapshotError(
                    f"table {self._table.name} cannot be written (too busy); "
                    "nothing is lost, the next sweep goes on"
                )
        if snapshot.changed and not self._wrote:
            # Whatever other containers keep of the other items still holds.
            after = replace(after, changed=snapshot.changed)
        with table_in_reach(self._table.name, "written"):
            try:
                self._client.put_item(**fence.put(changed=after.changed)["Put"])
            except ClientError as error:
                if error_code(error) in OVERTAKEN:
                    raise FencedError from None
                raise
        return after

    def clear(
        self, snapshot: Snapshot, accepted: frozenset[str], refused: Mapping[str, str], now: datetime
    ) -> Snapshot:
        """Take the events that EventBridge accepted or refused, by id, out of the outboxes.

        A refused event is first written to an item of its own with its error code. A session whose end is
        published moves to history in the same step. An item that somebody else wrote since keeps its outbox.
        """
        waiting = [*snapshot.outbox, *(event for each in snapshot.sessions.values() for event in each.outbox)]
        apart = [event for event in waiting if event.event_id in refused]
        not_apart = self._write_all(
            (event.event_id, [self._table.put_refused(event, refused[event.event_id], now)])
            for event in apart
        )
        settled = accepted | (refused.keys() - not_apart)
        sessions = dict(snapshot.sessions)
        written: dict[str, Stored | None] = {}

        def groups() -> Iterator[tuple[str, list[Action]]]:
            for session_id, stored in snapshot.sessions.items():
                rest = tuple(event for event in stored.outbox if event.event_id not in settled)
                if len(rest) == len(stored.outbox):
                    continue
                ending = stored.remembered.ending
                if ending and not rest:
                    written[session_id] = None
                    yield (
                        session_id,
                        [
                            self._table.delete(SESSION_PREFIX + session_id, stored.version),
                            self._table.put_history(
                                life_of(stored.remembered, ending.before), ending.before, now
                            ),
                        ],
                    )
                else:
                    after = written[session_id] = Stored(stored.remembered, rest, stored.version + 1)
                    yield session_id, [self._table.put_session(stored.version, after)]

        _apply(sessions, written, self._write_all(groups()))
        snapshot = replace(snapshot, sessions=sessions)
        rest = tuple(event for event in snapshot.outbox if event.event_id not in settled)
        if snapshot.target and rest != snapshot.outbox:
            version = snapshot.version + 1
            after_clear = replace(snapshot, version=version, changed=version, outbox=rest)
            put = Fence(self._table, after_clear, snapshot.version).put()
            if not self._write({TARGET_KEY: [put]}, None):
                snapshot = after_clear
        return snapshot

    def forget_refused(self, event: Event) -> None:
        """Delete an event that was refused, once it is published."""
        with table_in_reach(self._table.name, "written"):
            self._client.delete_item(**self._table.delete_refused(event))

    def _write_all(self, groups: Iterable[tuple[str, list[Action]]]) -> set[str]:
        """Write groups of actions, unfenced, in few transactions; return the keys of those that failed."""
        failed: set[str] = set()
        for batch in batches(groups, ACTIONS_LIMIT):
            failed |= self._write(batch, None)
        return failed

    def _write(self, batch: Mapping[str, list[Action]], fence: Fence | None) -> frozenset[str]:
        self._wrote = True
        return write(self._client, self._table.name, batch, fence)


def _still_holds(kept: Snapshot, target: Snapshot) -> bool:
    """Return whether what was kept of the other items is what is there, going by the target's own item.

    An older release does not say what it changed. A target that was deleted counts its versions anew.
    """
    began = [each.target.first_begin if each.target else None for each in (kept, target)]
    return (
        began[0] == began[1]
        and 0 < target.changed <= kept.version <= target.version
        and target.parts == kept.parts == 0
    )


def first_version(remembered: Remembered) -> int:
    """Return the version of an item that was not there before.

    An id that comes back must not meet the versions of its earlier life: each begins with its own second, and
    a life is written far less often than once a second.
    """
    return int(remembered.first_seen.timestamp())


def _apply(sessions: dict[str, Stored], written: Mapping[str, Stored | None], failed: Iterable[str]) -> None:
    for session_id in written.keys() - set(failed):
        stored = written[session_id]
        if stored is None:
            del sessions[session_id]
        else:
            sessions[session_id] = stored
