"""Where training runs are done: this process, or a Dask cluster."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from codesign.errors import ConfigError
from codesign.search import Evaluate

RETRIES = 2  # a training run whose worker was killed is done again elsewhere, this often


@contextmanager
def training_processes(count: int, scheduler: str | None) -> Iterator[Evaluate]:
    """`map` for one process; otherwise `count` local Dask workers of one thread, or the cluster at `scheduler`."""
    if count == 1 and scheduler is None:
        yield map
        return
    try:
        distributed = importlib.import_module("distributed")  # without types of its own
    except ImportError as error:
        raise ConfigError(f"more than one process needs Dask ({error}); pip install 'codesign[dask]'") from error
    for name in ("distributed", "distributed.nanny", "distributed.worker", "distributed.scheduler"):
        logging.getLogger(name).setLevel(
            logging.CRITICAL
        )  # a worker that ends late is no news; failed training runs are
    try:
        cluster = scheduler or distributed.LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None)
        client = distributed.Client(cluster, timeout=30)
    except OSError as error:
        raise ConfigError(f"--scheduler {scheduler}: no scheduler answers ({error})") from error
    try:

        def evaluate(function: Callable[[Any], Any], jobs: Iterable[Any], /) -> Iterator[Any]:
            futures = [client.submit(function, job, pure=False, retries=RETRIES) for job in jobs]
            for _, result in distributed.as_completed(futures, with_results=True):
                yield result

        yield evaluate
    finally:
        client.close()
        if not isinstance(cluster, str):
            cluster.close()
