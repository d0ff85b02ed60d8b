"""One `Tuner.fit`: the trials of a sweep that share a packing."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from ray import tune
from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE

from orchestrator.running.keep_workers import KeepWorkers
from orchestrator.running.tune_searcher import TreeSearcher
from orchestrator.running.worker import bundles, controller
from orchestrator.search.memory_retries import Packing


def run_round(searcher: TreeSearcher, packing: Packing, context: dict[str, Any]) -> None:
    """Let Tune run what the searcher hands out.

    Raises:
        Exception: whatever our own side of the searcher raised; Tune would only log it.
    """
    scratch = tempfile.mkdtemp(prefix="fatefront-")
    _keep_secrets()

    # not by `tune.with_parameters`: the object store, where that puts things, may lose them
    def work(config: dict[str, Any]) -> None:
        controller(config, context)

    trainable = tune.with_resources(
        work,
        lambda config: tune.PlacementGroupFactory(
            bundles(config["slot"], packing.cpus, packing.gpus, packing.processes),
            strategy="STRICT_PACK" if packing.processes > 1 else "PACK",
        ),
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=KeepWorkers(),
            num_samples=-1,
            max_concurrent_trials=packing.workers,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=scratch,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )
    try:
        with _quiet():
            tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if searcher.crashed is not None:
        raise searcher.crashed


def _keep_secrets() -> None:
    """Tune hands the keys of AWS to its actors by their runtime environment, which Ray writes into
    its log and onto a command line. Every machine has keys of its own (docs/storage.md), and on
    one machine the actors inherit the driver's.
    """
    for name in [name for name in ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]:
        ENV_VARS_TO_PROPAGATE.discard(name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Tune's and Ray's log lines are kept off the console: ours says what happens. Tune calls a
    lost node an error and prints a trace for each of its trials; to us it is a retry.
    """
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.train", "ray.data")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL if logger.name == "ray.tune" else logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
