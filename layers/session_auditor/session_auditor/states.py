"""How the state of a session is written: as short as it can be, since every kilobyte of an item is paid for.

It knows the forms of this release and of earlier ones, and no item. A default is left out, names are a letter
or two, and what the newest event in the outbox says of the session is not written a second time.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from json import dumps, loads
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from session_auditor.contract import session_of
from session_auditor.model import Event, Remembered, Rule, Session

# Written with every item. One of a newer release is left alone. One of an older release is read (what it
# lacks has a default, what it had otherwise is translated) and takes this number when it is next written.
# Release 0.1 wrote 1; in 2, what has fired is kept by rule; in 3, names are short and there is a timeline.
SCHEMA = 3

# Each field's name in an item: `Remembered`, and what it is made of. None may change or be used again. A
# scope is written as a list, without names.
NAMES = {
    # Remembered
    "session": "s",
    "first_seen": "f",
    "baseline": "b",
    "presence": "p",
    "presence_since": "ps",
    "sequence": "n",
    "connected_seconds": "cs",
    "disconnected_seconds": "ds",
    "never_connected_seconds": "ns",
    "disconnects": "d",
    "disconnect_timeout": "dt",
    "fired": "x",
    "missed": "m",
    "ending": "e",
    "listed_as": "la",
    "user_id_hashed": "h",
    "watched": "w",
    "clocks_from": "cf",
    "outbox_full": "o",
    "unlisted_since": "us",
    "fleet_type": "ft",
    "timeline": "t",
    "draining_since": "dn",
    "violations": "v",
    "instance_type": "it",
    "max_sessions": "ms",
    # Session
    "id": "i",
    "scope": "sc",
    "user_id": "u",
    "state": "st",
    "connection_state": "c",
    "authentication_type": "a",
    "start_time": "b0",
    "max_expiration_time": "e0",
    "instance_id": "in",
    "eni_id": "en",
    "eni_private_ip_address": "ip",
    "instance_drain_status": "dr",
    # Violation
    "policy": "po",
    "kind": "k",
    "threshold": "th",
    "since": "si",
    "limit": "li",
    "actual": "ac",
    "edition": "ed",
    # Miss and Ending
    "last_seen": "l",
    "at": "at",
    "begin": "bg",
    "hole": "ho",
    "reason": "r",
    "after": "af",
    "before": "be",
}
# Where release 0.1 kept what each rule has fired.
_FIRED_IN_SCHEMA_1 = {
    Rule.MAX_DURATION: "max_duration_warned",
    Rule.DISCONNECT_TIMEOUT: "disconnect_timeout_warned",
    Rule.ABANDONED: "abandoned_warned",
}
# A dataclass takes the configuration of what it is in, so a tuple of one gives its fields a second name.
_CONFIG = ConfigDict(alias_generator=lambda name: NAMES.get(name, name))
_SHORT = TypeAdapter(tuple[Remembered], config=_CONFIG)
# The session is the first field. Where it is left out, a blank one holds its place until it is read.
_HAS_SESSION = re.compile(rf'{{\s*"{NAMES["session"]}"\s*:')
_BLANK = f'{{"{NAMES["session"]}":{{"{NAMES["id"]}":"","{NAMES["scope"]}":["",""]}},'
_LONG = TypeAdapter(Remembered)


def write_state(remembered: Remembered, outbox: Sequence[Event]) -> str:
    """Return the state of a session, as it is written beside this outbox."""
    exclude: Any = {0: {"session"}} if outbox and _says(outbox[-1], remembered.session) else None
    state = _SHORT.dump_json((remembered,), by_alias=True, exclude_defaults=True, exclude=exclude)
    return state.decode()[1:-1]


def read_state(text: str, schema: int, outbox: Sequence[Event]) -> Remembered:
    """Return the state of a session that was written beside this outbox; raise ValueError."""
    if schema < 3:
        return _LONG.validate_json(_from_schema_1(text) if schema < 2 else text)
    if not outbox or _HAS_SESSION.match(text):
        (remembered,) = _SHORT.validate_json(f"[{text}]")
        return remembered
    (remembered,) = _SHORT.validate_json(f"[{_BLANK}{text[1:]}]")
    return replace(remembered, session=session_of(outbox[-1]))


def _says(event: Event, session: Session) -> bool:
    """Return whether an event says all that is known of the session."""
    try:
        return session_of(event) == session
    except ValueError:
        # What was committed is passed on as it is; not everything that can be passed on can be read here.
        return False


def _from_schema_1(state: str) -> str:
    fields = loads(state)
    fired = {rule: fields.pop(name, None) for rule, name in _FIRED_IN_SCHEMA_1.items()}
    return dumps(
        fields | {"fired": {rule: threshold for rule, threshold in fired.items() if threshold is not None}}
    )
