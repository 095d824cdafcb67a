"""Reads the document of policies from its SSM parameter, anew with the topology.

A document that cannot be read or is none changes nothing: the last good one stays in force, and why the
newest is not applied is kept beside it. Which policies are in force is the table's to say; what they mean is
`policies`'.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from session_auditor.aws_errors import MALFORMED, MALFORMED_ERRORS, error_code, is_refusal
from session_auditor.errors import PoliciesError
from session_auditor.model import NO_POLICIES, KnownPolicies, Snapshot, UserIdMode
from session_auditor.policies import NO_DOCUMENT, Document, read_document
from session_auditor.table import POLICIES_KEY

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

NOT_THERE = "ParameterNotFound"


class PoliciesReader:
    """The policies as an administrator stores them; without a `client` there are none."""

    def __init__(
        self,
        client: "SSMClient | None",
        parameter: str,
        *,
        tag_keys: Collection[str],
        user_id_mode: UserIdMode,
        keep_for: timedelta,
    ) -> None:
        self._client = client
        self._parameter = parameter
        self._tag_keys = tag_keys
        self._user_id_mode = user_id_mode
        self._keep_for = keep_for
        self.read_at: datetime | None = None
        self._parsed: tuple[str, Document] = ("", NO_DOCUMENT)

    def read(self, snapshot: Snapshot, now: datetime) -> KnownPolicies:
        """Return the newest document if it is good, else the last good one and what is wrong.

        It is read by each container once, and again when it is long ago that any did.
        """
        if self._client is None:
            return NO_POLICIES
        known_at = snapshot.target.policies_read if snapshot.target else None
        readable = POLICIES_KEY not in snapshot.unreadable
        if readable and self._is_fresh(self.read_at, now) and self._is_fresh(known_at, now):
            return snapshot.policies
        self.read_at = now
        try:
            text = self._client.get_parameter(Name=self._parameter)["Parameter"]["Value"]
            self.check(text)
        except PoliciesError as error:
            problem = str(error)
        except (ClientError, BotoCoreError) as error:
            code = error_code(error)
            if code == NOT_THERE:
                remedy = "store the document in it"
            elif is_refusal(error):
                remedy = "the function needs ssm:GetParameter"
            else:
                remedy = "it is tried again in the next sweeps"
            problem = f"parameter {self._parameter} cannot be read ({code}); {remedy}"
        except MALFORMED_ERRORS:
            problem = f"parameter {self._parameter} cannot be read ({MALFORMED})"
        else:
            return KnownPolicies(text)
        return KnownPolicies(snapshot.policies.text, problem)

    def check(self, text: str) -> Document:
        """Return the policies of a document that is to be applied; raise PoliciesError."""
        return read_document(text, tag_keys=self._tag_keys, user_id_mode=self._user_id_mode)

    def in_force(self, snapshot: Snapshot) -> Document:
        """Return the policies that the table says are in force; none if somebody broke them by hand."""
        text = snapshot.policies.text
        if not text or self._client is None:
            return NO_DOCUMENT
        if self._parsed[0] != text:
            try:
                # Settings may have changed since it was good: what they leave out matches nothing.
                self._parsed = (text, read_document(text))
            except PoliciesError:
                self._parsed = (text, NO_DOCUMENT)
        return self._parsed[1]

    def _is_fresh(self, read_at: datetime | None, now: datetime) -> bool:
        return read_at is not None and timedelta() <= now - read_at < self._keep_for
