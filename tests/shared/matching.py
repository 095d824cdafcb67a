"""Matches events as rules on a bus do: with the local cloud's TestEventPattern."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sandbox.cloud import local_cloud

Matcher = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]


@contextmanager
def matching() -> Iterator[Matcher]:
    """Give what tells whether a pattern matches an event."""
    with local_cloud() as cloud:
        events = cloud.client("events")

        def matches(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
            answer = events.test_event_pattern(EventPattern=json.dumps(pattern), Event=json.dumps(event))
            result: bool = answer["Result"]
            return result

        yield matches
