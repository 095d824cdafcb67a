"""A deterministic AWS in memory, put in at botocore's API-call level, below every real client.

It knows which sweep is calling, what time it is, and which fault falls on which call: a crash before
or after the effect, an error for good, a deadline that comes near, and a hook at each call where other
sweeps or world changes run. What a call does is its service's business.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self

import time_machine
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from tests.simulation.appstream import ACCOUNT_ID, REGION, AppStream, World
from tests.simulation.dynamodb import BY_USER, DynamoDB
from tests.simulation.errors import AwsError
from tests.simulation.eventbridge import EventBridge
from tests.simulation.parameters import Parameters
from tests.simulation.tagging import Tagging

EPOCH = 1_767_225_600.0  # 2026-01-01T00:00:00Z
LAMBDA_SECONDS = 60.0
# The one method that every call of every botocore client goes through.
_CALL = "_make_api_call"
_FROM_CODE = "from_code"


class Died(BaseException):
    """The process is gone: no code of the sweep may run on, so no `except Exception` holds it."""


class Blow(StrEnum):
    """What a fault does."""

    DIE_BEFORE = "dies before the effect"
    DIE_AFTER = "dies after the effect, before the answer"
    FAIL = "fails for good"
    FAIL_ONCE = "fails once"
    DEADLINE = "is where the deadline comes near"
    SUBSET = "accepts a part of its entries"


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls a sweep at its call number `at`, counted from 0.

    FAIL goes on for every later call of that operation, or of `operation`; FAIL_ONCE does not. SUBSET
    accepts the entries whose bit in `mask` is set and refuses the others with `code`.
    DEADLINE leaves `seconds` of the Lambda function's time.
    """

    at: int
    blow: Blow
    code: str = "ThrottlingException"
    mask: int = 0
    seconds: float = 1.0
    operation: str = ""

    def __str__(self) -> str:
        extra = {
            Blow.FAIL: f" ({self.code})",
            Blow.FAIL_ONCE: f" ({self.code})",
            Blow.SUBSET: f" ({self.mask:b})",
        }
        return f"call {self.at} {self.blow}{extra.get(self.blow, '')}"


@dataclass(slots=True)
class Call:
    """One call as it was made, with what came back; an answer means that it took effect.

    `at` is the caller's clock when it came back, `order` its place among all calls of all sweeps.
    """

    operation: str
    params: Mapping[str, Any]
    at: float
    order: int
    answer: dict[str, Any] | None = None
    error: str = ""
    died: bool = False


@dataclass(slots=True, eq=False)
class Run:
    """One sweep on its way: its calls so far, its faults, its deadline, the skew of its clock.

    It is the Lambda context that the handler gets, too.
    """

    cloud: "Cloud"
    number: int
    faults: tuple[Fault, ...] = ()
    skew: float = 0.0
    begin: float = 0.0
    deadline: float = 0.0
    dead: bool = False
    timed_out: bool = False
    calls: list[Call] = field(default_factory=list)
    result: Any = None
    error: BaseException | None = None
    printed: str = ""
    failing: dict[str, str] = field(default_factory=dict)
    # The function's environment, and what of the topology its container knew.
    environment: Mapping[str, str] = field(default_factory=dict)
    told: Any = None
    aws_request_id: str = ""
    function_name: str = "auditor"
    function_version: str = "$LATEST"
    memory_limit_in_mb: int = 256
    invoked_function_arn: str = f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:auditor"
    log_group_name: str = "/aws/lambda/auditor"
    log_stream_name: str = "simulation"

    @property
    def margin(self) -> float:
        """Return the seconds that a sweep leaves unused: a tenth of its time, at least five."""
        return max(5.0, (self.deadline + self.skew - self.begin) / 10)

    def get_remaining_time_in_millis(self) -> int:
        """Return what is left of the function's time, as Lambda counts it."""
        return max(0, int((self.deadline - self.cloud.clock.now) * 1000))


class Service(Protocol):
    """Whoever carries out the operations of an API."""

    def call(self, operation: str, params: Mapping[str, Any], /) -> dict[str, Any]:
        """Carry out one; raise AwsError."""


class Clock:
    """The one true time, and what the machine that has the floor takes it for."""

    def __init__(self) -> None:
        self.now = EPOCH
        self.skew = 0.0
        self._traveller: time_machine.Traveller | None = None
        self._travel = time_machine.travel(EPOCH, tick=False)

    def start(self) -> None:
        """Take the place of the machine's clock."""
        self._traveller = self._travel.start()
        self.show()

    def stop(self) -> None:
        """Give the machine its clock back."""
        self._travel.stop()
        self._traveller = None

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.show()

    def show(self) -> None:
        """Let the process see the time."""
        if self._traveller is not None:
            self._traveller.move_to(self.now + self.skew)


class Cloud:
    """The account: its services, its clock, and the sweep that has the floor."""

    def __init__(self, table: str = "table", bus: str = "bus") -> None:
        self.clock = Clock()
        self.world = World()
        self.appstream = AppStream(self.world)
        self.dynamodb = DynamoDB()
        self.dynamodb.create_table(table, indexes=BY_USER)
        self.eventbridge = EventBridge()
        self.eventbridge.buses.add(bus)
        self.tagging = Tagging(self.world, self._fails)
        self.parameters = Parameters(self.world, self._fails)
        self.services: Mapping[str, Service] = {
            "appstream": self.appstream,
            "dynamodb": self.dynamodb,
            "events": self.eventbridge,
            "resourcegroupstaggingapi": self.tagging,
            "ssm": self.parameters,
        }
        self.seconds_per_call = 0.05
        self.validates = False
        # Called before each call of a sweep: other sweeps and world changes happen here.
        self.hook: Callable[[Run, str, Mapping[str, Any]], None] | None = None
        self.run: Run | None = None
        self.runs = 0
        self.calls = 0
        self._real: Any = None

    def _fails(self, operation: str, params: Mapping[str, Any]) -> str | None:
        """Whoever lets AppStream fail lets what is asked beside it fail, too."""
        return self.appstream.fails(operation, params)

    def __enter__(self) -> Self:
        self._real = getattr(BaseClient, _CALL)
        cloud = self

        def made(client: BaseClient, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
            return cloud.call(client, operation, params)

        setattr(BaseClient, _CALL, made)
        self.clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clock.stop()
        setattr(BaseClient, _CALL, self._real)

    def invocation(self, *faults: Fault, skew: float = 0.0, seconds: float = LAMBDA_SECONDS) -> Run:
        """Return a new invocation of the function, due to end `seconds` from now."""
        self.runs += 1
        return Run(
            self,
            self.runs,
            faults,
            skew,
            begin=self.clock.now + skew,
            deadline=self.clock.now + seconds,
            aws_request_id=f"00000000-0000-4000-8000-{self.runs:012d}",
        )

    @contextmanager
    def floor(self, run: Run) -> Iterator[Run]:
        """Give a run the floor: the calls that are made now are its own."""
        before, skew = self.run, self.clock.skew
        self.run, self.clock.skew = run, run.skew
        self.clock.show()
        try:
            yield run
        finally:
            self.run, self.clock.skew = before, skew
            self.clock.show()

    def call(self, client: BaseClient, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out an API call of the run that has the floor, with what befalls it."""
        run = self.run
        if run is None:
            try:
                return self._carry_out(client, operation, params)
            except AwsError as error:
                raise _as_botocore(client, operation, error) from None
        if self.hook is not None and not run.dead:
            self.hook(run, operation, params)
        if run.dead:
            raise Died
        self.clock.advance(self.seconds_per_call)
        self.calls += 1
        call = Call(operation, params, self.clock.now + run.skew, self.calls)
        faults = {fault.blow: fault for fault in run.faults if fault.at == len(run.calls)}
        run.calls.append(call)
        if faults:
            self._befall(run, call, faults)
        if self.clock.now >= run.deadline:
            run.timed_out = True
            self._kill(run, call)
        try:
            call.error = call.error or run.failing.get(operation, "")
            if call.error:
                raise AwsError(call.error, f"{call.error}, as simulated")  # noqa: TRY301
            with self._accepting(faults.get(Blow.SUBSET)):
                call.answer = self._carry_out(client, operation, params)
        except AwsError as error:
            call.error = error.code
            if Blow.DIE_AFTER in faults:
                self._kill(run, call)
            raise _as_botocore(client, operation, error) from None
        if Blow.DIE_AFTER in faults:
            self._kill(run, call)
        return call.answer

    def _befall(self, run: Run, call: Call, faults: Mapping[Blow, Fault]) -> None:
        if Blow.DIE_BEFORE in faults:
            self._kill(run, call)
        if Blow.FAIL in faults:
            run.failing[faults[Blow.FAIL].operation or call.operation] = faults[Blow.FAIL].code
        if Blow.FAIL_ONCE in faults:
            call.error = faults[Blow.FAIL_ONCE].code
        if Blow.DEADLINE in faults:
            left = run.deadline - self.clock.now
            self.clock.advance(max(0.0, left - faults[Blow.DEADLINE].seconds))
            call.at = self.clock.now + run.skew

    def _kill(self, run: Run, call: Call) -> NoReturn:
        run.dead = call.died = True
        raise Died

    @contextmanager
    def _accepting(self, subset: Fault | None) -> Iterator[None]:
        before = self.eventbridge.refuses
        if subset is not None:
            self.eventbridge.refuses = lambda _, place: None if subset.mask >> place & 1 else subset.code
        try:
            yield
        finally:
            self.eventbridge.refuses = before

    def _carry_out(self, client: BaseClient, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        name = client.meta.service_model.service_name
        service = self.services.get(name)
        if service is None:
            raise NotImplementedError(f"nothing is simulated of {name}")
        if self.validates:
            shape = client.meta.service_model.operation_model(operation).input_shape
            report = ParamValidator().validate(params, shape) if shape is not None else None
            if report is not None and report.has_errors():
                raise AssertionError(f"{operation} was called wrongly: {report.generate_report()}")
        answer: dict[str, Any] = service.call(operation, params)
        answer["ResponseMetadata"] = {"HTTPStatusCode": 200, "RequestId": "simulated", "RetryAttempts": 0}
        return answer


def _as_botocore(client: BaseClient, operation: str, error: AwsError) -> ClientError:
    response: dict[str, Any] = {
        "Error": {"Code": error.code, "Message": error.message},
        "ResponseMetadata": {"HTTPStatusCode": error.status, "RequestId": "simulated", "RetryAttempts": 0},
    } | error.extra
    raised: ClientError = getattr(client.exceptions, _FROM_CODE)(error.code)(response, operation)
    return raised
