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


@pytest.fixture(scope="session")
def beside():
    """A module that lies beside these tests, by its name."""
    return _load


@pytest.fixture(scope="module")
def way():
    """How large files go to the module's Hub: ``"lfs"`` or ``"xet"``; modules that try both parametrize it."""
    return "lfs"


@pytest.fixture(scope="module")
def module_hub(way, tmp_path_factory):
    """A Hub of a module's own, of which each test begins with no repositories (``cleared_hub``)."""
    with _load("loopback_hub").LoopbackHub(tmp_path_factory.mktemp("hub"), xet=way == "xet") as hub:
        yield hub


@pytest.fixture
def cleared_hub(module_hub):
    """The module's Hub, of which nothing is remembered but large files."""
    module_hub.forget()
    module_hub.repos.clear()
    return module_hub


@pytest.fixture(scope="module")
def pushers(module_hub, tmp_path_factory):
    """Processes that push to the module's Hub: see ``pushers.py``."""
    with _load("pushers").Pushers(module_hub, tmp_path_factory.mktemp("pushers")) as pushers:
        yield pushers


@pytest.fixture
def hub(tmp_path, request):
    """A Hub of this test's own. Options come as ``@pytest.mark.parametrize("hub", [{"xet": True}], indirect=True)``."""
    with _load("loopback_hub").LoopbackHub(tmp_path / "hub", **getattr(request, "param", {})) as hub:
        yield hub


@pytest.fixture
def fresh(hub, tmp_path):
    """Run Python source in a process of its own that sees only the loopback Hub; gives what it printed.

    ``token`` may be one of the Hub's tokens, ``home`` another cache than the test's other processes have, ``xet`` whether
    Xet is on (None: where the Hub has it).
    """

    def run(source, *arguments, token=True, wait=True, home="home", xet=None):
        keep = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
        credentials = {} if token is True else {"token": token or None}
        env = {**keep, "OMP_NUM_THREADS": "1", **hub.environment(tmp_path / home, xet=xet, **credentials)}
        command = [sys.executable, "-c", source, *map(str, arguments)]
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if not wait:
            return process
        out, err = process.communicate(timeout=120)
        if process.returncode != 0:
            raise AssertionError(f"exit {process.returncode}\n{out}\n{err}")
        return out

    return run


@pytest.fixture(scope="session")
def everywhere(tiny_catalog):
    """All 48 samples of a small real collection, train and val."""
    from catalog.subset import load_subset

    return load_subset(tiny_catalog / "everywhere")


@pytest.fixture(scope="session")
def dataset_folder(everywhere, tmp_path_factory):
    """That collection as a dataset's folder. Do not change it."""
    from publish.dataset import build_dataset_folder

    return build_dataset_folder(everywhere, tmp_path_factory.mktemp("published") / "everywhere")


@pytest.fixture(scope="session")
def run_dir(everywhere, tmp_path_factory):
    """A finished, scored pretraining of a tiny model on that collection. Do not change it."""
    from training.evaluate import Resampling, evaluate
    from training.pretrain import pretrain
    from training.recipe import load_train_recipe
    from training.tasks.column import ColumnTask

    small = {"epochs": "1", "optimizer.warmup_epochs": "0", "model.image_size": "32", "model.patch_size": "8"}
    folder = tmp_path_factory.mktemp("runs") / "tiny-mae"
    pretrain(everywhere.split("train"), load_train_recipe("satmae-tiny", overrides=small), folder, device="cpu")
    evaluate(
        folder,
        everywhere,
        task=ColumnTask(name="landcover", column="div:landcover", min_samples=4),
        probes=["knn"],
        sampling=Resampling(split="blocks", block_km=20.0, repeats=1),
    )
    return folder
