"""What happened: runs, datasets, models, aliases, materialisations, and who changed what.

:class:`MetadataStore` is the door; it answers with frozen records. The only room that knows SQLAlchemy's ORM.
"""

from mlflow_core.metadata.erasures import read_erasures
from mlflow_core.metadata.foreign import IMPORTED, ForeignFile, ForeignRun
from mlflow_core.metadata.outputs import MadeOutput
from mlflow_core.metadata.records import (
    Alert,
    AliasMove,
    Apply,
    AuditEntry,
    AuditProblem,
    AuditReport,
    DatasetRecord,
    Deployment,
    ErasureRecord,
    LoggedArtifact,
    Materialisation,
    Metric,
    ModelVersion,
    Monitor,
    Run,
    RunState,
    SpecVersion,
    Step,
    Study,
    Trial,
)
from mlflow_core.metadata.schedules import Schedule
from mlflow_core.metadata.searching import Bound
from mlflow_core.metadata.store import MetadataStore
from mlflow_core.metadata.tokens import Token
from mlflow_core.metadata.upgrade import SchemaState, check, upgrade

__all__ = [
    "IMPORTED",
    "Alert",
    "AliasMove",
    "Apply",
    "AuditEntry",
    "AuditProblem",
    "AuditReport",
    "Bound",
    "DatasetRecord",
    "Deployment",
    "ErasureRecord",
    "ForeignFile",
    "ForeignRun",
    "LoggedArtifact",
    "MadeOutput",
    "Materialisation",
    "MetadataStore",
    "Metric",
    "ModelVersion",
    "Monitor",
    "Run",
    "RunState",
    "Schedule",
    "SchemaState",
    "SpecVersion",
    "Step",
    "Study",
    "Token",
    "Trial",
    "check",
    "read_erasures",
    "upgrade",
]
