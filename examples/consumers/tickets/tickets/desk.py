"""The desk: takes an event and sees to it that the episode's one ticket says so.

This is the story, in order: hold the episode, find its ticket or open it, tell it what it lacks, close it.
Every step looks before it writes, so any of them may be repeated. It knows no AWS and no vendor.
"""

from collections.abc import Iterable
from typing import Protocol

from tickets.episode import Episode, Event, comment, description, title, to_tell
from tickets.episodes import Episodes
from tickets.vendor import GoneError, RefusedError, State, Ticket, TryLaterError


class TicketSystem(Protocol):
    """What a vendor can do. `settles_in` is how many seconds after a request its effect is found for sure."""

    @property
    def settles_in(self) -> int: ...

    def find(self, key: str) -> Ticket | None: ...

    def read(self, ticket: str) -> Ticket: ...

    def create(self, key: str, title: str, description: Iterable[str]) -> Ticket: ...

    def comment(self, ticket: str, lines: Iterable[str]) -> None: ...

    def close(self, ticket: str, note: str) -> None: ...


class Desk:
    """One ticket system, the episodes it has tickets for, and the detail-types that open one."""

    def __init__(self, system: TicketSystem, episodes: Episodes, opened_by: frozenset[str]) -> None:
        self._system = system
        self._episodes = episodes
        self._opened_by = opened_by

    def take(self, event: Event, holder: str, now: float, until: float) -> State | None:
        """Process an event; return its ticket's state before, None if nothing opens one.

        Raises TryLaterError or RefusedError if the ticket does not say it yet.
        """
        with self._episodes.hold(event, holder, now, until) as episode:
            events = to_tell(episode, self._opened_by)
            if not events:
                return None
            ticket = self._ticket(episode, events[0], now)
            episode.opened = min(episode.opened or events[0].sequence, events[0].sequence)
            for each in events:
                # A ticket that people have sealed or deleted is theirs.
                if ticket.state in (State.OPEN, State.DONE):
                    if each.mark not in ticket.lines:
                        self._system.comment(ticket.id, comment(each))
                    if each.closes and ticket.state is State.OPEN:
                        self._system.close(ticket.id, title(each))
                episode.told.append(each)
            return ticket.state

    def _ticket(self, episode: Episode, first: Event, now: float) -> Ticket:
        if episode.ticket:
            try:
                return self._system.read(episode.ticket)
            except GoneError:
                # A vendor that is out of place shows nothing either, but its search then fails, too.
                ticket = self._system.find(episode.key) or Ticket(episode.ticket, State.GONE, frozenset())
        else:
            ticket = self._system.find(episode.key) or self._open(episode, first, now)
        episode.ticket, episode.attempted_at = ticket.id, 0
        return ticket

    def _open(self, episode: Episode, first: Event, now: float) -> Ticket:
        # A ticket that was asked for may be there, though it is not found yet.
        settled = episode.attempted_at + self._system.settles_in
        if now < settled:
            raise TryLaterError("ATTEMPT_NOT_SETTLED", int(settled - now) + 1)
        self._episodes.note_attempt(episode, now)
        try:
            return self._system.create(episode.key, title(first), description(first))
        except (RefusedError, TryLaterError) as error:
            if error.undone:
                episode.attempted_at = 0
            raise
