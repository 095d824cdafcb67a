"""What UserIdMode makes of a user id, and how a stored one shows which mode it was written in."""

import hmac
import re
from collections.abc import Callable
from typing import assert_never

from session_auditor.model import UserIdMode

# The form of a hashed user id: 32 hex digits.
HASH_DIGITS = 32
_HASHED = re.compile("[0-9a-f]+")


def user_ids(mode: UserIdMode, secret: str) -> Callable[[str], str]:
    """Return what turns a user id into itself, into a hash keyed by the secret, or into nothing."""
    match mode:
        case UserIdMode.PLAIN:
            return str
        case UserIdMode.HASH:
            key = secret.encode()
            return lambda user_id: hmac.digest(key, user_id.encode(), "sha256").hex()[:HASH_DIGITS]
        case UserIdMode.OMIT:
            return lambda _: ""
        case _:
            assert_never(mode)


def hash_mark(user_id: str, mode: UserIdMode) -> bool | None:
    """Return whether a user id is hashed, to be stored with it; None where its form tells."""
    if mode is UserIdMode.HASH:
        return True
    return False if _looks_hashed(user_id) else None


def is_hashed(user_id: str, mark: bool | None) -> bool:
    """Return whether a stored user id is a hash; the first release marked none."""
    return _looks_hashed(user_id) if mark is None else mark


def _looks_hashed(user_id: str) -> bool:
    return len(user_id) == HASH_DIGITS and _HASHED.fullmatch(user_id) is not None
