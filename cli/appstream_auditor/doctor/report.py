"""How findings read in a terminal: one line each where there is room, else wrapped below its words."""

from collections.abc import Sequence
from textwrap import wrap

from rich.text import Text

from appstream_auditor.doctor.findings import FindingRow, Level
from appstream_auditor.printing import counted, harmless

_LEVELS = {
    Level.OK: ("ok       ", "green"),
    Level.NOTE: ("note     ", "cyan"),
    Level.FAULT: ("FAULT    ", "bold red"),
    Level.UNKNOWN: ("unknown  ", "yellow"),
}


def report(rows: Sequence[FindingRow], width: int, *, regions: bool) -> list[Text]:
    """Return a report, whose last line sums it up; `regions` names the region in each line."""
    names = [_name(row, regions=regions) for row in rows]
    widest = max(map(len, names), default=0) + 2
    indent = " " * (9 + widest)
    lines = []
    for row, name in zip(rows, names, strict=True):
        body = _body(row, max(width - len(indent), 20))
        lines.append(Text.assemble(_LEVELS[row.level], name.ljust(widest), f"\n{indent}".join(body)))
    number = {level: sum(row.level is level for row in rows) for level in Level}
    faults, notes = counted(number[Level.FAULT], "fault"), counted(number[Level.NOTE], "note")
    return [*lines, Text(f"{faults}, {number[Level.UNKNOWN]} unknown, {notes}, {number[Level.OK]} ok")]


def _name(row: FindingRow, *, regions: bool) -> str:
    words = [row.region if regions else "", row.channel, row.check.replace("_", " ")]
    return " ".join(word for word in words if word).lower()


def _body(row: FindingRow, width: int) -> list[str]:
    sentence, remedy = harmless(row.sentence), harmless(row.remedy)
    line = f"{sentence} -> {remedy}" if remedy else sentence
    if len(line) <= width:
        return [line]
    todo = wrap(f"-> {remedy}", width, subsequent_indent="   ", break_on_hyphens=False) if remedy else []
    return [*wrap(sentence, width, break_on_hyphens=False), *todo]
