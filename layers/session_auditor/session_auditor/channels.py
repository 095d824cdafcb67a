"""How a message reads in each channel: Slack's blocks, Teams' card, a mail, Amazon Q's notification.

Each is a pure function of the message. Words of unknown origin (stacks, fleets, users) stand only where the
channel prints text as it is; where a channel knows nothing but Markdown, its marks are escaped.
"""

import re
from typing import Any

from session_auditor.notices import Message, Tone

# A section of Slack's takes 3,000 characters, a context element as many (Block Kit reference).
SLACK_TEXT_LIMIT = 3_000
# SNS takes a subject of 100 ASCII characters without line breaks (Publish, API reference).
SUBJECT_LIMIT = 100
# What Markdown renders inside a line; links and mentions are harmless since the auditor worded the line.
_MARKDOWN = re.compile(r"([\\`*_~])")
_SLACK_COLOURS = {Tone.GOOD: "good", Tone.WARNING: "warning", Tone.DANGER: "danger"}
_TEAMS_STYLES = {Tone.GOOD: "good", Tone.WARNING: "warning", Tone.DANGER: "attention"}


def slack(message: Message) -> dict[str, Any]:
    """Return the body for an incoming webhook of Slack's: Block Kit, all of it plain text."""
    heading = {"type": "section", "text": _plain(message.heading)}
    section = {"type": "section", "block_id": message.id, "text": _plain("\n".join(message.lines))}
    context = {"type": "context", "elements": [_plain(message.remark)]}
    return {
        # What a notification shows; Slack would read links and mentions in it.
        "text": message.heading.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
        "blocks": [heading],
        "attachments": [{"color": _SLACK_COLOURS[message.tone], "blocks": [section, context]}],
    }


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "emoji": False, "text": text[:SLACK_TEXT_LIMIT]}


def teams(message: Message) -> dict[str, Any]:
    """Return the body for a Workflows webhook of Microsoft Teams': an Adaptive Card.

    A TextRun prints its text as it is; a TextBlock would render Markdown.
    """
    heading = {"type": "TextRun", "text": message.heading, "weight": "Bolder"}
    remark = {"type": "TextRun", "text": message.remark, "isSubtle": True, "size": "Small"}
    lines = [_run({"type": "TextRun", "text": line}) for line in message.lines]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.5",
        # What a notification and a client without cards show.
        "fallbackText": message.heading,
        "msteams": {"width": "Full"},
        "body": [
            {
                "type": "Container",
                "style": _TEAMS_STYLES[message.tone],
                "bleed": True,
                "items": [_run(heading)],
            },
            *lines,
            _run(remark),
        ],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}


def _run(run: dict[str, Any]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [run]}


def mail(message: Message) -> tuple[str, str]:
    """Return the subject and the text of a mail."""
    printable = message.heading.encode("ascii", errors="replace").decode()
    subject = printable if len(printable) <= SUBJECT_LIMIT else f"{printable[: SUBJECT_LIMIT - 3]}..."
    ids = f"Id {message.id}" + (f" and {len(message.notices) - 1:,} more" if message.notices[1:] else "")
    return subject, "\n".join([message.heading, "", *message.lines, "", message.remark, f"{ids}."])


def amazon_q(message: Message) -> dict[str, Any]:
    """Return the custom notification of Amazon Q Developer in chat applications, schema version 1.0."""
    first = message.notices[0]
    place = first.place
    thread = [place.account_id, place.region, *([first.session_id] if first.session_id else place[2:])]
    lines = "\n".join(_escaped(line) for line in message.lines)
    return {
        "version": "1.0",
        "source": "custom",
        "id": message.id,
        "content": {
            "textType": "client-markdown",
            "title": _escaped(message.heading),
            "description": lines,
            "nextSteps": [_escaped(message.remark)],
            "keywords": sorted({each.place.fleet or each.place.region for each in message.notices})[:10],
        },
        "metadata": {
            # Messages of one session are one thread; a digest is one of its own.
            "threadId": message.id if message.notices[1:] else "/".join(thread),
            "summary": _escaped(message.lines[0]),
            "eventType": message.detail_type.value,
            "relatedResources": sorted({each for notice in message.notices for each in notice.resources})[
                :20
            ],
            "additionalContext": _context(message),
        },
    }


def _context(message: Message) -> dict[str, str]:
    first = message.notices[0]
    if message.notices[1:]:
        return {"events": str(len(message.notices))}
    if first.session_id:
        return {"began": first.began, "deadline": first.deadline, "cause": first.cause}
    return {"stack": first.place.stack, "fleet": first.place.fleet, "since": first.since}


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)
