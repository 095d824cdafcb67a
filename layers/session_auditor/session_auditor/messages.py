"""What the dispatcher asks of the auditor: to sweep a target, at a time at which it is due.

Plain data in, plain data out: the text of a message and what it says.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

# A message that is older is void: the next one of its target is there, or about to be.
VOID_AFTER = timedelta(seconds=60)
_ACCOUNT = re.compile(r"[0-9]{12}")
_REGION = re.compile(r"[a-z]{2,8}(-[a-z0-9]{1,16}){1,4}")


class Message(NamedTuple):
    """A target's account and region, and when it is due."""

    account_id: str
    region: str
    due: datetime

    @property
    def text(self) -> str:
        """The message as it is sent."""
        due = f"{self.due.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return json.dumps({"account": self.account_id, "region": self.region, "due": due})


def read_message(text: object) -> Message | None:
    """Return what a message asks for, None if it is none."""
    if not isinstance(text, str):
        return None
    try:
        said = json.loads(text)
        account_id, region, due = said["account"], said["region"], datetime.fromisoformat(said["due"])
        if not (_ACCOUNT.fullmatch(account_id) and _REGION.fullmatch(region) and due.tzinfo):
            return None
        return Message(account_id, region, due.astimezone(UTC))
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        return None
