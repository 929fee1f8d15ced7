"""scikit-learn estimators as bytes, by skops: read without running what is in them, and the same bytes for the same fit.

skops writes addresses of memory and the time of day into its archive; both are replaced. It reads only types that it is
told to trust: those that the estimator's own library defines. It cannot tell whether what they hold is sound, so the
nodes of trees are checked here: scikit-learn follows them without looking.
"""

from __future__ import annotations

import importlib
import io
import itertools
import sys
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from mlflow_core.errors import TrainError, nearest

__all__ = ["dump_estimator", "estimator_class", "load_estimator"]

_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MADE_OF = frozenset(
    {"builtins", "collections", "datetime", "functools", "numpy", "operator", "scipy", "sklearn"}
)
_ALSO = frozenset({"functools.partial", "sklearn.utils.validation.check_array"})
"""HistGradientBoosting checks columns of categories by a partial of this one function; no other function is trusted."""


def estimator_class(path: str, *, place: str | None = None) -> type[Any]:
    """The class that an import path names.

    Args:
        path: For example ``"sklearn.linear_model:LogisticRegression"``.
        place: Where it is written, for messages.

    Raises:
        TrainError: There is no such module or name, or it is no scikit-learn estimator.
    """
    from sklearn.base import BaseEstimator

    module, _, name = path.partition(":")
    _check_import_path(path, place)
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise TrainError(
            f'the module of the estimator "{path}" cannot be imported: {error}',
            place=place,
            hint="Install its library where the model is trained and served.",
        ) from None
    if found is None:
        names = [one for one in dir(importlib.import_module(module)) if not one.startswith("_")]
        raise TrainError(f'the module "{module}" has no "{name}"', place=place, hint=nearest(name, names))
    if not (isinstance(found, type) and issubclass(found, BaseEstimator)):
        raise TrainError(
            f'"{path}" is no estimator', place=place, expected="a class of a scikit-learn estimator"
        )
    return found


def dump_estimator(estimator: Any) -> bytes:
    """Write a fitted estimator.

    Returns:
        The archive of skops; the same for the same estimator, in any process at any time.

    Raises:
        TrainError: It holds something that skops cannot write.
    """
    import skops.io
    from skops.io.exceptions import UnsupportedTypeException

    try:
        return _canonical(skops.io.dumps(estimator))
    except (UnsupportedTypeException, TypeError, ValueError) as error:
        raise TrainError(
            f"cannot be kept without a pickle: {error}",
            object=type(estimator).__name__,
            hint="Use another estimator; no pickle is ever loaded.",
        ) from None


def load_estimator(data: bytes, path: str, *, place: str) -> Any:
    """Read a fitted estimator.

    Args:
        data: What ``dump_estimator`` gave.
        path: The import path of its class.
        place: Its file, for messages.

    Raises:
        TrainError: The file is damaged, holds another estimator, a type that its library does not define, or a tree
            whose nodes lead nowhere.
    """
    import skops.io

    _check_import_path(path, place)
    library = path.partition(":")[0].partition(".")[0]
    try:
        _check_modules(data, library, place)
        expected = estimator_class(path, place=place)
        types = skops.io.get_untrusted_types(data=data)
        for name in types:
            _check_type(name, library, place)
        estimator = skops.io.loads(data, trusted=types)
    except TrainError:
        raise
    except (
        zipfile.BadZipFile,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        ImportError,
        OSError,
    ) as error:
        raise TrainError(f"is not an estimator that can be read: {error}", place=place) from None
    if type(estimator) is not expected:
        raise TrainError(
            f"holds a {type(estimator).__name__}", place=place, expected=f"a {expected.__name__}"
        )
    for held, width in _held(estimator, _width(estimator, 0), set()):
        _check_nodes(held, width, place)
        _check_stages(held, place)
    return estimator


def _canonical(data: bytes) -> bytes:
    """The same archive with members in a fixed order, named and numbered by where they stand in the schema."""
    with zipfile.ZipFile(io.BytesIO(data)) as given:
        members = {name: given.read(name) for name in given.namelist()}
    schema = orjson.loads(members.pop(_SCHEMA))
    names: dict[str, str] = {}
    numbers: dict[int, int] = {}
    _rename(schema, names, numbers)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as written:
        for name, new in names.items():
            written.writestr(_member(new), members[name])
        written.writestr(_member(_SCHEMA), orjson.dumps(schema))
    return out.getvalue()


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _EPOCH)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def _rename(state: Any, names: dict[str, str], numbers: dict[int, int]) -> None:
    if isinstance(state, list):
        for one in state:
            _rename(one, names, numbers)
    if not isinstance(state, dict):
        return
    if "__loader__" in state:
        if "__id__" in state:
            state["__id__"] = numbers.setdefault(state["__id__"], len(numbers))
        if isinstance(file := state.get("file"), str):
            state["file"] = names.setdefault(file, f"{len(names)}.{file.rpartition('.')[2]}")
    for one in state.values():
        _rename(one, names, numbers)


def _check_import_path(path: str, place: str | None) -> None:
    """Refuse, before anything is imported, what names no class of a library."""
    module, colon, name = path.partition(":")
    names = [*module.split("."), name]
    if not colon or not all(one.isidentifier() for one in names) or names[0] in sys.stdlib_module_names:
        raise TrainError(
            f'"{path}" is no import path of an estimator',
            place=place,
            expected='one such as "sklearn.linear_model:LogisticRegression"',
        )


def _check_modules(data: bytes, library: str, place: str) -> None:
    """Refuse, before anything is imported, an archive that names a module outside what estimators are made of."""
    with zipfile.ZipFile(io.BytesIO(data)) as given:
        named = _types(orjson.loads(given.read(_SCHEMA)))
    allowed = {library, *_MADE_OF}
    for module, name in sorted(named):
        parts = module.split(".")
        if parts[0] not in allowed or not all(one.isidentifier() for one in parts):
            raise TrainError(
                f'holds the type "{module}.{name}", which is not trusted',
                place=place,
                expected=f'only classes that the library "{library}" defines',
                hint="Train the model again, or ask whoever made the file.",
            )


def _types(state: Any) -> set[tuple[str, str]]:
    inner: list[Any] = state if isinstance(state, list) else []
    found = set()
    if isinstance(state, dict):
        inner = list(state.values())
        if "__loader__" in state and "__module__" in state:
            found.add((str(state["__module__"]), str(state.get("__class__"))))
    return found.union(*(_types(one) for one in inner))


def _check_type(name: str, library: str, place: str) -> None:
    """Refuse a type unless it is a class that the library defines under this very name."""
    module, _, attribute = name.rpartition(".")
    known = library == "sklearn" and name in _ALSO
    if not known and module.partition(".")[0] == library:
        try:
            found = getattr(importlib.import_module(module), attribute, None)
        except ImportError:
            found = None
        known = isinstance(found, type) and f"{found.__module__}.{found.__qualname__}" == name
    if not known:
        raise TrainError(
            f'holds the type "{name}", which is not trusted',
            place=place,
            expected=f'only classes that the library "{library}" defines',
            hint="Train the model again, or ask whoever made the file.",
        )


def _held(value: Any, width: int, seen: set[int]) -> Iterator[tuple[Any, int]]:
    """Everything inside an estimator that is not a plain value, with the features that its own estimator reads."""
    if id(value) in seen or isinstance(value, str | bytes | int | float | type(None)):
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        inner: Iterator[Any] = iter(value.ravel().tolist() if value.dtype == object else ())
    elif isinstance(value, dict):
        inner = itertools.chain(value.keys(), value.values())
    elif isinstance(value, list | tuple | set):
        inner = iter(value)
    else:
        width = _width(value, width)
        yield value, width
        inner = iter(vars(value).values()) if hasattr(value, "__dict__") else iter(())
    for one in inner:
        yield from _held(one, width, seen)


def _width(value: Any, otherwise: int) -> int:
    """How many features an estimator checks that it is given; those of the one around it where it does not say."""
    own = getattr(value, "__dict__", {}).get("n_features_in_")
    return int(own) if isinstance(own, int | np.integer) and not isinstance(own, bool) else otherwise


def _check_stages(held: Any, place: str) -> None:
    """Gradient boosting follows its stages' trees without asking them how many features they read."""
    if not type(held).__name__.startswith("GradientBoosting"):
        return
    stages = np.asarray(getattr(held, "estimators_", ()), dtype=object).ravel().tolist()
    if any(_width(one, -1) != _width(held, -2) for one in stages):
        raise _nowhere(place)


def _check_nodes(held: Any, width: int, place: str) -> None:
    match type(held).__name__:
        case "Tree":
            left, right, feature = held.children_left, held.children_right, held.feature
            leaf = left == -1
            sound = len(left) == held.node_count == len(right) == len(feature) == len(held.value)
        case "TreePredictor":
            nodes = held.nodes
            left, right = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)
            feature, leaf = nodes["feature_idx"], nodes["is_leaf"].astype(bool)
            sets = nodes["bitset_idx"][nodes["is_categorical"].astype(bool) & ~leaf]
            sound = bool((sets < len(held.raw_left_cat_bitsets)).all())
        case "KDTree64" | "KDTree32" | "KDTree" | "BallTree64" | "BallTree32" | "BallTree":
            rows, order, nodes, _ = held.get_arrays()
            sound = len(order) == len(rows) and _within(order, len(rows))
            sound &= _within(nodes["idx_start"], len(rows) + 1) and _within(nodes["idx_end"], len(rows) + 1)
            left = right = feature = np.zeros(0, dtype=np.int64)
            leaf = np.zeros(0, dtype=bool)
        case _:
            return
    inner = ~leaf
    # Both libraries' builders number children after their parent, so a path always ends.
    after = np.flatnonzero(inner)
    sound &= all(
        bool((side[inner] > after).all()) and _within(side[inner], len(leaf)) for side in (left, right)
    )
    if not (sound and _within(feature[inner], width)):
        raise _nowhere(place)


def _nowhere(place: str) -> TrainError:
    return TrainError(
        "holds a tree whose nodes lead nowhere, so it is damaged or was made to do harm",
        place=place,
        hint="Train the model again, or ask whoever made the file.",
    )


def _within(indices: NDArray[Any], bound: int) -> bool:
    return bool(((indices >= 0) & (indices < bound)).all())
