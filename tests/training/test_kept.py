"""A matrix made a few rows at a time: whole in the end, whatever was killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.kept import kept_matrix

WHOLE = np.random.default_rng(0).normal(size=(53, 4)).astype(np.float32)


class StoppedError(Exception):
    """Stands for whatever ends a process."""


def rows_from(asked: list[int], *, stop: int = 53):
    def compute(start: int):
        asked.append(start)
        for row in range(start, 53, 5):
            if row >= stop:
                raise StoppedError
            yield WHOLE[row : min(row + 5, 53)]

    return compute


def test_it_is_computed_once_and_read_as_a_file(tmp_path):
    asked: list[int] = []
    found = kept_matrix(tmp_path / "a.npy", rows_from(asked), shape=(53, 4), part_rows=10)
    np.testing.assert_array_equal(found, WHOLE)
    found[0] = 0  # changes stay here
    np.testing.assert_array_equal(kept_matrix(tmp_path / "a.npy", rows_from(asked), shape=(53, 4)), WHOLE)
    assert asked == [0]
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), WHOLE)


def test_what_was_done_before_it_stopped_is_not_done_again(tmp_path):
    asked: list[int] = []
    with pytest.raises(StoppedError):
        kept_matrix(tmp_path / "a.npy", rows_from(asked, stop=35), shape=(53, 4), part_rows=10)
    assert not (tmp_path / "a.npy").exists()
    found = kept_matrix(tmp_path / "a.npy", rows_from(asked), shape=(53, 4), part_rows=10)
    np.testing.assert_array_equal(found, WHOLE)
    assert asked == [0, 30]


def test_every_block_is_a_part_where_each_takes_long(tmp_path):
    asked: list[int] = []
    with pytest.raises(StoppedError):
        kept_matrix(tmp_path / "a.npy", rows_from(asked, stop=37), shape=(53, 4), part_seconds=0)
    kept_matrix(tmp_path / "a.npy", rows_from(asked), shape=(53, 4))
    assert asked == [0, 40]


def test_another_process_may_be_first(tmp_path):
    def compute(start: int):
        yield WHOLE[start : start + 5]
        kept_matrix(tmp_path / "a.npy", rows_from([]), shape=(53, 4), part_rows=7)
        yield WHOLE[start + 5 :]

    np.testing.assert_array_equal(kept_matrix(tmp_path / "a.npy", compute, shape=(53, 4), part_rows=5), WHOLE)


def test_nothing_is_a_matrix_too(tmp_path):
    assert kept_matrix(tmp_path / "a.npy", lambda start: iter(()), shape=(0, 4)).shape == (0, 4)
    assert kept_matrix(tmp_path / "a.npy", lambda start: iter(()), shape=(0, 4)).shape == (0, 4)


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from training.kept import kept_matrix
whole = np.random.default_rng(0).normal(size=(53, 4)).astype(np.float32)
left = int(sys.argv[2])

def compute(start):
    global left
    for row in range(start, 53, 5):
        yield whole[row : min(row + 5, 53)]
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

kept_matrix(Path(sys.argv[1]), compute, shape=(53, 4), part_rows=5)
"""


def test_a_killed_process_is_gone_on_with(tmp_path):
    place = Path(__file__).parents[2]
    codes = [
        subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path / "a.npy"), "3"], cwd=place, env=os.environ, check=False
        ).returncode
        for _ in range(4)
    ]
    assert codes == [-signal.SIGKILL] * 3 + [0]  # 11 blocks, three at a time
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), WHOLE)
