from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import yaml

import pwcat
from publish.models.evaluations import regions_of
from publish.models.invented import embed_invented
from publish.models.mlm import _mlm_name
from publish.verify import verify_folder
from publish.weights import build_model_folder, load_model, publish_model
from pwcat.errors import PublishError, TrainingError
from training.checkpoint import load_model_folder
from training.evaluate import load_scores, save_scores
from training.models import build_model
from training.normalize import measure
from training.weights import import_weights

PUBLISH_AND_LOAD = """
import json, sys
import numpy as np
import torch
import pwcat
from pwcat.cli import main
from pwcat.errors import PublishError
chips_path, run = sys.argv[1:]
sys.argv = ["pwcat", "publish", "model", run, "--repo", "lab/tiny-mae", "--tag", "v1", "--license", "MIT"]
for _ in range(2):
    main()
print("loading")
chips = torch.from_numpy(np.load(chips_path))
model = pwcat.load_model("lab/tiny-mae", revision="v1")
with torch.inference_mode():
    embeddings = model.embed(chips)
out = {"training": model.training, "embeddings": embeddings.tolist(), "bands": list(model.normalization.bands)}
for wrong in ("lab/nothing", "lab/foreign"):
    try:
        pwcat.load_model(wrong)
    except PublishError as exc:
        out[wrong] = str(exc)
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def model_folder(run_dir, tmp_path_factory):
    return build_model_folder(run_dir, tmp_path_factory.mktemp("models") / "tiny-mae")


@pytest.fixture(scope="module")
def chips(everywhere, run_dir):
    """Four chips of the model's bands, uint16 (n, band, y, x)."""
    bands = [everywhere.bands.index(band) for band in load_model_folder(run_dir).bands]
    return np.ascontiguousarray(everywhere.read(np.arange(4))[:, 0, bands])


def embed(model, chips):
    with torch.inference_mode():
        return model.embed(torch.from_numpy(chips))


def test_a_published_model_gives_the_outputs_of_its_run(run_dir, model_folder, chips):
    model = load_model(model_folder)
    assert not model.training
    torch.testing.assert_close(embed(model, chips), embed(load_model_folder(run_dir), chips), rtol=0, atol=0)
    preprocessing = json.loads((model_folder / "preprocessing.json").read_text())
    assert preprocessing["bands"] == list(model.bands)
    assert preprocessing["mean"] == list(model.normalization.mean)
    assert preprocessing["data_hash"] == json.loads((run_dir / "run.json").read_text())["data"]["hash"]
    torch.testing.assert_close(embed(load_model(run_dir), chips), embed(model, chips), rtol=0, atol=0)


def test_published_by_the_command_it_loads_from_the_hub(hub, fresh, run_dir, model_folder, chips, tmp_path):
    np.save(tmp_path / "chips.npy", chips)
    hub.add_repo("models", "lab/foreign", {"pytorch_model.bin": b"pickle"})
    told, _, loaded = fresh(PUBLISH_AND_LOAD, tmp_path / "chips.npy", run_dir).partition("loading\n")
    first, second = told.split("load it with:")[:2]
    assert f"{hub.url}/lab/tiny-mae sent 8 files" in first
    assert 'pwcat.load_model("lab/tiny-mae", revision="v1")' in second
    assert "nothing was sent" in second
    out = json.loads(loaded)
    assert out["training"] is False
    assert out["embeddings"] == embed(load_model(model_folder), chips).tolist()
    assert "could not fetch lab/nothing" in out["lab/nothing"]
    assert "it does not exist, or the token" in out["lab/nothing"]
    assert "lab/foreign has no MANIFEST.json: it was not published by pwcat" in out["lab/foreign"]
    assert "It has pytorch_model.bin: pickles can run code" in out["lab/foreign"]
    fetched = {call[1] for call in hub.calls("GET", "/resolve/")}
    assert not any("pytorch_model.bin" in path or "README" in path for path in fetched)


def test_damaged_weights_and_pickles_are_refused(model_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(model_folder, copy)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(
        PublishError, match=r"not what its manifest says: model.safetensors has SHA-256 .*; fetch it again"
    ):
        load_model(copy)
    assert verify_folder(copy).faults[0].startswith("model.safetensors has SHA-256")
    (copy / "model.safetensors").unlink()
    with pytest.raises(PublishError, match=r"model\.safetensors is missing"):
        load_model(copy)
    (copy / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(PublishError, match=r"has its weights in pytorch_model\.bin: pickles can run code"):
        load_model(copy)
    with pytest.raises(PublishError, match=r"pytorch_model\.bin is a file: give the folder"):
        load_model(copy / "pytorch_model.bin")
    with pytest.raises(PublishError, match="a folder has no revision 'v1'"):
        load_model(copy, revision="v1")
    with pytest.raises(PublishError, match="'nowhere' is no name for a repository"):
        load_model("nowhere")


def test_the_card_says_what_the_run_recorded(run_dir, tmp_path):
    folder = build_model_folder(run_dir, tmp_path / "m", repo_id="lab/tiny-mae", license="CC-BY-4.0")
    card = (folder / "README.md").read_text()
    front = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, flags=re.DOTALL)[1])
    assert front["license"] == "cc-by-4.0"
    assert front["library_name"] == "pwcat"
    run = json.loads((run_dir / "run.json").read_text())
    (scores,) = load_scores(run_dir)
    assert f"| loss at the end | {run['final_loss']:.4f} |" in card
    assert run["data"]["hash"] in card
    told = [scores.summary("knn-5", metric).measure for metric in ("accuracy", "balanced_accuracy", "macro_f1")]
    cells = " | ".join(f"{each.mean:.3f} ({each.ci_low:.3f} to {each.ci_high:.3f})" for each in told)
    assert f"| knn-5 | {cells} | {scores.num_test} |" in card
    assert "| probe | accuracy | balanced accuracy | macro F1 | test samples |" in card
    assert 'pwcat.load_model("lab/tiny-mae")' in card
    assert "not finished" not in card
    assert "No licence was given" not in card


def test_the_card_says_what_was_seen_and_what_an_interval_of_one_sample_is(run_dir, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    (scores,) = load_scores(copy)
    told = "the interval is a point: more samples would make it wider"
    measures = [each for table in regions_of(scores) for row in table.rows for each in row.measures if each]
    card = (build_model_folder(copy, tmp_path / "m", repo_id="lab/x", release="v1") / "README.md").read_text()
    assert (told in card) == any(each.ci_low == each.ci_high for each in measures)
    assert 'model = pwcat.load_model("lab/x", revision="v1")' in card
    assert "are those of exactly the chips it was pretrained on" in card
    assert "it saw none" not in card
    run = json.loads((copy / "run.json").read_text())
    run["normalization"]["bands"] = run["normalization"]["bands"][1:3]
    run["data"]["hash"] = "0" * 64
    (copy / "run.json").write_text(json.dumps(run))
    card = (build_model_folder(copy, tmp_path / "n") / "README.md").read_text()
    assert "| bands | B03, B04: of the others that it can read, it saw none |" in card
    assert "- It was trained without the bands that it can read beside B03, B04:" in card
    assert "are those of exactly the chips" not in card
    certain = [replace(result, figures=[
        replace(figure, ci_low=[1.0] * len(figure.ci_low), ci_high=[1.0] * len(figure.ci_high)) for figure in result.figures
    ]) for result in scores.results]  # fmt: skip
    folder = build_model_folder(run_dir, tmp_path / "o", scores=[replace(scores, results=certain)])
    assert told in (folder / "README.md").read_text()


def test_scores_of_earlier_weights_are_not_published(run_dir, tmp_path, caplog):
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    scores = load_scores(copy)
    earlier = replace(scores[0], weights_hash="0" * 64)  # as of an evaluation before the run went on
    save_scores([*scores, earlier], copy)
    folder = build_model_folder(copy, tmp_path / "both")
    assert load_scores(folder) == scores
    assert f"1 of {len(scores) + 1} scores in {copy / 'scores.json'} are of other weights" in caplog.text
    save_scores([earlier], copy)
    folder = build_model_folder(copy, tmp_path / "none")
    assert not (folder / "scores.json").exists()
    assert "It has not been scored" in (folder / "README.md").read_text()


def test_a_run_without_scores_licence_or_end_says_so(run_dir, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    (copy / "scores.json").unlink()
    run = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**run, "total_steps": 99, "finished": False}))
    done = publish_model(copy, to=tmp_path / "m")
    card = (done.folder / "README.md").read_text()
    assert "It has not been scored" in card
    assert "The training is not finished" in card
    assert "No licence was given for the weights" in card
    assert done.load == f'pwcat.load_model("{tmp_path / "m"}")'
    with pytest.raises(TrainingError, match="is no run"):
        publish_model(tmp_path, to=tmp_path / "n")
    assert not (tmp_path / "n").exists()


def test_a_folder_is_verified_in_a_fresh_process(model_folder):
    found = verify_folder(model_folder)
    assert (found.kind, found.files, found.ok) == ("model", 8, True)


@pytest.mark.parametrize(
    ("name", "expected"), [("tiny-mae", "tiny-mae"), ("7", "model-7"), ("_x_", "model-x"), ("a/b c", "a-b c")]
)
def test_model_names_fit_the_schema(name, expected):
    assert _mlm_name(name) == expected
    assert re.match(r"^[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]$", expected)


@pytest.fixture
def valid_mlm(beside, kit):
    """The STAC item of a folder, checked against its schemas."""
    return partial(beside("mlm_schema").valid_mlm, kit=kit)


@pytest.mark.kit
def test_the_stac_item_is_valid_mlm(model_folder, valid_mlm):
    item = valid_mlm(model_folder)
    (told,) = item["properties"]["mlm:input"]
    model = load_model(model_folder)
    assert told["bands"] == list(model.bands)
    assert told["input"]["shape"] == [-1, len(model.bands), 32, 32]
    first = model.normalization.mean[0] - 2 * model.normalization.std[0]
    assert told["value_scaling"][0] == {
        "type": "min-max", "minimum": first, "maximum": pytest.approx(first + 4 * model.normalization.std[0])
    }  # fmt: skip
    assert item["properties"]["mlm:pretrained_source"].startswith("pwcat subset ")
    assert item["properties"]["bands"] == [{"name": band} for band in model.bands]


def test_the_stac_item_tells_the_unit_that_the_data_had(model_folder, tmp_path):
    model = load_model(model_folder)
    model.normalization = replace(model.normalization, unit="DN, reflectance*1000, offset -0.1; VV: dB = DN*0.001-20")
    model.save_pretrained(tmp_path / "model")
    build_model_folder(tmp_path / "model", tmp_path / "published")
    (told,) = json.loads((tmp_path / "published" / "mlm-item.json").read_text())["properties"]["mlm:input"]
    assert "Digital numbers: DN, reflectance*1000, offset -0.1; VV: dB = DN*0.001-20." in told["description"]


SMALL_SATMAE = {
    "image_size": 32, "patch_size": 16, "dim": 48, "depth": 1, "heads": 2, "group_dim": 16, "decoder_dim": 32,
    "decoder_depth": 1, "decoder_heads": 2, "decoder_group_dim": 8,
}  # fmt: skip
SMALL = {
    "satmae": SMALL_SATMAE,
    "presto": {"dim": 32, "depth": 1, "decoder_dim": 32, "decoder_depth": 1},
    "satclip": {
        "degrees": 4,
        "hidden": 32,
        "dim": 16,
        "tower": {"architecture": "satmae", "config": SMALL_SATMAE, "frozen": False},
    },
    "geojepa": {"modalities": "T", "dim": 16, "depth": 1, "heads": 2, "vocabulary": ["highway"]},
    "geometry": {},
    "tagcount": {"vocabulary": ["building", "highway"]},
    "tagpool": {},
}


@pytest.fixture(scope="module", params=sorted(SMALL))
def untrained(request, everywhere, tmp_path_factory):
    """A small model of each architecture as its own folder, and the publication of it."""
    torch.manual_seed(0)
    model = build_model(request.param, SMALL[request.param])
    if request.param == "satmae":
        model.normalization = measure(everywhere, bands=model.bands)
    folder = tmp_path_factory.mktemp("untrained") / f"small-{request.param}"
    model.save_pretrained(folder)
    return model, build_model_folder(folder, folder.with_name("published"))


@pytest.mark.kit
def test_every_architecture_is_told_as_what_it_takes(untrained, valid_mlm):
    model, folder = untrained
    item = valid_mlm(folder)["properties"]
    assert [one["name"] for one in item["mlm:input"]] == {
        "satmae": ["chips"], "presto": ["chips", "times", "lonlat"], "satclip": ["lonlat"]
    }.get(model.architecture, [one.name for one in model.inputs()])  # fmt: skip
    assert ("bands" in item) == (model.architecture in {"satmae", "presto"})
    assert item["mlm:output"][0]["result"]["shape"] == [-1, model.embedding_dim]
    assert (item["mlm:pretrained"], item["mlm:pretrained_source"]) == (False, "not known")
    assert item["mlm:hyperparameters"] == {"model": json.loads(json.dumps(model.config_json()))}


def test_every_architecture_has_a_card_and_loads(untrained):
    model, folder = untrained
    card, facts = (folder / "README.md").read_text(), model.facts()
    front = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, flags=re.DOTALL)[1])
    assert {model.architecture, *([f"arxiv:{facts.arxiv}"] if facts.arxiv else [])} <= set(front["tags"])
    for told in (facts.paper, facts.reads, facts.pooling, facts.scaling, facts.source, *facts.limits):
        assert (told or "") in card
    assert "Nothing is known of it" in card
    assert "It has not been scored" in card
    assert ("| band | mean |" in card) == (model.architecture == "satmae")
    assert "\n\n\n" not in card
    assert "\n\n## Use it\n\n" in card
    assert "\n\nAn embedding: " in card
    preprocessing = json.loads((folder / "preprocessing.json").read_text())
    assert preprocessing["inputs"][0]["name"] == model.inputs()[0].name
    assert ("mean" in preprocessing) == (model.architecture == "satmae")
    again = load_model(folder)
    assert type(again) is type(model)
    torch.testing.assert_close(embed_invented(again), embed_invented(model.eval()), rtol=0, atol=0)


def test_the_example_of_a_card_runs(untrained, everywhere, chips, monkeypatch):
    model, folder = untrained
    source = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)[1]
    source = source.replace("path/to/this/folder", str(folder)).replace(
        "path/to/a/catalog", str(everywhere.collections[0].path)
    )
    if model.reads_entities:
        compile(source, "example", "exec")  # there are no maps here to embed
        return
    values = {"chips": torch.from_numpy(chips)}
    exec(source, values)
    assert values["embeddings"].shape[1] == model.embedding_dim


def test_released_weights_are_published_with_their_licence(golden, tmp_path, valid_mlm):
    import_weights("presto", golden / "presto_default_model.pt", tmp_path / "presto")
    assert pwcat.load_model(tmp_path / "presto").embedding_dim == 128
    folder = build_model_folder(tmp_path / "presto", tmp_path / "published")
    card = (folder / "README.md").read_text()
    assert "license: mit" in card
    assert (
        "released under MIT. Their authors released them under MIT: see <https://github.com/nasaharvest/presto>" in card
    )
    assert "imported from `presto_default_model.pt` (SHA-256 `" in card
    assert "822,682" in card
    assert "Sentinel-2 is Level-1C" in card
    item = valid_mlm(folder)["properties"]
    assert item["mlm:pretrained"] is True
    assert item["mlm:pretrained_source"].startswith("released weights presto_default_model.pt, SHA-256 ")
    assert load_model(folder).embedding_dim == 128
    (tmp_path / "presto" / "origin.json").write_text("{}")
    with pytest.raises(
        PublishError, match=r"origin.json is not what `pwcat weights import` writes: 'file'; import again"
    ):
        build_model_folder(tmp_path / "presto", tmp_path / "again")


def test_a_path_that_is_not_there_is_said_to_be_none(tmp_path):
    with pytest.raises(PublishError, match="there is no such folder"):
        load_model(tmp_path / "no" / "such" / "model")
