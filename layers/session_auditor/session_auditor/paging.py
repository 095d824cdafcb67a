"""Reads answers that come in pages, many side by side, until the time is up.

It knows how botocore pages and how an answer may break off, and nothing about what the pages hold.
"""

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from session_auditor.aws_errors import MALFORMED, MALFORMED_ERRORS, error_code, is_refusal
from session_auditor.errors import CutShortError
from session_auditor.model import Failure

# A listing that never ends would fill the memory before its time is up: 100,000 sessions a scope.
PAGES_LIMIT = 2_000
ENDLESS = "LISTING_TOO_LONG"
DEADLINE = "DEADLINE"

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")
# Work that stops after each page, so that others may have a turn.
Paged = Generator[None, None, Result]


def answers(
    pages: Iterable[Mapping[str, Any]], time_left: Callable[[], float], *, next_page: str = "NextToken"
) -> Iterator[Mapping[str, Any]]:
    """Return the pages of a listing, one by one; raise CutShortError where it stops before its end.

    `next_page` is the field that holds the token of the next one.
    """
    try:
        for number, page in enumerate(pages, 1):
            yield page
            # botocore takes a number that is 0 for the end of the listing.
            token = page.get(next_page)
            if not isinstance(token, str | None):
                raise CutShortError(MALFORMED)
            if token and time_left() <= 0:
                raise CutShortError(DEADLINE)
            if token and number >= PAGES_LIMIT:
                raise CutShortError(ENDLESS)
    except (ClientError, BotoCoreError) as error:
        # botocore has retried by now; a token that repeats is a PaginationError of its paginator.
        raise CutShortError(error_code(error), final=is_refusal(error)) from None
    except MALFORMED_ERRORS:
        raise CutShortError(MALFORMED) from None


def in_one_go(work: Paged[Result]) -> Result:
    """Do work that could stop after each page without stopping."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: Result = end.value
            return result


def side_by_side(
    work: Callable[[Key], Paged[Result]],
    keys: Sequence[Key],
    time_left: Callable[[], float],
    *,
    workers: int,
    turns: bool = False,
) -> dict[Key, Result | Failure]:
    """Do the work for every key on the workers; what is not done in time failed by the deadline.

    A worker stays with what it has begun, so that little is half done when time runs out. With `turns`,
    and in the first half of the time, the last keys are passed on page by page, lest some workers have
    nothing to do while others have much left. A call that hangs is left behind, for a sweep must not
    outlive the function.
    """
    waiting = deque((key, work(key)) for key in keys)
    tried: set[Key] = set()
    done: dict[Key, Result] = {}
    half = time_left() / 2

    def serve() -> None:
        while True:
            try:
                key, pages = waiting.popleft()
            except IndexError:
                return
            tried.add(key)
            try:
                next(pages)
            except StopIteration as end:
                done[key] = end.value
                continue
            pass_on = turns and len(waiting) < workers and time_left() > half
            put_back = waiting.append if pass_on else waiting.appendleft
            put_back((key, pages))

    pool = ThreadPoolExecutor(workers, thread_name_prefix="listing")
    try:
        begun = [pool.submit(serve) for _ in range(min(workers, len(keys)))]
        ended, _ = wait(begun, timeout=max(0.0, time_left()), return_when=FIRST_EXCEPTION)
        for worker in ended:
            worker.result()
        return {key: done[key] if key in done else Failure(DEADLINE, tried=key in tried) for key in keys}
    finally:
        # Nothing more is begun; what is under way looks at the time before its next page.
        waiting.clear()
        pool.shutdown(wait=False, cancel_futures=True)
