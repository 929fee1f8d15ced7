"""The project's own code on workers: imported from the project's folder, in the state that it is in when work begins.

Functions travel by import path. A worker that was started before the project was loaded does not know its folder, and
one that has worked for it before remembers its modules as they were. Here every worker is told both, those too that
join later. Workers on other machines must see the folder under the same path, or have the project installed; what is
installed as a package is left alone. Whether the function found is the one meant is for its caller to check.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from distributed.diagnostics.plugin import WorkerPlugin

from mlflow_core.algebra.transform import load_transform
from mlflow_core.plan.retrieval import RetrievalPlan, ViewRead

if TYPE_CHECKING:
    from distributed import Client, Worker

__all__ = ["ProjectCode", "share_code", "share_modules"]

_INSTALLED: Final = ("site-packages", "dist-packages")
# Imported anew, a class of the standard library would be another one than that of whoever has imported it before.
_STANDARD: Final = Path(sysconfig.get_path("stdlib"))


def share_code(client: Client, reads: Iterable[ViewRead], plan: RetrievalPlan | None = None) -> None:
    """Let a cluster's workers import the functions of views and of a plan; nothing happens where there are none.

    Args:
        client: The cluster's client.
        reads: Views, whose sources may have transforms.
        plan: Its on-demand functions are imported on workers too.

    Raises:
        PlanError: A transform cannot be imported by this process.
    """
    on_demand = () if plan is None else plan.on_demand
    paths = {one.on_demand.import_path for one in on_demand}
    for transform in (read.view.source.transform for read in reads):
        if transform is not None:
            load_transform(transform)
            paths.add(transform.import_path)
    share_modules(client, (path.partition(":")[0] for path in sorted(paths)))


def share_modules(client: Client, modules: Iterable[str]) -> None:
    """Let a cluster's workers import modules of the project's; nothing happens where there are none.

    Args:
        client: The cluster's client.
        modules: Their names; what this process has not imported, or is installed, is left out.
    """
    folders = dict.fromkeys(folder for module in modules for folder in _folder_of(module))
    if folders:
        client.register_plugin(ProjectCode(folders, _modules_in(list(folders))))


class ProjectCode(WorkerPlugin):
    """What a worker is told: the folders to import from, and the modules that have to be imported anew.

    Args:
        folders: Folders for the front of the import path; those that a worker does not see are left out.
        modules: The project's modules in this process.
    """

    name: Final = "mlcore-project-code"  # one for a cluster: the last project that was at work

    def __init__(self, folders: Iterable[str], modules: Iterable[ModuleType]) -> None:
        self.folders = tuple(folders)
        modules = tuple(modules)
        # Folders without ``__init__.py``: a package of the same name elsewhere on the path would win over them.
        self.bare = {
            one.__name__: tuple(one.__path__) for one in modules if getattr(one, "__file__", None) is None
        }
        told = {one.__name__: hashlib.sha256(_text(one)).hexdigest() for one in modules}
        self.packages = frozenset(name.partition(".")[0] for name in told)
        self.state = hashlib.sha256(repr(sorted(told.items())).encode()).hexdigest()

    def setup(self, worker: Worker) -> None:  # noqa: ARG002 Dask calls it so
        """Put the folders first on the import path, and forget the modules where their code is another.

        Args:
            worker: The worker that starts, or is told while it runs.
        """
        wanted = [_Folder(folder, self.state) for folder in self.folders if Path(folder).is_dir()]
        earlier = [entry for entry in sys.path if isinstance(entry, _Folder)]
        if [(str(one), one.state) for one in earlier] == [(str(one), one.state) for one in wanted]:
            return
        sys.path[:] = [*wanted, *(entry for entry in sys.path if not isinstance(entry, _Folder))]
        for name in [name for name in sys.modules.copy() if name.partition(".")[0] in self.packages]:
            del sys.modules[name]
        for name, places in sorted(self.bare.items()):
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = list(places)
            sys.modules[name] = module_from_spec(spec)
        importlib.invalidate_caches()
        # A file that is edited twice in a second would be taken from its cache; and no litter in users' folders.
        sys.dont_write_bytecode = True


class _Folder(str):
    """A folder on the import path, and the state of the code that was imported from it."""

    __slots__ = ("state",)
    state: str

    def __new__(cls, folder: str, state: str) -> _Folder:
        made = super().__new__(cls, folder)
        made.state = state
        return made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return (str, (str(self),))  # a process that is started with this path needs the folder only


def _folder_of(module: str) -> Iterator[str]:
    """The folder that a module of the user's is imported from; none for what is installed, or typed in."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or module == "__main__":
        return
    path = Path(file).absolute()
    folder = path.parents[module.count(".") + (path.stem == "__init__")]
    if _is_the_users(path, folder, module):
        yield str(folder)


def _modules_in(folders: list[str]) -> list[ModuleType]:
    found = []
    for name, module in sys.modules.copy().items():
        place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
        # torch.ops says that its file is "_ops.py", which would lie in whatever folder this process is in.
        if place is None or name == "__main__" or not Path(place).is_absolute():
            continue
        if any(_is_the_users(Path(place).absolute(), Path(folder), name) for folder in folders):
            found.append(module)
    return found


def _is_the_users(file: Path, folder: Path, module: str) -> bool:
    if module.partition(".")[0] == "mlflow_core" or not file.is_relative_to(folder):
        return False
    if file.is_relative_to(_STANDARD):
        return False
    ours = file.relative_to(folder).parts[:-1]
    installed = any(part in _INSTALLED for part in file.parts)
    return not installed and not any(part.startswith(".") for part in ours)


def _text(module: ModuleType) -> bytes:
    try:
        return Path(str(module.__file__)).read_bytes()
    except OSError:
        return b""  # a folder; or deleted since: workers cannot import it either, which they will say
