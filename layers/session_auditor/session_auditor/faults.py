"""Fleets of which AppStream names errors: since when, which, and what of it is new.

Plain data in, plain data out. A fault lasts from the first error of a fleet to its last; each change of the
set of codes is told once. What was not read changes nothing.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from session_auditor.model import WHOLE_TARGET, DetailType, Fault, FleetType, Listing, Options, Snapshot

# What an event of a fleet takes at most, beside its name and its codes: the tags are bounded, too.
EVENT_BYTES = 4_000


class FaultChange(NamedTuple):
    """A fleet's fault after a change of it."""

    detail_type: FleetType
    fault: Fault
    previous_observed_at: datetime | None


class Faults(NamedTuple):
    """The faults that are open after a listing, when the fleets were read last, and the changes."""

    open: tuple[Fault, ...]
    fleets_read: datetime | None
    changes: tuple[FaultChange, ...]


def faults_after(snapshot: Snapshot, listing: Listing, options: Options, room: int) -> Faults:
    """Return what became of the fleets' faults.

    `room` are the bytes that the target's outbox can take; a change that does not fit is found again.
    """
    target = snapshot.target
    known = {fault.fleet: fault for fault in target.faults} if target else {}
    read_before = target.fleets_read if target else None
    if listing.fleets_read is None:
        return Faults(tuple(known.values()), read_before, ())
    # A clock that is fast may have dated it.
    previous = min(read_before, listing.observed_at) if read_before else None
    changes: list[FaultChange] = []
    waits = False
    for name, codes in sorted(_codes_now(known, listing, options).items()):
        before = known.get(name)
        told = before.codes if before else ""
        if codes == told:
            continue
        room -= EVENT_BYTES + 6 * len(name) + len(codes or told)
        if room < 0:
            waits = True
            continue
        sequence = before.sequence + 1 if before else 1
        after = Fault(name, before.since if before else listing.observed_at, codes or told, sequence)
        kind: FleetType = DetailType.FLEET_FAULTED if codes else DetailType.FLEET_RECOVERED
        changes.append(FaultChange(kind, after, previous))
        if codes:
            known[name] = after
        else:
            del known[name]
    return Faults(tuple(known.values()), read_before if waits else listing.fleets_read, tuple(changes))


def _codes_now(known: Iterable[str], listing: Listing, options: Options) -> dict[str, str]:
    """Return the codes of each fleet that is in view or has a fault, as far as they are known."""
    in_view = {scope.fleet for scope in (*listing.scopes, *listing.failed) if scope.fleet}
    # Tags say nothing of which fleets there are.
    whole = WHOLE_TARGET not in listing.failed and not listing.unread.keys() - {"tags"}
    codes: dict[str, str] = {}
    for name in in_view.union(known):
        named = listing.fleet_errors.get(name, "" if whole else None)
        if name not in in_view and (whole or not options.fleets.match(name)):
            # Its errors are nobody's concern any more.
            named = ""
        if named is not None:
            codes[name] = named
    return codes
