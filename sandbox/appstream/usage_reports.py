"""Daily sessions reports as AppStream writes them, with the columns that AWS documents."""

import csv
import io
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from sandbox.appstream.models import StreamingSession

_COLUMNS = """
user_session_id aws_account_id region session_start_time session_end_time session_duration_in_seconds
user_id user_arn authentication_type authentication_type_user_id fleet_name stack_name instance_type
eni_private_ip_address connected_at_least_once client_ip_addresses google_drive_enabled one_drive_enabled
home_folders_storage_location user_settings_clipboard_copy_from_local_device
user_settings_clipboard_copy_to_local_device user_settings_file_upload user_settings_file_download
user_settings_printing_to_local_device application_settings_enabled domain_joined max_session_duration
session_type stream_view streaming_experience_settings_protocol
"""
COLUMNS = _COLUMNS.split()
# With fleets whose instances are shared came two columns more.
LATER_COLUMNS = [*COLUMNS, "instance_id", "is_multisession"]


def row(session_id: str, start: datetime, end: datetime, **others: str) -> dict[str, str]:
    """Return a row; what is not said is ann's, on one stack and fleet."""
    told = {
        "user_session_id": session_id,
        "aws_account_id": "123456789012",
        "region": "eu-west-1",
        "session_start_time": f"{start:%Y-%m-%dT%H:%M:%S.000Z}",
        "session_end_time": f"{end:%Y-%m-%dT%H:%M:%S.000Z}",
        "user_id": "ann@example.com",
        "authentication_type": "SAML",
        "fleet_name": "cad",
        "stack_name": "office",
    }
    return told | others


def row_of(session: StreamingSession, end: datetime) -> dict[str, str]:
    """Return the row of a session that ended."""
    start, kind = session.start_time or end, session.authentication_type or ""
    return row(
        session.session_id,
        start,
        end,
        session_duration_in_seconds=f"{(end - start).total_seconds():.0f}",
        user_id=session.user_id,
        authentication_type="CUSTOM" if kind == "API" else kind,
        fleet_name=session.fleet_name,
        stack_name=session.stack_name,
    )


def report(
    rows: Iterable[Mapping[str, str]],
    columns: Iterable[str] = COLUMNS,
    *,
    quoting: Literal[0, 1] = csv.QUOTE_MINIMAL,
    end: str = "\n",
) -> str:
    """Return a report as text; cells of which nothing is said hold an x."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, [*columns], restval="x", quoting=quoting, lineterminator=end, extrasaction="ignore"
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
