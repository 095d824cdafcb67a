"""Audits the streaming sessions of Amazon AppStream 2.0 (WorkSpaces Applications)."""
