"""Jira Cloud as the desk sees it: issues, through the REST API, version 3.

It knows the Atlassian Document Format and workflows and nothing of sessions. A label marks the issue of an
episode. Searches lag behind what was written, by seconds as a rule and by minutes at times (Atlassian,
Search and Reconcile): an issue is found late, but read at once by its id.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from urllib3.util import make_headers

from tickets.vendor import RefusedError, State, Ticket, ask

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
        issues = self._ask("POST", "/search/jql", query)["issues"]
        return self.read(issues[0]["id"]) if issues else None

    def read(self, ticket: str) -> Ticket:
        """Read an issue and its latest comments."""
        fields = self._ask("GET", f"/issue/{ticket}?fields=status,description")["fields"]
        latest = self._ask("GET", f"/issue/{ticket}/comment?orderBy=-created&maxResults={COMMENTS}")
        documents = [fields["description"], *(each["body"] for each in latest["comments"])]
        state = State.DONE if fields["status"]["statusCategory"]["key"] == DONE else State.OPEN
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
        return Ticket(created["id"], State.OPEN, frozenset(description))

    def comment(self, ticket: str, lines: Iterable[str]) -> None:
        """Add a comment."""
        self._ask("POST", f"/issue/{ticket}/comment", {"body": _document(lines)})

    def close(self, ticket: str, note: str) -> None:  # noqa: ARG002 - its last comment says it
        """Move an issue to its end; raises RefusedError if its workflow has no such transition from here."""
        possible = self._ask("GET", f"/issue/{ticket}/transitions")["transitions"]
        for each in possible:
            ends = each["to"]["statusCategory"]["key"] == DONE
            if each["name"] == self.transition if self.transition else ends:
                fields = {"fields": {"resolution": {"name": self.resolution}}} if self.resolution else {}
                self._ask("POST", f"/issue/{ticket}/transitions", {"transition": {"id": each["id"]}} | fields)
                return
        raise RefusedError("NO_TRANSITION")

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        credentials = self.credentials()
        authorization = make_headers(basic_auth=f"{credentials['username']}:{credentials['password']}")
        return ask(method, f"{self.url}/rest/api/3{path}", authorization, body)


def _document(lines: Iterable[str]) -> dict[str, Any]:
    """Write lines as paragraphs of text nodes, which are never rendered as anything but text."""
    paragraphs = [{"type": "paragraph", "content": [{"type": "text", "text": line}]} for line in lines]
    return {"type": "doc", "version": 1, "content": paragraphs}


def _lines(node: Any) -> Iterable[str]:
    """Give the text nodes of a document, which people may have edited, or removed."""
    if isinstance(node, dict):
        if node.get("type") == "text":
            yield node["text"]
        for each in node.get("content", ()):
            yield from _lines(each)
