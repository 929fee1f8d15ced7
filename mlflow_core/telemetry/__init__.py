"""What the program says while it works: structured logs and progress. Decides nothing and stores nothing."""

from mlflow_core.telemetry.logs import configure_logging, get_logger
from mlflow_core.telemetry.progress import (
    PlainProgress,
    Progress,
    SilentProgress,
    Stage,
    TerminalProgress,
    choose_progress,
)

__all__ = [
    "PlainProgress",
    "Progress",
    "SilentProgress",
    "Stage",
    "TerminalProgress",
    "choose_progress",
    "configure_logging",
    "get_logger",
]
