"""What a probe's observations say: for each question an answer, or what would answer it.

Pure: counts in, sentences out. The questions, in this order, are the chapters of docs/probe.md.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from appstream_auditor.printing import counted
from appstream_auditor.probe.observations import Observations, Stop
from session_auditor.listing import PAGE_SIZE
from session_auditor.model import AuthenticationType, SessionState

_SIGNED_IN = "probe while somebody is signed in"


class Question(StrEnum):
    """What the documentation of AppStream leaves open."""

    AUTHENTICATION_TYPES = "AUTHENTICATION_TYPES"
    UNTYPED_CALL = "UNTYPED_CALL"
    USER_ID = "USER_ID"
    EXPIRED = "EXPIRED"
    VALUES = "VALUES"
    FIELDS = "FIELDS"
    PAGES = "PAGES"
    ELASTIC = "ELASTIC"
    MULTI_SESSION = "MULTI_SESSION"
    SHARED_FLEETS = "SHARED_FLEETS"
    MAX_EXPIRATION = "MAX_EXPIRATION"
    RATE = "RATE"


class Verdict(StrEnum):
    """The answers; which of them a question can have stands in QUESTIONS."""

    OPEN = "OPEN"
    EVERY_TYPE = "EVERY_TYPE"
    SOME_TYPES = "SOME_TYPES"
    NO_TYPE = "NO_TYPE"
    NOT_TOLD_APART = "NOT_TOLD_APART"
    EVERY_SESSION = "EVERY_SESSION"
    MORE_THAN_TYPED = "MORE_THAN_TYPED"
    API_ALONE = "API_ALONE"
    SOME_LEFT_OUT = "SOME_LEFT_OUT"
    REFUSED = "REFUSED"
    TAKEN = "TAKEN"
    LISTED = "LISTED"
    NOT_ALWAYS_LISTED = "NOT_ALWAYS_LISTED"
    KNOWN_ALONE = "KNOWN_ALONE"
    OTHERS_TOO = "OTHERS_TOO"
    FULL_PAGES = "FULL_PAGES"
    SHORT_PAGES = "SHORT_PAGES"
    BEYOND_LIMIT = "BEYOND_LIMIT"
    SHARED = "SHARED"
    NOT_NAMED = "NOT_NAMED"
    ONE_STACK = "ONE_STACK"
    EVERY_STACK = "EVERY_STACK"
    EQUAL = "EQUAL"
    DIFFERENT = "DIFFERENT"
    NOT_THROTTLED = "NOT_THROTTLED"
    THROTTLED = "THROTTLED"


@dataclass(frozen=True)
class Judged:
    """An answer in a word and a sentence; `needs` is for OPEN alone, `evidence` for counts in no sentence."""

    verdict: Verdict
    sentence: str
    needs: str = ""
    evidence: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Asks:
    """A question in words, what judges it, and the verdicts that it can have beside OPEN."""

    text: str
    judge: Callable[[Observations], Judged]
    verdicts: tuple[Verdict, ...]


def findings(seen: Observations) -> dict[Question, Judged]:
    """Return what was found of each question, in their order."""
    return {question: asks.judge(seen) for question, asks in QUESTIONS.items()}


def _open(sentence: str, needs: str, evidence: Mapping[str, int] | None = None) -> Judged:
    return Judged(Verdict.OPEN, sentence, needs, evidence or {})


def _authentication_types(seen: Observations) -> Judged:
    replies = {kind: seen.replies[kind] for kind in AuthenticationType if kind in seen.replies}
    taken = [kind for kind, reply in replies.items() if reply.answered]
    refused = [kind for kind, reply in replies.items() if reply.refused and not reply.answered]
    partly = [kind for kind, reply in replies.items() if reply.refused and reply.answered]
    if several := seen.compared.of_several_types:
        return Judged(
            Verdict.NOT_TOLD_APART,
            f"Calls with different types list the same {_sessions(several)}, so a listing by type also holds "
            "sessions of other types.",
        )
    if len(taken) + len(refused) < len(AuthenticationType):
        return _open(
            f"Not every type was asked. Accepted: {_and(taken)}; refused: {_and(refused)}.",
            "probe at least one stack with a fleet, with credentials that may list its sessions",
        )
    parts = [f"accepted: {_and(taken)}"]
    if refused:
        codes = sorted({code for kind in refused for code in replies[kind].refused})
        parts.append(f"refused: {_and(refused)} ({', '.join(codes)})")
    if partly:
        parts.append(f"refused for some fleets: {_and(partly)}")
    verdict = Verdict.EVERY_TYPE if not refused else Verdict.SOME_TYPES if taken else Verdict.NO_TYPE
    sentence = "; ".join(parts)
    return Judged(verdict, f"{sentence[0].upper()}{sentence[1:]}.")


def _untyped_call(seen: Observations) -> Judged:
    compared, reply = seen.compared, seen.replies.get(None)
    others = [kind for kind in AuthenticationType if kind is not AuthenticationType.API]
    api_both = compared.both.get(AuthenticationType.API, 0)
    api_absent = compared.absent.get(AuthenticationType.API, 0)
    others_both = sum(compared.both.get(kind, 0) for kind in others)
    others_absent = sum(compared.absent.get(kind, 0) for kind in others)
    evidence = {
        "API sessions listed": api_both,
        "API sessions left out": api_absent,
        "sessions of other types listed": others_both,
        "sessions of other types left out": others_absent,
        "sessions listed without a type alone": compared.untyped_alone,
        "sessions that may have come or gone": compared.unsettled,
    }
    if reply and reply.refused and not reply.answered:
        return Judged(Verdict.REFUSED, f"A call without a type is refused ({', '.join(reply.refused)}).")
    if others_absent and api_both and not (api_absent or others_both or compared.untyped_alone):
        sentence = "It lists API sessions alone. Sessions of other types were there all the time."
        return Judged(Verdict.API_ALONE, sentence, evidence=evidence)
    if absent := api_absent + others_absent:
        sentence = f"It leaves out {_sessions(absent)} that the calls with a type list."
        return Judged(Verdict.SOME_LEFT_OUT, sentence, evidence=evidence)
    if not others_both:
        compared_so_far = "Only API sessions were compared" if api_both else "No session was compared"
        needs = "probe while somebody is signed in by SAML, user pool or Active Directory"
        return _open(f"{compared_so_far}, which proves nothing.", needs, evidence)
    sentence = "It lists every session that the calls with a type list"
    if alone := compared.untyped_alone:
        return Judged(Verdict.MORE_THAN_TYPED, f"{sentence}, and {alone} more.", evidence=evidence)
    return Judged(Verdict.EVERY_SESSION, f"{sentence}, and no more.", evidence=evidence)


def _user_id(seen: Observations) -> Judged:
    match seen.user_id_reply:
        case None:
            return _open("It was not asked, or the call failed.", "probe a stack with a fleet")
        case "":
            return Judged(Verdict.TAKEN, "No: a made-up UserId without a type is accepted.")
        case code:
            return Judged(Verdict.REFUSED, f"Yes: a made-up UserId without a type is refused ({code}).")


def _expired(seen: Observations) -> Judged:
    states = seen.values.get("State")
    expired = states.known.get(SessionState.EXPIRED, 0) if states else 0
    if expired:
        unseen = f", but {seen.vanished} left the list without it" if seen.vanished else ""
        return Judged(Verdict.LISTED, f"Yes: {_sessions(expired)}{unseen}.")
    if seen.vanished:
        sentence = f"No: {_sessions(seen.vanished)} left the list without being listed as EXPIRED."
        return Judged(Verdict.NOT_ALWAYS_LISTED, sentence)
    return _open(
        f"None of {_sessions(seen.sessions)} is EXPIRED.",
        "end a session of your own, and probe within a minute, and again after ten",
    )


def _values(seen: Observations) -> Judged:
    evidence: dict[str, int] = {}
    for name, values in seen.values.items():
        evidence |= {f"{name} {value}": times for value, times in values.known.items()}
        evidence[f"{name} of another value"] = values.others
    if others := sorted(name for name, values in seen.values.items() if values.others):
        sentence = f"The API's model does not name all values of {_and(others)}."
        return Judged(Verdict.OTHERS_TOO, sentence, evidence=evidence)
    if not seen.sessions:
        return _open("No session was seen.", _SIGNED_IN)
    return Judged(Verdict.KNOWN_ALONE, "Only values that the API's model names.", evidence=evidence)


def _fields(seen: Observations) -> Judged:
    if not seen.sessions:
        return _open("No session was seen.", _SIGNED_IN)
    always = [name for name, times in seen.fields.items() if times == seen.sessions and "." not in name]
    never = [name for name, times in seen.fields.items() if not times and "." not in name]
    evidence = {name: times for name, times in seen.fields.items() if name not in (*always, *never)}
    sentence = f"Always set: {_and(always)}. Never set: {_and(never)}."
    if seen.unknown_fields is None:
        return _open(
            f"{sentence} Whether there are other fields is not known, because the answers are not in JSON.",
            "probe with a botocore that speaks JSON to AppStream",
            evidence,
        )
    if seen.unknown_fields:
        sentence = f"{sentence} There are fields that the API's model does not name."
        return Judged(Verdict.OTHERS_TOO, sentence, evidence=evidence)
    return Judged(Verdict.KNOWN_ALONE, f"{sentence} There are no other fields.", evidence=evidence)


def _pages(seen: Observations) -> Judged:
    pages = seen.pages
    if pages.largest > PAGE_SIZE:
        sentence = f"A page can hold more sessions than Limit={PAGE_SIZE}: {pages.largest}."
        return Judged(Verdict.BEYOND_LIMIT, sentence)
    if pages.short:
        sentence = (
            f"{pages.short} of {counted(pages.more, 'page')} with a NextToken held fewer than {PAGE_SIZE}."
        )
        return Judged(Verdict.SHORT_PAGES, sentence)
    if pages.more:
        sentence = f"Every page with a NextToken held {PAGE_SIZE} sessions ({counted(pages.more, 'page')})."
        return Judged(Verdict.FULL_PAGES, sentence)
    return _open(
        f"No listing had more than one page. The largest had {_sessions(pages.largest)}.",
        f"probe a stack and fleet with more than {PAGE_SIZE} sessions",
    )


def _elastic(seen: Observations) -> Judged:
    if sessions := seen.fleets.elastic_sessions:
        return Judged(Verdict.LISTED, f"Yes: {_sessions(sessions)}.")
    asked = "An elastic fleet was asked, but no session was listed."
    return _open(
        asked if seen.fleets.elastic_scopes else "No elastic fleet was asked.",
        "probe while you are signed in to an elastic fleet; if your session is missing, such are not listed",
    )


def _multi_session(seen: Observations) -> Judged:
    fleets = seen.fleets
    if fleets.shared_instances:
        return Judged(Verdict.SHARED, f"Yes: on {counted(fleets.shared_instances, 'instance')}.")
    if fleets.multi_sessions and fleets.multi_sessions == fleets.multi_sessions_without_instance:
        return Judged(Verdict.NOT_NAMED, f"None of {_sessions(fleets.multi_sessions)} has an InstanceId.")
    return _open(
        "No two sessions were seen on one instance.",
        "probe while two people are signed in to one instance of a multi-session fleet",
    )


def _shared_fleets(seen: Observations) -> Judged:
    if twice := seen.fleets.listed_twice:
        return Judged(Verdict.EVERY_STACK, f"More than one stack, for {_sessions(twice)}.")
    if sessions := seen.fleets.shared_fleet_sessions:
        return Judged(Verdict.ONE_STACK, f"Only one stack, for {_sessions(sessions)}.")
    return _open(
        "No session was seen on a fleet that serves several stacks.",
        "probe while somebody is signed in to a fleet of two stacks, with --scopes large enough for both",
    )


def _max_expiration(seen: Observations) -> Judged:
    if not seen.durations:
        return _open(
            "No session had both times and a fleet whose MaxUserDurationInSeconds is known.",
            f"{_SIGNED_IN}, with credentials that may call DescribeFleets",
        )
    share = f"so for {seen.durations_equal} of {_sessions(seen.durations)}"
    if seen.durations_equal == seen.durations:
        return Judged(Verdict.EQUAL, f"It is {share}.")
    return Judged(Verdict.DIFFERENT, f"Not always: it is {share}.")


def _rate(seen: Observations) -> Judged:
    rate = f"{seen.calls / seen.seconds:.1f} calls a second" if seen.seconds > 0 else "an unknown rate"
    if seen.stop is Stop.THROTTLED:
        return Judged(Verdict.THROTTLED, f"Yes: call {seen.calls} was throttled, at {rate}.")
    return Judged(Verdict.NOT_THROTTLED, f"No: {counted(seen.calls, 'call')} at {rate}.")


QUESTIONS: Mapping[Question, Asks] = {
    Question.AUTHENTICATION_TYPES: Asks(
        "Which AuthenticationTypes does DescribeSessions accept?",
        _authentication_types,
        (Verdict.EVERY_TYPE, Verdict.SOME_TYPES, Verdict.NO_TYPE, Verdict.NOT_TOLD_APART),
    ),
    Question.UNTYPED_CALL: Asks(
        "What does a call without an AuthenticationType list?",
        _untyped_call,
        (
            *(Verdict.EVERY_SESSION, Verdict.MORE_THAN_TYPED, Verdict.API_ALONE),
            *(Verdict.SOME_LEFT_OUT, Verdict.REFUSED),
        ),
    ),
    Question.USER_ID: Asks(
        "Is a UserId without an AuthenticationType refused?", _user_id, (Verdict.REFUSED, Verdict.TAKEN)
    ),
    Question.EXPIRED: Asks(
        "Are sessions listed as EXPIRED when they have ended?",
        _expired,
        (Verdict.LISTED, Verdict.NOT_ALWAYS_LISTED),
    ),
    Question.VALUES: Asks(
        "Which states, types and drain statuses occur?", _values, (Verdict.KNOWN_ALONE, Verdict.OTHERS_TOO)
    ),
    Question.FIELDS: Asks(
        "Which fields does a session have?", _fields, (Verdict.KNOWN_ALONE, Verdict.OTHERS_TOO)
    ),
    Question.PAGES: Asks(
        "How are the pages of a listing filled?",
        _pages,
        (Verdict.FULL_PAGES, Verdict.SHORT_PAGES, Verdict.BEYOND_LIMIT),
    ),
    Question.ELASTIC: Asks("Are sessions of elastic fleets listed?", _elastic, (Verdict.LISTED,)),
    Question.MULTI_SESSION: Asks(
        "Do sessions of a multi-session fleet share an InstanceId?",
        _multi_session,
        (Verdict.SHARED, Verdict.NOT_NAMED),
    ),
    Question.SHARED_FLEETS: Asks(
        "Which stacks list a session of a fleet that serves several stacks?",
        _shared_fleets,
        (Verdict.ONE_STACK, Verdict.EVERY_STACK),
    ),
    Question.MAX_EXPIRATION: Asks(
        "Is MaxExpirationTime StartTime plus MaxUserDurationInSeconds?",
        _max_expiration,
        (Verdict.EQUAL, Verdict.DIFFERENT),
    ),
    Question.RATE: Asks(
        "Are calls throttled that are made one after the other?",
        _rate,
        (Verdict.NOT_THROTTLED, Verdict.THROTTLED),
    ),
}


def _and(names: Iterable[str]) -> str:
    """Return names as a list in a sentence."""
    told = [str(name) for name in names]
    return f"{', '.join(told[:-1])} and {told[-1]}" if len(told) > 1 else "".join(told) or "none"


def _sessions(count: int) -> str:
    return counted(count, "session")
