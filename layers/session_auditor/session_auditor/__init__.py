"""Audits the streaming sessions of Amazon AppStream 2.0 (WorkSpaces Applications)."""

# Stands in every client's user agent, in the log and in the auditor's answer.
__version__ = "0.2.0"
USER_AGENT = f"appstream-session-auditor/{__version__}"
