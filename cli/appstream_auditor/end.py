"""`end`: one session is ended by hand, with the caller's own credentials, and watched until it is gone.

ExpireSession takes an id alone: no condition, and no warning to the user. So AppStream is asked just before
the call whether all is as it was shown, and the call is made once. Nothing else here ends a session.
"""

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo

import click
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, SSLError
from rich.text import Text

from appstream_auditor.answers import EndAnswer, Outcome
from appstream_auditor.deployment import Deployment
from appstream_auditor.errors import (
    Exit,
    QuestionError,
    as_question_error,
    is_about_credentials,
    is_denied,
)
from appstream_auditor.explain import head, known_live
from appstream_auditor.printing import Output, harmless, print_csv, print_json, to_errors, to_terminal
from appstream_auditor.questions import Question, asks, now, of_targets, patience
from appstream_auditor.sessions import listed, lister_of
from session_auditor.aws_errors import error_code
from session_auditor.model import (
    AuthenticationType,
    ConnectionState,
    Globs,
    Remembered,
    Session,
    SessionState,
    Snapshot,
    Target,
)
from session_auditor.stories import Told, moment, state_of, told_of
from session_auditor.topology import NOT_FOUND
from session_auditor.user_ids import is_hashed

Look = Callable[[], Session | None]
Clock = Callable[[], datetime]

# A session is gone when this many listings in a row lack it: the pages of one have no common moment.
ABSENCES = 2
LOOK_EVERY = timedelta(seconds=5)
WAIT_SECONDS = 120
# A command does not outlast that; stacks and fleets are read once.
_TOPOLOGY_FOR = timedelta(hours=2)
_CONNECTIONS = {ConnectionState.CONNECTED: "connected", ConnectionState.NOT_CONNECTED: "not connected"}


@click.command()
@click.argument("session")
@click.option("--yes", is_flag=True, help="Do not ask; needs the whole id, and --reason.")
@click.option("--reason", default="", help="Why it is ended, for the answer.")
@click.option(
    "--wait",
    type=click.IntRange(10, 3600),
    default=WAIT_SECONDS,
    show_default=True,
    help="Seconds to watch for its end.",
)
@of_targets
@asks
def end(question: Question, *, session: str, yes: bool, reason: str, wait: int) -> Exit:
    """End a session now, whoever is at work in it. Unsaved work is lost.

    SESSION is its id, or the beginning of it. Shows whose it is, asks AppStream whether it still is so, and
    asks you for the whole id. Then AppStream is asked once more, the session is ended by one call, and
    watched until it is gone. If it has changed meanwhile, nothing is ended.

    This needs appstream:ExpireSession, which the managed policy in the output ReaderPolicyArn does not give
    on purpose. Of a hub's other accounts it ends no session.

    Ends with 1 if there is no such session, if it has changed, or if it is still listed after --wait.

    \b
    Example, for a script:
      appstream-auditor end 8f3c2b1e-0d4a --yes --reason "left open, INC0012345"
    """
    if yes and not reason.strip():
        raise click.UsageError("--yes needs --reason, so that the answer says why")
    if not yes and not at_terminal():
        raise click.UsageError("there is no terminal to ask at: say --yes, --reason and the whole id")
    with patience("Looking for the session ..."):
        target, snapshot, session_id = found_in(question, session)
    if yes and session_id != session:
        raise click.UsageError(f"with --yes, SESSION has to be the whole id: {harmless(session_id)}")
    told = told_of(snapshot, session_id, now(), target.options)
    for line in head(told, now(), question.zone):
        to_errors().print(line)
    require_endable(target, told, question.zone)
    remembered = snapshot.sessions[session_id].remembered
    look = look_of(target, snapshot, remembered.session, now)
    with patience("Asking AppStream ..."):
        known = as_known(remembered)
        before = checked(look, known, "The next sweep brings the table up to date; then ask again")
    for sentence in losses(before):
        to_errors().print(Text(sentence, "yellow"))
    if not yes:
        confirm(session_id)
    with patience("Asking AppStream once more ..."):
        last = checked(look, before, "Ask again, and it is shown as it is")
    called_at = now()
    try:
        expire(target, last)
        with patience("AppStream took the call; waiting for the session's end ...") as progress:
            outcome, seen_at = watched(look, timedelta(seconds=wait), now, time.sleep, progress)
    except KeyboardInterrupt:
        to_errors().print(f"Interrupted after the call was begun: look whether it has ended, {_how(last)}")
        raise
    answer = answer_of(target, last, reason=reason, called_at=called_at, outcome=outcome, seen_at=seen_at)
    show(answer, question)
    return EXITS[outcome]


EXITS = {Outcome.GONE: Exit.OK, Outcome.STILL_LISTED: Exit.FAULT, Outcome.UNKNOWN: Exit.OUT_OF_REACH}


def at_terminal() -> bool:
    """Return whether there is somebody to ask."""
    return sys.stdin.isatty()


def confirm(session_id: str) -> None:
    """Let the id be typed; raise QuestionError if it is another, KeyboardInterrupt if none is."""
    try:
        typed = click.prompt("To end it, type its whole id", default="", show_default=False, err=True)
    except click.Abort:
        to_errors().print("\nNothing was ended.")
        raise KeyboardInterrupt from None
    if typed.strip() != session_id:
        raise QuestionError("nothing was ended, since that is not its id", Exit.FAULT)


def found_in(question: Question, session: str) -> tuple[Deployment, Snapshot, str]:
    """Return the target of a live session, its snapshot and the whole id; raise QuestionError."""
    known = known_live(question.targets().found, session)
    if known is None:
        raise QuestionError(
            f"no session {session} is live. One that began within the last minute is known after the next "
            "sweep; `appstream-auditor explain` tells of one that has ended",
            Exit.FAULT,
        )
    return known


def require_endable(target: Deployment, told: Told, zone: tzinfo | None) -> None:
    """Raise QuestionError if the session has ended, or is in an account that the credentials are not of."""
    if told.row is None:
        raise QuestionError(f"there is nothing to end: it {state_of(told, now(), zone)}", Exit.FAULT)
    if not target.in_reach:
        raise QuestionError(
            f"the session is in account {target.target_id.account_id}, and your AWS credentials are of "
            "another, so this command cannot look at it, and ends nothing. With credentials of that account, "
            f"`aws appstream expire-session --session-id {_quoted(told.life.session_id)} --region "
            f"{target.target_id.region}` ends it, without a look before"
        )


def look_of(target: Deployment, snapshot: Snapshot, session: Session, clock: Clock) -> Look:
    """Return what asks AppStream for the session, None if it lists it no more; both raise QuestionError.

    It lists the session's own stack and fleet, by the session's own AuthenticationType where that is known.
    """
    lister = lister_of(target, {}, _TOPOLOGY_FOR)
    own_type = frozenset(each for each in AuthenticationType if each == session.authentication_type)
    options = replace(
        target.options,
        stacks=Globs((session.scope.stack,)),
        fleets=Globs((session.scope.fleet,)),
        authentication_types=own_type or target.options.authentication_types,
    )
    mode = Snapshot(target=snapshot.target or Target(first_begin=clock()))

    def look() -> Session | None:
        listing = listed(lister, mode, options, clock)
        found = listing.sessions.get(session.id)
        if found is None and listing.failed:
            reasons = ", ".join(sorted({failure.reason for failure in listing.failed.values()}))
            raise QuestionError(f"AppStream cannot be asked whether the session is still there ({reasons})")
        return None if found is None or found.state == SessionState.EXPIRED else found

    return look


def as_known(remembered: Remembered) -> Session:
    """Return a session as the table has it, without a user id that is a hash: AppStream has others."""
    session = remembered.session
    return replace(session, user_id="") if is_hashed(session.user_id, remembered.user_id_hashed) else session


def checked(look: Look, before: Session, todo: str) -> Session:
    """Return the session as it is now; raise QuestionError if it is not as it was, saying what to do."""
    found = look()
    if found is None:
        raise QuestionError(
            "nothing was ended: AppStream does not list the session any more. `appstream-auditor explain "
            f"{_quoted(before.id)}` tells in a minute what became of it",
            Exit.FAULT,
        )
    if changed := "; ".join(changes(before, found)):
        raise QuestionError(
            f"nothing was ended, since the session has changed: {changed}. {todo}", Exit.FAULT
        )
    return found


def changes(before: Session, found: Session) -> Iterator[str]:
    """Return how a session differs from what it was, as far as that matters to who ends it."""
    if found.connection_state != before.connection_state:
        then, is_now = (_connection(each) for each in (before, found))
        yield f"its user was {then}, and is {is_now} now"
    if before.user_id and found.user_id != before.user_id:
        yield f"its user is {_user(found)}"
    if found.instance_id != before.instance_id:
        yield f"its instance is {harmless(found.instance_id) or 'not known'}"
    if before.start_time and found.start_time != before.start_time:
        yield "it is another session of the same id, which started later"


def losses(session: Session) -> Iterator[str]:
    """Say what ending a session costs."""
    if session.connection_state == ConnectionState.CONNECTED:
        yield f"{_user(session)} is connected right now, and will be cut off at work."
    elif session.connection_state == ConnectionState.NOT_CONNECTED:
        yield f"{_user(session)} is not connected right now."
    else:
        yield f"Whether {_user(session)} is connected right now is not known."
    yield "Work that is not saved is lost. AppStream ends the session at once and warns nobody."


def expire(target: Deployment, session: Session) -> None:
    """Call ExpireSession, once; raise QuestionError that says whether the session may have ended."""
    client = target.appstream(retries=False)
    try:
        client.expire_session(SessionId=session.id)
    except (ClientError, BotoCoreError) as error:
        raise _failure(error, session) from None


def _failure(error: ClientError | BotoCoreError, session: Session) -> QuestionError:
    code = error_code(error)
    match error:
        case ClientError() if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
            return _unknown(code, session)
        case ClientError() if is_denied(code):
            return QuestionError(
                "nothing was ended: your AWS credentials may not appstream:ExpireSession. Nothing of the "
                "auditor's allows it, on purpose: ask whoever gives permissions in this account",
                needs="appstream:ExpireSession",
            )
        case ClientError() if code == NOT_FOUND:
            return QuestionError(
                "nothing was ended: AppStream does not know the session any more", Exit.FAULT
            )
        case ClientError() if not is_about_credentials(code):
            return QuestionError(f"nothing was ended: AppStream refused it ({code})")
        # The request, or what came back, got lost on the way. Others never left this machine.
        case HTTPClientError() | SSLError():
            return _unknown(code, session)
    return as_question_error(error, "appstream")


def _unknown(code: str, session: Session) -> QuestionError:
    return QuestionError(
        f"it is not known whether AppStream took the call to end the session ({code}). It was not repeated. "
        f"Before you ask again, look {_how(session)}"
    )


def watched(
    look: Look,
    wait: timedelta,
    clock: Clock,
    pause: Callable[[float], None],
    progress: Callable[[str], None],
) -> tuple[Outcome, datetime]:
    """Look until the session is gone, or `wait` is over; return what became of it, and when that was seen."""
    begin, absences = clock(), 0
    while True:
        try:
            found = look()
        except QuestionError:
            outcome, absences = Outcome.UNKNOWN, 0
        else:
            absences = absences + 1 if found is None else 0
            outcome = Outcome.STILL_LISTED
        if absences == ABSENCES:
            return Outcome.GONE, clock()
        waited = clock() - begin
        # Who is missing from one listing is looked for once more.
        if waited >= wait and not absences:
            return outcome, clock()
        progress(f"{int(waited.total_seconds())} s")
        pause(LOOK_EVERY.total_seconds())


def answer_of(
    target: Deployment,
    session: Session,
    *,
    reason: str,
    called_at: datetime,
    outcome: Outcome,
    seen_at: datetime,
) -> EndAnswer:
    """Return what was done, and what became of it."""
    return EndAnswer(
        account_id=target.target_id.account_id,
        region=target.target_id.region,
        account_name=target.account_name,
        session_id=session.id,
        user_id=session.user_id,
        stack_name=session.scope.stack,
        fleet_name=session.scope.fleet,
        connection_state=session.connection_state,
        reason=reason,
        called_at=called_at,
        outcome=outcome,
        seen_at=seen_at,
    )


def show(answer: EndAnswer, question: Question) -> None:
    """Print what was done, in the form that is asked for."""
    match question.output:
        case Output.JSON:
            print_json(answer)
        case Output.CSV:
            print_csv([answer], EndAnswer)
        case Output.TABLE:
            to_terminal().print(harmless(sentence_of(answer, question.zone)), soft_wrap=True)


def sentence_of(answer: EndAnswer, zone: tzinfo | None) -> str:
    """Return what was done as a sentence."""
    seconds = int((answer.seen_at - answer.called_at).total_seconds())
    called = f"AppStream took the call at {moment(answer.called_at, zone, answer.seen_at)}"
    because = f" Reason: {answer.reason}" if answer.reason else ""
    look = _how_in(answer.stack_name, answer.fleet_name)
    match answer.outcome:
        case Outcome.GONE:
            return f"Ended session {answer.session_id}. {called}, and it was gone {seconds} s later.{because}"
        case Outcome.STILL_LISTED:
            said = f"still lists session {answer.session_id} {seconds} s later"
            return f"{called}, and {said}. It may take longer: look {look}.{because}"
        case _:
            said = f"could not be asked {seconds} s later whether session {answer.session_id} is gone"
            return f"{called}, and {said}: look {look}.{because}"


def _user(session: Session) -> str:
    return f"“{harmless(session.user_id)}”" if session.user_id else "A user that is not known"


def _connection(session: Session) -> str:
    state = session.connection_state
    return next((words for known, words in _CONNECTIONS.items() if known == state), "of an unknown state")


def _how(session: Session) -> str:
    return _how_in(session.scope.stack, session.scope.fleet)


def _how_in(stack: str, fleet: str) -> str:
    return f"with `appstream-auditor sessions --now --stack {_quoted(stack)} --fleet {_quoted(fleet)}`"


def _quoted(name: str) -> str:
    return shlex.quote(harmless(name))
