"""A local Jira Cloud: issues of one project behind the REST API, version 3, with the rules that matter here.

Sources: REST API v3 reference (issues, issue search, issue comments); Atlassian Document Format; Search And
Reconcile. Searches know an issue only once it is indexed, and one that was deleted for a while; the search
endpoint before /search/jql is gone. What is hidden from the account is left out of an answer.
"""

from itertools import count
from re import fullmatch
from typing import Any

from sandbox.vendors.ticketing import BASIC, Answer, Request, Vendor

API = "/rest/api/3"
PROJECT, ISSUE_TYPES, RESOLUTIONS = "OPS", {"Task", "Incident"}, {"Done", "Won't Do"}
CATEGORIES = {"To Do": "new", "In Progress": "indeterminate", "Done": "done"}
# Transitions by the status that they start from: id, name, target.
WORKFLOW = {
    "To Do": [("11", "Start work", "In Progress"), ("31", "Finish", "Done")],
    "In Progress": [("31", "Finish", "Done")],
    "Done": [("41", "Reopen", "To Do")],
}
FIELDS = {"project", "issuetype", "summary", "description", "labels"}


class LocalJira(Vendor):
    """Issues by id, each with its fields and its status; `comments` are an issue's, oldest first.

    While `lagging`, a new issue is not found by searches.
    """

    def reset(self) -> None:
        super().reset()
        self.issues: dict[str, dict[str, Any]] = {}
        self.comments: dict[str, list[dict[str, Any]]] = {}
        self.lagging = False
        self.indexed: dict[str, list[str]] = {}
        self._numbers = count(10_000)

    def index(self) -> None:
        """Let searches know every issue, and no other."""
        self.indexed = {each: fields.get("labels", []) for each, fields in self.issues.items()}

    def text(self, issue: str) -> list[str]:
        """Return all lines of an issue's description and comments."""
        documents = [self.issues[issue]["description"], *self.comments[issue]]
        return [
            node["text"]
            for document in documents
            for paragraph in document["content"]
            for node in paragraph["content"]
        ]

    def effect(self, request: Request) -> Answer:
        if request.authorization != BASIC:
            return _error(401, "Client must be authenticated to access this resource.")
        match (request.method, *request.path.removeprefix(f"{API}/").split("/")):
            case "POST", "search", "jql":
                return self._search(request.body)
            case _, "search":
                return _error(
                    410, "The requested API has been removed. Please migrate to /rest/api/3/search/jql"
                )
            case "POST", "issue":
                return self._create(request.body)
            case method, "issue", issue, *rest:
                if issue not in self.issues:
                    return _error(404, "Issue does not exist or you do not have permission to see it.")
                return self._of_issue(method, issue, rest, request)
            case _:
                return _error(404, "no such resource")

    def _of_issue(self, method: str, issue: str, rest: list[str], request: Request) -> Answer:
        fields = self.issues[issue]
        match (method, *rest):
            case ("GET",):
                status = {"name": fields["status"], "statusCategory": {"key": CATEGORIES[fields["status"]]}}
                shown = fields | {"status": status}
                names = [name for name in request.query["fields"].split(",") if name not in self.hidden]
                return Answer(200, {"id": issue, "fields": {name: shown[name] for name in names}})
            case "GET", "comment":
                newest_first = list(reversed(self.comments[issue]))[: int(request.query["maxResults"])]
                if request.query["orderBy"] != "-created":
                    return _error(400, "orderBy")
                comments = [{} if "body" in self.hidden else {"body": each} for each in newest_first]
                return Answer(200, {} if "comments" in self.hidden else {"comments": comments})
            case "POST", "comment":
                if not _is_document(request.body.get("body")) or set(request.body) != {"body"}:
                    return _error(400, "INVALID_INPUT")
                self.comments[issue].append(request.body["body"])
                return Answer(201, {"id": str(next(self._numbers))})
            case "GET", "transitions":
                return Answer(
                    200,
                    {
                        "transitions": [
                            {
                                "id": id_,
                                "name": name,
                                "to": {"name": to, "statusCategory": {"key": CATEGORIES[to]}},
                            }
                            for id_, name, to in WORKFLOW[fields["status"]]
                        ]
                    },
                )
            case "POST", "transitions":
                possible = {id_: to for id_, _, to in WORKFLOW[fields["status"]]}
                wanted = request.body["transition"]["id"]
                resolution = request.body.get("fields", {}).get("resolution", {"name": "Done"})["name"]
                if wanted not in possible or resolution not in RESOLUTIONS:
                    return _error(400, "Transition is not valid for this issue.")
                fields["status"] = possible[wanted]
                fields["resolution"] = resolution
                return Answer(204)
            case _:
                return _error(405, "no such method")

    def _search(self, body: dict[str, Any]) -> Answer:
        found = fullmatch(r'labels = "([A-Za-z0-9-]+)" ORDER BY created ASC', body["jql"])
        if not found or not set(body) <= {"jql", "fields", "maxResults", "nextPageToken"}:
            return _error(400, "Unbounded JQL queries are not allowed here.")
        issues = [{"id": each} for each, labels in self.indexed.items() if found[1] in labels]
        return Answer(200, {"issues": issues[: body["maxResults"]], "isLast": True})

    def _create(self, body: dict[str, Any]) -> Answer:
        fields = body["fields"]
        summary = fields.get("summary", "")
        errors = {
            "project": fields.get("project") != {"key": PROJECT},
            "issuetype": fields.get("issuetype", {}).get("name") not in ISSUE_TYPES,
            "summary": not summary.strip() or len(summary) > 255 or "\n" in summary,
            "description": not _is_document(fields.get("description")),
            "labels": any(" " in each or len(each) > 255 for each in fields.get("labels", [])),
            **{name: True for name in fields if name not in FIELDS},
        }
        if wrong := [name for name, is_wrong in errors.items() if is_wrong]:
            return Answer(400, {"errorMessages": [], "errors": dict.fromkeys(wrong, "is not valid")})
        issue = str(next(self._numbers))
        self.issues[issue] = fields | {"status": "To Do"}
        self.comments[issue] = []
        if not self.lagging:
            self.indexed[issue] = fields.get("labels", [])
        return Answer(
            201, {"id": issue, "key": f"{PROJECT}-{issue}", "self": f"{self.url}{API}/issue/{issue}"}
        )


def _is_document(node: Any) -> bool:
    """Return whether it is a document of paragraphs of text without marks, each text not empty."""
    return (
        isinstance(node, dict)
        and set(node) == {"type", "version", "content"}
        and (node["type"], node["version"]) == ("doc", 1)
        and all(
            set(paragraph) == {"type", "content"}
            and paragraph["type"] == "paragraph"
            and all(
                set(text) == {"type", "text"} and text["type"] == "text" and text["text"]
                for text in paragraph["content"]
            )
            for paragraph in node["content"]
        )
    )


def _error(status: int, message: str) -> Answer:
    return Answer(status, {"errorMessages": [message], "errors": {}})
