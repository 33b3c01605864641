"""What a study may say, what is wrong with it, and which jobs it comes to."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pwcat.errors import RecipeError, TrainingError
from training.study import chosen_jobs, list_studies, load_study, plan_jobs
from training.studying.document import parse_study
from training.studying.planning import kind_of


def test_every_fault_is_told_at_once(small_document) -> None:
    document = small_document(
        models=[
            {"name": "tiny", "recipe": "satmae-tiny", "set": {"model.depht": 1}},
            {"name": "lost", "recipe": "satmea-tiny"},
            {"name": "both", "recipe": "satmae-tiny", "weights": "there"},
        ],
        tasks=[
            {"task": "landcover"},
            {"task": "eurosat", "data": "labelled"},
            {"task": "biome", "data": "labeled", "probes": ["kn"]},
            {"task": "landcoverr", "data": "labelled"},
        ],
        samplings=[{"name": "a", "kind": "resampling"}, {"name": "a", "kind": "few-shot", "sizes": [0]}],
        wokers=3,
    )
    with pytest.raises(RecipeError, match="faults, nothing was done") as told:
        parse_study(document, origin="mine.yaml")
    for fault in (
        "wokers: Extra inputs are not permitted",
        "depht",
        "no training recipe 'satmea-tiny'",
        "a model has either a `recipe` or `weights`",
        "tasks.landcover: say of which `data`",
        "tasks.eurosat.data: eurosat is a benchmark",
        "'labeled' is none of here, built, labelled; did you mean labelled?",
        "'kn' is none of knn, ridge, logistic; did you mean knn?",
        "unknown task 'landcoverr'",
        "samplings[1].sizes[0]",
    ):
        assert fault in str(told.value), fault


def test_names_that_stand_twice_are_a_fault(small_document) -> None:
    twice = [*small_document()["datasets"], small_document()["datasets"][0]]
    with pytest.raises(RecipeError, match="datasets and labelled: here stands twice"):
        parse_study(small_document(datasets=twice), origin="mine.yaml")


def test_the_controls_name_is_its_own(small_document, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'none' is the control's name"):
        parse_study(small_document(datasets=[{"name": "none", "data": str(tmp_path)}]), origin="mine.yaml")


def test_no_mapping_is_no_study() -> None:
    with pytest.raises(RecipeError, match="a study is a mapping of keys, got list"):
        parse_study([], origin="mine.yaml")


@pytest.mark.parametrize("name", list_studies())
def test_shipped_studies_are_sound_and_can_be_planned(name: str, tmp_path: Path) -> None:
    study = load_study(name)
    assert study.document.name == name
    jobs = plan_jobs(study)
    known: set[str] = set()
    for job in jobs:
        assert set(job.needs) <= known, job.name  # each after what it needs
        known.add(job.name)
    assert len({job.slug for job in jobs}) == len(jobs)


@pytest.mark.parametrize(("name", "datasets", "probes"), [("pretrain_where", 8, 3), ("spatial_distribution", 6, 4)])
def test_shipped_studies_are_of_the_papers_sizes(name: str, datasets: int, probes: int) -> None:
    for study in (load_study(name), load_study(name, mini=True)):
        scored = [job for job in plan_jobs(study) if job.kind in {"evaluate", "finetune"} and not job.rung]
        assert len({job.dataset for job in scored}) == datasets
        assert len({job.name.split("/")[-2] for job in scored}) == probes
        of_a_task = {(job.dataset, job.name.split("/")[-2]) for job in scored if job.task == scored[0].task}
        assert len(of_a_task) == datasets * probes


VARIANTS = ("T", "GT", "TI", "GTI")


def test_maps_and_images_are_of_the_papers_sizes() -> None:
    jobs = {mini: plan_jobs(load_study("geojepa", mini=mini)) for mini in (False, True)}
    full, small = ([job for job in of if job.kind == "evaluate"] for of in jobs.values())
    assert len({job.task for job in full}) == 10
    for scored, seeds, tasks in ((full, 5, 10), (small, 1, 6)):
        for name in VARIANTS:
            own = [job for job in scored if job.model == name]
            assert len({job.seed for job in own}) == seeds
            assert len(own) == 2 * seeds * tasks * 2  # two probes, pretrained and with random weights
        assert {job.dataset for job in scored if job.model in {"TagCount", "TagPool", "Constant"}} == {"none"}
        assert {job.name.split("/")[-2] for job in scored if job.model == "Constant"} == {"dummy"}
    pretrained = {job.model for job in jobs[False] if job.kind == "pretrain"}
    assert pretrained == {*VARIANTS, "ViT"}


def test_towns_are_made_for_the_datasets_that_find_them(write_study) -> None:
    recipe = {"kind": "map", "title": "T", "license": "CC0-1.0", "map": {"path": "../towns/towns.osm.pbf"}}
    changes = {"recipes": {"tiny": recipe}, "towns": {"towns": 3, "across": 1}}
    study = load_study(write_study(**changes))
    jobs = {job.name: job for job in plan_jobs(study)}
    assert jobs["dataset/built"].needs == ("towns",)
    assert jobs["dataset/here"].needs == ()
    other = load_study(write_study(**{**changes, "towns": {"towns": 4, "across": 1}}))
    assert {job.name: job.key for job in plan_jobs(other)}["dataset/built"] != jobs["dataset/built"].key


def test_pretraining_on_some_splits_is_another_pretraining_and_nothing_trained_has_none(
    write_study, small_document
) -> None:
    model = small_document()["models"][0]

    def pretrained(**changes: object) -> dict[str, str]:
        jobs = plan_jobs(load_study(write_study(models=[{**model, **changes}])))
        return {job.name: job.key for job in jobs if job.kind == "pretrain"}

    every, some = pretrained(), pretrained(splits=["train"])
    assert every.keys() == some.keys()
    assert not set(every.values()) & set(some.values())
    assert pretrained(trained=False) == {}


def test_a_model_may_be_for_some_probes_alone(small_document, write_study) -> None:
    model = small_document()["models"][0]
    jobs = plan_jobs(load_study(write_study(models=[{**model, "probes": ["logistic"]}])))
    assert {job.name.split("/")[-2] for job in jobs if job.kind == "evaluate"} == {"logistic"}
    with pytest.raises(RecipeError, match=r"models.tiny.probes: 'mlp' is none of knn, ridge, logistic"):
        parse_study(small_document(models=[{**model, "probes": ["mlp"]}]), origin="mine.yaml")
    with pytest.raises(RecipeError, match="`trained` is for recipes"):
        parse_study(small_document(models=[{"name": "w", "weights": "runs/w", "trained": False}]), origin="mine.yaml")


def test_keys_that_came_later_leave_a_study_its_hash(small_document) -> None:
    dumped = parse_study(small_document(), origin="mine.yaml").model_dump(mode="json")
    assert "towns" not in dumped
    assert not {"splits", "probes", "trained"} & dumped["models"][0].keys()


def test_keys_hang_on_what_bears_on_the_outcome_alone(write_study, small_document) -> None:
    def keys(name: str, **changes: object) -> dict[str, str]:
        return {job.name: job.key for job in plan_jobs(load_study(write_study(f"{name}.yaml", **changes)))}

    plain = keys("plain")
    assert keys("same", title="Other", notes=["Words."], workers=2, threads=None) == plain
    seeded = keys("seeded", samplings=[{"name": "blocks", "kind": "resampling", "split": "blocks", "seeds": 3}])
    assert {name.split("/")[0] for name in plain if plain[name] != seeded[name]} == {"evaluate"}
    recipe = {"tiny": {**small_document()["recipes"]["tiny"], "seed": 1}}
    other = keys("other", recipes=recipe)
    assert {name for name in plain if plain[name] != other[name]} == {name for name in plain if "built" in name}


def test_a_dataset_that_was_changed_has_another_key(write_study, tmp_path: Path, tiny_catalog) -> None:
    import shutil

    place = tmp_path / "copy"
    shutil.copytree(tiny_catalog / "everywhere", place)
    path = write_study(datasets=[{"name": "copy", "data": str(place)}])
    before = {job.name: job.key for job in plan_jobs(load_study(path))}
    (place / "scores.json").write_text("{}")  # what evaluations leave is no part of it
    assert {job.name: job.key for job in plan_jobs(load_study(path))} == before
    (place / "recipe.yaml").write_text((place / "recipe.yaml").read_text() + "# another\n")
    after = {job.name: job.key for job in plan_jobs(load_study(path))}
    assert {name for name in after if after[name] != before[name]} == {name for name in after if "copy" in name}


def test_a_seed_more_leaves_the_others_keys_alone(write_study, small_document) -> None:
    model = small_document()["models"][0]
    one, two = (
        {job.name: job.key for job in plan_jobs(load_study(write_study(models=[{**model, "seeds": seeds}])))}
        for seeds in ([0], [0, 1])
    )
    assert one.items() <= two.items()
    assert {name for name in two if "/s1" in name} == two.keys() - one.keys()


def test_rungs_are_jobs_of_their_own(write_study) -> None:
    path = write_study(
        rungs=[{"name": "short", "set": {"epochs": 2, "batch_size": 8}, "samples": 8, "probes": ["knn"]}]
    )
    jobs = [job for job in plan_jobs(load_study(path)) if job.rung]
    assert {job.rung for job in jobs} == {"short"}
    assert {job.dataset for job in jobs} == {"here", "built"}  # random weights are no dataset
    assert {job.name.split("/")[-2] for job in jobs if job.kind == "evaluate"} == {"knn"}
    pretrainings = [job for job in plan_jobs(load_study(path)) if job.kind == "pretrain"]
    assert len({job.key for job in pretrainings}) == len(pretrainings) == 4


def test_only_some_jobs_bring_what_they_need(write_study) -> None:
    jobs = plan_jobs(load_study(write_study()))
    chosen = [job.name for job in chosen_jobs(jobs, ["evaluate/*/built/*/knn/*"])]
    assert chosen == [
        "dataset/labelled",
        "dataset/built",
        "pretrain/tiny/built/s0",
        "embed/tiny/built/s0/landcover",
        "evaluate/tiny/built/s0/landcover/knn/blocks",
    ]
    with pytest.raises(TrainingError, match=r"--only evalute: no job is of this kind or name. Kinds are dataset"):
        chosen_jobs(jobs, ["evalute"])


def test_what_a_task_predicts_is_known_before_it_is_opened() -> None:
    names = (
        "eurosat",
        "mosaiks-population",
        "landcover",
        "number:div:spectral_entropy",
        "column:div:biome",
        "landcover-map",
    )
    kinds = ["classification", "regression", "classification", "regression", "classification", "segmentation"]
    assert [kind_of(name) for name in names] == kinds


def test_unknown_studies_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no study 'pretrain_wher': did you mean pretrain_where"):
        load_study("pretrain_wher")
    with pytest.raises(RecipeError, match="is of the shipped studies"):
        load_study(tmp_path / "mine.yaml", mini=True)
    (tmp_path / "mine.yaml").write_text("a: [")
    with pytest.raises(RecipeError, match="is not YAML"):
        load_study(tmp_path / "mine.yaml")


def test_a_missing_recipe_is_told_by_the_dataset_that_names_it(write_study) -> None:
    path = write_study(datasets=[{"name": "gone", "recipe": "nowhere.yaml"}])
    with pytest.raises(RecipeError, match=r"datasets.gone.recipe: 'nowhere.yaml' is neither"):
        plan_jobs(load_study(path))


def test_a_study_in_a_file_is_the_same_as_its_resolved_copy(write_study, tmp_path: Path) -> None:
    from training.study import study_in
    from training.studying.shelf import write_study as write_down

    study = load_study(write_study())
    write_down(tmp_path / "out", study)
    assert study_in(tmp_path / "out").hash == study.hash
    assert yaml.safe_load((tmp_path / "out" / "study.yaml").read_text())["hash"] == study.hash
    assert [job.key for job in plan_jobs(study_in(tmp_path / "out"))] == [job.key for job in plan_jobs(study)]


@pytest.mark.parametrize(
    ("first", "second", "sizes"),
    [
        ({"kind": "official"}, {"kind": "resampling"}, "all"),
        ({"kind": "few-shot", "sizes": [5, 20]}, {"kind": "few-shot", "sizes": [20, 100], "per": "total"}, "20"),
        ({"kind": "few-shot", "sizes": [5, None]}, {"kind": "resampling", "seed": 1}, "all"),
    ],
)
def test_samplings_whose_scores_could_not_be_told_apart_are_refused(small_document, first, second, sizes) -> None:
    document = small_document(samplings=[{"name": "one", **first}, {"name": "two", **second}])
    fault = f"samplings: one and two both give knn scores of {sizes} training samples, which results cannot tell apart"
    with pytest.raises(RecipeError, match=fault):
        parse_study(document, origin="mine.yaml")
    document["probes"] = [{"probe": "knn", "samplings": ["one"]}, {"probe": "linear", "samplings": ["two"]}]
    parse_study(document, origin="mine.yaml")


def test_samplings_within_continents_and_of_other_sizes_are_told_apart(small_document) -> None:
    few = {"kind": "few-shot", "sizes": [5]}
    samplings = [
        {"name": "all", "kind": "resampling"}, {"name": "few", **few}, {"name": "within", **few, "within": "continent"},
    ]  # fmt: skip
    assert len(parse_study(small_document(samplings=samplings), origin="mine.yaml").samplings) == 3
