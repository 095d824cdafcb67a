"""Counts what the clients of this process ask of AWS, and estimates what that costs at list prices.

It sits where botocore makes a call, knows how DynamoDB counts units, and changes nothing.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import botocore.client

# US dollars, us-east-1, on demand, without free tiers, as of November 2025.
PRICES = {
    "Lambda, GB-second (arm64)": 0.0000133334,
    "Lambda, request": 0.20 / 1e6,
    "Scheduler, invocation": 1.00 / 1e6,
    "DynamoDB, write unit": 0.625 / 1e6,
    "DynamoDB, read unit": 0.125 / 1e6,
    "EventBridge, event": 1.00 / 1e6,
    "CloudWatch, metric a month": 0.30,
    "CloudWatch, alarm a month": 0.10,
    "CloudWatch, GB of logs": 0.50,
}
SECONDS_A_MONTH = 30.4 * 86_400
# What a month's cost assumes beside what was counted.
CALL_SECONDS, SWEEP_SECONDS, MEMORY_GB, LOG_BYTES, METRICS, ALARMS = 0.02, 0.05, 0.5, 1_500, 10, 7


@dataclass
class Meter:
    """Calls by operation, DynamoDB units, and events handed to the bus; not those while it is `paused`."""

    calls: Counter[str] = field(default_factory=Counter)
    write_units: int = 0
    read_units: float = 0.0
    events: int = 0
    paused: bool = False
    _sizes: dict[str, int] = field(default_factory=dict)

    def count(
        self, service: str, operation: str, parameters: Mapping[str, Any], answer: Mapping[str, Any]
    ) -> None:
        """Count one call that was answered."""
        if self.paused:
            return
        self.calls[f"{service} {operation}"] += 1
        if operation == "PutEvents":
            self.events += len(parameters["Entries"])
        elif operation == "Query":
            # Strongly consistent: one unit for each 4 KB, at least one a page.
            self.read_units += ceil(max(1, sum(item_size(item) for item in answer["Items"])) / 4096)
        elif operation == "PutItem":
            self.write_units += self._write(parameters["Item"])
        elif operation == "TransactWriteItems":
            for action in parameters["TransactItems"]:
                written = action["Put"]["Item"] if "Put" in action else action["Delete"]["Key"]
                # A transaction prepares and commits: every write counts twice. The index byUser follows, with
                # what has a user: ended sessions alone.
                self.write_units += 2 * self._write(written)
                self.write_units += ceil(item_size(written) / 1024) if "userId" in written else 0

    def month(self, sweeps: int) -> dict[str, float]:
        """Estimate a month of sweeps like these, one a minute day and night, in US dollars by service."""
        factor = SECONDS_A_MONTH / 60 / sweeps
        seconds = self.calls.total() * CALL_SECONDS + sweeps * SWEEP_SECONDS
        costs = {
            "Lambda": seconds * MEMORY_GB * PRICES["Lambda, GB-second (arm64)"]
            + sweeps * PRICES["Lambda, request"],
            "Scheduler": sweeps * PRICES["Scheduler, invocation"],
            "DynamoDB": self.write_units * PRICES["DynamoDB, write unit"]
            + self.read_units * PRICES["DynamoDB, read unit"],
            "EventBridge": self.events * PRICES["EventBridge, event"],
            "CloudWatch": sweeps * LOG_BYTES / 1e9 * PRICES["CloudWatch, GB of logs"],
        }
        month = {service: cost * factor for service, cost in costs.items()}
        # Where policies are read there is one more of each.
        more = int("ssm GetParameter" in self.calls)
        month["CloudWatch"] += (METRICS + more) * PRICES["CloudWatch, metric a month"]
        month["CloudWatch"] += (ALARMS + more) * PRICES["CloudWatch, alarm a month"]
        return month

    def _write(self, item: Mapping[str, Any]) -> int:
        """One unit for each KB of the item before or after, whichever is larger."""
        key = f"{item['pk']['S']} {item['sk']['S']}"
        size = item_size(item)
        larger = max(size, self._sizes.get(key, 0))
        self._sizes[key] = size
        return ceil(larger / 1024)


def item_size(item: Mapping[str, Any]) -> int:
    """Count an item's bytes as DynamoDB does: names and values, and a little for nesting."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    if kind == "L":
        return 3 + sum(1 + _value_size(each) for each in content)
    if kind == "M":
        return 3 + item_size(content) + len(content)
    return len(content.encode()) if kind == "S" else len(content) // 2 + 1


@contextmanager
def metered() -> Iterator[Meter]:
    """Count every call of every client in this process."""
    meter = Meter()
    # The stubs leave out what is not public.
    clients: Any = botocore.client.BaseClient
    make_api_call = clients._make_api_call

    def counted(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        answer = make_api_call(client, operation, parameters)
        meter.count(client.meta.service_model.service_name, operation, parameters, answer)
        return answer

    clients._make_api_call = counted
    try:
        yield meter
    finally:
        clients._make_api_call = make_api_call
