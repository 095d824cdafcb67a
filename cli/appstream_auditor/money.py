"""What the hours with nobody connected cost, by a list of prices that somebody wrote down.

Plain data in, plain data out, in fractions, so that nothing is rounded before it is shown. It knows no price
of its own: AWS's differ by region and operating system, and a contract may change them.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from session_auditor.model import Life

HOUR = 3600
# A session of an elastic fleet is charged by the second, and at least a quarter of an hour (AppStream's
# developer guide, "Fleet types").
ELASTIC_LEAST = 900
# Decimals of an amount in JSON and CSV; few minutes of one session cost less than a cent.
DECIMALS = 4
# What no list of prices and no history tells; it stands beside every amount.
CANNOT_KNOW = (
    "Amounts are estimates at the prices of the file: discounts, credits and taxes are not in them.",
    "They are by the second; AWS charges begun hours in full on some fleets, so a bill differs.",
    "Fees for users, image builders and traffic are not in them.",
    "Less was avoidable where scaling, or another session on it, would have kept an instance running.",
)
_PRICE = '{"running": 0.1, "stopped": 0.02}'
_FORMAT = f'{{"version": 1, "currency": "USD", "prices": {{"stream.standard.medium": {_PRICE}}}}}'


class PricesError(ValueError):
    """A list of prices that cannot be used; the message is one line: the path, what is wrong, the remedy."""


class FleetType(StrEnum):
    """The values of a fleet's FleetType whose charges are known."""

    ALWAYS_ON = "ALWAYS_ON"
    ON_DEMAND = "ON_DEMAND"
    ELASTIC = "ELASTIC"


def _not_above_running(price: "Price") -> "Price":
    if price.stopped > price.running:
        raise PydanticCustomError("prices", "stopped is above running; are they the wrong way round?")
    return price


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_Amount = Annotated[Decimal, Field(ge=0, le=10_000)]


class Price(_Form):
    """What an hour of an instance costs while it runs, and while it is stopped."""

    running: _Amount = Field(description="what an hour of a running instance costs, such as 0.1")
    stopped: _Amount = Field(description="what an hour of a stopped instance costs, such as 0.02")


class Prices(_Form):
    """Prices by instance type; `note` is for whoever reads the file."""

    version: Literal[1] = Field(description="the version of this format, 1")
    currency: str = Field(pattern="^[A-Z]{3}$", description="three capital letters, such as USD")
    prices: dict[str, Annotated[Price, AfterValidator(_not_above_running)]] = Field(
        description="an object of prices by instance type"
    )
    note: str = Field(default="", description="a text")


class Money(NamedTuple):
    """What the time with nobody connected cost, and how much would not have been charged without it.

    `unpriced` counts the lives that are in neither amount; `unpriced_types` are their instance types, ""
    where it is not known what instance, or what type of fleet it was.
    """

    alone: Fraction
    avoidable: Fraction
    unpriced: int
    unpriced_types: tuple[str, ...]


def read_prices(content: bytes) -> Prices:
    """Return the prices in a file; raise PricesError."""
    try:
        # A number that JSON does not have, such as NaN, is text.
        text = content.decode("utf-8-sig")
        return Prices.model_validate(json.loads(text, parse_constant=str, object_pairs_hook=_object))
    except UnicodeDecodeError as error:
        raise PricesError(f"no UTF-8 at byte {error.start + 1}; save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise PricesError(
            f"no JSON at line {error.lineno}, column {error.colno} ({error.msg}); "
            f"it should read like {_FORMAT}"
        ) from None
    except ValidationError as error:
        raise PricesError("; ".join(map(_problem, error.errors(include_url=False)[:5]))) from None
    except (RecursionError, ValueError):
        # Python reads no number of more than some thousand digits.
        raise PricesError(
            f"nested too deeply, or a number with too many digits; it should read like {_FORMAT}"
        ) from None


def money_of(lives: Iterable[Life], prices: Prices, now: datetime) -> Money:
    """Return what the time with nobody connected cost; what cannot be priced is counted, not guessed."""
    alone = avoidable = Fraction()
    unpriced = []
    for life in lives:
        price = prices.prices.get(life.instance_type)
        known = price and _amounts(life, price, now)
        if known:
            alone, avoidable = alone + known[0], avoidable + known[1]
        else:
            unpriced.append("" if price else life.instance_type)
    return Money(alone, avoidable, len(unpriced), tuple(sorted(set(unpriced))))


def rounded(amount: Fraction) -> Decimal:
    """Return an amount as it is shown."""
    return Decimal(round(amount * 10**DECIMALS)).scaleb(-DECIMALS)


def remarks(unpriced: int, types: Iterable[str]) -> tuple[str, ...]:
    """Return what has to be said beside amounts; `types` are those of the lives that are in no amount."""
    if not unpriced:
        return CANNOT_KNOW
    names = sorted(name for name in types if name)
    reasons = [f"no price of {', '.join(names)}"] if names else []
    if "" in types:
        reasons.append("AppStream, or an earlier release, did not say what instance or type of fleet it was")
    sessions = "1 session is" if unpriced == 1 else f"{unpriced} sessions are"
    return (f"{sessions} unpriced, and in no amount: {'; '.join(reasons)}.", *CANNOT_KNOW)


def _amounts(life: Life, price: Price, now: datetime) -> tuple[Fraction, Fraction] | None:
    """Return what the time with nobody connected cost, and what of it was avoidable; None if nobody knows.

    An instance costs each of the sessions that it takes an equal share, whether they are all there or not.
    """
    running, stopped = Fraction(price.running), Fraction(price.stopped)
    sessions = max(1, life.max_sessions)
    hours = Fraction(life.alone_seconds, HOUR)
    alone = hours * running / sessions
    match life.fleet_type:
        case FleetType.ALWAYS_ON:
            # No instance stops because nobody is connected.
            return alone, Fraction()
        case FleetType.ON_DEMAND:
            return alone, hours * (running - stopped) / sessions
        case FleetType.ELASTIC:
            lasted = int(((life.end or now) - life.start).total_seconds())
            charged = max(lasted, ELASTIC_LEAST) - max(lasted - life.alone_seconds, ELASTIC_LEAST)
            return alone, Fraction(charged, HOUR) * running
        case _:
            return None


class _Twice(NamedTuple):
    """Stands for the value of a name that a file has twice."""


def _object(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[key] = _Twice() if key in found else value
    return found


def _problem(error: ErrorDetails) -> str:
    """Say where a file is wrong, and what should be there."""
    location, kind, value = error["loc"], error["type"], error["input"]
    path = ".".join(map(str, location)) or "file"
    of_price = location[:1] == ("prices",) and len(location) > 1
    form: type[_Form] = Price if of_price else Prices
    field = form.model_fields.get(str(location[-1])) if location else None
    should_be = (field and field.description) or (_PRICE if of_price else _FORMAT)
    if isinstance(value, _Twice):
        return f"{path}: is there twice; keep one"
    match kind:
        case "prices":
            return f"{path}: {error['msg']}"
        case "extra_forbidden":
            return f"{path}: no such field; known: {', '.join(sorted(form.model_fields))}"
        case "missing":
            return f"{path}: is missing; should be {should_be}"
        case _:
            return f"{path}: is {json.dumps(value)[:60]}; should be {should_be}"
