"""The tables, as SQLAlchemy models. Private to this room: what leaves it are the records of ``records/``."""

from mlflow_core.metadata.tables.declared import ApplyRow, ApplySpecRow, NamespaceRow, ProjectRow, SpecRow
from mlflow_core.metadata.tables.erasures import ErasureRow
from mlflow_core.metadata.tables.models import (
    AliasMoveRow,
    AliasRow,
    DeploymentRow,
    ModelRow,
    ModelVersionRow,
)
from mlflow_core.metadata.tables.operations import (
    AlertRow,
    AuditHeadRow,
    AuditRow,
    MaterialisationRow,
    MonitorRow,
)
from mlflow_core.metadata.tables.orm import Table
from mlflow_core.metadata.tables.runs import (
    ArtifactRow,
    DatasetRow,
    MetricRow,
    ParamRow,
    RunRow,
    StepRow,
    StudyRow,
    TrialRow,
)

__all__ = [
    "AlertRow",
    "AliasMoveRow",
    "AliasRow",
    "ApplyRow",
    "ApplySpecRow",
    "ArtifactRow",
    "AuditHeadRow",
    "AuditRow",
    "DatasetRow",
    "DeploymentRow",
    "ErasureRow",
    "MaterialisationRow",
    "MetricRow",
    "ModelRow",
    "ModelVersionRow",
    "MonitorRow",
    "NamespaceRow",
    "ParamRow",
    "ProjectRow",
    "RunRow",
    "SpecRow",
    "StepRow",
    "StudyRow",
    "Table",
    "TrialRow",
]
