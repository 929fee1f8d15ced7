"""What the program says while it works: structured logs and progress. Decides nothing and stores nothing."""

from mlflow_core.telemetry.logs import configure_logging, get_logger
from mlflow_core.telemetry.progress import (
    ConsoleProgress,
    PlainProgress,
    Progress,
    SilentProgress,
    Stage,
    TerminalProgress,
)

__all__ = [
    "ConsoleProgress",
    "PlainProgress",
    "Progress",
    "SilentProgress",
    "Stage",
    "TerminalProgress",
    "configure_logging",
    "get_logger",
]
