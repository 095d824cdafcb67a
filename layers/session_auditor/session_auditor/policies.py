"""What must not be: the document of an administrator's policies, and each policy as its rule needs it.

A document is read whole or not at all: `read_document` names what is wrong in it, by path and with a remedy.
The forms are what may be written; what is made of them knows its hours and its zone, and is cheap to ask.
Who violates a policy is the rules' to say.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta, tzinfo
from hashlib import sha256
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, TypedDict, TypeVar, assert_never
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from session_auditor.errors import PoliciesError
from session_auditor.model import Globs, PolicyKind, Scope, UserIdMode
from session_auditor.settings import globs

# What an SSM parameter of the advanced tier holds.
DOCUMENT_BYTES = 8_192
# All events of a session have to fit its item: a Violated and a Cleared of each pair may wait there.
PAIRS_LIMIT = 20
PROBLEMS_SAID = 3
ERROR_LENGTH = 500
QUOTE_LENGTH = 40

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = f"({'|'.join(DAYS)})"
_DAYS = rf"{_DAY}(-{_DAY})?"
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]"
MINUTES_OF_A_DAY = 24 * 60
_EVERYTHING = Globs()
# Stands for a field that is in its object twice, so that validation refuses it where it is.
_TWICE: Final = object()


@dataclass(frozen=True, slots=True)
class Hours:
    """Spans of local time, one for each of the days (Monday is 0) on which they begin, but for `skip`.

    `begin` and `end` are minutes after midnight of that day; an end beyond 24 hours is on the next day.
    `text` is for people.
    """

    days: tuple[int, ...]
    begin: int
    end: int
    skip: frozenset[date]
    zone: tzinfo
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Policy:
    """What every policy has; `edition` tells one wording of it from another."""

    name: str
    edition: str = ""
    stacks: Globs = _EVERYTHING
    fleets: Globs = _EVERYTHING
    tags: tuple[tuple[str, Globs], ...] = ()

    def matches(self, scope: Scope, tags: Mapping[str, str]) -> bool:
        """Return whether it is about a scope whose tags are these; one that is absent counts as empty."""
        return (
            self.stacks.match(scope.stack)
            and self.fleets.match(scope.fleet)
            and all(globs.match(tags.get(key, "")) for key, globs in self.tags)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideHours(_Policy):
    """No session outside the hours, nor beyond `grace` after their end."""

    kind: ClassVar = PolicyKind.OUTSIDE_HOURS
    thresholds: ClassVar = (0,)
    hours: Hours
    grace: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class TooManySessions(_Policy):
    """No more than `limit` sessions of a user at once."""

    kind: ClassVar = PolicyKind.TOO_MANY_SESSIONS
    thresholds: ClassVar = (0,)
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLong(_Policy):
    """No session that is older than a threshold; `thresholds` are minutes, the smallest first."""

    kind: ClassVar = PolicyKind.TOO_LONG
    thresholds: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draining(_Policy):
    """No session whose host has drained longer than a threshold; minutes, the smallest first."""

    kind: ClassVar = PolicyKind.DRAINING
    thresholds: tuple[int, ...]


Policy = OutsideHours | TooManySessions | TooLong | Draining


@dataclass(frozen=True, slots=True)
class Document:
    """The policies by name, in order of their names."""

    policies: Mapping[str, Policy] = field(default_factory=dict)


NO_DOCUMENT = Document()


def _wrong(sentence: str) -> PydanticCustomError:
    """Return an error that is told in just these words."""
    return PydanticCustomError("policies", "{sentence}", {"sentence": sentence})


_Value = TypeVar("_Value", int, str)


def _each_once(values: tuple[_Value, ...]) -> tuple[_Value, ...]:
    seen: set[_Value] = set()
    for value in values:
        if value in seen:
            raise _wrong(f"{_quoted(value)} is there twice; keep one")
        seen.add(value)
    return values


def _real_date(text: str) -> str:
    date.fromisoformat(text)
    return text


def _readable_days(text: str) -> str:
    _each_once(tuple(DAYS[day] for day in _weekdays(text)))
    return text


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    # A folder of zones is no zone, nor is a name that leaves the folder of all.
    except (KeyError, ValueError, OSError):
        raise _wrong(
            f"no such time zone {_quoted(name)}; should be an IANA name, such as Europe/Berlin"
        ) from None
    return name


_GLOBS = (
    "names or globs as one text, with commas between and ! before what to exclude, such as prod-*,!prod-test"
)
_NAMING = "a letter, then up to 39 letters, digits, - or _"
NAME = "^[A-Za-z][A-Za-z0-9_-]{0,39}$"
_Name = Annotated[str, Field(pattern=NAME)]
_Minutes = Annotated[
    tuple[Annotated[int, Field(strict=True, ge=1, le=99_999)], ...],
    Field(
        min_length=1,
        max_length=10,
        description="a list of one to ten whole minutes from 1 to 99999, such as [600, 720]",
        examples=[[600, 720]],
        json_schema_extra={"uniqueItems": True},
    ),
    AfterValidator(_each_once),
]
_Days = Annotated[str, Field(pattern=f"^{_DAYS}( *, *{_DAYS})*$"), AfterValidator(_readable_days)]
_Date = Annotated[str, Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), AfterValidator(_real_date)]


class _Form(BaseModel):
    # Built when the first document is read: most functions never read one, and building takes milliseconds.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class HoursForm(_Form):
    """Hours of the week in local time. If `to` is not after `from`, they end on the day after."""

    model_config = ConfigDict(title="Hours")

    days: _Days = Field(
        description="days and ranges of days with commas between, each day once, such as mon-fri,sun",
        examples=["mon-fri", "mon-thu,sat"],
    )
    from_: str = Field(
        alias="from",
        pattern=f"^{_CLOCK}$",
        description="a time from 00:00 to 23:59, such as 07:00",
        examples=["07:00"],
    )
    to: str = Field(
        pattern=f"^({_CLOCK}|24:00)$",
        description="a time from 00:00 to 24:00, such as 19:00",
        examples=["19:00"],
    )
    skip: Annotated[tuple[_Date, ...], AfterValidator(_each_once)] = Field(
        default=(),
        description="a list of dates on which no hours begin, such as 2026-12-25",
        examples=[["2026-12-25"]],
        json_schema_extra={"uniqueItems": True},
    )

    @field_validator("to")
    @classmethod
    def _some_time_is_left(cls, to: str, info: ValidationInfo) -> str:
        if to == info.data.get("from_"):
            raise _wrong(f"is {_quoted(to)}, as from is; whole days are from 00:00 to 24:00")
        return to


class _PolicyForm(_Form):
    stacks: str = Field(default="", description=f"stacks: {_GLOBS}", examples=["prod-*,!prod-test"])
    fleets: str = Field(default="", description=f"fleets: {_GLOBS}", examples=["!render-*"])
    tags: dict[str, str] = Field(
        default={},
        description=f"values by tag key, each {_GLOBS}",
        examples=[{"department": "sales,finance"}],
    )


class OutsideHoursForm(_PolicyForm):
    """A live session outside the hours, whether anybody is connected or not."""

    model_config = ConfigDict(title="OUTSIDE_HOURS")

    kind: Literal[PolicyKind.OUTSIDE_HOURS]
    hours: _Name = Field(description="the name of hours of this document, such as office")
    grace_minutes: int = Field(
        default=0,
        alias="graceMinutes",
        strict=True,
        ge=0,
        le=99_999,
        description="whole minutes from 0 to 99999 after the end of hours",
    )


class TooManySessionsForm(_PolicyForm):
    """More live sessions of one user than the limit, among those that the filters match."""

    model_config = ConfigDict(title="TOO_MANY_SESSIONS")

    kind: Literal[PolicyKind.TOO_MANY_SESSIONS]
    limit: int = Field(strict=True, ge=1, le=99_999, description="a whole number from 1 to 99999")


class TooLongForm(_PolicyForm):
    """A session that has lasted so many minutes since its start."""

    model_config = ConfigDict(title="TOO_LONG")

    kind: Literal[PolicyKind.TOO_LONG]
    minutes: _Minutes


class DrainingForm(_PolicyForm):
    """A session whose host has been seen draining for so many minutes."""

    model_config = ConfigDict(title="DRAINING")

    kind: Literal[PolicyKind.DRAINING]
    minutes: _Minutes


_AnyForm = OutsideHoursForm | TooManySessionsForm | TooLongForm | DrainingForm
_FORMS: Mapping[str, type[_PolicyForm]] = {
    PolicyKind.OUTSIDE_HOURS: OutsideHoursForm,
    PolicyKind.TOO_MANY_SESSIONS: TooManySessionsForm,
    PolicyKind.TOO_LONG: TooLongForm,
    PolicyKind.DRAINING: DrainingForm,
}


class DocumentForm(_Form):
    """What must not be of AppStream sessions, as the session auditor reads it."""

    schema_: str = Field(
        default="", alias="$schema", description="where an editor finds this schema; the auditor ignores it"
    )
    version: int = Field(
        strict=True, ge=1, le=1, description="the version of this format, 1", json_schema_extra={"const": 1}
    )
    time_zone: Annotated[str, AfterValidator(_known_zone)] = Field(
        alias="timeZone",
        description="the IANA name of the time zone that governs the hours, such as Europe/Berlin",
        examples=["Europe/Berlin", "America/New_York", "UTC"],
    )
    hours: dict[_Name, HoursForm] = Field(
        default={},
        description="an object of hours by name",
        json_schema_extra={"additionalProperties": False},
    )
    policies: dict[_Name, Annotated[_AnyForm, Field(discriminator="kind")]] = Field(
        description="an object of policies by name", json_schema_extra={"additionalProperties": False}
    )


def read_document(
    text: str, *, tag_keys: Collection[str] | None = None, user_id_mode: UserIdMode | None = None
) -> Document:
    """Return the policies of a document; raise PoliciesError that says what is wrong in it.

    What is None of the settings is not known, and nothing is checked against it.
    """
    try:
        form = _parsed(text)
        problems = list(_contradictions(form, tag_keys, user_id_mode))
    except ValidationError as error:
        problems = _said(error)
    except RecursionError:
        problems = ["document: nested too deeply; policies need four levels"]
    if problems:
        raise PoliciesError(_cut("; ".join(problems[:PROBLEMS_SAID]), ERROR_LENGTH))
    hours = {name: _hours(each, form.time_zone) for name, each in form.hours.items()}
    return Document({name: _policy(name, each, hours) for name, each in sorted(form.policies.items())})


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the document, as published in docs/schemas."""
    schema = DocumentForm.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Policies"}


def _parsed(text: str) -> DocumentForm:
    size = len(text.encode(errors="surrogatepass"))
    if size > DOCUMENT_BYTES:
        raise PoliciesError(
            f"document: has {size} bytes; at most {DOCUMENT_BYTES} fit, so leave out what is not needed"
        )
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise PoliciesError(
            f"document: no JSON at line {error.lineno}, column {error.colno} ({error.msg}); correct it there"
        ) from None
    except ValueError:
        # Python reads no number of more than some thousand digits.
        raise PoliciesError("document: holds a number with too many digits; numbers end at 99999") from None
    return DocumentForm.model_validate(document)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[key] = _TWICE if key in found else value
    return found


def _contradictions(
    form: DocumentForm, tag_keys: Collection[str] | None, user_id_mode: UserIdMode | None
) -> Iterator[str]:
    """Yield what is wrong between the parts of a document, each of which is well formed, and the settings."""
    for name, each in form.policies.items():
        path = f"policies.{name}"
        if isinstance(each, OutsideHoursForm) and each.hours not in form.hours:
            known = ", ".join(sorted(form.hours)) or "none"
            yield f"{path}.hours: no such hours {_quoted(each.hours)}; known: {known}"
        if isinstance(each, TooManySessionsForm) and user_id_mode is UserIdMode.OMIT:
            yield f"{path}.kind: {each.kind} needs user ids; set UserIdMode to plain or hash, or take it out"
        unknown = () if tag_keys is None else [key for key in each.tags if key not in tag_keys]
        for key in unknown:
            known = ", ".join(sorted(tag_keys or ())) or "none"
            yield f"{path}.tags: TagKeys has no {_quoted(key)}; known: {known}"
    pairs = sum(len(_minutes(each)) for each in form.policies.values())
    if pairs > PAIRS_LIMIT:
        yield f"policies: {pairs} pairs of policy and threshold; at most {PAIRS_LIMIT} fit, so take some out"


def _said(error: ValidationError) -> list[str]:
    """Return what is wrong in a document: of each place the first that was found."""
    said: dict[str, str] = {}
    for each in error.errors(include_url=False):
        path, sentence = _problem(each)
        said.setdefault(path, f"{path}: {sentence}")
    return list(said.values())


def _problem(error: ErrorDetails) -> tuple[str, str]:
    """Return where a document is wrong, and what should be there."""
    place, kind, value = _place(error["loc"]), error["type"], error["input"]
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        # Pydantic locates it at the policy, whose kind is missing or wrong.
        place = place._replace(path=f"{place.path}.kind")
        value = value.get("kind")
    if value is _TWICE and kind != "extra_forbidden":
        return place.path, "is there twice; keep one"
    match kind:
        case "policies":
            sentence = error["msg"]
        case "union_tag_not_found":
            sentence = f"is missing; should be one of {', '.join(_FORMS)}"
        case "union_tag_invalid":
            sentence = f"no such kind {_quoted(value)}; known: {', '.join(_FORMS)}"
        case "extra_forbidden":
            sentence = f"no such field; known: {', '.join(sorted(_descriptions(place.form)))}"
        case "missing":
            sentence = f"is missing; should be {place.should_be}"
        case "string_unicode":
            sentence = f"{_quoted(value)} holds half a character, a lone surrogate; write it whole"
        case _:
            sentence = f"is {_quoted(value)}; should be {place.should_be}"
    return place.path, sentence


class _Place(NamedTuple):
    """Where a document is wrong: the path, the form it is in, and what should be there."""

    path: str
    form: type[_Form]
    should_be: str


def _place(location: tuple[int | str, ...]) -> _Place:
    # A place in a list stands for the list: to people it is one field.
    names = [name for name in location if isinstance(name, str)]
    form: type[_Form]
    match names:
        case ["policies" | "hours" as table, name, "[key]"]:
            return _Place(_path([table, name]), DocumentForm, _NAMING)
        case ["policies", name]:
            return _Place(_path(names), _PolicyForm, "an object with a kind")
        case ["policies", name, kind, *fields]:
            names, form = ["policies", name, *fields], _FORMS[kind]
        case ["hours", _, *fields]:
            form = HoursForm
        case fields:
            form = DocumentForm
    descriptions = _descriptions(form)
    should_be = descriptions.get(fields[0], "") if fields else f"an object with {', '.join(descriptions)}"
    return _Place(_path(names), form, should_be)


def _descriptions(form: type[_Form]) -> dict[str, str]:
    return {each.alias or name: each.description or "" for name, each in form.model_fields.items()}


def _path(names: Iterable[str]) -> str:
    return ".".join(_cut(_printable(name), QUOTE_LENGTH) for name in names) or "document"


def _quoted(value: object) -> str:
    match value:
        case str():
            return '"' + _cut(_printable(value), QUOTE_LENGTH).replace('"', "'") + '"'
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
        case _:
            return _cut(json.dumps(value), QUOTE_LENGTH)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _minutes(form: _AnyForm) -> tuple[int, ...]:
    """Return the thresholds of a policy; a kind without any has one of 0."""
    return form.minutes if isinstance(form, TooLongForm | DrainingForm) else (0,)


def _policy(name: str, form: _AnyForm, hours: Mapping[str, Hours]) -> Policy:
    filters: _Filters = {
        "stacks": _in_order(form.stacks),
        "fleets": _in_order(form.fleets),
        "tags": tuple((key, _in_order(text)) for key, text in sorted(form.tags.items())),
    }
    policy: Policy
    match form:
        case OutsideHoursForm():
            grace = timedelta(minutes=form.grace_minutes)
            policy = OutsideHours(name=name, hours=hours[form.hours], grace=grace, **filters)
        case TooManySessionsForm():
            policy = TooManySessions(name=name, limit=form.limit, **filters)
        case TooLongForm():
            policy = TooLong(name=name, thresholds=tuple(sorted(form.minutes)), **filters)
        case DrainingForm():
            policy = Draining(name=name, thresholds=tuple(sorted(form.minutes)), **filters)
        case _:
            assert_never(form)
    return replace(policy, edition=_edition(policy))


class _Filters(TypedDict):
    stacks: Globs
    fleets: Globs
    tags: tuple[tuple[str, Globs], ...]


def _in_order(text: str) -> Globs:
    """Return the globs in order of their text, since another order is no other policy."""
    found = globs(text)
    return Globs(include=tuple(sorted(set(found.include))), exclude=tuple(sorted(set(found.exclude))))


def _edition(policy: Policy) -> str:
    meaning = {**asdict(policy), "kind": policy.kind}
    if isinstance(policy, OutsideHours):
        hours = policy.hours
        skip = sorted(day.isoformat() for day in hours.skip)
        meaning["hours"] = [hours.days, hours.begin, hours.end, skip, str(hours.zone)]
        meaning["grace"] = policy.grace.total_seconds()
    return sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:8]


def _hours(form: HoursForm, time_zone: str) -> Hours:
    begin, end = _minute(form.from_), _minute(form.to)
    days = form.days.replace(" ", "")
    return Hours(
        days=_weekdays(form.days),
        begin=begin,
        end=end if end > begin else end + MINUTES_OF_A_DAY,
        skip=frozenset(date.fromisoformat(day) for day in form.skip),
        zone=ZoneInfo(time_zone),
        text=f"{days} {form.from_}-{form.to} {time_zone}",
    )


def _minute(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def _weekdays(text: str) -> tuple[int, ...]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        # A range may pass the end of the week: sat-mon.
        found += [(begin + n) % 7 for n in range((end - begin) % 7 + 1)]
    return tuple(sorted(found))
