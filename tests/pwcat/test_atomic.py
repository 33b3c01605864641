from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pwcat.atomic import remove_leftovers, replacing_by_name

WRITER = """
import sys, time
from pathlib import Path
from pwcat.atomic import replacing, replacing_by_name
folder = Path(sys.argv[1])
with replacing(folder / "a.zip") as one, replacing_by_name(folder / "b.fgb") as two:
    one.write_text("half")
    two.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_writer_that_goes_by_names_is_given_the_name_and_what_it_leaves_beside_is_removed(tmp_path):
    target = tmp_path / "points.fgb"
    target.write_text("old")
    with replacing_by_name(target) as temporary:
        assert temporary.name == "points.fgb"
        temporary.write_text("new")
        temporary.with_name("points.fgb-journal").write_text("more")
        assert target.read_text() == "old"
    assert names_in(tmp_path) == ["points.fgb"]
    assert target.read_text() == "new"
    with pytest.raises(FileNotFoundError, match="points"), replacing_by_name(target):
        pass  # writes nothing
    assert target.read_text() == "new"
    assert names_in(tmp_path) == ["points.fgb"]


def test_what_a_killed_writer_leaves_is_removed_and_not_before_it_is_dead(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline() == "writing\n"
        left = names_in(tmp_path)
        assert len(left) == 2
        assert remove_leftovers(tmp_path) == 0
        assert names_in(tmp_path) == left
    finally:
        writer.kill()
        writer.communicate()
    assert names_in(tmp_path) == left
    assert remove_leftovers(tmp_path) == 2
    assert names_in(tmp_path) == []


def test_the_writer_of_another_computer_is_taken_for_alive_until_its_file_is_old(tmp_path):
    path = tmp_path / ".a.zip.elsewhere-999999999.abcdef01.partial"
    path.write_text("half")
    assert remove_leftovers(tmp_path) == 0
    os.utime(path, (0, 0))
    assert remove_leftovers(tmp_path) == 1
