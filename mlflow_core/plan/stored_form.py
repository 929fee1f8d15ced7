"""What Feast's registry holds of a declaration beside the declaration itself: tags, and the types of columns.

``mlflow_core.plan.to_feast`` builds Feast's objects of this. What only asks whether they would differ reads it here,
for importing Feast takes seconds: nothing here does. Types are the numbers that Feast's messages have for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
import pyarrow as pa

from mlflow_core.algebra.on_demand import infer_outputs, input_names
from mlflow_core.algebra.types import arrow_type, dtype_of_arrow
from mlflow_core.errors import PlanError
from mlflow_core.plan.diff import declared_json
from mlflow_core.plan.project import Project
from mlflow_core.plan.retrieval import clock_of
from mlflow_core.spec import DType, FeatureService, FeatureView, Named, OnDemand
from mlflow_core.spec.code import code_digest

__all__ = [
    "CLOCK_TAG",
    "CODE_TAG",
    "KIND_TAG",
    "MANIFEST_TAG",
    "ON_DEMAND_TAG",
    "SPEC_TAG",
    "TYPE_NUMBERS",
    "StoredForm",
    "input_types",
    "key_type",
    "key_types",
    "on_demand_tags",
    "service_tags",
    "stored_forms",
    "tags_of",
]

KIND_TAG = "mlcore.kind"
SPEC_TAG = "mlcore.spec"
CLOCK_TAG = "mlcore.clock"
ON_DEMAND_TAG = "mlcore.on_demand"
CODE_TAG = "mlcore.code"
MANIFEST_TAG = "mlcore.manifest"

TYPE_NUMBERS: Mapping[DType, int] = {
    DType.BYTES: 1,
    DType.STRING: 2,
    DType.INT32: 3,
    DType.INT64: 4,
    DType.FLOAT64: 5,
    DType.FLOAT32: 6,
    DType.BOOL: 7,
    DType.TIMESTAMP: 8,
    DType.BYTES_LIST: 11,
    DType.STRING_LIST: 12,
    DType.INT32_LIST: 13,
    DType.INT64_LIST: 14,
    DType.FLOAT64_LIST: 15,
    DType.FLOAT32_LIST: 16,
    DType.BOOL_LIST: 17,
    DType.TIMESTAMP_LIST: 18,
    DType.MAP: 20,
    DType.UUID: 36,
}
"""Feast's number of each type; ``tests/plan/test_stored_form.py`` holds it equal to ``to_feast.feast_type``."""


@dataclass(frozen=True, slots=True)
class StoredForm:
    """What a reader of the registry meets of one declaration beside the declaration.

    Attributes:
        tags: Its tags, without the one of the declaration.
        types: Column -> Feast's number of its type: of a view keys and features, of a service none.
    """

    tags: Mapping[str, str]
    types: Mapping[str, int] = field(default_factory=dict)


def stored_forms(project: Project, schemas: Mapping[str, pa.Schema]) -> dict[tuple[str, str], StoredForm]:
    """Return what apply would write of views, on-demand features and services, by kind and name.

    Args:
        project: The loaded and checked project.
        schemas: View name -> schema; from ``check_project``.

    Raises:
        PlanError: A key column has two types, or a column is of a type that no feature has.
    """
    key_types(project, schemas)
    found: dict[tuple[str, str], StoredForm] = {}
    for name, view in project.views.items():
        found["views", name] = _form(tags_of(view, "view"), _view_types(view, schemas[name]))
    for name, one in project.on_demand.items():
        outputs = infer_outputs(one, input_types(one, schemas))
        types = {feature: dtype_of_arrow(feature, kind) for feature, kind in outputs.items()}
        found["on_demand", name] = _form(on_demand_tags(one), types)
    for name, service in project.services.items():
        found["services", name] = _form(service_tags(service), {})
    return found


def tags_of(one: Named, kind: str) -> dict[str, str]:
    """Return the tags of a declaration: the user's, its kind and itself."""
    spec = orjson.dumps(declared_json(one), option=orjson.OPT_SORT_KEYS).decode()
    return {**one.tags, KIND_TAG: kind, SPEC_TAG: spec}


def on_demand_tags(one: OnDemand) -> dict[str, str]:
    """Return the tags of on-demand features: also where their function is, and the digest of its code."""
    return tags_of(one, "on_demand") | {ON_DEMAND_TAG: one.import_path, CODE_TAG: code_digest(one.function)}


def service_tags(service: FeatureService) -> dict[str, str]:
    """Return the tags of a service: also its clock."""
    return tags_of(service, "service") | {CLOCK_TAG: clock_of(service)}


def input_types(one: OnDemand, schemas: Mapping[str, pa.Schema]) -> dict[str, pa.DataType]:
    """Return the Arrow types of what an on-demand function reads, by the names under which it reads them.

    Args:
        one: The declaration.
        schemas: View name -> schema.
    """
    stored = {name: schemas[view].field(feature).type for (view, feature), name in input_names(one).items()}
    return stored | {name: arrow_type(dtype) for name, dtype in one.request.items()}


def key_types(project: Project, schemas: Mapping[str, pa.Schema]) -> dict[str, DType]:
    """Return the type of each key column of a project.

    Raises:
        PlanError: A key column has two types.
    """
    types: dict[str, tuple[DType, str]] = {}
    for view_name, view in sorted(project.views.items()):
        for key in view.keys:
            dtype = key_type(key, schemas[view_name])
            known, where = types.setdefault(key, (dtype, view_name))
            if known is not dtype:
                raise PlanError(
                    f'key column "{key}" is {dtype} here and {known} in view "{where}"',
                    object=view.title,
                    place=view.place,
                    hint="Keys of one name must have one type, or nothing joins; rename one of them.",
                )
    return {key: dtype for key, (dtype, _) in types.items()}


def key_type(key: str, schema: pa.Schema) -> DType:
    """Return the type under which a key column is stored."""
    dtype = dtype_of_arrow(key, schema.field(key).type)
    return DType.INT64 if dtype is DType.INT32 else dtype


def _view_types(view: FeatureView, schema: pa.Schema) -> dict[str, DType]:
    keys = {key: key_type(key, schema) for key in view.keys}
    return keys | {name: dtype_of_arrow(name, schema.field(name).type) for name in view.feature_names}


def _form(tags: Mapping[str, str], types: Mapping[str, DType]) -> StoredForm:
    return StoredForm(
        {name: text for name, text in tags.items() if name != SPEC_TAG},
        {name: TYPE_NUMBERS[dtype] for name, dtype in types.items()},
    )
