"""The embedded archive: a folder of scenes, synthetic or real, as a STAC API with range-readable COGs on loopback."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pwcat.errors import ArchiveError

if TYPE_CHECKING:
    from pwcat.archive.add import add_scenes
    from pwcat.archive.synth import SynthOptions

__all__ = ["SynthOptions", "add_scenes", "serve_archive", "synthesise_archive"]


@contextmanager
def serve_archive(directory: str | Path, *, port: int = 0) -> Iterator[str]:
    """The base URL of a STAC API over an archive, served on loopback by a child process while the block runs.

    The folder is read once, at the start. The child exits when this process closes its standard input, or dies.

    Args:
        directory: An archive's folder.
        port: Port to listen on; 0 takes a free one.

    Raises:
        ArchiveError: The folder holds no archive, or the server did not start.
    """
    command = [sys.executable, "-m", "pwcat.archive.server", str(directory), "--port", str(port), "--watch-stdin"]
    with tempfile.TemporaryFile() as complaints:
        # In a session of its own, so that Ctrl-C reaches this process alone and what is being read can be read to its end.
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, start_new_session=True
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            url = child.stdout.readline().decode().strip()
            if not url:
                child.wait()
                complaints.seek(0)
                said = complaints.read().decode(errors="replace").strip()
                raise ArchiveError(said.splitlines()[-1] if said else f"the server of {directory} did not start")
            yield url
        finally:
            with suppress(BrokenPipeError):
                child.stdin.close()
            child.stdout.close()
            try:
                child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def synthesise_archive(
    directory: str | Path,
    *,
    options: SynthOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Make a synthetic archive, or complete an interrupted one; the number of items by collection comes back.

    ``progress`` is called with (places done, places in all). See :func:`pwcat.archive.synth.synthesise`.
    """
    from pwcat.archive.synth import SynthOptions, synthesise

    return synthesise(Path(directory), options=options or SynthOptions(), progress=progress)


def __getattr__(name: str) -> Any:
    if name == "SynthOptions":
        from pwcat.archive.synth import SynthOptions

        return SynthOptions
    if name == "add_scenes":
        from pwcat.archive.add import add_scenes

        return add_scenes
    raise AttributeError(f"module 'pwcat.archive' has no attribute {name!r}; it has {', '.join(__all__)}")
