"""The Lambda function behind the board: a CloudWatch custom widget.

It is the only place with a clock and an environment. It reads the auditor's table, writes nothing, and logs
which page was asked for; never anything of a user.
"""

import gc
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from session_auditor import USER_AGENT, __version__, pages
from session_auditor.directory import names, targets
from session_auditor.errors import SnapshotError
from session_auditor.hub import Hub
from session_auditor.model import Life, Options, Snapshot, TargetId
from session_auditor.pages import HERE, Glance, Place, Search, View, Where
from session_auditor.reading import TableReader
from session_auditor.settings.board import BoardSettings
from session_auditor.stories import Told, told_of
from session_auditor.table import Table
from session_auditor.tempo import late_after, tempo
from session_auditor.views import Row, Sort, ended_lives, live, once, ordered, ranking, status

# What the console shows of a function that is no widget of its own making.
DESCRIPTION = """\
Who is on in AppStream now, since when and until when, from the session auditor's table.

No parameters are needed. `{"view": "fleet", "fleet": "cad"}` shows one fleet alone, and
`{"view": "user", "user": "ann@example.com"}` one user; of a hub, with `"account"` and `"region"` beside it.
"""
DAY = timedelta(days=1)
# Targets of a hub that are read at the same time.
WORKERS = 8
# How far back a user's page looks.
USER_DAYS = 30

logger = Logger(version=__version__)
settings = BoardSettings.from_environment(os.environ)
aws = boto3.Session(region_name=settings.target_region)
own = TargetId(
    aws.get_partition_for_region(settings.target_region), settings.target_account_id, settings.target_region
)
config = Config(
    connect_timeout=2,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 2},
    user_agent_extra=USER_AGENT,
)
dynamodb = aws.client("dynamodb", config=config)
hub = Hub(dynamodb, settings.table_name, own)
options = Options(hole=settings.hole)
# What is made until here stays. A page makes much and leaves nothing, so garbage is looked for after it.
gc.freeze()
gc.disable()


def handler(event: Mapping[str, Any], context: LambdaContext) -> Any:
    """Return the page that is asked for, as HTML."""
    if event.get("describe"):
        return {"markdown": DESCRIPTION}
    place = place_of(event, context.invoked_function_arn)
    view = text(event, "view", View.LIVE)
    logger.info("page asked for", view=view if view in set(View) else "unknown")
    try:
        return page(view, event, place)
    except SnapshotError as error:
        # Its message names the table and a code, and nothing of an item.
        logger.exception("the table cannot be read")
        why = f"The auditor's table cannot be read ({error.reason or 'an item is broken'})."
        return pages.problem_page(why, "appstream-auditor doctor says what to do.", place)
    finally:
        gc.collect()


def page(view: str, event: Mapping[str, Any], place: Place) -> str:
    """Read what a page needs, and make it; raise SnapshotError."""
    if not settings.targets:
        return page_of(own, HERE, view, event, place)
    known = targets_known()
    if view not in (View.FLEET, View.USER, View.EXPLAIN):
        return hub_page(known, search_of(event), place)
    for target, where in known.items():
        if (target.account_id, target.region) == (text(event, "account"), text(event, "region")):
            return page_of(target, where, view, event, place)
    return pages.problem_page(
        "This page is of one account and region, and none of the hub's is named.", "Begin anew.", place
    )


def reader_of(target: TargetId) -> TableReader:
    """Return whatever is read of a target. Nothing is written here that could expire."""
    return TableReader(dynamodb, Table(settings.table_name, target, timedelta()))


def targets_known() -> dict[TargetId, Where]:
    """Return the targets of the hub, as far as its dispatcher has listed them; raise SnapshotError."""
    wants = settings.wanted
    directory = hub.directory() if wants.parents else {}
    known = names(directory)
    return {
        target: Where(target.account_id, target.region, known.get(target.account_id, ""))
        for target in targets(wants, directory, own.partition)
    }


def hub_page(known: Mapping[TargetId, Where], search: Search, place: Place) -> str:
    """Return the first page of a hub; a target that cannot be read counts as never swept."""

    def read(target: TargetId) -> tuple[Snapshot, tuple[Row, ...]]:
        reader = reader_of(target)
        try:
            snapshot = reader.snapshot(reader.target_alone())
        except SnapshotError as error:
            if error.reason:
                raise
            snapshot = Snapshot()
        return snapshot, live(snapshot, place.now, options.hole)

    glances: list[Glance] = []
    rows: list[tuple[Where, Row]] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for where, (snapshot, found) in zip(known.values(), pool.map(read, known), strict=True):
            glance = status(snapshot, found)
            # Where a target is swept less often, it is late later.
            how_often = tempo(snapshot.target, settings.sweep_every, place.now, types_given=True)
            faults = glance.faults(place.now, late_after(how_often.seconds))
            glances.append(Glance(where, glance, faults))
            rows += [(where, row) for row in found]
    rank = ranking(Sort.URGENCY, place.now)
    rows.sort(key=lambda each: rank(each[1]))
    wanted = [each for each in rows if search.wants_of(each[0]) and search.wants(each[1])]
    return pages.hub_page(glances, rows, wanted, search=search, place=place)


def page_of(target: TargetId, where: Where, view: str, event: Mapping[str, Any], place: Place) -> str:
    """Return a page of one target."""
    reader = reader_of(target)
    snapshot = reader.snapshot(reader.target_alone())
    rows = ordered(live(snapshot, place.now, options.hole), Sort.URGENCY, place.now)
    match view:
        case View.FLEET:
            fleet = text(event, "fleet")
            on = [row for row in rows if row.session.scope.fleet == fleet]
            ended = [life for life in last_day(reader, snapshot, place.now) if life.scope.fleet == fleet]
            errors = [each for each in status(snapshot, rows).faulted if each.fleet == fleet]
            return pages.fleet_page(fleet, on, ended, errors, place, where=where)
        case View.USER:
            user = text(event, "user")
            on = [row for row in rows if row.session.user_id == user]
            since = place.now - USER_DAYS * DAY
            past = list(reader.history_of(user, since, place.now + DAY)) if user else []
            return pages.user_page(user, on, past, USER_DAYS, place, where=where)
        case View.EXPLAIN:
            return explained(reader, snapshot, event, place)
        case _:
            search = search_of(event)
            glance = status(snapshot, rows)
            faults = glance.faults(place.now, late_after(settings.sweep_every))
            fleets = pages.fleet_table(rows, last_day(reader, snapshot, place.now), place)
            found = [row for row in rows if search.wants(row)]
            return pages.live_page(glance, faults, fleets, found, search=search, place=place)


def explained(reader: TableReader, snapshot: Snapshot, event: Mapping[str, Any], place: Place) -> str:
    """Return the life of a session, which lives, or ended on a day that is named."""
    session_id, ended = text(event, "session"), text(event, "ended")
    if session_id in snapshot.sessions and not ended:
        told = told_of(snapshot, session_id, place.now, options)
    else:
        found = [life for life in reader.history(day_of(ended, place)) if life.session_id == session_id]
        if not found:
            why = "This session is over, or not known."
            return pages.problem_page(why, "Its user's page lists what ended.", place)
        told = Told(found[-1])
    return pages.life_page(told, place)


def last_day(reader: TableReader, snapshot: Snapshot, now: datetime) -> list[Life]:
    """Return the sessions that ended within the last 24 hours."""
    since = now - DAY
    ended = [life for day in (since, now) for life in reader.history(day)]
    found = once([*ended_lives(snapshot), *ended])
    return [life for life in found if life.end and life.end > since]


def place_of(event: Mapping[str, Any], endpoint: str) -> Place:
    """Return where the page is shown."""
    context = mapping(event, "widgetContext")
    zone = zone_of(text(mapping(context, "timezone"), "offsetISO"))
    now = datetime.now(UTC).replace(microsecond=0)
    width = context.get("width")
    place = Place(endpoint, text(context, "theme") == "dark", zone, now)
    return replace(place, width=width) if isinstance(width, int) else place


def zone_of(offset: str) -> timezone:
    """Return the time zone of an offset such as +02:00; UTC for anything else."""
    try:
        found = datetime.fromisoformat(f"2000-01-01T00:00:00{offset}").utcoffset()
    except ValueError:
        return UTC
    return timezone(found) if found else UTC


def day_of(date: str, place: Place) -> datetime:
    """Return a day that an action names; today for anything else."""
    try:
        return datetime.fromisoformat(date)
    except ValueError:
        return place.now


def search_of(event: Mapping[str, Any]) -> Search:
    """Return what was typed into the form."""
    typed = mapping(mapping(mapping(event, "widgetContext"), "forms"), "all")
    user, fleet, account = (text(typed, name).strip() for name in ("user", "fleet", "account"))
    return Search(user, fleet, text(typed, "state"), account)


def mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object in an event; an empty one for anything else."""
    value = values.get(name)
    return value if isinstance(value, Mapping) else {}


def text(values: Mapping[str, Any], name: str, default: str = "") -> str:
    """Return a text in an event; the default for anything else."""
    value = values.get(name)
    return value if isinstance(value, str) and value else default
