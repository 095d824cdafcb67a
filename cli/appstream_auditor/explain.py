"""`explain`: the life of one session, from its first event to its last, and what will come next."""

from collections.abc import Callable, Iterable, Iterator
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
from appstream_auditor.printing import harmless
from session_auditor.model import Life, TargetId
from session_auditor.stories import Told, Tone, hours, moment, state_of, story, told_of, violations_of
from session_auditor.timeline import entries_of

STYLES = {Tone.TOLD: "", Tone.REMARK: "dim", Tone.COMING: "yellow"}
WORKERS = 8
DAY = timedelta(days=1)


def explained(
    deployment: Deployment, session_id: str, now: datetime, progress: Callable[[str], None]
) -> Told:
    """Return the life of a session, named by its id or by the beginning of it; raise QuestionError."""
    reader = deployment.reader
    snapshot = reader.snapshot(reader.target_alone())
    known = [each for each in snapshot.sessions if each.startswith(session_id)]
    known = [session_id] if session_id in known else known
    if len(known) > 1:
        raise _ambiguous(known, session_id)
    if known:
        return told_of(snapshot, known[0], now, deployment.options)
    if "@" in session_id:
        raise QuestionError(
            f"{session_id} looks like a user: `appstream-auditor sessions --user {session_id}` and `history "
            "--user` list the sessions, and explain takes one by its id",
            Exit.USAGE,
        )
    ended = _ended(deployment, session_id, now, progress)
    if ended is None:
        raise QuestionError(
            f"no session {session_id} is live, or ended within {deployment.settings.history_days} days; "
            "`appstream-auditor sessions` and `history` list ids",
            Exit.FAULT,
        )
    return Told(ended)


def _ambiguous(known: Iterable[str], session_id: str) -> QuestionError:
    ids = sorted(set(known))
    some = ", ".join(harmless(each) for each in ids[:5]) + (", ..." if len(ids) > 5 else "")
    return QuestionError(
        f"{len(ids)} sessions begin with {session_id!r}: give more of the id ({some})", Exit.USAGE
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
            raise _ambiguous([life.session_id for life in found], session_id)
        if found:
            # An id that came back has several lives; the last is meant.
            return max(found, key=lambda life: life.end or now)
        progress(f"looked back to {days[min(start + WORKERS, len(days)) - 1]:%Y-%m-%d}")
    return None


def answer_of(target_id: TargetId, told: Told, now: datetime) -> ExplainAnswer:
    """Return a life as JSON has it."""
    life = told.life
    return ExplainAnswer(
        as_of=now,
        session=life_row(target_id, life),
        live=session_row(target_id, told.row, now) if told.row else None,
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
                policy=each.policy,
            )
            for each in entries_of(life.timeline, life.first_seen)
        ),
        coming=tuple(
            ComingRow(
                detail_type=each.detail_type, at=each.at, threshold_minutes=each.threshold, cause=each.cause
            )
            for each in told.coming
        ),
    )


def shown(told: Told, now: datetime, zone: tzinfo | None) -> Iterator[Text]:
    """Show a life in lines."""
    life, row, _ = told
    user = f"“{harmless(life.user_id)}”" if life.user_id else "a user that is not known"
    yield Text(f"{user} on stack {harmless(life.scope.stack)}, fleet {harmless(life.scope.fleet)}", "bold")
    details = [
        life.session_id,
        life.authentication_type,
        life.instance_id,
        row.session.eni_private_ip_address if row else "",
        life.fleet_type.lower().replace("_", "-"),
    ]
    yield Text(f"session {harmless(', '.join(each for each in details if each))}")
    yield Text(state_of(told, now, zone))
    for sentence in violations_of(told, now, zone):
        yield Text(harmless(sentence), "red")
    disconnects = "1 disconnect" if life.disconnects == 1 else f"{life.disconnects} disconnects"
    connected, nobody = (hours(each) or "0h 00m" for each in (life.connected_seconds, life.alone_seconds))
    yield Text(f"connected {connected}, nobody {nobody}, {disconnects}")
    yield Text()
    before = Tone.TOLD
    for line in story(told, now, zone):
        if line.tone is Tone.COMING and before is not Tone.COMING:
            yield Text()
            yield Text("Next, if nothing happens:", "bold")
        before = line.tone
        words = f"{moment(line.at, zone, now):>5}  {line.what:<12}  {line.words}"
        yield Text(words.rstrip(), STYLES[line.tone])
