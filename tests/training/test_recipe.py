import re

import pytest
import yaml
from pydantic import BaseModel

from pwcat.errors import RecipeError
from training.finetuning.recipe import load_finetune_recipe
from training.recipe import FOLDER, TrainRecipe, list_train_recipes, load_train_recipe, parse_train_recipe
from training.studying.shelf import load_study


def test_shipped_recipes_load_and_say_how_to_run_them():
    maps = ["-gt", "-gt-tiny", "-gti", "-gti-tiny", "-t", "-ti", "-ti-tiny", "-tiny"]
    shipped = [
        *(f"geojepa{name}" for name in maps),
        "geometry",
        "geometry-tiny",
        "presto",
        "presto-tiny",
        "satclip",
        "satclip-tiny",
        "satmae-b",
        "satmae-l",
        "satmae-rgb-tiny",
        "satmae-tiny",
        "tagcount",
        "tagpool",
    ]
    assert list_train_recipes() == shipped
    for name in list_train_recipes():
        assert load_train_recipe(name).name == name
        head = (FOLDER / f"{name}.yaml").read_text().split("name:")[0]
        assert all(word in head for word in ("command", "hardware", "time", "score"))


OLD_HASHES = {
    "presto": "43d9dd002494d220804e7dec7a3e18377673b7e649ce22f06a8f432b981fb184",
    "presto-tiny": "cdc19ffe3441b20437263224bfb7d63ee1173e01be78cd6bdee9d85686b82675",
    "satclip": "10a80c251d66490251e0867fdcdf7c2fadc79eb428b4dce500445992c5ac9f92",
    "satclip-tiny": "a02012beb869eaeb15fdd934d7517957f64d31ea28c3f888dac79d33274f1082",
    "satmae-b": "4f815e769daeeb5877d5ef6b9b9e9406b613fbfdf99fbd460d95a423cdef2a6f",
    "satmae-l": "d3a898f101ca46213ae0094a053bcaf76831c3e97829ea0a94700ab9d147c931",
    "satmae-tiny": "addcd8578bb9450cca22aff9d581f7c88db551dd35367c1fadaca25c63dd5dd5",
}


def test_keys_that_came_later_change_no_hash_where_they_say_nothing():
    assert {name: load_train_recipe(name).hash for name in OLD_HASHES} == OLD_HASHES
    plain = load_train_recipe("satmae-tiny")
    assert not {"weight_decay_end", "warmup_from", "final_lr"} & plain.told()["optimizer"].keys()
    for key, value in {"weight_decay_end": "0.05", "warmup_from": "0.1", "final_lr": "1e-6"}.items():
        changed = load_train_recipe("satmae-tiny", overrides={f"optimizer.{key}": value})
        assert changed.hash != plain.hash
        assert parse_train_recipe(changed.told()).hash == changed.hash


def test_where_rates_end_must_fit_the_schedule():
    with pytest.raises(RecipeError, match=r"final_lr 0.001 is where a cosine ends: schedule constant"):
        load_train_recipe("satclip-tiny", overrides={"optimizer.final_lr": "0.001"})
    with pytest.raises(RecipeError, match=r"final_lr 0.1 must not be above lr 0.001"):
        load_train_recipe("geojepa-tiny", overrides={"optimizer.final_lr": "0.1"})


def test_satmae_b_is_the_papers():
    recipe = load_train_recipe("satmae-b")
    assert recipe.effective_batch == 4096
    assert recipe.lr == pytest.approx(1.6e-3)
    assert (recipe.epochs, recipe.optimizer.warmup_epochs, recipe.model["mask_ratio"]) == (50, 5, 0.75)
    assert not {"B01", "B09", "B10"} & set(recipe.model["bands"])


def test_every_fault_is_listed_with_its_path():
    document = {
        "name": "x",
        "epochs": 0,
        "batch_size": 4,
        "colour": 1,
        "model": {"heads": 5},
        "augment": {"flip": "up"},
    }
    with pytest.raises(RecipeError) as caught:
        parse_train_recipe(document)
    message = str(caught.value)
    for part in ("epochs: ", "colour: ", "model: ", "heads 5 must divide dim 768", "augment.flip: "):
        assert part in message


def test_warm_up_must_end_before_the_epochs():
    with pytest.raises(RecipeError, match="optimizer: warmup_epochs 20 must be below epochs 20"):
        load_train_recipe("satmae-tiny", overrides={"optimizer.warmup_epochs": "20"})


def test_unknown_architecture_names_those_there_are():
    with pytest.raises(RecipeError, match="architecture: 'vit' is none of satmae"):
        load_train_recipe("satmae-tiny", overrides={"architecture": "vit"})


def test_unknown_recipe_names_those_there_are(tmp_path):
    with pytest.raises(RecipeError, match="satclip, satclip-tiny, satmae-b, satmae-l, satmae-rgb-tiny, satmae-tiny"):
        load_train_recipe("satmae-xl")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(RecipeError, match="must hold a mapping"):
        load_train_recipe(tmp_path / "list.yaml")
    (tmp_path / "latin.yaml").write_bytes("title: Übersicht".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"latin\.yaml is not YAML"):
        load_train_recipe(tmp_path / "latin.yaml")


def test_a_section_cannot_be_set_inside_a_value():
    with pytest.raises(RecipeError, match="'epochs' is a single value"):
        load_train_recipe("satmae-tiny", overrides={"epochs.more": "1"})


def test_hash_follows_content_not_layout(tmp_path):
    document = yaml.safe_load((FOLDER / "satmae-tiny.yaml").read_text())
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=True))
    assert load_train_recipe(path).hash == load_train_recipe("satmae-tiny").hash
    assert load_train_recipe("satmae-tiny", overrides={"seed": "1"}).hash != load_train_recipe("satmae-tiny").hash


def test_the_rate_grows_with_the_batch_or_is_given():
    def rate(**values):
        document = {"name": "x", "epochs": 9, "batch_size": 64, "accumulate": 8, "optimizer": values}
        return parse_train_recipe(document).lr

    assert rate() == pytest.approx(2e-4)
    assert rate(base_lr=1e-3) == pytest.approx(2e-3)
    assert rate(lr=1e-3) == 1e-3
    assert rate(lr=1e-3, base_lr=None) == 1e-3
    with pytest.raises(RecipeError, match="optimizer: base_lr and lr are two ways to say one thing"):
        rate(lr=1e-3, base_lr=1e-3)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("checkpoint.keep", "0", "greater than 0"),
        ("checkpoint.keep", "some", "should be 'all'"),
        ("checkpoint.every_steps", "0", "greater than 0"),
        ("checkpoint.milestones", "[0]", "greater than 0"),
        ("checkpoint_every_epochs", "3", "Extra inputs are not permitted"),
        ("optimizer.ema_decay", "1", "less than 1"),
        ("optimizer.schedule", "line", "'cosine' or 'constant'"),
        ("optimizer.betas", "[0.9, 1.0]", "less than 1"),
        ("optimizer.base_lr", ".inf", "finite number"),
        ("optimizer.weight_decay", ".inf", "finite number"),
        ("seed", "9223372036854775808", "less than or equal to 9223372036854775807"),
        ("model", "{dim: ", "is not YAML"),
    ],
)
def test_faults_of_the_loop_are_told(key, value, said):
    with pytest.raises(RecipeError, match=f"{key}.*{said}"):
        load_train_recipe("satmae-tiny", overrides={key: value})


def test_where_data_lie_and_what_is_kept_has_no_bearing_on_the_hash():
    plain = load_train_recipe("satmae-tiny").hash
    overrides = {"checkpoint.keep": "all", "memory_budget_mb": "1", "placement": "stream", "title": "x"}
    assert load_train_recipe("satmae-tiny", overrides=overrides).hash == plain
    for key, value in {"compile": "true", "optimizer.ema_decay": "0.9", "window_chips": "9"}.items():
        assert load_train_recipe("satmae-tiny", overrides={key: value}).hash != plain


def test_the_page_has_every_key_with_its_default():
    page = (FOLDER.parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    table = page.split("### Keys of a training recipe")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[3:]]
    told: dict[str, str] = {}
    for keys, defaults, _ in rows:
        names = re.findall(r"`([\w.]+)`", keys)
        section = names[0].rpartition(".")[0]
        full = [section + name if name.startswith(".") else name for name in names]
        several = [one.strip("`") for one in defaults.split("; " if ";" in defaults else ", ")]
        told |= dict(zip(full, several, strict=True))
    known = {"none": None, "false": False, "empty": "", "0.9, 0.95": (0.9, 0.95), "[]": (), "{}": {}}
    for key, field in _fields(TrainRecipe):
        default = "required" if field.is_required() else field.get_default(call_default_factory=True)
        default = 1e-4 if key == "optimizer.base_lr" else default  # where no rate is given
        text = told.pop(key)
        assert known.get(text, text if isinstance(default, str) else None) == default or float(text) == default, key
    assert not told


def _fields(model, prefix=""):
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


@pytest.mark.parametrize("load", [load_train_recipe, load_finetune_recipe, load_study])
def test_no_key_stands_twice(load, tmp_path):
    """The first would be lost without a word: of a study, a dataset."""
    path = tmp_path / "twice.yaml"
    path.write_text("seed: 0\nepochs: 3\nepochs: 5\n")
    with pytest.raises(RecipeError, match="'epochs' stands twice"):
        load(path)
