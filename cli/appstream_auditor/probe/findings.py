"""What a probe's observations say: for each question an answer, or what would answer it.

Pure: counts in, sentences out. The questions, in this order, are the chapters of docs/probe.md.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from appstream_auditor.printing import counted
from appstream_auditor.probe.observations import Asked, Observations, Stop
from session_auditor.model import AuthenticationType, SessionState


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
    START_TIME = "START_TIME"
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
    PAST = "PAST"
    AHEAD = "AHEAD"
    NOT_THROTTLED = "NOT_THROTTLED"
    THROTTLED = "THROTTLED"


@dataclass(frozen=True)
class Judged:
    """An answer, in a word and in a sentence, with the counts that it rests on; `needs` is for OPEN alone."""

    verdict: Verdict
    sentence: str
    evidence: Mapping[str, int]
    needs: str = ""


@dataclass(frozen=True)
class Finding:
    """What is found of a question."""

    question: Question
    text: str
    judged: Judged


@dataclass(frozen=True)
class Asks:
    """A question in words, the answers that it can have beside OPEN, and what judges it."""

    text: str
    verdicts: frozenset[Verdict]
    judge: Callable[[Observations], Judged]


def findings(seen: Observations) -> tuple[Finding, ...]:
    """Return what was found of each question, in their order."""
    return tuple(Finding(question, asks.text, asks.judge(seen)) for question, asks in QUESTIONS.items())


def _authentication_types(seen: Observations) -> Judged:
    replies = {kind: seen.replies[kind] for kind in AuthenticationType if kind in seen.replies}
    taken = [kind for kind, reply in replies.items() if reply.answered]
    refused = [kind for kind, reply in replies.items() if reply.refused and not reply.answered]
    mixed = [kind for kind, reply in replies.items() if reply.refused and reply.answered]
    evidence: dict[str, int] = {}
    for kind, reply in replies.items():
        evidence[f"listings by {kind} that were answered"] = reply.answered
        evidence[f"sessions listed by {kind}"] = reply.sessions
        for code, times in reply.refused.items():
            evidence[f"listings by {kind} that were refused with {code}"] = times
    evidence["sessions whose record does not name the type of the call"] = seen.mislabelled
    evidence["sessions that calls with different types list"] = seen.compared.of_several_types
    if seen.compared.of_several_types:
        return Judged(
            Verdict.NOT_TOLD_APART,
            f"{_and(taken)} {_verb(taken, 'answers', 'answer')}, but "
            f"{_sessions(seen.compared.of_several_types)} came with different types: what a call with a type "
            "lists is not of that type alone.",
            evidence,
        )
    if len(taken) + len(refused) < len(AuthenticationType):
        return Judged(
            Verdict.OPEN,
            f"Not every type was asked for. Taken: {_and(taken)}; refused: {_and(refused)}.",
            evidence,
            "probe at least one stack with a fleet, with credentials that may list its sessions",
        )
    if not refused:
        sentence = "API, SAML, USERPOOL and AWS_AD all answer"
        verdict = Verdict.EVERY_TYPE
    else:
        codes = sorted({code for kind in refused for code in replies[kind].refused})
        sentence = f"{_and(taken)} {_verb(taken, 'answers', 'answer')}; {_and(refused)} "
        sentence += f"{_verb(refused, 'is', 'are')} refused ({', '.join(codes)})"
        verdict = Verdict.SOME_TYPES if taken else Verdict.NO_TYPE
    if mixed:
        sentence += f"; {_and(mixed)} {_verb(mixed, 'is', 'are')} refused for some fleets"
    return Judged(verdict, f"{sentence}.", evidence)


def _untyped_call(seen: Observations) -> Judged:
    compared, reply = seen.compared, seen.replies.get(None)
    others = [kind for kind in AuthenticationType if kind is not AuthenticationType.API]
    api_both = compared.both.get(AuthenticationType.API, 0)
    api_absent = compared.absent.get(AuthenticationType.API, 0)
    others_both = sum(compared.both.get(kind, 0) for kind in others)
    others_absent = sum(compared.absent.get(kind, 0) for kind in others)
    evidence = {
        "listings without a type that were answered": reply.answered if reply else 0,
        "API sessions in both": api_both,
        "API sessions left out": api_absent,
        "sessions of other types in both": others_both,
        "sessions of other types left out": others_absent,
        "sessions listed without a type alone": compared.untyped_alone,
        "sessions that may have come or gone": compared.unsettled,
        "sessions that calls with different types list": compared.of_several_types,
    }
    if reply and reply.refused:
        evidence |= {f"refused with {code}": times for code, times in reply.refused.items()}
        if not reply.answered:
            return Judged(
                Verdict.REFUSED, f"A call without a type is refused ({', '.join(reply.refused)}).", evidence
            )
    if api_absent or others_absent:
        if api_both and not api_absent and not others_both and not compared.untyped_alone:
            return Judged(
                Verdict.API_ALONE,
                f"It lists API sessions alone: the {api_both} that were seen, and none of {others_absent} of "
                "other types that were there all the time.",
                evidence,
            )
        return Judged(
            Verdict.SOME_LEFT_OUT,
            f"It is something else: it leaves out {_sessions(api_absent + others_absent)} that stayed all "
            f"the time, and lists {api_both + others_both} of those that a type lists.",
            evidence,
        )
    if not others_both:
        seen_so_far = "every session compared is of type API" if api_both else "no session was compared"
        return Judged(
            Verdict.OPEN,
            f"Nothing tells: {seen_so_far}.",
            evidence,
            "probe while somebody is signed in by SAML, user pool or Active Directory",
        )
    if compared.untyped_alone:
        return Judged(
            Verdict.MORE_THAN_TYPED,
            f"It lists every session that the calls with a type list ({api_both} API, {others_both} others), "
            f"and {compared.untyped_alone} that none of these does.",
            evidence,
        )
    return Judged(
        Verdict.EVERY_SESSION,
        f"It lists every session that the calls with a type list ({api_both} API, {others_both} others), and "
        "no more.",
        evidence,
    )


def _user_id(seen: Observations) -> Judged:
    match seen.user_id_reply:
        case None:
            return Judged(
                Verdict.OPEN, "It was not asked, or the answer failed.", {}, "probe a stack with a fleet"
            )
        case "":
            return Judged(Verdict.TAKEN, "A made-up UserId was taken without a type.", {"calls": 1})
        case code:
            return Judged(
                Verdict.REFUSED, f"A made-up UserId without a type is refused ({code}).", {"calls": 1}
            )


def _expired(seen: Observations) -> Judged:
    states = seen.values.get("State")
    expired = states.known.get(SessionState.EXPIRED, 0) if states else 0
    evidence = {
        "EXPIRED sessions": expired,
        "sessions listed after their MaxExpirationTime": seen.ends.overdue,
        "sessions that left the list and were not EXPIRED": seen.ends.vanished,
        "sessions": seen.looked.sessions,
    }
    if expired:
        sometimes = ", but not every one that ends" if seen.ends.vanished else ""
        return Judged(Verdict.LISTED, f"Yes: {_sessions(expired)}{sometimes}.", evidence)
    if seen.ends.vanished:
        return Judged(
            Verdict.NOT_ALWAYS_LISTED,
            f"No EXPIRED session is listed, and {_sessions(seen.ends.vanished)} left the list within "
            "seconds without being seen as EXPIRED.",
            evidence,
        )
    return Judged(
        Verdict.OPEN,
        f"No EXPIRED session among {_sessions(seen.looked.sessions)}.",
        evidence,
        "end a session of your own, and probe within a minute, and again after ten",
    )


def _values(seen: Observations) -> Judged:
    evidence: dict[str, int] = {}
    for name, values in seen.values.items():
        evidence |= {f"{name} {value}": times for value, times in values.known.items()}
        evidence[f"{name} of another value"] = values.others
    others = sorted(name for name, values in seen.values.items() if values.others)
    if others:
        return Judged(
            Verdict.OTHERS_TOO,
            f"{_and(others)} also {_verb(others, 'has', 'have')} values that the API's model does not name.",
            evidence,
        )
    if not seen.looked.sessions:
        return Judged(Verdict.OPEN, "No session was seen.", evidence, "probe while somebody is signed in")
    return Judged(Verdict.KNOWN_ALONE, "Only values that the API's model names occur.", evidence)


def _fields(seen: Observations) -> Judged:
    evidence = dict(seen.fields)
    if seen.unknown_fields is not None:
        evidence["fields that the model does not know, in all records"] = seen.unknown_fields
    total = seen.looked.sessions
    if not total:
        return Judged(Verdict.OPEN, "No session was seen.", evidence, "probe while somebody is signed in")
    always = [name for name, times in seen.fields.items() if times == total and "." not in name]
    never = [name for name, times in seen.fields.items() if not times and "." not in name]
    sentence = f"Always present in {_sessions(total)}: {_and(always)}. Never: {_and(never)}"
    if seen.unknown_fields:
        return Judged(
            Verdict.OTHERS_TOO, f"{sentence}. There are fields that the API's model does not know.", evidence
        )
    if seen.unknown_fields is None:
        return Judged(
            Verdict.OPEN,
            f"{sentence}. The answers are not in JSON, so whether there are further fields is not known.",
            evidence,
            "probe with a botocore that speaks JSON to AppStream",
        )
    return Judged(Verdict.KNOWN_ALONE, f"{sentence}. There are no others.", evidence)


def _pages(seen: Observations) -> Judged:
    pages = seen.pages
    evidence = {
        "pages": pages.all,
        "pages with more to come": pages.more,
        "largest page": pages.largest,
        f"pages of {pages.asked_for}": pages.full,
        f"pages of more than {pages.asked_for}": pages.beyond_limit,
        "short pages with more to come": pages.short_with_more,
        "empty pages with more to come": pages.empty_with_more,
        "sessions on two pages of one listing": pages.repeated,
    }
    if pages.beyond_limit:
        return Judged(
            Verdict.BEYOND_LIMIT,
            f"A page can hold more sessions than Limit={pages.asked_for}: {pages.largest}.",
            evidence,
        )
    if pages.short_with_more or pages.empty_with_more:
        return Judged(
            Verdict.SHORT_PAGES,
            f"A page can be short of Limit={pages.asked_for}, or empty, with more to come: only "
            "NextToken tells the end.",
            evidence,
        )
    if pages.full and pages.more:
        return Judged(
            Verdict.FULL_PAGES,
            f"Limit={pages.asked_for} is taken, and every page with more to come was full.",
            evidence,
        )
    return Judged(
        Verdict.OPEN,
        f"No listing had more than one page; the largest had {_sessions(pages.largest)}.",
        evidence,
        f"probe a stack and fleet with more than {pages.asked_for} sessions",
    )


def _elastic(seen: Observations) -> Judged:
    fleets = seen.fleets
    evidence = {
        "pairs with an elastic fleet that were asked": fleets.elastic_scopes,
        "sessions of elastic fleets": fleets.elastic_sessions,
    }
    if fleets.elastic_sessions:
        return Judged(Verdict.LISTED, f"Yes: {_sessions(fleets.elastic_sessions)}.", evidence)
    return Judged(
        Verdict.OPEN,
        "An elastic fleet was asked, and no session of one is listed."
        if fleets.elastic_scopes
        else "No elastic fleet was asked.",
        evidence,
        "probe while you are signed in to an elastic fleet; if the count stays 0 then, they are not listed",
    )


def _multi_session(seen: Observations) -> Judged:
    fleets = seen.fleets
    evidence = {
        "pairs with a multi-session fleet that were asked": fleets.multi_session_scopes,
        "sessions of multi-session fleets": fleets.multi_session_sessions,
        "of these without an InstanceId": fleets.multi_session_without_instance,
        "instances": fleets.instances,
        "instances with several sessions": fleets.shared_instances,
    }
    if fleets.shared_instances:
        return Judged(Verdict.SHARED, f"Yes: on {counted(fleets.shared_instances, 'instance')}.", evidence)
    if (
        fleets.multi_session_sessions
        and fleets.multi_session_without_instance == fleets.multi_session_sessions
    ):
        return Judged(
            Verdict.NOT_NAMED, "Sessions of multi-session fleets come without an InstanceId.", evidence
        )
    return Judged(
        Verdict.OPEN,
        "No two sessions were seen on one instance.",
        evidence,
        "probe while two people are signed in to one instance of a multi-session fleet",
    )


def _shared_fleets(seen: Observations) -> Judged:
    fleets = seen.fleets
    evidence = {
        "fleets of several stacks": fleets.shared_fleets,
        "of these asked by several stacks": fleets.shared_fleets_asked,
        "sessions of these": fleets.shared_fleet_sessions,
        "sessions listed by several stacks": fleets.listed_twice,
        "sessions whose record names another stack or fleet than the call": fleets.names_differ,
    }
    if fleets.listed_twice:
        return Judged(
            Verdict.EVERY_STACK, f"Several: that is so of {_sessions(fleets.listed_twice)}.", evidence
        )
    if fleets.shared_fleet_sessions:
        return Judged(
            Verdict.ONE_STACK,
            f"One alone, for {_sessions(fleets.shared_fleet_sessions)}.",
            evidence,
        )
    return Judged(
        Verdict.OPEN,
        "No session of a fleet that serves several stacks was seen.",
        evidence,
        "probe while somebody is signed in to a fleet of two stacks, with --scopes large enough for both",
    )


def _max_expiration(seen: Observations) -> Judged:
    clocks = seen.clocks
    evidence = {
        "sessions with both times and a known fleet": clocks.durations,
        "of these equal to a second": clocks.durations_equal,
        "of these longer": clocks.durations_longer,
    }
    if not clocks.durations:
        return Judged(
            Verdict.OPEN,
            "No session had both times and a fleet of known MaxUserDurationInSeconds.",
            evidence,
            "probe while somebody is signed in, with credentials that may call DescribeFleets",
        )
    share = f"{clocks.durations_equal} of {_sessions(clocks.durations)}"
    if clocks.durations_equal == clocks.durations:
        return Judged(Verdict.EQUAL, f"It is, for {share}.", evidence)
    return Judged(Verdict.DIFFERENT, f"Not always: it is for {share}.", evidence)


def _start_time(seen: Observations) -> Judged:
    clocks = seen.clocks
    evidence = {
        "sessions with a StartTime": clocks.starts,
        "of these ahead by a second or more": clocks.starts_ahead,
        "seconds ahead at most": clocks.most_ahead,
    }
    if clocks.starts_ahead:
        return Judged(
            Verdict.AHEAD,
            f"Yes: {clocks.starts_ahead} of {_sessions(clocks.starts)}, by {clocks.most_ahead} s at most.",
            evidence,
        )
    if clocks.starts:
        return Judged(Verdict.PAST, f"Never, in {_sessions(clocks.starts)}.", evidence)
    return Judged(
        Verdict.OPEN, "No session with a StartTime was seen.", evidence, "probe while somebody is signed in"
    )


def _rate(seen: Observations) -> Judged:
    calls = seen.calls
    rate = f"{calls.made / calls.seconds:.1f} calls a second" if calls.seconds > 0 else "an unknown rate"
    evidence = {
        "calls": calls.made,
        "at most": calls.limit,
        "throttled": calls.throttled,
        "median of DescribeSessions in ms": calls.median,
        "95th percentile of it in ms": calls.percentile95,
    }
    if seen.stop is Stop.THROTTLED:
        return Judged(
            Verdict.THROTTLED, f"Call {calls.made} was throttled, at {rate}; the probe ended there.", evidence
        )
    return Judged(
        Verdict.NOT_THROTTLED,
        f"{counted(calls.made, 'call')} at {rate}, none throttled.",
        evidence,
    )


QUESTIONS: Mapping[Question, Asks] = {
    Question.AUTHENTICATION_TYPES: Asks(
        "Which AuthenticationTypes does DescribeSessions take?",
        frozenset([Verdict.EVERY_TYPE, Verdict.SOME_TYPES, Verdict.NO_TYPE, Verdict.NOT_TOLD_APART]),
        _authentication_types,
    ),
    Question.UNTYPED_CALL: Asks(
        "What does a call without an AuthenticationType list?",
        frozenset(
            [
                Verdict.EVERY_SESSION,
                Verdict.MORE_THAN_TYPED,
                Verdict.API_ALONE,
                Verdict.SOME_LEFT_OUT,
                Verdict.REFUSED,
            ]
        ),
        _untyped_call,
    ),
    Question.USER_ID: Asks(
        "Is a UserId without an AuthenticationType refused?",
        frozenset([Verdict.REFUSED, Verdict.TAKEN]),
        _user_id,
    ),
    Question.EXPIRED: Asks(
        "Are sessions listed as EXPIRED when they have ended?",
        frozenset([Verdict.LISTED, Verdict.NOT_ALWAYS_LISTED]),
        _expired,
    ),
    Question.VALUES: Asks(
        "Which states, types and drain statuses occur?",
        frozenset([Verdict.KNOWN_ALONE, Verdict.OTHERS_TOO]),
        _values,
    ),
    Question.FIELDS: Asks(
        "Which fields does a session have?",
        frozenset([Verdict.KNOWN_ALONE, Verdict.OTHERS_TOO]),
        _fields,
    ),
    Question.PAGES: Asks(
        "How are the pages of a listing filled?",
        frozenset([Verdict.FULL_PAGES, Verdict.SHORT_PAGES, Verdict.BEYOND_LIMIT]),
        _pages,
    ),
    Question.ELASTIC: Asks(
        "Are sessions of elastic fleets listed?",
        frozenset([Verdict.LISTED]),
        _elastic,
    ),
    Question.MULTI_SESSION: Asks(
        "Do sessions of a multi-session fleet share an InstanceId?",
        frozenset([Verdict.SHARED, Verdict.NOT_NAMED]),
        _multi_session,
    ),
    Question.SHARED_FLEETS: Asks(
        "Which stacks list a session of a fleet that serves several?",
        frozenset([Verdict.ONE_STACK, Verdict.EVERY_STACK]),
        _shared_fleets,
    ),
    Question.MAX_EXPIRATION: Asks(
        "Is MaxExpirationTime StartTime plus MaxUserDurationInSeconds?",
        frozenset([Verdict.EQUAL, Verdict.DIFFERENT]),
        _max_expiration,
    ),
    Question.START_TIME: Asks(
        "Does a StartTime lie ahead of the answer's own Date?",
        frozenset([Verdict.PAST, Verdict.AHEAD]),
        _start_time,
    ),
    Question.RATE: Asks(
        "Is one call after the other throttled?",
        frozenset([Verdict.NOT_THROTTLED, Verdict.THROTTLED]),
        _rate,
    ),
}


def _and(names: Iterable[Asked | str]) -> str:
    """Return names as a list in a sentence."""
    told = [str(name) for name in names]
    return f"{', '.join(told[:-1])} and {told[-1]}" if len(told) > 1 else "".join(told) or "none"


def _sessions(count: int) -> str:
    return counted(count, "session")


def _verb(names: list[AuthenticationType] | list[str], one: str, several: str) -> str:
    return one if len(names) == 1 else several
