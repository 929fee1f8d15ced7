"""The tables, as SQLAlchemy models. Private to this room: what leaves it are the records of ``records/``."""

from mlflow_core.metadata.tables.access import TokenRow
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
    LatestMetricRow,
    MetricRow,
    ParamRow,
    RunRow,
    StepRow,
    StudyRow,
    TrialRow,
)
from mlflow_core.metadata.tables.schedules import ScheduleRow

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
    "LatestMetricRow",
    "MaterialisationRow",
    "MetricRow",
    "ModelRow",
    "ModelVersionRow",
    "MonitorRow",
    "NamespaceRow",
    "ParamRow",
    "ProjectRow",
    "RunRow",
    "ScheduleRow",
    "SpecRow",
    "StepRow",
    "StudyRow",
    "Table",
    "TokenRow",
    "TrialRow",
]
