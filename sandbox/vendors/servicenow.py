"""A local ServiceNow: incidents of the base system behind the Table API, with the rules that matter here.

Sources: Table API reference; Journal field type (code tags); Data policy. It is stricter than the real one in
one way: a field that an incident does not have, or has no room for, is refused, not dropped in silence. What
an ACL hides from the account is left out of an answer.
"""

from html import escape
from itertools import count
from re import DOTALL, sub
from typing import Any

from sandbox.vendors.ticketing import BASIC, Answer, Request, Vendor

TABLE = "/api/now/table/incident"
LENGTHS = {
    "short_description": 160,
    "description": 4000,
    "correlation_id": 100,
    "correlation_display": 100,
    "state": 40,
    "close_code": 40,
    "close_notes": 4000,
    "work_notes": 4000,
    "assignment_group": 32,
    "caller_id": 32,
    "category": 40,
    "impact": 40,
    "urgency": 40,
}
NEW, RESOLVED, CLOSED, CANCELED = "1", "6", "7", "8"
STATES = {NEW, "2", "3", RESOLVED, CLOSED, CANCELED}
CLOSE_CODES = {"Solution provided", "No resolution provided", "Resolved by caller", "User error"}
CLIENT = {"grant_type": "client_credentials", "client_id": "client", "client_secret": "local-secret"}
TOKEN = "local-token"  # noqa: S105 - of a server that is not there


class LocalServiceNow(Vendor):
    """Incidents by sys_id, each with its fields; `notes` are an incident's work notes, oldest first.

    `understood` are the fields that a query may name, `oauth` whether a token is asked for.
    """

    def reset(self) -> None:
        super().reset()
        self.incidents: dict[str, dict[str, str]] = {}
        self.notes: dict[str, list[str]] = {}
        self.oauth = False
        self.understood = frozenset(LENGTHS)
        self._numbers = count(1)

    def rendered(self, sys_id: str) -> str:
        """Return the incident's activity as its form shows it: escaped, but for what is between code tags."""
        parts = [self.incidents[sys_id]["description"], *self.notes[sys_id]]
        return "".join(
            sub(
                r"\[code\](.*?)\[/code\]",
                lambda found: found[1].replace("&lt;", "<").replace("&gt;", ">"),
                escape(part),
                flags=DOTALL,
            )
            for part in parts
        )

    def effect(self, request: Request) -> Answer:
        if request.path == "/oauth_token.do":
            granted = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 1799}
            return Answer(200, granted) if request.body == CLIENT else Answer(401, {"error": "access_denied"})
        if request.authorization != (f"Bearer {TOKEN}" if self.oauth else BASIC):
            return _error(401, "User Not Authenticated")
        collection, _, sys_id = request.path.removeprefix("/api/now/table/").partition("/")
        if collection != "incident":
            return _error(400, "Invalid table")
        if not sys_id:
            return self._create(request) if request.method == "POST" else self._search(request)
        if sys_id not in self.incidents:
            return _error(404, "No Record found")
        if request.method == "PATCH":
            return self._update(sys_id, request)
        return Answer(200, {"result": self._shown(sys_id, request)})

    def _search(self, request: Request) -> Answer:
        found = list(self.incidents)
        for term in request.query["sysparm_query"].split("^"):
            name, equals, value = term.partition("=")
            # What it does not understand of a query it leaves out.
            if equals and name in self.understood:
                found = [each for each in found if self.incidents[each].get(name, "") == value]
        limit = int(request.query.get("sysparm_limit", 10_000))
        return Answer(200, {"result": [self._shown(each, request) for each in found[:limit]]})

    def _create(self, request: Request) -> Answer:
        if complaint := _complaint(request.body):
            return complaint
        sys_id = f"{next(self._numbers):032x}"
        self.incidents[sys_id] = {"state": NEW, **request.body}
        self.notes[sys_id] = []
        return Answer(201, {"result": self._shown(sys_id, request)})

    def _update(self, sys_id: str, request: Request) -> Answer:
        incident, changes = self.incidents[sys_id], request.body
        if complaint := _complaint(changes):
            return complaint
        if incident["state"] in (CLOSED, CANCELED):
            return _error(403, "ACL Exception Update Failed due to security constraints")
        merged = {**incident, **changes}
        if merged["state"] in (RESOLVED, CLOSED) and not (
            merged.get("close_code") in CLOSE_CODES and merged.get("close_notes")
        ):
            return _error(403, "Data Policy Exception: Resolution code and Resolution notes are mandatory")
        if note := merged.pop("work_notes", ""):
            self.notes[sys_id].append(note)
        self.incidents[sys_id] = merged
        return Answer(200, {"result": self._shown(sys_id, request)})

    def _shown(self, sys_id: str, request: Request) -> dict[str, Any]:
        asked = request.query.get("sysparm_fields", "sys_id").split(",")
        names = [name for name in asked if name not in self.hidden]
        journal = "".join(
            f"2026-03-02 10:00:00 - Auditor (Work notes)\n{note}\n\n" for note in reversed(self.notes[sys_id])
        )
        values = {"sys_id": sys_id, "work_notes": "", **self.incidents[sys_id]}
        if request.query.get("sysparm_display_value") != "all":
            return {name: values.get(name, "") for name in names}
        displayed = values | {"work_notes": journal}
        return {
            name: {"value": values.get(name, ""), "display_value": displayed.get(name, "")} for name in names
        }


def _complaint(fields: Any) -> Answer | None:
    for name, value in fields.items():
        if name not in LENGTHS or not isinstance(value, str) or len(value) > LENGTHS[name]:
            return _error(400, f"Invalid field {name}")
    return _error(400, "Invalid state") if fields.get("state", NEW) not in STATES else None


def _error(status: int, message: str) -> Answer:
    return Answer(status, {"error": {"message": message, "detail": ""}, "status": "failure"})
