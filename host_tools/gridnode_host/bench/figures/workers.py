"""Benches side by side, a process each: sampling the physics for one node keeps a core busy."""

from __future__ import annotations

import copyreg
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from gridnode_host.errors import GridnodeError

J = TypeVar("J")
R = TypeVar("R")

Step = Callable[[], None]
"""Called by a job once per step; raises InterruptedError when it is to stop."""

_POLL_S = 0.2

_shared: dict[str, Any] = {}

# an error with fields of its own crosses from a worker with all of them
copyreg.pickle(GridnodeError, lambda e: (GridnodeError, (e.step, e.cause, e.action, e.exit)))


def run(
    work: Callable[[J, Step], R],
    jobs: Sequence[J],
    steps: int,
    progress: Callable[[int, int], None],
) -> list[R]:
    """Do all jobs, as many at a time as there are processors; results in their order.

    `steps` is how many all jobs make together. Raises the error of the first job that fails.
    """
    context = multiprocessing.get_context("spawn")
    done, stop = context.Queue(), context.Event()
    workers = max(1, min(len(jobs), os.cpu_count() or 1))
    count = told = 0
    with ProcessPoolExecutor(workers, context, _adopt, (done, stop)) as pool:
        running = [pool.submit(_work, work, job) for job in jobs]
        try:
            while not all(one.done() for one in running):
                if any(one.done() and one.exception() for one in running):
                    break
                time.sleep(_POLL_S)
                while not done.empty():
                    count += done.get()
                if 100 * count // max(1, steps) > told:
                    told = 100 * count // steps
                    progress(count, steps)
        finally:
            stop.set()
            for one in running:
                one.cancel()
        for one in running:
            error = None if one.cancelled() else one.exception()
            if error is not None and not isinstance(error, InterruptedError):
                raise error
        return [one.result() for one in running]


def _adopt(done: Any, stop: Any) -> None:
    """Initialise a worker; the parent passes a Ctrl-C on, so that benches are cleared away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _shared.update(done=done, stop=stop, parent=os.getppid())


def _work(work: Callable[[J, Step], R], job: J) -> R:
    def orphan() -> bool:
        return bool(os.getppid() != _shared["parent"])

    def step() -> None:
        if _shared["stop"].is_set() or orphan():
            raise InterruptedError("stopped")
        _shared["done"].put(1)

    try:
        return work(job, step)
    except InterruptedError:
        if orphan():
            os._exit(1)  # the bench is cleared away, and nobody waits for an answer
        raise
