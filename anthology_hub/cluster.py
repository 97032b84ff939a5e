"""Work spread over a Ray cluster. The only door to Ray.

What runs on a worker is what runs in process: a callable that is sent to each worker once, with its model, and is given
one job after the other. A job is small, its result comes back in the order in which jobs end, and what is to last the
worker writes itself (see `runs`). A worker that dies is started anew and costs the jobs it had in hand.
"""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from anthology_hub.errors import AnthologyError, MissingExtraError, OptionError, RunError

if TYPE_CHECKING:
    from ray.data import Dataset

Job = TypeVar("Job")
Result = TypeVar("Result")
LOCAL = "local"
SPARE_CPUS = 2
"""Logical CPUs of a local cluster beside those of the workers: Ray Data hangs when actors hold all of them."""
MOST_BLOCKS = 10_000
"""Jobs are handed out one by one up to so many; beyond, some at a time."""
TRIES = 3
"""How often a job is begun: Ray would try one that kills its worker for ever."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where work is spread, and what each worker takes.

    Example:
        >>> Cluster.of("local") == Cluster(address="local", workers=2, cpus=0.5, gpus=0.0)
        True
    """

    address: str = LOCAL
    """`local` starts a cluster on this machine; else an address that `ray.init` takes, as `auto` or `10.0.0.1:6379`.
    A process that is connected already stays with its cluster."""
    workers: int = 2
    """Workers, each with its own model; at least 1."""
    cpus: float = 0.5
    """Logical CPUs that a worker takes; above 0. Half of one leaves room for Ray Data's own tasks."""
    gpus: float = 0.0
    """GPUs that a worker takes, at least 0; a fraction puts several workers on one."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: If a value is not allowed.
        """
        if not self.address or self.workers < 1 or self.cpus <= 0 or self.gpus < 0 or self.gpus > 1 != self.gpus % 1:
            raise OptionError(
                "a cluster needs an address ('local', 'auto' or HOST:PORT), workers of at least 1, cpus above 0 and "
                "gpus of at least 0, whole above 1; got "
                f"{self.address!r}, {self.workers}, {self.cpus}, {self.gpus}"
            )

    @classmethod
    def of(cls, value: Cluster | str) -> Cluster:
        """Return a cluster, given as such or by its address."""
        return cls(address=value) if isinstance(value, str) else value

    def connect(self) -> None:
        """Start or join the cluster, if this process has none yet.

        Raises:
            MissingExtraError: If Ray is not installed.
            OptionError: If nothing answers at the address.
        """
        # Ray tells its makers how it is used, unless told not to.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise MissingExtraError("ray", "ray", "clusters") from error
        if ray.is_initialized():
            return
        local = {"num_cpus": int(self.workers * self.cpus + 1) + SPARE_CPUS, "include_dashboard": False}
        given = local if self.address == LOCAL else {}
        try:
            ray.init(self.address, logging_level="ERROR", log_to_driver=False, **given)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise OptionError(
                f"no Ray cluster can be joined at {self.address!r} ({error}): start one with `ray start --head`, or "
                "give 'local'"
            ) from error


def spread(
    jobs: Iterable[Job], work: Callable[[Job], Result], *, cluster: Cluster | str | None = None
) -> Iterator[Result]:
    """Yield the result of each job: in process and in order without a cluster, else as the workers of one end them.

    Args:
        jobs: Picklable, each as large as what a dying worker may cost.
        work: Picklable; sent to each worker once, and there for all of its jobs.
        cluster: Where.

    Raises:
        AnthologyError: What the work raised, on whichever machine.
        RunError: If the cluster fails, or a job kills every worker that it is given to.

    Example:
        >>> list(spread([1, 2, 3], float))
        [1.0, 2.0, 3.0]
    """
    if cluster is None:
        yield from map(work, jobs)
        return
    cluster, jobs = Cluster.of(cluster), list(jobs)
    cluster.connect()
    if not jobs:
        return
    import ray

    try:
        for row in _mapped(jobs, work, cluster).iter_rows():
            yield _received(row["result"])
    except ray.exceptions.RayError as error:
        raise RunError(
            f"the cluster at {cluster.address!r} failed ({_first_line(error)}): what was done is in the run folder, "
            "run the same again, with or without a cluster"
        ) from error


def _mapped(jobs: Sequence[Job], work: Callable[[Job], Result], cluster: Cluster) -> Dataset:
    from ray import cloudpickle, data

    context = data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    blocks = data.from_items(
        [{"at": at, "job": cloudpickle.dumps(job)} for at, job in enumerate(jobs)],
        override_num_blocks=min(len(jobs), MOST_BLOCKS),
    )
    return blocks.map_batches(
        _Worker,
        fn_constructor_args=(cloudpickle.dumps(work), _tally()),
        batch_size=1,
        compute=data.ActorPoolStrategy(size=min(cluster.workers, len(jobs))),
        num_cpus=cluster.cpus,
        num_gpus=cluster.gpus or None,
    )


def _tally() -> Any:  # noqa: ANN401 - ray's handles have no types
    """Start what counts how often each job was begun, on whichever worker."""
    import ray

    return ray.remote(num_cpus=0)(_Tally).remote()


class _Tally:
    """How often each job was begun."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}

    def add(self, job: int) -> int:
        self._begun[job] = self._begun.get(job, 0) + 1
        return self._begun[job]


class _Worker:
    """What a worker holds: the work, opened with the first job so that what is wrong with it is told like any error."""

    def __init__(self, work: bytes, tally: Any) -> None:  # noqa: ANN401
        self._sent, self._tally = work, tally
        self._work: Callable[[Any], Any] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        from ray import cloudpickle

        jobs = zip(batch["at"], batch["job"], strict=True)
        return {"result": [cloudpickle.dumps(self._done(int(at), job)) for at, job in jobs]}

    def _done(self, at: int, job: bytes) -> object:
        import ray

        if ray.get(self._tally.add.remote(at)) > TRIES:
            return _Failed(RunError, f"job {at} ended its worker {TRIES} times, {_POISON}")
        try:
            if self._work is None:
                self._work = pickle.loads(self._sent)
            return self._work(pickle.loads(job))
        except AnthologyError as error:
            return _Failed(type(error), str(error))
        except Exception as error:
            # The whole of it stands in the worker's log.
            traceback.print_exc()
            return _Failed(RunError, f"job {at} failed on its worker with {type(error).__name__}: {_first_line(error)}")


_POISON = "as one does that needs more memory than there is: give a smaller batch size, or workers with more"


@dataclass(frozen=True)
class _Failed:
    """An error of ours on its way back: not every exception can be pickled."""

    kind: type[AnthologyError]
    message: str


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _received(sent: bytes) -> Any:  # noqa: ANN401 - whatever the work returned
    result = pickle.loads(sent)
    if isinstance(result, _Failed):
        raise result.kind.__new__(result.kind, result.message)
    return result
