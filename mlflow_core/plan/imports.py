"""Import a repository's files under their package names, each once, and say plainly why one cannot be imported.

Several projects may be loaded in one process, one after the other: the modules of the one before are forgotten.
What was loaded is remembered in the entry of ``sys.path`` itself, so there is no state beside Python's own, and a lock
over it: of two threads that load, the second would take modules that the first one has imported, from files that are
different by now. Other threads may import meanwhile, so ``sys.modules`` is never walked along, but a copy of it.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType

from mlflow_core.errors import MlcoreError, PlanError, nearest
from mlflow_core.plan.import_cycles import refuse_cycles
from mlflow_core.plan.problems import Problems

__all__ = ["import_repository"]

_ONE_LOADS = threading.RLock()
_NOT_OURS = ("__pycache__", "node_modules", "site-packages")


class _Root(str):
    """A project's folder on ``sys.path``, and the modules that came with it."""

    __slots__ = ("modules",)
    modules: frozenset[str]

    def __new__(cls, root: Path) -> _Root:
        made = super().__new__(cls, root)
        made.modules = frozenset()
        return made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        # Processes that are started with this one's path need the folder, not the memory.
        return (str, (str(self),))


@contextmanager
def import_repository(root: Path, feature_repo: str, pipelines: str) -> Iterator[tuple[ModuleType, ...]]:
    """Import every file of a repository, and keep it imported if the block ends well.

    Args:
        root: The project's folder.
        feature_repo: Folder of the feature repository below the root.
        pipelines: Folder of the pipelines below the root; it need not exist.

    Yields:
        The modules, in the order of their paths, those of the feature repository first.

    Raises:
        PlanError: See ``mlflow_core.plan.load.load_project``.
    """
    with _ONE_LOADS:
        yield from _imported_repository(root.absolute(), feature_repo, pipelines)


def _imported_repository(root: Path, feature_repo: str, pipelines: str) -> Iterator[tuple[ModuleType, ...]]:
    files = _files(root, feature_repo, pipelines)
    refuse_cycles(_parsed(files), root)
    path, writes_no_cache = list(sys.path), sys.dont_write_bytecode
    forgotten: dict[str, ModuleType] = {}
    here, known = _Root(root), set(sys.modules)
    try:
        # A file that is edited twice in a second would be taken from its cache; and no litter in users' folders.
        sys.dont_write_bytecode = True
        forgotten = _forget({name.partition(".")[0] for name in files})
        known -= forgotten.keys()
        sys.path.insert(0, here)
        importlib.invalidate_caches()
        _make_packages(files, root)
        yield tuple(_imported(name, file, root, files) for name, file in files.items())
        here.modules = _new(known, root)
    except BaseException:
        # Only the repository's modules: a library that it was the first to import must not be loaded twice.
        for name in _new(known, root):
            del sys.modules[name]
        sys.modules.update(forgotten)
        sys.path[:] = path
        raise
    finally:
        sys.dont_write_bytecode = writes_no_cache


def _files(root: Path, feature_repo: str, pipelines: str) -> Mapping[str, Path]:
    """Module name -> file, in the order of import."""
    if not (root / feature_repo).is_dir():
        folders = [one.name for one in root.iterdir() if one.is_dir()] if root.is_dir() else []
        raise PlanError(
            f'there is no feature repository "{feature_repo}"',
            place=str(root),
            hint=nearest(feature_repo, folders),
        )
    folders_of_files = [root / feature_repo, *([root / pipelines] if (root / pipelines).is_dir() else [])]
    found = {
        _module_name(file, root): file
        for folder in folders_of_files
        for file in sorted(folder.rglob("*.py"))
        if _is_ours(file.relative_to(root))
    }
    problems = Problems()
    for name, file in found.items():
        first = name.partition(".")[0]
        if first in sys.stdlib_module_names or first in ("feast", "mlflow_core"):
            what = f'would be imported as "{name}", which hides the package {first}'
            problems.add(PlanError(what, place=_place(file), hint="Rename it."))
        elif not all(part.isidentifier() for part in name.split(".")):
            what = f'cannot be imported: "{name}" is not a module name'
            problems.add(PlanError(what, place=_place(file), hint="Use letters, digits and underscores."))
    problems.raise_all()
    return found


def _module_name(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _is_ours(path: Path) -> bool:
    return not any(part.startswith(".") or part in _NOT_OURS for part in path.parts)


def _parsed(files: Mapping[str, Path]) -> Mapping[str, tuple[Path, ast.Module]]:
    problems = Problems()
    trees: dict[str, tuple[Path, ast.Module]] = {}
    for name, file in files.items():
        try:
            trees[name] = (file, ast.parse(file.read_bytes(), filename=str(file)))
        except SyntaxError as error:
            what = f"syntax error: {error.msg}"
            shown = f"The line: {error.text.strip()}" if error.text and error.text.strip() else None
            problems.add(PlanError(what, place=_place(file, error.lineno), hint=shown))
        except (OSError, ValueError) as error:
            problems.add(PlanError(f"cannot be read: {error}", place=_place(file)))
    problems.raise_all()
    return trees


def _forget(packages: set[str]) -> dict[str, ModuleType]:
    """Forget earlier projects: their place on the path, their modules, and whatever has this one's names."""
    earlier = [entry for entry in sys.path if isinstance(entry, _Root)]
    sys.path[:] = [entry for entry in sys.path if not isinstance(entry, _Root)]
    gone = {name for entry in earlier for name in entry.modules if name in sys.modules}
    gone |= {name for name in sys.modules.copy() if name.partition(".")[0] in packages}
    return {name: sys.modules.pop(name) for name in gone}


def _make_packages(files: Mapping[str, Path], root: Path) -> None:
    """Pin folders without ``__init__.py``: a package of the same name elsewhere on the path would win over them."""
    parents = {".".join(name.split(".")[:depth]) for name in files for depth in range(1, name.count(".") + 1)}
    for name in sorted(parents - files.keys()):
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(root.joinpath(*name.split(".")))]
        sys.modules[name] = module_from_spec(spec)


def _new(known: set[str], root: Path) -> frozenset[str]:
    """The modules that were imported since, from the project's folder."""
    return frozenset(
        name for name, one in sys.modules.copy().items() if name not in known and _lies_in(one, root)
    )


def _lies_in(module: ModuleType, root: Path) -> bool:
    path = getattr(module, "__path__", ())
    # A module that answers to any name, as torch.classes does, has no places there.
    places = [getattr(module, "__file__", None), *(path if isinstance(path, Iterable) else ())]
    below = [Path(place) for place in places if place and Path(place).is_relative_to(root)]
    ours = module.__name__.partition(".")[0] != "mlflow_core"  # where the project's folder is this checkout
    return ours and any(_is_ours(place.relative_to(root)) for place in below)


def _imported(name: str, file: Path, root: Path, files: Mapping[str, Path]) -> ModuleType:
    try:
        return importlib.import_module(name)
    except MlcoreError:
        raise
    except (Exception, SystemExit) as error:  # whatever a user's file raises
        raise PlanError(_why(error), place=_where(error, file, root), hint=_hint(error, files)) from error


def _why(error: BaseException) -> str:
    if isinstance(error, ImportError):
        return f"import error: {error.msg}"
    if isinstance(error, SystemExit):
        return "the file ends the process (sys.exit) when it is imported"
    return f"{type(error).__name__} when it is imported: {error}"


def _where(error: BaseException, file: Path, root: Path) -> str:
    """The innermost line inside the repository."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(root) and _is_ours(Path(frame.filename).relative_to(root))
    ]
    inside = [frame for frame in frames if not Path(frame.filename).is_relative_to(_PACKAGE)]
    return _place(Path(inside[-1].filename), inside[-1].lineno) if inside else _place(file)


_PACKAGE = Path(__file__).parent.parent


def _hint(error: BaseException, files: Mapping[str, Path]) -> str | None:
    if isinstance(error, NameError) and error.name:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        known = [name for name in frames[-1].f_globals if not name.startswith("_")] if frames else []
        return nearest(error.name, known)
    if isinstance(error, ModuleNotFoundError) and error.name and error.name not in sys.modules:
        if error.name.partition(".")[0] in {name.partition(".")[0] for name in files}:
            return nearest(error.name, files)
        return "Install it into this environment, or correct the name."
    if (
        isinstance(error, ImportError)
        and error.name in files
        and (module := sys.modules.get(error.name or ""))
    ):
        asked = re.search(r"cannot import name '(\w+)'", error.msg)
        if asked:
            return nearest(asked[1], [name for name in vars(module) if not name.startswith("_")])
    return None


def _place(file: Path, line: int | None = None) -> str:
    try:
        shown = file.relative_to(Path.cwd())
    except ValueError:
        shown = file
    return f"{shown}:{line}" if line else str(shown)
