"""The one line that loads a model: from a folder, a run or the Hub, checked before it is opened, and nothing of it run."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from publish.hub import check_repo_name, fetch_folder
from publish.manifest import MANIFEST, MANIFEST_VERSION, check_hashes, read_manifest
from publish.pushing.retrying import call
from publish.pushing.target import hub_api
from pwcat.errors import PublishError
from training.checkpoint import load_model_folder
from training.models import Model
from training.models.folder import CONFIG, PICKLES, WEIGHTS

__all__ = ["PREPROCESSING", "load_model"]

PREPROCESSING = "preprocessing.json"
NEEDED = (
    MANIFEST,
    WEIGHTS,
    CONFIG,
)  # of a repository; what else it holds is not fetched, pickles and code least of all
COMMIT = re.compile(r"[0-9a-f]{40}")
PREFIX = re.compile(r"^(hf://)?(models/)?")
DATASETS = re.compile(r"^(hf://)?datasets/")
NO_PICKLES = "pickles can run code when they are opened and are not read"
# A safetensors file: the length of its header, 8 bytes little-endian, then the header, JSON (safetensors, format).
HEADER_LENGTH = struct.Struct("<Q")


def load_model(repo_or_path: str | Path, *, revision: str | None = None) -> Model:
    """A pretrained model in eval mode on the CPU, with its preprocessing: ``model.embed`` takes chips as they are stored.

    Weights are read from safetensors by this package's own code: nothing that came with them is run. Where a manifest
    lies beside them, as in everything this package published, their sizes and checksums are compared with it. All files
    are of one commit; a download that is not what the manifest says is fetched once more, and then refused. With a commit
    as the revision, and its files fetched before, nothing is asked of the Hub.

    Args:
        repo_or_path: A folder (of :func:`publish.weights.publish_model`, or a run), or ``organisation/name`` on the Hub,
            also as ``hf://organisation/name@revision``.
        revision: Tag, branch or commit, for the Hub.

    Raises:
        PublishError: There is no such model, its files are not those of its manifest, or it is a pickle.
        TrainingError: The configuration is not one of this package's.
    """
    path = Path(repo_or_path)
    if path.exists():
        if revision is not None:
            raise PublishError(f"{path} is a folder, and a folder has no revision {revision!r}: leave it out")
        return _load_folder(path)
    repo, revision = _address(str(repo_or_path), revision)
    return load_model_folder(_fetched(repo, revision))


def _address(source: str, revision: str | None) -> tuple[str, str | None]:
    """Repository and revision of what was asked for."""
    if DATASETS.match(source):
        raise PublishError(
            f"{source} is a dataset, and no model: `pwcat.open_catalog` opens datasets, and a model is given as ORG/NAME"
        )
    repo, asks, at = PREFIX.sub("", source).partition("@")
    if asks and not at:
        raise PublishError(f"{source} names no revision after the @: give one, or leave the @ out")
    if at and revision is not None and at != revision:
        raise PublishError(
            f"{source} names the revision {at!r}, and {revision!r} was asked for besides: give one of them"
        )
    try:
        check_repo_name(repo)
    except PublishError as exc:
        raise PublishError(f"no model at {source}: there is no such folder, and as a repository: {exc}") from exc
    return repo, revision or at or None


def _load_folder(path: Path) -> Model:
    if path.suffix in PICKLES or path.is_file():
        raise PublishError(f"{path} is a file: give the folder that holds {WEIGHTS}; {NO_PICKLES}")
    pickles = sorted(file.name for file in path.iterdir() if file.suffix in PICKLES)
    if pickles and not (path / WEIGHTS).is_file():
        raise PublishError(f"{path} has its weights in {', '.join(pickles)}: {NO_PICKLES}; ask for {WEIGHTS}")
    if (path / MANIFEST).is_file() and (faults := _faults(path, hashes=True)):
        raise PublishError(f"{path} is not what its manifest says: {'; '.join(faults)}; fetch it again")
    if (path / WEIGHTS).is_file():
        _require_safetensors(path / WEIGHTS, str(path))
    return load_model_folder(path)


def _fetched(repo: str, revision: str | None) -> Path:
    """The local folder of one commit's model, checked; what came wrong is fetched once more by :func:`fetch_folder`."""
    folder = _cached(repo, revision)
    if folder is None or not _is_whole(folder):
        folder = fetch_folder(repo, kind="model", revision=revision, patterns=[*NEEDED, PREPROCESSING])
    if not (folder / MANIFEST).is_file():
        raise PublishError(
            f"{repo} has no {MANIFEST}: it was not published by pwcat, and its weights cannot be checked"
            f"{_pickles_of(repo, folder)}"
        )
    if faults := _faults(folder, hashes=False):
        raise PublishError(
            f"{repo} at {folder.name[:12]} is not what its manifest says: {'; '.join(faults)}; do not use it"
        )
    _require_safetensors(folder / WEIGHTS, repo)
    return folder


def _cached(repo: str, revision: str | None) -> Path | None:
    """The folder of a commit that was fetched before, without asking anybody; branches and tags are asked for."""
    if revision is None or not COMMIT.fullmatch(revision):
        return None
    found = [try_to_load_from_cache(repo, name, revision=revision) for name in NEEDED]
    return Path(str(found[0])).parent if all(isinstance(path, str) for path in found) else None


def _pickles_of(repo: str, folder: Path) -> str:
    """What to say of a foreign repository's pickles; none of them is fetched."""
    files = call(f"list the files of {repo}", lambda: hub_api().list_repo_files(repo, revision=folder.name))
    pickles = sorted(name for name in files if Path(name).suffix in PICKLES)
    return f". It has {', '.join(pickles)}: {NO_PICKLES}" if pickles else ""


def _is_whole(folder: Path) -> bool:
    """Whether what was fetched before is what its manifest says; a manifest can be damaged too."""
    try:
        return not _faults(folder, hashes=True)
    except PublishError:
        return False


def _faults(path: Path, *, hashes: bool) -> list[str]:
    """Faults of what is needed to load, against the manifest; the rest of the folder may be absent. Sizes come first."""
    header, records = read_manifest(path)
    if (kind := header.get("kind", "model")) != "model":
        raise PublishError(
            f"{path} holds a {kind}, and no model, as its {MANIFEST} says: `pwcat.open_catalog` opens datasets"
        )
    if (version := header.get("manifest_version", MANIFEST_VERSION)) != MANIFEST_VERSION:
        raise PublishError(
            f"the {MANIFEST} of {path} is of version {version!r}, and this version of pwcat reads {MANIFEST_VERSION}: load the "
            "model with the version that wrote it"
        )
    needed = {name: records[name] for name in (WEIGHTS, CONFIG, PREPROCESSING) if name in records}
    faults = [f"{name} is not in the manifest" for name in (WEIGHTS, CONFIG) if name not in records]
    for name, record in needed.items():
        if not (path / name).is_file():
            faults.append(f"{name} is missing")
        elif (size := (path / name).stat().st_size) != record.bytes:
            faults.append(f"{name} has {size} bytes, the manifest says {record.bytes}")
    return faults or (check_hashes(path, needed) if hashes else [])


def _require_safetensors(path: Path, source: str) -> None:
    """Raise where a file of that name is another kind of file, such as a pickle that was renamed."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(HEADER_LENGTH.size + 1)
    whole = len(start) == HEADER_LENGTH.size + 1
    if whole and start[-1:] == b"{" and HEADER_LENGTH.unpack(start[:-1])[0] <= size - HEADER_LENGTH.size:
        return
    kind = "a pickle" if start[:1] == b"\x80" or start[:2] == b"PK" else "another kind of file"
    raise PublishError(
        f"{path.name} of {source} is no safetensors but {kind} under that name: {NO_PICKLES}; do not use it"
    )
