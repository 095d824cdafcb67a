"""Laws of the comparison, for histories nobody thought of."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from session_auditor.comparison import compare
from session_auditor.model import Facts, Failure, Fleet, Listing, Scope, Session
from tests.shared.history import History, at, session, told

SCOPES = (Scope("office", "cad"), Scope("office", "gis"), Scope("lab", "cad"))

sessions = st.builds(
    session,
    connection=st.sampled_from(["CONNECTED", "NOT_CONNECTED", "", "SLEEPING"]),
    session_id=st.sampled_from([f"s-{number}" for number in range(6)]),
    scope=st.sampled_from(SCOPES),
    state=st.sampled_from(["ACTIVE", "ACTIVE", "PENDING", "EXPIRED", ""]),
    start_time=st.sampled_from([None, at(-30), at(0), at(2)]),
    max_expiration_time=st.sampled_from([None, at(20), at(90), at(900)]),
)
observations = st.lists(
    st.tuples(
        st.integers(1, 40),
        st.lists(sessions, unique_by=lambda each: each.id, max_size=6),
        st.sets(st.sampled_from(SCOPES)),
    ),
    max_size=8,
)


def play(history: History, steps: list[tuple[int, list[Session], set[Scope]]]) -> list[dict[str, Any]]:
    minute = 0
    events = history.observe(0, scopes=frozenset(SCOPES))
    for pause, seen, failed in steps:
        minute += pause
        failures = dict.fromkeys(failed, "ThrottlingException")
        events += history.observe(minute, *seen, failed=failures, scopes=frozenset(SCOPES))
    return events


@given(observations)
def test_comparing_a_snapshot_with_itself_changes_nothing(steps: list[Any]) -> None:
    history = History()
    play(history, steps)
    now = history.target.last_end
    assert now
    remembered = {each: stored.remembered.session for each, stored in history.snapshot.sessions.items()}
    # What was missed in the last sweep is seen again by definition; that is a change of its own.
    history.observe((now - at(0)).total_seconds() / 60, *remembered.values(), scopes=frozenset(SCOPES))
    again = Listing(now, now, remembered, frozenset(SCOPES), facts=Facts({"cad": Fleet(3600)}))
    comparison = compare(history.snapshot, again, history.options)
    assert comparison.transitions == ()
    assert comparison.forgotten == frozenset()


@given(observations, st.lists(sessions, unique_by=lambda each: each.id, max_size=6))
def test_applying_two_whole_listings_gives_the_listing(steps: list[Any], last: list[Session]) -> None:
    history = History()
    play(history, steps)
    for minute in (1000, 1001):
        history.observe(minute, *last, scopes=frozenset(SCOPES))
    remembered = {each: stored.remembered.session for each, stored in history.snapshot.sessions.items()}
    assert remembered == {each.id: each for each in last if each.state != "EXPIRED"}


@given(observations, st.randoms(use_true_random=False))
def test_the_order_of_pages_and_scopes_is_irrelevant(steps: list[Any], random: Any) -> None:
    shuffled = [(pause, random.sample(seen, len(seen)), failed) for pause, seen, failed in steps]
    one, other = History(), History()
    assert play(one, steps) == play(other, shuffled)
    assert one.snapshot == other.snapshot


@given(observations)
@settings(max_examples=200)
def test_the_events_of_a_session_rebuild_its_state(steps: list[Any]) -> None:
    history = History()
    rebuilt: dict[str, dict[str, Any]] = {}
    sequences: dict[str, int] = {}
    for event in play(history, steps):
        if event["type"].startswith("Audit"):
            continue
        data, metadata = event["data"], event["metadata"]
        session_id = data["session"]["id"]
        assert metadata["sequence"] == sequences.get(session_id, 0) + 1
        sequences[session_id] = metadata["sequence"]
        rebuilt[session_id] = data
        if event["type"] == "Session Ended":
            del rebuilt[session_id], sequences[session_id]
        elif event["type"] == "Session Disconnected":
            assert data["previous"]["connectionState"] == "CONNECTED"
            assert data["session"]["connectionState"] == "NOT_CONNECTED"
        elif event["type"] in ("Session Connected", "Session Reconnected"):
            assert data["previous"]["connectionState"] == "NOT_CONNECTED"
            assert data["session"]["connectionState"] == "CONNECTED"
    # A baseline session is remembered without a word until something happens to it.
    assert rebuilt.keys() == {
        each for each, stored in history.snapshot.sessions.items() if stored.remembered.sequence
    }
    for session_id, data in rebuilt.items():
        remembered = history.snapshot.sessions[session_id].remembered
        assert data["usage"]["disconnects"] == remembered.disconnects
        assert sequences[session_id] == remembered.sequence


@given(observations, st.sampled_from(SCOPES))
def test_a_scope_that_is_not_covered_ends_nobody(steps: list[Any], scope: Scope) -> None:
    history = History()
    play(history, steps)
    before = history.snapshot
    listing = Listing(at(2000), at(2000), {}, frozenset(SCOPES), failed={scope: Failure("DEADLINE")})
    touched = {each.after.session.scope for each in compare(before, listing, history.options).transitions}
    assert scope not in touched


@given(observations, sessions)
def test_thresholds_fire_once(steps: list[Any], seen: Session) -> None:
    history = History()
    play(history, steps)
    history.observe(3000, replace(seen, state="ACTIVE"), scopes=frozenset(SCOPES))
    again = history.observe(3000, replace(seen, state="ACTIVE"), scopes=frozenset(SCOPES))
    assert [line for line in told(again) if "Expiring" in line or "Abandoned" in line] == []
