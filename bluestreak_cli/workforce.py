"""Whether an application has workers that serve its handlers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bluestreak_cli.grade import Finding, Grade
from bluestreak_core import Client, Unsupported, WorkerRecord, WorkerState
from bluestreak_core.errors.text import counted

_NAMED = 5


async def look_at_workers(client: Client) -> Sequence[Finding]:
    """What can be said of the workers of an application that is open."""
    try:
        workers = await client.workers()
    except Unsupported as error:
        return [Finding(subject="workers", grade=Grade.WARNING, message=str(error))]
    return [*judge_workers(client.handlers, workers)]


def judge_workers(handlers: Iterable[str], workers: Sequence[WorkerRecord]) -> Iterator[Finding]:
    """The live workers, and those of the handlers that none of them takes."""
    polling = [worker for worker in workers if worker.state is WorkerState.POLLING]
    yield _alive(workers, polling)
    served = {handler for worker in polling for handler in worker.handlers}
    lacking = sorted(set(handlers) - served)
    if lacking and polling:
        yield Finding(
            subject="handlers",
            grade=Grade.WARNING,
            message=f"no worker has {_named(lacking)}",
            remedy="restart the workers with the code of now, or start one that has them",
        )
    elif polling:
        yield Finding(subject="handlers", grade=Grade.OK, message="each has a worker")


def _alive(workers: Sequence[WorkerRecord], polling: Sequence[WorkerRecord]) -> Finding:
    subject = "workers"
    if not polling:
        return Finding(
            subject=subject,
            grade=Grade.WARNING,
            message="all that are alive drain" if workers else "none is alive",
            remedy="start one with 'bluestreak worker'",
        )
    free = sum(worker.free_slots for worker in polling)
    message = f"{counted(len(polling), 'worker')} with {counted(free, 'free slot')}"
    if not free:
        remedy = "start more, or raise max_concurrency, if workflows wait"
        return Finding(subject=subject, grade=Grade.WARNING, message=message, remedy=remedy)
    return Finding(subject=subject, grade=Grade.OK, message=message)


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    some = ", ".join(map(repr, names[:_NAMED]))
    return f"{some} and {more} more" if more > 0 else some
