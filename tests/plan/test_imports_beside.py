"""A project is loaded while other threads import: modules that come and go meanwhile are nobody's fault."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import ModuleType

from mlflow_core.plan.imports import import_repository


def test_a_project_is_loaded_while_other_threads_import(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "views.py").write_text("ONE = 1\n")
    over, interval = threading.Event(), sys.getswitchinterval()

    def importing() -> None:
        while not over.is_set():
            names = [f"beside_{number}" for number in range(200)]
            sys.modules.update({name: ModuleType(name) for name in names})
            for name in names:
                sys.modules.pop(name, None)

    others = [threading.Thread(target=importing) for _ in range(2)]
    sys.setswitchinterval(1e-6)
    try:
        for one in others:
            one.start()
        for _ in range(100):
            with import_repository(tmp_path, "shop", "pipelines") as modules:
                assert modules[0].ONE == 1
    finally:
        over.set()
        sys.setswitchinterval(interval)
        for one in others:
            one.join()
        sys.modules.pop("shop", None)
        sys.modules.pop("shop.views", None)
        sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path)]
