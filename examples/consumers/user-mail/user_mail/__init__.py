"""Mails users before their sessions end."""
