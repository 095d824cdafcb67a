"""`explain`: the life of one session, from its first event to its last, and what will come next."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, tzinfo

from rich.text import Text

from appstream_auditor.answers import (
    ComingRow,
    EventRow,
    ExplainAnswer,
    life_row,
    session_row,
)
from appstream_auditor.deployment import Deployment
from appstream_auditor.errors import Exit, QuestionError
from appstream_auditor.history import END_REASONS
from appstream_auditor.printing import duration, harmless, moment
from appstream_auditor.sessions import CAUSES, WORDS
from session_auditor.model import Cause, DetailType, Life, Snapshot
from session_auditor.timeline import entries_of, life_of
from session_auditor.views import coming, live

WORKERS = 8
DAY = timedelta(days=1)


def explained(
    deployment: Deployment, session_id: str, clock: Callable[[], datetime], progress: Callable[[str], None]
) -> ExplainAnswer:
    """Return the life of a session, named by its id or by the beginning of it; raise QuestionError."""
    reader = deployment.reader
    snapshot = reader.snapshot(reader.target_alone())
    now = clock()
    known = [each for each in snapshot.sessions if each.startswith(session_id)]
    known = [session_id] if session_id in known else known
    if len(known) > 1:
        raise QuestionError(
            f"{len(known)} live sessions begin with {session_id}: give more of the id", Exit.USAGE
        )
    if known:
        return _live(deployment, snapshot, known[0], now)
    ended = _ended(deployment, session_id, now, progress)
    if ended is None:
        raise QuestionError(
            f"no session {session_id} is live, or ended within {deployment.settings.history_days} days; "
            "`appstream-auditor sessions` and `history` list ids",
            Exit.FAULT,
        )
    return _answer(deployment, ended, now)


def _live(deployment: Deployment, snapshot: Snapshot, session_id: str, now: datetime) -> ExplainAnswer:
    remembered = snapshot.sessions[session_id].remembered
    if remembered.ending:
        # Its end is committed, and its events wait to be published.
        return _answer(deployment, life_of(remembered, remembered.ending.before), now)
    row = next(each for each in live(snapshot, now, deployment.policy.hole) if each.session.id == session_id)
    answer = _answer(deployment, life_of(remembered, row.seen or now), now)
    return answer.model_copy(
        update={
            "live": session_row(deployment.target_id, row, now),
            "coming": tuple(
                ComingRow(
                    detail_type=each.detail_type,
                    at=each.at,
                    threshold_minutes=each.threshold,
                    cause=each.cause,
                )
                for each in coming(snapshot, session_id, now, deployment.policy)
            ),
        }
    )


def _ended(
    deployment: Deployment, session_id: str, now: datetime, progress: Callable[[str], None]
) -> Life | None:
    """Look for a session that ended, day by day from today on; nothing but its end tells where it lies."""
    reader = deployment.reader

    def on(day: datetime) -> list[Life]:
        return [life for life in reader.history(day) if life.session_id.startswith(session_id)]

    days = [now - number * DAY for number in range(deployment.settings.history_days + 1)]
    for start in range(0, len(days), WORKERS):
        with ThreadPoolExecutor(WORKERS) as pool:
            found = [life for ended in pool.map(on, days[start : start + WORKERS]) for life in ended]
        found = [life for life in found if life.session_id == session_id] or found
        if len({life.session_id for life in found}) > 1:
            raise QuestionError(
                f"{len(found)} sessions begin with {session_id}: give more of the id", Exit.USAGE
            )
        if found:
            # An id that came back has several lives; the last is meant.
            return max(found, key=lambda life: life.end or now)
        progress(f"looked back to {days[min(start + WORKERS, len(days)) - 1]:%Y-%m-%d}")
    return None


def _answer(deployment: Deployment, life: Life, now: datetime) -> ExplainAnswer:
    return ExplainAnswer(
        as_of=now,
        session=life_row(deployment.target_id, life),
        live=None,
        first_seen_at=life.first_seen,
        ended_after=life.ended_after,
        events=life.events,
        timeline=tuple(
            EventRow(
                sequence=each.sequence,
                detail_type=each.detail_type,
                at=each.at,
                since=each.since,
                threshold_minutes=each.threshold,
                cause=each.cause,
            )
            for each in entries_of(life.timeline, life.first_seen)
        ),
        coming=(),
    )


def told(answer: ExplainAnswer, zone: tzinfo | None) -> Iterator[Text]:
    """Tell a life in lines."""
    session, now = answer.session, answer.as_of
    user = f"“{harmless(session.user_id)}”" if session.user_id else "a user that is not known"
    yield Text(
        f"{user} on stack {harmless(session.stack_name)}, fleet {harmless(session.fleet_name)}", "bold"
    )
    yield Text(f"session {harmless(session.session_id)}{_details(answer)}")
    yield Text(_state(answer, zone))
    alone = session.disconnected_seconds + session.never_connected_seconds
    disconnects = "1 disconnect" if session.disconnects == 1 else f"{session.disconnects} disconnects"
    used = f"connected {_span(session.connected_seconds)}, nobody {_span(alone)}"
    yield Text(f"{used}, {disconnects}")
    yield Text()
    yield from _events(answer, zone)
    if answer.coming:
        yield Text()
        yield Text("Next, if nothing happens:", "bold")
        for each in answer.coming:
            words = _threshold(each.detail_type, each.threshold_minutes, each.cause) or CAUSES[each.cause]
            yield _line(moment(each.at, zone, now), each.detail_type, words, "yellow")


def _events(answer: ExplainAnswer, zone: tzinfo | None) -> Iterator[Text]:
    """Tell what was told of it, and of how many events that is not kept."""
    if not answer.timeline and answer.live is None:
        yield Text("what was told of it was not kept: it ended under an earlier release", "dim")
        return
    first = answer.timeline[0] if answer.timeline else None
    silent = (
        first.sequence == 1 and first.detail_type is not DetailType.STARTED if first else not answer.events
    )
    if silent:
        at = moment(answer.first_seen_at, zone, answer.as_of)
        yield _line(at, "", "first seen; it was there before the audit", "dim")
    number = 0
    for event in answer.timeline:
        if event.sequence > number + 1:
            yield _not_kept(event.sequence - number - 1)
        number = event.sequence
        yield _line(moment(event.at, zone, answer.as_of), event.detail_type, _about(event, answer, zone), "")
    if answer.events > number:
        yield _not_kept(answer.events - number)


def _not_kept(number: int) -> Text:
    return _line(
        "", "", "1 event that is not kept" if number == 1 else f"{number} events that are not kept", "dim"
    )


def _details(answer: ExplainAnswer) -> str:
    session, row = answer.session, answer.live
    words = [
        session.authentication_type,
        session.instance_id,
        row.eni_private_ip_address if row else "",
        session.fleet_type.lower().replace("_", "-"),
    ]
    return "".join(f", {harmless(each)}" for each in words if each)


def _state(answer: ExplainAnswer, zone: tzinfo | None) -> str:
    now, row = answer.as_of, answer.live
    if row is None:
        between = f"between {moment(answer.ended_after, zone, now)} and " if answer.ended_after else "by "
        reason = END_REASONS[answer.session.end_reason]
        return f"ended {between}{moment(answer.session.ended_at, zone, now)} ({reason})"
    words = f"{WORDS[row.presence]} since {moment(row.since, zone, now)}"
    if not row.watched:
        return (
            f"{words}, when it was last listed"
            if row.seen_at is None
            else (f"{words}; not listed since {moment(row.seen_at, zone, now)}, so it may have changed")
        )
    if row.ends_at is None:
        return words
    left = duration(row.ends_at - now)
    return f"{words}; ends at {moment(row.ends_at, zone, now)}, in {left} ({CAUSES[row.cause]})"


def _about(event: EventRow, answer: ExplainAnswer, zone: tzinfo | None) -> str:
    now = answer.as_of
    words = _threshold(event.detail_type, event.threshold_minutes, event.cause)
    if words:
        return words
    if event.detail_type is DetailType.ENDED:
        return END_REASONS[answer.session.end_reason]
    return f"after {moment(event.since, zone, now)}" if event.since else ""


def _threshold(detail_type: DetailType, minutes: int, cause: Cause) -> str:
    if detail_type is DetailType.EXPIRING:
        return f"{minutes} min before its end ({CAUSES[cause]})"
    return f"nobody connected for {minutes} min" if detail_type is DetailType.ABANDONED else ""


def _line(at: str, detail_type: str, words: str, style: str) -> Text:
    return Text(f"{at:>5}  {detail_type.removeprefix('AppStream Session '):<12}  {words}".rstrip(), style)


def _span(seconds: int) -> str:
    return duration(timedelta(seconds=seconds))
