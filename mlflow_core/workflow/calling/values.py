"""Outputs between steps: read from the artifact store as a function wants them, and stored as it returns them.

Tables are Parquet, values are JSON, everything else is files; nothing is pickled. The same value gives the same bytes.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.artifacts import Artifact, ArtifactStore
from mlflow_core.engine.dataset.manifest import MANIFEST
from mlflow_core.workflow.calling.call import Stored

__all__ = ["WrongResult", "read_input", "store_output"]

_TABLE: Final = "part-00000.parquet"
_ROW_GROUP: Final = 1 << 20
_VALUES: Final = {
    "dict": dict,
    "list": list,
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "none": type(None),
}


class WrongResult(Exception):
    """A step returned something else than its annotation says, or what cannot be kept."""


def read_input(stored: Stored, wanted: str, store: ArtifactStore, folder: Path) -> Any:
    """Read an output of an earlier step.

    Args:
        stored: The output.
        wanted: What the function wants, a ``spec.step.Kind``.
        store: Where it is.
        folder: A folder that does not exist yet; files are copied there, and the step may change them.

    Returns:
        A table (of a dataset all parts, with a column ``part``), a path, or a JSON value.

    Raises:
        ArtifactError: It is missing or damaged.
    """
    if wanted == "path":
        at = store.fetch_tree(stored.digest, folder)
        return next(one for one in at.iterdir()) if stored.kind == "file" else at
    if wanted != "table":
        value = json.loads(store.read_bytes(stored.digest))
        return float(value) if wanted == "float" else value
    try:
        files = _files(stored.digest, store, folder)
        return _parts(files) if stored.kind == "dataset" else _table(files)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _files(digest: str, store: ArtifactStore, folder: Path) -> dict[str, Path]:
    """The files of a stored folder by their path in it: in the store itself where it is on this machine."""
    if "://" in store.location:
        at = store.fetch_tree(digest, folder)
        return {one.relative_to(at).as_posix(): one for one in at.rglob("*") if one.is_file()}
    return {one.path: store.path(one.digest) for one in store.files_of(digest)}


def _table(files: dict[str, Path]) -> pa.Table:
    return pa.concat_tables(
        [pq.ParquetFile(files[name]).read() for name in sorted(files) if name.endswith(".parquet")]
    )


def _parts(files: dict[str, Path]) -> pa.Table:
    shards = json.loads(files[MANIFEST].read_bytes())["shards"]
    tables = []
    for part, names in shards.items():
        for name in names:
            table = pq.ParquetFile(files[name]).read()
            tables.append(table.append_column("part", pa.array([part] * table.num_rows, pa.string())))
    return pa.concat_tables(tables, promote_options="permissive")


def store_output(
    value: Any, promised: str, store: ArtifactStore, folder: Path, *, name: str
) -> tuple[Artifact, str]:
    """Store what a step returned.

    Args:
        value: What it returned.
        promised: What its annotation says, a ``spec.step.Kind``.
        store: Where it is kept.
        folder: A folder that does not exist yet, for drafts.
        name: What the artifact is called.

    Returns:
        The artifact and its kind, as for ``Stored``.

    Raises:
        WrongResult: It is something else than promised, no JSON, or a path to nothing.
        ArtifactError: It cannot be written.
    """
    if promised == "table":
        if not isinstance(value, pa.Table):
            raise WrongResult(_other(value, "pyarrow.Table"))
        folder.mkdir(parents=True)
        try:
            # In one piece: how a table is cut in memory must not show in its bytes.
            whole = value.combine_chunks()
            pq.write_table(whole, folder / _TABLE, compression="zstd", row_group_size=_ROW_GROUP)
        except MemoryError:
            raise
        except pa.ArrowException as error:
            raise WrongResult(f"returned a table that Parquet cannot hold: {error}") from None
        return store.put_tree(folder, name=name), "table"
    if promised == "path":
        return _store_files(value, store, folder, name)
    kind = _VALUES[promised]
    fits = isinstance(value, kind) and not (isinstance(value, bool) and promised in ("int", "float"))
    if promised == "float" and isinstance(value, int) and not isinstance(value, bool):
        value, fits = float(value), True
    if not fits:
        raise WrongResult(_other(value, promised.replace("none", "None")))
    if (why := _why_no_json(value, "the result")) is not None:
        raise WrongResult(why)
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False).encode()
    return store.put_bytes(text, name=f"{name}.json", media_type="application/json"), "value"


def _store_files(value: Any, store: ArtifactStore, folder: Path, name: str) -> tuple[Artifact, str]:
    if not isinstance(value, Path):
        raise WrongResult(_other(value, "Path"))
    if value.is_dir():
        return store.put_tree(value, name=name), "files"
    if not value.is_file():
        raise WrongResult(f"returned the path {value}, and there is nothing")
    folder.mkdir(parents=True)
    shutil.copyfile(value, folder / value.name)
    return store.put_tree(folder, name=name), "file"


def _other(value: Any, promised: str) -> str:
    return f"returned {_type_of(value)}, and is annotated to return {promised}"


def _type_of(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _why_no_json(value: Any, where: str) -> str | None:
    if value is None or isinstance(value, bool | int):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{where} is {value}, which JSON has no word for"
    if isinstance(value, str):
        return _why_no_text(value, where)
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                return f"{where} has the key {key!r}, and JSON's keys are texts"
        named = ((f"{where}[{key!r}]", one) for key, one in value.items())
    elif isinstance(value, list | tuple):
        named = ((f"{where}[{number}]", one) for number, one in enumerate(value))
    else:
        return f"{where} is {_type_of(value)}, which is no JSON value"
    return next((why for place, one in named if (why := _why_no_json(one, place)) is not None), None)


def _why_no_text(value: str, where: str) -> str | None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"{where} is no text that can be written: {error.reason}"
    return None
