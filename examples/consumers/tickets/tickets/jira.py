"""Jira Cloud as the desk sees it: issues, through the REST API, version 3.

It knows the Atlassian Document Format and workflows and nothing of sessions. A label marks the issue of an
episode. Searches lag behind what was written, by seconds as a rule and by minutes at times (Atlassian,
Search and Reconcile): an issue is found late, but read at once by its id.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from urllib3.util import make_headers

from tickets.vendor import (
    GoneError,
    RefusedError,
    State,
    Ticket,
    TryLaterError,
    ask,
    entries,
    part,
    text,
    ticket_id,
)

TITLE_LIMIT = 255
COMMENTS = 100
DONE = "done"


@dataclass(frozen=True, slots=True)
class Jira:
    """A site at `url`; `credentials` gives username and password: an e-mail address and an API token.

    `transition` names the transition that ends an issue; if empty, the first into a status of the category
    done. `resolution` is set with it, if not empty.
    """

    url: str
    credentials: Callable[[], Mapping[str, str]]
    project: str
    issue_type: str
    transition: str = ""
    resolution: str = ""
    settles_in: int = 300

    def find(self, key: str) -> Ticket | None:
        """Search for the issue of an episode."""
        query = {"jql": f'labels = "{key}" ORDER BY created ASC', "fields": ["id"], "maxResults": 1}
        answer = self._ask("POST", "/search/jql", query)
        if part(answer, "issues") is None:
            # An issue may be there all the same.
            raise TryLaterError("NO_RESULT")
        found = entries(answer, "issues")
        try:
            return self.read(ticket_id(found[0], "id")) if found else None
        except GoneError:
            raise TryLaterError("INDEX_LAGS") from None

    def read(self, ticket: str) -> Ticket:
        """Read an issue and its latest comments; what Jira leaves out counts as empty, and as open."""
        issue = self._ask("GET", f"{_path(ticket)}?fields=status,description")
        latest = self._ask("GET", f"{_path(ticket)}/comment?orderBy=-created&maxResults={COMMENTS}")
        documents = [
            part(issue, "fields", "description"),
            *(part(each, "body") for each in entries(latest, "comments")),
        ]
        ended = text(issue, "fields", "status", "statusCategory", "key") == DONE
        state = State.DONE if ended else State.OPEN
        return Ticket(ticket, state, frozenset(line for each in documents for line in _lines(each)))

    def create(self, key: str, title: str, description: Iterable[str]) -> Ticket:
        """Open an issue for an episode."""
        issue = {
            "project": {"key": self.project},
            "issuetype": {"name": self.issue_type},
            "summary": title[:TITLE_LIMIT],
            "description": _document(description),
            "labels": ["appstream", key],
        }
        created = self._ask("POST", "/issue", {"fields": issue})
        return Ticket(ticket_id(created, "id"), State.OPEN, frozenset(description))

    def comment(self, ticket: str, lines: Iterable[str]) -> None:
        """Add a comment."""
        self._ask("POST", f"{_path(ticket)}/comment", {"body": _document(lines)})

    def close(self, ticket: str, note: str) -> None:  # noqa: ARG002 - its last comment says it
        """Move an issue to its end; raise RefusedError if its workflow has no such transition from here."""
        possible = self._ask("GET", f"{_path(ticket)}/transitions")
        for each in entries(possible, "transitions"):
            ends = text(each, "to", "statusCategory", "key") == DONE
            if text(each, "name") == self.transition if self.transition else ends:
                fields = {"fields": {"resolution": {"name": self.resolution}}} if self.resolution else {}
                transition = {"transition": {"id": text(each, "id")}}
                self._ask("POST", f"{_path(ticket)}/transitions", transition | fields)
                return
        raise RefusedError("NO_TRANSITION")

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        credentials = self.credentials()
        authorization = make_headers(basic_auth=f"{credentials['username']}:{credentials['password']}")
        return ask(method, f"{self.url}/rest/api/3{path}", authorization, body)


def _path(ticket: str) -> str:
    return f"/issue/{quote(ticket, safe='')}"


def _document(lines: Iterable[str]) -> dict[str, Any]:
    """Write lines as paragraphs of text nodes, which are never rendered as anything but text."""
    paragraphs = [{"type": "paragraph", "content": [{"type": "text", "text": line}]} for line in lines]
    return {"type": "doc", "version": 1, "content": paragraphs}


def _lines(node: Any) -> Iterable[str]:
    """Return the text nodes of a document, which people may have edited, removed, or nested deeply."""
    nodes = [node]
    while nodes:
        node = nodes.pop()
        if text(node, "type") == "text":
            yield text(node, "text")
        nodes += entries(node, "content")
