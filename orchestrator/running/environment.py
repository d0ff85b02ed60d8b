"""Settings that must be in the environment before ray or mlflow is imported."""

import os

ONE_MACHINE = {
    # every Ray port on loopback; without it raylet and GCS listen on all interfaces even on one
    # machine
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    # results are read from our ledger, never from Tune's result files or snapshots
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


def prepare(*, cluster: bool = False) -> None:
    """Set what the user has not set; on a cluster the nodes must be able to reach one another."""
    for name, value in (SETTINGS if cluster else SETTINGS | ONE_MACHINE).items():
        os.environ.setdefault(name, value)
