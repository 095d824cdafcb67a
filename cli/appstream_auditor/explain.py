"""`explain`: the life of one session, from its first event to its last, and what will come next."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, tzinfo

from rich.text import Text

from appstream_auditor.answers import (
    ComingRow,
    EventRow,
    ExplainAnswer,
    Named,
    life_row,
    session_row,
)
from appstream_auditor.deployment import Deployment
from appstream_auditor.errors import Exit, QuestionError
from appstream_auditor.printing import harmless
from session_auditor.model import Life, Snapshot
from session_auditor.stories import Told, Tone, hours, moment, state_of, story, told_of, violations_of
from session_auditor.timeline import entries_of

STYLES = {Tone.TOLD: "", Tone.REMARK: "dim", Tone.COMING: "yellow"}
WORKERS = 8
DAY = timedelta(days=1)


def explained(
    targets: Sequence[Deployment], session_id: str, now: datetime, progress: Callable[[str], None]
) -> tuple[Named, Told]:
    """Return the life of a session and its target; raise QuestionError.

    It is named by its id or by the beginning of it.
    """
    known = known_live(targets, session_id)
    if known:
        target, snapshot, found = known
        return target.named, told_of(snapshot, found, now, target.options)
    ended = _ended(targets, session_id, now, progress)
    if ended is None:
        raise QuestionError(
            f"no session {session_id} is live, or ended within {targets[0].settings.history_days} days; "
            "`appstream-auditor sessions` and `history` list ids",
            Exit.FAULT,
        )
    return ended[0], Told(ended[1])


def known_live(targets: Sequence[Deployment], session_id: str) -> tuple[Deployment, Snapshot, str] | None:
    """Return the target that has a live session with this id or beginning, its snapshot, and the whole id.

    Return None if no table knows one. Raise QuestionError if several begin so, or if it looks like a user.
    """

    def live_in(target: Deployment) -> list[tuple[Deployment, Snapshot, str]]:
        snapshot = target.reader.snapshot(target.reader.target_alone())
        return [(target, snapshot, each) for each in snapshot.sessions if each.startswith(session_id)]

    with ThreadPoolExecutor(WORKERS) as pool:
        known = [each for some in pool.map(live_in, targets) for each in some]
    known = [each for each in known if each[2] == session_id] or known
    if len(known) > 1:
        raise _ambiguous([each for _, _, each in known], session_id)
    if not known and "@" in session_id:
        raise QuestionError(
            f"{session_id} looks like a user: `appstream-auditor sessions --user {session_id}` and `history "
            "--user` list the sessions, and this command takes one by its id",
            Exit.USAGE,
        )
    return known[0] if known else None


def _ambiguous(known: Iterable[str], session_id: str) -> QuestionError:
    ids = sorted(set(known))
    if len(ids) == 1:
        return QuestionError(f"{harmless(ids[0])} is in several targets: say --account", Exit.USAGE)
    some = ", ".join(harmless(each) for each in ids[:5]) + (", ..." if len(ids) > 5 else "")
    return QuestionError(
        f"{len(ids)} sessions begin with {session_id!r}: give more of the id ({some})", Exit.USAGE
    )


def _ended(
    targets: Sequence[Deployment], session_id: str, now: datetime, progress: Callable[[str], None]
) -> tuple[Named, Life] | None:
    """Look for a session that ended, day by day from today on; nothing but its end tells where it lies."""

    def on(day_of: tuple[datetime, Deployment]) -> list[tuple[Named, Life]]:
        day, target = day_of
        lives = target.reader.history(day)
        return [(target.named, life) for life in lives if life.session_id.startswith(session_id)]

    days = [now - number * DAY for number in range(targets[0].settings.history_days + 1)]
    at_once = max(1, WORKERS // len(targets))
    for start in range(0, len(days), at_once):
        some = days[start : start + at_once]
        with ThreadPoolExecutor(WORKERS) as pool:
            asked = pool.map(on, [(day, target) for day in some for target in targets])
            found = [each for ended in asked for each in ended]
        found = [each for each in found if each[1].session_id == session_id] or found
        if len({(named, life.session_id) for named, life in found}) > 1:
            raise _ambiguous([life.session_id for _, life in found], session_id)
        if found:
            # An id that came back has several lives; the last is meant.
            return max(found, key=lambda each: each[1].end or now)
        progress(f"looked back to {some[-1]:%Y-%m-%d}")
    return None


def answer_of(target: Named, told: Told, now: datetime) -> ExplainAnswer:
    """Return a life as JSON has it."""
    life = told.life
    return ExplainAnswer(
        as_of=now,
        session=life_row(target, life),
        live=session_row(target, told.row, now) if told.row else None,
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
    life = told.life
    yield from head(told, now, zone)
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


def head(told: Told, now: datetime, zone: tzinfo | None) -> Iterator[Text]:
    """Show whose session it is, and how it is now or how it ended."""
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
