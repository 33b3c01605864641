"""Where a recipe lay is noted, for this computer alone, and found again wherever the command is given."""

from __future__ import annotations

import shutil

import pytest

from pwcat.origin import forget_recipe, note_recipe, noted_recipe, origin_path


@pytest.fixture
def noted(small, tmp_path):
    """A recipe's file, and the folder of a dataset that notes it."""
    path, folder = tmp_path / "recipes" / "small.yaml", tmp_path / "catalog" / "small"
    path.parent.mkdir()
    shutil.copy(small, path)
    note_recipe(folder, path)
    return path, folder


def test_a_note_is_relative_and_holds_when_both_move_together(noted, tmp_path):
    path, folder = noted
    assert origin_path(folder).read_text() == '{"path": "../../recipes/small.yaml"}\n'
    assert noted_recipe(folder)[0] == path
    moved = shutil.move(tmp_path / "catalog", tmp_path / "elsewhere")
    assert noted_recipe(moved / "small")[0] == path


def test_a_note_is_told_as_short_as_the_folder_is(noted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = noted[1].relative_to(tmp_path)
    assert str(noted_recipe(folder)[0]) == "recipes/small.yaml"
    link = tmp_path / "deep" / "link"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "catalog")
    assert noted_recipe(link / "small")[0] == noted[0].resolve()


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"path": 3}', '{"path": "nowhere.yaml"}'])
def test_what_says_nothing_is_no_note(tmp_path, text):
    if text is not None:
        origin_path(tmp_path).parent.mkdir()
        origin_path(tmp_path).write_text(text)
    assert noted_recipe(tmp_path) is None


def test_a_note_that_is_forgotten_takes_the_folders_made_for_it(noted):
    forget_recipe(noted[1])
    assert not noted[1].exists()
