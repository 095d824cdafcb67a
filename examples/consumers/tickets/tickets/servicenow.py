"""ServiceNow as the desk sees it: incidents, through the Table API.

It knows the fields and states of an incident in the base system and nothing of sessions. A correlation id
marks the incident of an episode; searches read the database itself, so that an incident is found at once.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from urllib3.util import make_headers

from tickets.vendor import RefusedError, State, Ticket, TryLaterError, ask, entries, part, text, ticket_id

TITLE_LIMIT = 160
STATES = {"6": State.DONE, "7": State.SEALED, "8": State.SEALED}
_READ = {
    "sysparm_fields": "sys_id,state,correlation_id,description,work_notes",
    # Work notes have a display value only.
    "sysparm_display_value": "all",
}
# In a journal field, text between [code] and [/code] is rendered as HTML.
_NO_MARKUP = str.maketrans("[]", "()")


@dataclass(slots=True)
class ServiceNow:
    """An instance at `url`; `end_state` is 6 for Resolved or 7 for Closed.

    `credentials` gives username and password, or client_id and client_secret for OAuth. `extra` are
    further fields of a new incident.
    """

    url: str
    credentials: Callable[[], Mapping[str, str]]
    close_code: str
    end_state: str = "6"
    extra: Mapping[str, str] = field(default_factory=dict)
    # The base system cancels a request of the Table API after 60 seconds (default quota rules).
    settles_in: int = 90
    _token: str = ""
    _token_until: float = 0

    def find(self, key: str) -> Ticket | None:
        """Search for the incident of an episode; raise RefusedError if correlation ids are hidden."""
        query = {"sysparm_query": f"correlation_id={key}^ORDERBYsys_created_on", "sysparm_limit": "1"}
        answer = self._ask("GET", f"?{urlencode(_READ | query)}")
        for each in entries(answer, "result"):
            if part(each, "correlation_id") is None:
                raise RefusedError("CORRELATION_ID_HIDDEN")
            # ServiceNow leaves out a part of a query that it does not understand, and finds anything.
            if text(each, "correlation_id", "value") == key:
                return _ticket(ticket_id(part(each, "sys_id"), "value"), each)
        return None

    def read(self, ticket: str) -> Ticket:
        """Read an incident; fields that an ACL hides count as empty, a hidden state as open."""
        return _ticket(ticket, part(self._ask("GET", f"{_path(ticket)}?{urlencode(_READ)}"), "result"))

    def create(self, key: str, title: str, description: Iterable[str]) -> Ticket:
        """Open an incident for an episode."""
        incident = {
            "correlation_id": key,
            "correlation_display": "AppStream session auditor",
            "short_description": _text([title])[:TITLE_LIMIT],
            "description": _text(description),
            **self.extra,
        }
        created = self._ask("POST", "?sysparm_fields=sys_id", incident)
        return Ticket(ticket_id(part(created, "result"), "sys_id"), State.OPEN, frozenset(description))

    def comment(self, ticket: str, lines: Iterable[str]) -> None:
        """Add a work note, which the caller of an incident does not see."""
        self._ask("PATCH", f"{_path(ticket)}?sysparm_fields=sys_id", {"work_notes": _text(lines)})

    def close(self, ticket: str, note: str) -> None:
        """Resolve or close an incident."""
        ending = {"state": self.end_state, "close_code": self.close_code, "close_notes": _text([note])}
        self._ask("PATCH", f"{_path(ticket)}?sysparm_fields=sys_id", ending)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = ask(method, f"{self.url}/api/now/table/incident{path}", self._authorization(), body)
        # A transaction that a quota rule cancels half-way is answered with status 200 and an error.
        if not isinstance(part(answer, "result"), dict | list):
            raise TryLaterError("NO_RESULT")
        return answer

    def _authorization(self) -> Mapping[str, str]:
        credentials = self.credentials()
        if "client_id" not in credentials:
            return make_headers(basic_auth=f"{credentials['username']}:{credentials['password']}")
        if time.time() >= self._token_until:
            form = {"grant_type": "client_credentials"} | {
                name: credentials[name] for name in ("client_id", "client_secret")
            }
            granted = ask("POST", f"{self.url}/oauth_token.do", {}, form=form)
            self._token, life = text(granted, "access_token"), part(granted, "expires_in")
            if not self._token:
                raise TryLaterError("NO_TOKEN", undone=True)
            # Half of its life: it may be used until the end of an invocation.
            self._token_until = time.time() + (life / 2 if isinstance(life, int) and life < 10**9 else 0)
        return {"Authorization": f"Bearer {self._token}"}


def _path(ticket: str) -> str:
    return f"/{quote(ticket, safe='')}"


def _ticket(ticket: str, incident: Any) -> Ticket:
    said = f"{text(incident, 'description', 'value')}\n{text(incident, 'work_notes', 'display_value')}"
    state = STATES.get(text(incident, "state", "value"), State.OPEN)
    return Ticket(ticket, state, frozenset(line.strip() for line in said.splitlines()))


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines).translate(_NO_MARKUP)
