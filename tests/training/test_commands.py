import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from pwcat.errors import TrainingError
from training.commands.correlate import correlate
from training.commands.evaluate import evaluate
from training.commands.pretrain import pretrain

PAPER = Path(__file__).parent / "pretrain_where.csv"
SETS = ["model.image_size=32", "model.patch_size=16", "model.depth=1", "epochs=2", "optimizer.warmup_epochs=0.5"]


def invoke(command, *args):
    return CliRunner().invoke(command, [str(arg) for arg in args], catch_exceptions=False)


@pytest.fixture(scope="module")
def trained(tiny_catalog, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "cli"
    sets = [part for text in SETS for part in ("--set", text)]
    args = [
        tiny_catalog / "everywhere",
        "--recipe",
        "satmae-tiny",
        "--out",
        out,
        "--seed",
        "3",
        "--device",
        "cpu",
        *sets,
    ]
    return args, invoke(pretrain, *args, "--json"), out


def test_pretrain_speaks_json(trained):
    _, result, out = trained
    values = json.loads(result.stdout)
    assert values["path"] == str(out)
    assert values["finished"]
    assert values["samples"] == 48
    assert json.loads((out / "run.json").read_text())["recipe"]["seed"] == 3


def test_pretrain_says_that_nothing_was_repeated(trained):
    args, _, _ = trained
    assert "nothing was repeated" in invoke(pretrain, *args).stdout


def test_pretrain_stops_where_it_is_told_to_and_goes_on(trained, tmp_path):
    args = [arg if arg != trained[2] else tmp_path for arg in trained[0]]
    part = invoke(pretrain, *args, "--stop-after-steps", "1", "--tensorboard")
    assert f"{tmp_path}: 1 of 4 steps; the same command goes on from there." in part.stdout
    assert list((tmp_path / "tensorboard").glob("events.*"))
    values = json.loads(invoke(pretrain, *args, "--max-minutes", "30", "--json").stdout)
    assert (values["finished"], values["steps"], values["world_size"]) == (True, 4, 1)
    with pytest.raises(
        TrainingError, match=r"another recipe \(compile was false, is true\): train into another folder"
    ):
        invoke(pretrain, *args, "--compile")


def test_evaluate_prints_a_table_and_json(trained, tiny_catalog, everything):
    _, _, out = trained
    rarest = min(Counter(everything.column("div:landcover").tolist()).values())
    args = [out, tiny_catalog, "--split", "blocks", "--block-km", "20", "--repeats", "2", "--probe", "knn"]
    result = invoke(evaluate, *args, "--min-samples", rarest, "--json")
    assert [r["probe"] for r in json.loads(result.stdout)["results"]] == ["knn-5", "knn-20"]
    table = invoke(evaluate, *args, "--min-samples", rarest + 1).stdout
    assert "knn-20" in table
    assert "left out: " in table
    assert f"fewer than {rarest + 1}" in table


def test_evaluate_scores_random_weights(tiny_catalog, tmp_path, trained):
    recipe = tmp_path / "small.yaml"
    recipe.write_text(json.dumps(json.loads((trained[2] / "run.json").read_text())["recipe"]))
    args = [
        "none",
        tiny_catalog,
        "--control",
        recipe,
        "--split",
        "blocks",
        "--block-km",
        "20",
        "--repeats",
        "1",
        "--min-samples",
        "2",
        "--json",
    ]
    assert json.loads(invoke(evaluate, *args).stdout)["control"] is True
    assert "go together" in invoke(evaluate, "none", tiny_catalog).output


def test_correlate_gives_the_papers_figures():
    table = invoke(correlate, PAPER).stdout
    assert "+.845" in table
    values = json.loads(invoke(correlate, PAPER, "--by", "biome,spectral", "--json").stdout)
    assert [(v["by"], round(v["rho"], 3)) for v in values] == [("biome", 0.432), ("spectral", 0.845)]


def test_faults_reach_the_command_line(tiny_catalog, tmp_path):
    with pytest.raises(TrainingError, match="chips are 32 x 32"):
        invoke(pretrain, tiny_catalog / "everywhere", "--recipe", "satmae-tiny", "--out", tmp_path)
    result = invoke(
        pretrain, tiny_catalog / "everywhere", "--recipe", "satmae-tiny", "--out", tmp_path, "--set", "epochs"
    )
    assert "is not KEY=VALUE" in result.output
