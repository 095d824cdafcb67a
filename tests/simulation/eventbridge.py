"""EventBridge's PutEvents: its limits, its partial failures, and every entry that it took, in order.

It knows no rules and no targets. Which entries fail, and how, is the test's to say.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.simulation.errors import AwsError

# https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
CALL_ENTRIES = 10
CALL_BYTES = 1024 * 1024

Entry = Mapping[str, Any]


class EventBridge:
    """The buses of one account in one region."""

    def __init__(self) -> None:
        self.buses = {"default"}
        self.accepted: list[Entry] = []
        self.forgotten: list[Entry] = []
        self.calls = 0
        # Given the entry and its place in the call: an error code, or None to accept it.
        self.refuses: Callable[[Entry, int], str | None] = lambda _entry, _place: None

    def call(self, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one operation of the API."""
        if operation != "PutEvents" or params.keys() != {"Entries"}:
            raise NotImplementedError(f"the simulated EventBridge knows no {operation} with {sorted(params)}")
        entries = params["Entries"]
        if not 1 <= len(entries) <= CALL_ENTRIES:
            raise AwsError(
                "ValidationException",
                "1 validation error detected: Value at 'entries' failed to satisfy constraint: "
                f"Member must have length less than or equal to {CALL_ENTRIES}",
            )
        if sum(map(entry_bytes, entries)) >= CALL_BYTES:
            raise AwsError(
                "ValidationException", "Total size of the entries in the request is over the limit."
            )
        self.calls += 1
        results = []
        for place, entry in enumerate(entries):
            code = self._problem(entry) or self.refuses(entry, place)
            if code is not None:
                results.append({"ErrorCode": code, "ErrorMessage": f"{code}, as simulated"})
                continue
            # A bus that is not there takes every event, gives it an id, and forgets it: not documented,
            # but recorded against AWS by the tests of LocalStack (test_put_events_nonexistent_event_bus).
            known = entry.get("EventBusName", "default").rpartition("/")[2] in self.buses
            (self.accepted if known else self.forgotten).append(dict(entry))
            results.append({"EventId": f"00000000-0000-0000-0000-{len(self.accepted):012d}"})
        return {"FailedEntryCount": sum("ErrorCode" in each for each in results), "Entries": results}

    def _problem(self, entry: Entry) -> str | None:
        if not all(entry.get(name) for name in ("Source", "DetailType", "Detail")):
            return "InvalidArgument"
        if str(entry["Source"]).startswith("aws."):
            return "NotAuthorizedForSourceException"
        if len(entry["DetailType"]) > 128:
            return "InvalidArgument"
        try:
            detail = json.loads(entry["Detail"])
        except ValueError:
            return "MalformedDetail"
        if not isinstance(detail, dict):
            return "MalformedDetail"
        return None


def entry_bytes(entry: Entry) -> int:
    """Return an entry's size as EventBridge counts it (eb-putevents.html, "Calculating event sizes")."""
    texts = [entry.get(name, "") for name in ("Source", "DetailType", "Detail")] + list(
        entry.get("Resources", [])
    )
    return sum(len(text.encode()) for text in texts) + (14 if "Time" in entry else 0)
