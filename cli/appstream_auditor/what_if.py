"""`what-if`: what another disconnect timeout would have meant, by the sessions that are over.

AWS ends a session that stays disconnected for its fleet's timeout; this says how to set that. It changes
nothing.
"""

from collections.abc import Iterator, Sequence

import click

from appstream_auditor.answers import AdviceRow, Named, WhatIfAnswer, WhatIfRow
from appstream_auditor.deployment import Deployment
from appstream_auditor.errors import Exit
from appstream_auditor.history import Asked, past_of
from appstream_auditor.parameters import Moment, globs, moment_of
from appstream_auditor.printing import (
    Column,
    Output,
    counted,
    harmless,
    print_csv,
    print_json,
    table,
    to_errors,
    to_terminal,
)
from appstream_auditor.questions import Question, asks, now, of_targets, patience
from appstream_auditor.targets import Place, place_cells, place_columns
from appstream_auditor.timeouts import Judgement, Verdict, advised, judged, minutes
from session_auditor.model import Facts, Life
from session_auditor.stories import hours

# What AppStream takes as DisconnectTimeoutInSeconds is 60 to 36,000 (its API reference, CreateFleet).
LONGEST = 600
_VERDICTS = {
    Verdict.JUDGED: "",
    Verdict.AS_NOW: "as now",
    Verdict.LONGER_THAN_NOW: "not known: longer than now",
    Verdict.NOW_NOT_KNOWN: "not known",
    Verdict.NO_SESSION: "not known: no session",
    Verdict.WAS_SHORTER: "not known: longer than it was",
}
_BOUNDS = (
    "SAVED is at least, LOST at most: a sweep sees who leaves or returns up to an interval late.",
    "Hours are those of sessions, not of instances.",
)


class Timeouts(click.ParamType[tuple[int, ...]]):
    """Timeouts in minutes, with commas between."""

    name = "minutes"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the timeouts in seconds; fail with what they look like."""
        if isinstance(value, tuple):
            return value
        words = [each.strip() for each in value.split(",")]
        if not all(each.isascii() and each.isdigit() and 1 <= int(each[:9]) <= LONGEST for each in words):
            self.fail(f"{value} is none; such are 5,15,30: whole minutes from 1 to {LONGEST}", param, ctx)
        return tuple(int(each) * 60 for each in words)


@click.command("what-if")
@click.option(
    "--disconnect-timeout",
    "timeouts",
    type=Timeouts(),
    required=True,
    help="Timeouts to judge, in minutes, such as 5,15,30.",
)
@click.option("--fleet", "fleets", multiple=True, help="Fleet, or a glob; ! before one excludes.")
@click.option("--since", type=Moment(), default="30d", show_default=True, help="Begin of the time asked for.")
@click.option("--until", type=Moment(), help="Its end; now without it.")
@of_targets
@asks
def what_if(
    question: Question, *, timeouts: tuple[int, ...], fleets: tuple[str, ...], since: str, until: str | None
) -> Exit:
    """Say what another disconnect timeout would have saved, and lost.

    By the sessions that ended in the time asked for, fleet by fleet: the hours for which nobody would have
    been waited for any longer, and the users who came back later than the timeout and would have found their
    session gone. A timeout longer than the present one cannot be judged: sessions were ended before it.

    \b
    Examples, of all fleets in the last 30 days, and of one in March
      appstream-auditor what-if --disconnect-timeout 5,15,30,60
      appstream-auditor what-if --disconnect-timeout 10 --fleet cad \\
        --since 2026-03-01 --until 2026-04-01
    """
    asked_at = now()
    begin = moment_of(since, asked_at, question.zone)
    end = moment_of(until, asked_at, question.zone) if until else asked_at
    if begin >= end:
        raise click.BadParameter("it has to be before --until", param_hint="--since")
    asked = Asked(begin, end, fleets=globs(fleets))

    def ask(deployment: Deployment) -> list[tuple[Named, str, Judgement]]:
        found, _, facts = past_of(deployment, asked, asked_at, progress)
        over = [life for life in found if life.end and life.end < end]
        return [(deployment.named, *each) for each in judged_fleets(deployment, over, facts, timeouts)]

    with patience("Reading the history ...") as progress:
        targets = question.targets()
        answers, failures = targets.each(ask)
    found = [each for some in answers for each in some]
    rows = [row for each in found for row in timeout_rows(*each)]
    advice = [advice_row(*each) for each in found]
    notes = notes_of([judgement for _, _, judgement in found])
    match question.output:
        case Output.JSON:
            answer = WhatIfAnswer(
                since=begin,
                until=end,
                timeouts=tuple(rows),
                advice=tuple(advice),
                notes=notes,
                failures=tuple(failures),
            )
            print_json(answer)
        case Output.CSV:
            print_csv(rows, WhatIfRow)
            for note in notes:
                to_errors().print(f"Note: {note}")
        case Output.TABLE:
            console = to_terminal()
            console.print(table(columns(rows, targets.place), console.width))
            for line in advice_lines(advice, targets.place):
                console.print(line)
            for note in notes:
                console.print(note, style="dim")
    return Exit.OUT_OF_REACH if failures else Exit.OK


def judged_fleets(
    deployment: Deployment, over: Sequence[Life], facts: Facts, timeouts: Sequence[int]
) -> Iterator[tuple[str, Judgement]]:
    """Yield for each fleet what the timeouts would have meant."""
    for fleet in sorted({life.scope.fleet for life in over}):
        lives = [life for life in over if life.scope.fleet == fleet]
        timeout = facts.fleet(fleet).disconnect_timeout
        yield fleet, judged(lives, timeouts, timeout, deployment.options.hole)


def timeout_rows(target: Named, fleet: str, found: Judgement) -> Iterator[WhatIfRow]:
    """Yield a row for each timeout of a fleet."""
    for each in found.outcomes:
        yield WhatIfRow(
            account_id=target.id.account_id,
            region=target.id.region,
            account_name=target.account_name,
            fleet_name=fleet,
            present_timeout_seconds=found.now,
            timeout_seconds=each.timeout,
            verdict=each.verdict,
            saved_seconds=each.saved,
            lost_returns=each.lost,
            returns=found.returns,
            sessions=found.sessions,
            left_out=found.left_out,
        )


def advice_row(target: Named, fleet: str, found: Judgement) -> AdviceRow:
    """Return what follows for a fleet."""
    advice = advised(found)
    return AdviceRow(
        account_id=target.id.account_id,
        region=target.id.region,
        account_name=target.account_name,
        fleet_name=fleet,
        timeout_seconds=advice.timeout,
        sentence=advice.sentence,
    )


def columns(rows: Sequence[WhatIfRow], place: Place) -> list[Column]:
    """Return the columns of timeouts."""
    known = [row.present_timeout_seconds for row in rows]
    saved = [
        hours(row.saved_seconds or 0) or "none" if row.verdict is Verdict.JUDGED else _VERDICTS[row.verdict]
        for row in rows
    ]
    lost = ["" if row.lost_returns is None else str(row.lost_returns) for row in rows]
    found = [
        Column("FLEET", [row.fleet_name for row in rows], rank=0, elastic=True),
        Column("NOW", ["" if each is None else minutes(each) for each in known], rank=2, right=True),
        Column("TIMEOUT", [minutes(row.timeout_seconds) for row in rows], rank=0, right=True),
        Column("SAVED", saved, rank=0, right=True),
        Column("LOST", lost, rank=0, right=True),
        Column("RETURNS", [str(row.returns) for row in rows], rank=1, right=True),
        Column("SESSIONS", [str(row.sessions) for row in rows], rank=3, right=True),
    ]
    return [*place_columns(rows, place), *found]


def notes_of(found: Sequence[Judgement]) -> tuple[str, ...]:
    """Return what has to be said beside the figures of fleets."""
    left_out = sum(each.left_out for each in found)
    if not left_out:
        return _BOUNDS
    total = left_out + sum(each.sessions for each in found)
    words = (
        f"{left_out} of {counted(total, 'session')} left out, because not all is known that happened: nobody "
        "looked for a time, the beginning was not seen, or more happened than is kept."
    )
    return (words, *_BOUNDS)


def advice_lines(rows: Sequence[AdviceRow], place: Place) -> Iterator[str]:
    """Yield a line of advice for each fleet."""
    cells = place_cells(rows, place) if place is not Place.NOTHING else [""] * len(rows)
    for cell, row in zip(cells, rows, strict=True):
        yield harmless(f"{f'{cell} ' if cell else ''}{row.fleet_name}: {row.sentence}")
