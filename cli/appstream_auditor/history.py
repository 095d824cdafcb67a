"""`history`: who was on, how many at once, and for how long.

Ended sessions are read by the day of their end, or by user; those that live now are the last sweep's.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import BinaryIO, NamedTuple, assert_never

from appstream_auditor.answers import LifeRow, Named, SumRow
from appstream_auditor.deployment import Deployment
from appstream_auditor.errors import Exit, QuestionError
from appstream_auditor.money import Prices, PricesError, money_of, read_prices, remarks, rounded
from appstream_auditor.parameters import midnight
from appstream_auditor.printing import Column, harmless
from appstream_auditor.targets import Place, place_columns
from session_auditor.errors import SnapshotError
from session_auditor.model import Facts, Globs, Life
from session_auditor.stories import END_REASONS, hours, moment
from session_auditor.views import HOUR, By, Peak, by_hour, grouped, live, lives, once, peak, sums

WORKERS = 8
DAY = timedelta(days=1)
GLOB = set("*?[")
# What is read of a file of prices; AWS has some dozens of instance types.
PRICES_BYTES = 1_000_000


class Grouping(StrEnum):
    """What `--by` takes."""

    USER = "user"
    FLEET = "fleet"
    DAY = "day"
    MONTH = "month"
    HOUR = "hour"


class Asked(NamedTuple):
    """Which sessions are asked for: those that were on at some time from `since` to before `until`."""

    since: datetime
    until: datetime
    user: str = "*"
    stacks: Globs = Globs()
    fleets: Globs = Globs()

    def wants(self, life: Life) -> bool:
        """Return whether a session is asked for."""
        return (
            life.start < self.until
            and (life.end is None or life.end > self.since)
            and fnmatchcase(life.user_id, self.user)
            and self.stacks.match(life.scope.stack)
            and self.fleets.match(life.scope.fleet)
        )


class Past(NamedTuple):
    """The sessions that are asked for, by their start; `audited_since` is when the first sweep began.

    `facts` are what is known of the fleets now.
    """

    lives: list[Life]
    audited_since: datetime | None
    facts: Facts


def past_of(deployment: Deployment, asked: Asked, now: datetime, progress: Callable[[str], None]) -> Past:
    """Return the sessions that are asked for; raise QuestionError."""
    reader = deployment.reader
    snapshot = reader.snapshot(reader.target_alone())
    rows = live(snapshot, now, deployment.options.hole)
    found = once([*lives(snapshot, rows, now), *_ended(deployment, asked, now, progress)])
    wanted = sorted(filter(asked.wants, found), key=lambda life: (life.start, life.session_id))
    return Past(wanted, snapshot.target.first_begin if snapshot.target else None, snapshot.facts)


def _ended(
    deployment: Deployment, asked: Asked, now: datetime, progress: Callable[[str], None]
) -> Iterator[Life]:
    """Return the sessions that ended since; one that was on before `until` may have ended days after it."""
    reader = deployment.reader
    if not set(asked.user) & GLOB:
        try:
            yield from list(reader.history_of(asked.user, asked.since, now + DAY))
        except SnapshotError as error:
            # A stack of release 0.2 has no index by user, and one that was just updated is still filling it.
            if error.reason != "ValidationException":
                raise
        else:
            return
    days = [asked.since.date() + number * DAY for number in range((now.date() - asked.since.date()).days + 1)]
    with ThreadPoolExecutor(WORKERS) as pool:
        for number, ended in enumerate(pool.map(lambda day: list(reader.history(day)), days), 1):
            progress(f"{number} of {len(days)} days read")
            yield from ended


def summed(
    target: Named,
    found: Sequence[Life],
    asked: Asked,
    by: Grouping,
    *,
    now: datetime,
    zone: tzinfo | None,
    prices: Prices | None = None,
) -> list[SumRow]:
    """Return sums of the sessions that ended in the time asked for, or live; and the most at once.

    A session belongs to the day and the month of its end, or of now while it lives; to an hour belong those
    that were on in it, and their seconds are not cut to it: an hour has no price.
    """
    until = min(asked.until, now)
    over = [
        life for life in found if (asked.since <= life.end < asked.until if life.end else now <= asked.until)
    ]

    def row(name: str, of: Sequence[Life], most: Peak) -> SumRow:
        total, money = sums(of), money_of(of, prices, now) if prices else None
        return SumRow(
            account_id=target.id.account_id,
            region=target.id.region,
            account_name=target.account_name,
            name=name,
            sessions=total.lives,
            connected_seconds=total.connected_seconds,
            alone_seconds=total.alone_seconds,
            never_connected_seconds=total.never_connected_seconds,
            peak=most.sessions,
            peak_at=most.at,
            currency=prices.currency if prices else "",
            alone_cost=rounded(money.alone) if money else None,
            avoidable_cost=rounded(money.avoidable) if money else None,
            unpriced_sessions=money.unpriced if money else None,
            unpriced_types=money.unpriced_types if money else (),
        )

    match by:
        case Grouping.USER | Grouping.FLEET:
            alike: defaultdict[str, list[Life]] = defaultdict(list)
            for life in found:
                alike[life.user_id if by is Grouping.USER else life.scope.fleet].append(life)
            return [
                row(name, of, peak(alike[name], asked.since, until))
                for name, of in grouped(over, By(by.value), now, zone).items()
            ]
        case Grouping.DAY | Grouping.MONTH:
            known = grouped(over, By(by.value), now, zone)
            return [
                row(name, known.get(name, ()), peak(found, max(begin, asked.since), min(end, until)))
                for name, begin, end in _periods(asked.since, until, zone, months=by is Grouping.MONTH)
            ]
        case Grouping.HOUR:
            return [
                row(f"{begin.astimezone(zone):%Y-%m-%d %H:%M}", _on_in(found, begin, begin + HOUR), most)
                for begin, most in by_hour(found, asked.since.replace(minute=0, second=0), until)
            ]
        case _:
            assert_never(by)


def _on_in(found: Iterable[Life], begin: datetime, end: datetime) -> list[Life]:
    return [life for life in found if life.start < end and (life.end is None or life.end > begin)]


def _periods(
    since: datetime, until: datetime, zone: tzinfo | None, *, months: bool
) -> Iterator[tuple[str, datetime, datetime]]:
    """Return the days or months of a time zone that begin before `until`, the first being that of `since`."""
    day = since.astimezone(zone).date()
    day = day.replace(day=1) if months else day
    while (begin := midnight(day, zone)) < until:
        after = (day + 31 * DAY).replace(day=1) if months else day + DAY
        yield f"{day:%Y-%m}" if months else f"{day:%Y-%m-%d}", begin, midnight(after, zone)
        day = after


def life_columns(
    rows: Sequence[LifeRow], now: datetime, zone: tzinfo | None, *, place: Place
) -> list[Column]:
    """Return the columns of single sessions."""
    alone = [row.disconnected_seconds + row.never_connected_seconds for row in rows]
    found = [
        Column("USER", [row.user_id or "(not known)" for row in rows], rank=0, elastic=True),
        Column("STARTED", [moment(row.started_at, zone, now) for row in rows], rank=0, right=True),
        Column("ENDED", [moment(row.ended_at, zone, now) or "live" for row in rows], rank=0, right=True),
        Column("CONNECTED", [hours(row.connected_seconds) for row in rows], rank=1, right=True),
        Column("NOBODY", [hours(each) for each in alone], rank=2, right=True),
        Column("ENDED BY", [END_REASONS[row.end_reason] for row in rows], rank=3),
        Column("STACK", [row.stack_name for row in rows], rank=6),
        Column("FLEET", [row.fleet_name for row in rows], rank=4),
        Column("SESSION", [row.session_id for row in rows], rank=5, cut=8),
        Column("HOST", [row.instance_id for row in rows], rank=7),
    ]
    return [*place_columns(rows, place), *found]


def sum_columns(
    rows: Sequence[SumRow], by: Grouping, now: datetime, zone: tzinfo | None, *, place: Place
) -> list[Column]:
    """Return the columns of sums; where amounts are asked for, the peaks go first."""
    currency = next((row.currency for row in rows if row.currency), "")
    found = [
        Column(
            by.value.upper(), [row.name or "(not known)" for row in rows], rank=0, elastic=by is Grouping.USER
        ),
        Column("SESSIONS", [str(row.sessions) for row in rows], rank=0, right=True),
        Column("PEAK", [str(row.peak) for row in rows], rank=4 if currency else 0, right=True),
        Column("PEAK AT", [moment(row.peak_at, zone, now) for row in rows], rank=5, right=True),
    ]
    if by is not Grouping.HOUR:
        found += [
            Column("CONNECTED", [hours(row.connected_seconds) for row in rows], rank=1, right=True),
            Column("NOBODY", [hours(row.alone_seconds) for row in rows], rank=1, right=True),
            Column("NEVER", [hours(row.never_connected_seconds) for row in rows], rank=3, right=True),
        ]
    if currency:
        found += [
            Column(f"NOBODY {currency}", [_amount(row.alone_cost) for row in rows], rank=0, right=True),
            Column(
                f"AVOIDABLE {currency}", [_amount(row.avoidable_cost) for row in rows], rank=0, right=True
            ),
        ]
    if any(row.unpriced_sessions for row in rows):
        found.append(
            Column("UNPRICED", [str(row.unpriced_sessions or "") for row in rows], rank=0, right=True)
        )
    return [*place_columns(rows, place), *found]


def _amount(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:,.2f}"


def prices_in(file: BinaryIO, by: Grouping | None) -> Prices:
    """Return the prices in a file; raise QuestionError."""
    if by is None or by is Grouping.HOUR:
        raise QuestionError("--prices needs --by user, fleet, day or month: sums have amounts", Exit.USAGE)
    try:
        return read_prices(file.read(PRICES_BYTES))
    except OSError as error:
        raise QuestionError(f"the file of prices cannot be read ({error.strerror})", Exit.USAGE) from None
    except PricesError as error:
        raise QuestionError(harmless(f"{file.name}: {error}"), Exit.USAGE) from None


def money_notes(rows: Sequence[SumRow]) -> tuple[str, ...]:
    """Return what has to be said beside the amounts of sums, if there are any."""
    if not any(row.currency for row in rows):
        return ()
    types = {name for row in rows for name in row.unpriced_types}
    return remarks(sum(row.unpriced_sessions or 0 for row in rows), types)
