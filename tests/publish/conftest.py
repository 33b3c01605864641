from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest


def _load(name):
    # Tests have no packages (importlib mode), so that a module beside them is loaded by its path.
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def hub(tmp_path):
    """A Hub of this test's own."""
    with _load("loopback_hub").LoopbackHub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def fresh(hub, tmp_path):
    """Run Python source in a process of its own that sees only the loopback Hub; gives what it printed."""

    def run(source, *arguments, check=True, home="home", token=True, wait=True):
        keep = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
        env = {**keep, "OMP_NUM_THREADS": "1", **hub.environment(tmp_path / home, **({} if token else {"token": None}))}
        command = [sys.executable, "-W", "error::DeprecationWarning:publish", "-c", source, *map(str, arguments)]
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if not wait:
            return process
        out, err = process.communicate(timeout=120)
        if check and process.returncode != 0:
            raise AssertionError(f"exit {process.returncode}\n{out}\n{err}")
        return out if check else (process.returncode, out, err)

    return run
