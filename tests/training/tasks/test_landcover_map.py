"""The land cover of each pixel of a catalog's chips: against the rasters themselves, read by rasterio."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.transform import from_origin

from catalog.importers.importer import Grid
from catalog.store import build
from catalog.subset import load_subset
from pwcat.errors import SourceError, TrainingError
from pwcat.landcover import WORLDCOVER
from pwcat.regions.raster import open_raster
from training.evaluate import evaluate
from training.finetune import FinetuneRecipe, finetune
from training.models.satmae import SatMAE, SatMAEConfig
from training.resampling import Resampling
from training.tasks import open_task
from training.tasks.landcover_map import LandcoverMapTask, Masks


@pytest.fixture(scope="module")
def data(subset):
    return LandcoverMapTask().open(subset)


def windows(archive, data, rows):
    """Codes of the archive's own land cover under the chips; both are on one grid of 10 m."""
    subset, found = data.chips.subset, []
    codes = np.full(256, -1)
    for value, name in WORLDCOVER.items():
        codes[value] = data.info.classes.index(name)
    files = [rasterio.open(path) for path in sorted((archive / "landcover-synthetic").glob("*/*.tif"))]
    columns = [subset.column(name) for name in ("proj:code", "proj:transform")]
    for row in rows:
        code, (a, _, x, _, _, y) = columns[0][row], columns[1][row]
        (file,) = [f for f in files if f.crs.to_string() == code and f.bounds.left <= x < f.bounds.right
                   and f.bounds.bottom < y <= f.bounds.top]  # fmt: skip
        assert file.transform.a == a
        column, line = round((x - file.transform.c) / a), round((file.transform.f - y) / a)
        found.append(codes[file.read(1, window=((line, line + 32), (column, column + 32)))])
    for file in files:
        file.close()
    return np.stack(found)


def test_pixels_have_the_class_of_the_raster_under_them(data, archive_dir):
    rows = np.array([0, 7, 8, 30, 47])
    masks = data.masks(rows)
    assert masks.dtype == np.int16
    np.testing.assert_array_equal(masks, windows(archive_dir, data, rows))
    assert len(np.unique(masks)) > 2


def test_it_is_a_segmentation_of_the_whole_subset(data, subset):
    info = data.info
    assert (info.kind, info.metric, info.fit, info.pixel_m) == ("segmentation", "miou", "crop", 10.0)
    assert info.classes == tuple(sorted(WORLDCOVER.values()))
    assert info.source == "archive:landcover-synthetic"
    assert len(data) == len(subset) == 48
    assert set(data.splits) == {"train", "test"}
    assert set(data.groups) == {"continent", "biome", "landcover"}
    shares = subset.column("div:landcover_fractions")
    for row in (0, 20, 40):
        found = {info.classes[code]: share for code, share in _shares(data.masks(np.array([row]))).items()}
        told = {each["name"]: each["fraction"] for each in shares[row]}
        assert found == pytest.approx({**dict.fromkeys(found, 0.0), **told}, abs=0.02)


def _shares(masks):
    codes, counts = np.unique(masks[masks >= 0], return_counts=True)
    return dict(zip(codes.tolist(), (counts / counts.sum()).tolist(), strict=True))


def test_it_is_known_by_its_name(tiny_catalog):
    data = open_task("landcover-map", tiny_catalog)
    assert len(data) == 80
    assert data.masks(np.array([0, 79])).shape == (2, 32, 32)
    assert data.hash != open_task("landcover-map", tiny_catalog / "europe").hash


class Counting:
    """A layer that knows its two classes by the longitude, and counts what it is asked."""

    name, source, classes, pixel_m = "landcover", "made up", ["east", "west"], None

    def __init__(self):
        self.asked = []

    def codes(self, lonlat):
        self.asked.append(lonlat.shape)
        return np.where(np.isnan(lonlat[..., 0]), -1, (lonlat[..., 0] < 15).astype(np.int16)).astype(np.int16)


def masks_of(layer, *, count=10, kept_mb=1.0, size=4):
    grids = [
        Grid("EPSG:32633", (10.0, 0.0, 499_980.0 + 100 * row, 0.0, -10.0, 5e6), size, size) for row in range(count)
    ]
    return Masks(grids=grids, layers=[layer], starts=[0], classes=("west", "east"), kept_mb=kept_mb)


def test_masks_are_read_once_and_no_more_than_asked_for():
    layer = Counting()
    masks = masks_of(layer)
    first = masks(np.array([3, 0, 3]))
    np.testing.assert_array_equal(first[0], first[2])
    # 15° E is the middle of the zone: of the first chip its first two columns lie west of it
    assert first[1].tolist() == [[0, 0, 1, 1]] * 4
    assert layer.asked == [(2, 16, 2)]
    again = masks(np.array([0, 3, 5]))
    np.testing.assert_array_equal(again[:2], first[[1, 0]])
    assert layer.asked == [(2, 16, 2), (1, 16, 2)]
    assert masks(np.array([], dtype=np.int64)).shape == (0, 4, 4)


def test_of_many_masks_the_last_are_kept(monkeypatch):
    layer = Counting()
    masks = masks_of(layer, kept_mb=3 * 32e-6)
    monkeypatch.setattr("training.tasks.landcover_map.PIXELS_AT_ONCE", 4 * 16)
    assert masks(np.arange(10)).shape == (10, 4, 4)
    assert [shape[0] for shape in layer.asked] == [4, 4, 2]
    masks(np.array([9, 8, 7]))
    assert len(layer.asked) == 3
    masks(np.array([6]))
    assert [shape[0] for shape in layer.asked] == [4, 4, 2, 1]


def test_layers_of_several_collections_keep_their_own_codes():
    """Two layers that count their classes otherwise: a pixel's code is that of its class's name."""
    west_first = Counting()
    west_first.classes = ["west", "east"]
    west_first.codes = lambda lonlat: np.zeros(lonlat.shape[:-1], np.int16)
    east_first = Counting()
    east_first.codes = lambda lonlat: np.full(lonlat.shape[:-1], -1, np.int16)
    grids = [Grid("EPSG:32633", (10.0, 0.0, 5e5, 0.0, -10.0, 5e6), 2, 2)] * 4
    masks = Masks(grids=grids, layers=[west_first, east_first], starts=[0, 3], classes=("east", "west"))
    assert masks(np.array([3, 2, 0]))[:, 0, 0].tolist() == [-1, 1, 1]
    with pytest.raises(TrainingError, match=r"several sizes \(2 x 2, 3 x 3 pixels\)"):
        Masks(
            grids=[*grids, replace(grids[0], height=3, width=3)],
            layers=[west_first],
            starts=[0],
            classes=("west", "east"),
        )


@pytest.fixture(scope="module")
def hemispheres(tmp_path_factory):
    """A class raster of the world in cells of a degree: north, south, and none between 2° S and 2° N."""
    path = tmp_path_factory.mktemp("layer") / "halves.tif"
    latitude = np.repeat(np.linspace(89.5, -89.5, 180)[:, None], 360, axis=1)
    values = np.where(latitude > 2, 1, np.where(latitude < -2, 2, 0)).astype(np.uint8)
    with rasterio.open(path, "w", driver="GTiff", height=180, width=360, count=1, dtype="uint8", crs="EPSG:4326",
                       transform=from_origin(-180, 90, 1, 1), nodata=0) as file:  # fmt: skip
        file.write(values, 1)
    return path


def test_any_class_raster_can_be_the_layer(subset, hemispheres):
    layer = open_raster(hemispheres, name="landcover", source="halves", legend={1: "north", 2: "south"})
    data = LandcoverMapTask(layer=layer).open(subset)
    assert data.info.classes == ("north", "south")
    masks = data.masks(np.arange(len(data)))
    latitude = subset.lonlat[:, 1]
    assert (masks[latitude > 3] == 0).all()
    assert (masks[latitude < -3] == 1).all()
    assert data.hash != LandcoverMapTask().open(subset).hash


def test_a_recipe_may_name_a_file(write_recipe, archive_dir, hemispheres, tmp_path):
    """Its path starts where the recipe lies, which is not where the collection lies."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "halves.tif").write_bytes(hemispheres.read_bytes())
    classes = {1: "north", 2: "south"}
    recipe = write_recipe(
        folder, name="halves", num_samples=6, regions={"landcover": {"path": "halves.tif", "classes": classes}}
    )
    build(recipe, catalog=tmp_path / "catalog")
    place = tmp_path / "catalog" / "halves"
    data = open_task("landcover-map", place)
    expected = np.where(data.lonlat[:, 1] > 0, 0, 1)
    assert data.masks(np.arange(6))[:, 16, 16].tolist() == expected.tolist()

    (folder / "halves.tif").unlink()
    with pytest.raises(Exception, match=r"halves\.tif does not exist"):
        open_task("landcover-map", place)


def changed(tiny_catalog, folder, change):
    """A collection whose recipe was changed by hand."""
    place = shutil.copytree(tiny_catalog / "europe", folder / "europe")
    recipe = yaml.safe_load((place / "recipe.yaml").read_text())
    change(recipe)
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return place


def test_what_has_no_layer_is_told(tmp_path, tiny_catalog):
    place = changed(tiny_catalog, tmp_path, lambda recipe: recipe["regions"].update(landcover=None))
    (place / "ledger" / "_recipe.json").unlink()
    with pytest.raises(TrainingError, match=r"the recipe of europe names no land cover \(regions\.landcover\)"):
        open_task("landcover-map", place)
    subset = load_subset(tiny_catalog / "everywhere")
    with pytest.raises(TrainingError, match="holds no samples"):
        LandcoverMapTask().open(subset.only(np.array([], dtype=np.int64)))


def test_an_archive_that_is_gone_is_told(tmp_path, tiny_catalog):
    place = changed(tiny_catalog, tmp_path, lambda recipe: recipe["source"].update(path="gone"))
    (place / "ledger" / "_recipe.json").unlink()
    with pytest.raises(SourceError, match="gone: no archive there"):
        open_task("landcover-map", place)


@pytest.fixture(scope="module")
def model(made_up):
    small = {"dim": 24, "depth": 1, "heads": 2, "group_dim": 8, "decoder_dim": 16, "decoder_depth": 1}
    config = SatMAEConfig(image_size=32, patch_size=8, decoder_heads=2, decoder_group_dim=4, **small)
    return SatMAE(config, normalization=made_up(SatMAEConfig().bands)).eval()


def test_a_map_is_learnt(data, model):
    """Fine-tuned on the chips themselves, the pixels' classes are told better than by the one that occurs most."""
    rows = np.arange(16)
    draw = Resampling(repeats=1).draws(
        np.arange(len(data)) % 2, lonlat=data.lonlat, sides_N=np.where(data.splits == "test", "val", "train")
    )[0]
    draw = replace(draw, train=rows, test=rows, validation=np.zeros(16, dtype=bool))
    how = FinetuneRecipe(epochs=25, least_steps=0, warmup_epochs=1, batch_size=8, lr=0.01, crop="none")
    found = finetune(model, data, draw, recipe=how)
    masks = data.masks(rows)
    most = np.bincount(masks[masks >= 0]).max() / (masks >= 0).sum()
    assert (found.values == masks)[masks >= 0].mean() > most + 0.1


def test_what_a_model_does_not_see_is_not_scored(data, make_recipe, tmp_path):
    """Chips of 32 pixels, of which a model of 16 sees the middle: what it says nothing of counts neither way."""
    scores = evaluate(
        None,
        data,
        control=make_recipe(model__image_size="16"),
        probes=["finetune"],
        sampling=Resampling(repeats=1),
        finetuning=FinetuneRecipe(epochs=1, least_steps=0, warmup_epochs=0, batch_size=32),
        resamples=10,
        out_dir=tmp_path,
    )
    (miou,) = [row["value"] for row in scores.rows() if row["metric"] == "miou" and row["group"] == "all"]
    assert 0 < miou < 1
