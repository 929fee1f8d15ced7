"""A project is loaded while other threads import: modules that come and go meanwhile are nobody's fault."""

from __future__ import annotations

import sys
import threading
import time
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
        _forgotten(tmp_path)


def test_of_two_threads_that_load_each_has_the_files_as_they_were_when_it_began(tmp_path: Path) -> None:
    begun, go_on, found = tmp_path / "begun", tmp_path / "go_on", {}
    file = tmp_path / "shop" / "views.py"
    file.parent.mkdir()
    until = time.monotonic() + 30

    def loading(which: str) -> None:
        with import_repository(tmp_path, "shop", "pipelines") as modules:
            found[which] = modules[0].ONE

    file.write_text(
        f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\n"
        f"while not pathlib.Path({str(go_on)!r}).exists():\n    time.sleep(0.005)\nONE = 'old'\n"
    )
    old, new = (threading.Thread(target=loading, args=(which,)) for which in ("old", "new"))
    try:
        old.start()
        while not begun.exists() and time.monotonic() < until:
            time.sleep(0.005)
        file.write_text("ONE = 'new'\n")
        new.start()
        new.join(0.3)  # long enough to load it, were it not to wait
    finally:
        go_on.touch()
        old.join(30)
        new.join(30)
        _forgotten(tmp_path)

    assert found == {"old": "old", "new": "new"}


def _forgotten(root: Path) -> None:
    sys.modules.pop("shop", None)
    sys.modules.pop("shop.views", None)
    sys.path[:] = [entry for entry in sys.path if entry != str(root)]
