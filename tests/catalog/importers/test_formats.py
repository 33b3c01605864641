"""Each format in its official layout: what is found, with which pixels, where, when, and what is told of the rest."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

import numcodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio

from catalog.importers import IMPORTERS, find_importer, recognise
from catalog.importers.importer import Options
from catalog.query import open_catalog
from pwcat.errors import CatalogError


def found(tmp_path):
    """The collection added, and its samples by id."""
    subset = open_catalog(tmp_path / "catalog").search(collections=["it"])
    return subset, {name: row for row, name in enumerate(subset.column("id"))}


@pytest.mark.parametrize("name", ["geotiff", "major-tom", "ssl4eo-s12", "fmow-sentinel"])
def test_formats_are_recognised_by_what_lies_in_a_folder(name, request):
    fixture = {"geotiff": "geotiffs", "major-tom": "major_tom", "ssl4eo-s12": "ssl4eo", "fmow-sentinel": "fmow"}[name]
    assert recognise(request.getfixturevalue(fixture)).name == name


def test_a_folder_of_nothing_known_is_refused_with_what_is_known(tmp_path):
    with pytest.raises(CatalogError, match=r"looks like none of the formats known.*major-tom: .*geotiff: "):
        recognise(tmp_path)
    with pytest.raises(CatalogError, match=f"unknown format 'netcdf': there are {', '.join(IMPORTERS)}"):
        find_importer("netcdf")


class TestGeoTiffs:
    def test_pixels_grids_dates_and_offsets_are_the_files_own(self, geotiffs, add, make, tmp_path):
        added = add(geotiffs, "geotiff")
        assert (added.samples, added.losses.total, added.size_px, added.suspects) == (3, 0, 32, [])
        subset, rows = found(tmp_path)
        chips = subset.read(np.array([rows[f"images_patch_{n}"] for n in (2, 0, 1)]))
        np.testing.assert_array_equal(chips[:, 0], [make.chip(12, 32, seed=n) for n in (2, 0, 1)])
        first = subset.table.slice(rows["images_patch_0"], 1).to_pylist()[0]
        assert first["proj:code"] == "EPSG:32631"
        assert first["proj:transform"] == [10.0, 0.0, 500_000.0, 0.0, -10.0, 4_900_020.0]
        assert first["datetime"] == datetime(2021, 7, 1, tzinfo=UTC)
        assert first["div:valid_fraction"] == 1.0
        with rasterio.open(geotiffs / "images" / "patch_0.tif") as raster:
            west, south, east, north = rasterio.warp.transform_bounds(raster.crs, "EPSG:4326", *raster.bounds)
        box = first["bbox"]
        np.testing.assert_allclose(
            [box[k] for k in ("xmin", "ymin", "xmax", "ymax")], [west, south, east, north], atol=1e-7
        )

    def test_what_cannot_be_read_is_counted_with_its_reason(self, geotiffs, add, make):
        images = geotiffs / "images"
        (images / "patch_0.tif").write_bytes(b"II*\0 not much of a GeoTIFF")
        (images / "patch_1.tif").write_bytes(make.tif(make.chip(12, 32), None))
        rows = [{"fn": name, "date": "2021-07-01"} for name in ("patch_0.tif", "patch_1.tif", "patch_2.tif")]
        more = [{"fn": "patch_9.tif", "date": "2021-07-01"}, {"fn": "../index.csv", "date": "2021-07-01"}]
        broken = {"fn": "patch_2.tif", "date": "in summer"}
        make.write_csv(geotiffs / "index.csv", [broken, *more, *rows])
        added = add(geotiffs, "geotiff")
        assert added.samples == 1
        reasons = added.losses.counts
        assert reasons["is listed in index.csv, and there is no such file in the folder"] == 2
        assert reasons["has no CRS: nothing says where its pixels lie"] == 1
        assert reasons["has a date in the table that is not ISO 8601"] == 1
        assert sum(count for reason, count in reasons.items() if reason.startswith("cannot be read")) == 1

    def test_pixels_that_contradict_the_offset_are_told(self, geotiffs, add):
        added = add(geotiffs, "geotiff", offset=1000)
        assert sorted(name for name, _ in added.suspects) == ["images_patch_0", "images_patch_1"]
        assert "pixels as dark as" in added.suspects[0][1]

    def test_bands_are_named_by_the_files_or_by_the_user(self, geotiffs, add, make, tmp_path):
        for number in range(3):
            file = geotiffs / "images" / f"patch_{number}.tif"
            file.write_bytes(make.tif(make.chip(2, 32), make.FRANCE))
        with pytest.raises(CatalogError, match="have 2 bands without names of their own; say them in order"):
            add(geotiffs, "geotiff")
        add(geotiffs, "geotiff", bands=("B04", "B08"))
        assert found(tmp_path)[0].bands == ("B04", "B08")
        for number in range(3):
            with rasterio.open(geotiffs / "images" / f"patch_{number}.tif", "r+") as raster:
                raster.descriptions = ("B8A", "b2_10m")
        add(geotiffs, "geotiff", replace=True)
        assert found(tmp_path)[0].bands == ("B8A", "B02")

    def test_fractions_need_a_scale(self, geotiffs, add, make, tmp_path):
        for number in range(3):
            fractions = (make.chip(12, 32, seed=number) / 10_000).astype(np.float32)
            fractions[0, 0, 0] = np.nan
            (geotiffs / "images" / f"patch_{number}.tif").write_bytes(make.tif(fractions, make.FRANCE))
        with pytest.raises(CatalogError, match=r"3 of 3 values are fractions.*give --scale 10000"):
            add(geotiffs, "geotiff", offset=0)
        add(geotiffs, "geotiff", offset=0, scale=10_000.0)
        subset, rows = found(tmp_path)
        chip = subset.read(np.array([rows["images_patch_1"]]))[0, 0]
        expected = make.chip(12, 32, seed=1)
        expected[0, 0, 0] = 0
        np.testing.assert_array_equal(chip, expected)

    def test_pictures_are_no_reflectances(self, geotiffs, add, make):
        picture = np.full((12, 32, 32), 200, np.uint8)
        (geotiffs / "images" / "patch_0.tif").write_bytes(make.tif(picture, make.FRANCE))
        (geotiffs / "images" / "patch_1.tif").write_bytes(make.tif(np.zeros((12, 5000, 8), np.uint16), make.FRANCE))
        added = add(geotiffs, "geotiff")
        first, second = sorted(added.losses.counts)
        assert first.startswith("holds numbers of 0 to 255, a picture and not reflectances")
        assert second.startswith("is no chip: 12 x 5000 x 8 pixels")

    def test_one_id_is_taken_once(self, geotiffs, add, make):
        rows = [{"fn": f"patch_{n}.tif", "date": "2021-07-01", "id": "same"} for n in range(3)]
        make.write_csv(geotiffs / "index.csv", rows)
        assert dict(add(geotiffs, "geotiff").losses.counts) == {"has the id of another sample": 2}

    def test_a_table_without_dates_or_files_is_refused_with_what_to_say(self, geotiffs, add, make):
        make.write_csv(geotiffs / "index.csv", [{"fn": "patch_0.tif"}])
        with pytest.raises(CatalogError, match=r"no column with dates.*--column datetime=NAME.*--date"):
            add(geotiffs, "geotiff")
        assert add(geotiffs, "geotiff", date="2021-07-01").notes[1].endswith("all samples are given 2021-07-01")
        make.write_csv(geotiffs / "index.csv", [{"tile": "patch_0.tif", "date": "2021-07-01"}])
        with pytest.raises(CatalogError, match=r"no column says which file.*there are tile, date.*--column file=NAME"):
            add(geotiffs, "geotiff", replace=True)
        with pytest.raises(CatalogError, match="no column 'chip' for file; there are tile, date"):
            add(geotiffs, "geotiff", columns={"file": "chip"}, replace=True)
        assert add(geotiffs, "geotiff", columns={"file": "tile"}, replace=True).samples == 1


class TestMajorTom:
    def test_bands_of_three_grids_lie_on_the_finest(self, major_tom, add, make, tmp_path):
        added = add(major_tom, "major-tom")
        assert (added.samples, added.losses.total, added.size_px) == (3, 0, 96)
        subset, rows = found(tmp_path)
        names = sorted(rows)
        assert names[0] == "0U_1R_S2B_MSIL2A_20230824T131249_N0509_R138_T24LTQ_20230824T200728"
        first, second, third = subset.read(np.array([rows[name] for name in names]))[:, 0]
        for number, step in ((1, 10), (4, 20), (0, 60)):  # B02, B05, B01: as stored, pixels repeated
            own = make.chip(12, 960 // step, seed=1)[number]
            np.testing.assert_array_equal(second[number], own.repeat(step // 10, axis=0).repeat(step // 10, axis=1))
        # baseline 05.09: 1000 is removed, and what was not above it is no data; 9999 is none
        own = make.chip(12, 96, seed=0)[1].astype(int)
        np.testing.assert_array_equal(first[1], np.maximum(own - 1000, 0))
        np.testing.assert_array_equal(third[1], make.chip(12, 96, seed=2)[1])
        item = subset.table.slice(rows[names[0]], 1).to_pylist()[0]
        assert item["datetime"] == datetime(2023, 8, 24, 13, 12, 49, tzinfo=UTC)
        assert item["pwcat:scene_ids"] == [names[0].partition("R_")[2]]

    def test_rows_and_files_that_are_damaged_are_counted(self, major_tom, add, make):
        images = major_tom / "images"
        good = pq.read_table(images / "part_00001.parquet").to_pylist()
        bad = [{**good[0], "B11": b"no GeoTIFF"}, {**good[1], "product_id": "S2", "timestamp": "then"}]
        pq.write_table(pa.Table.from_pylist(bad), images / "part_00001.parquet", row_group_size=1)
        (images / "part_00003.parquet").write_bytes(b"PAR1")
        without = pa.Table.from_pylist(good).drop_columns(["B03"])
        pq.write_table(without, images / "part_00004.parquet", row_group_size=1)
        added = add(major_tom, "major-tom")
        assert added.samples == 1
        reasons = "\n".join(f"{count} {reason}" for reason, count in added.losses.counts.items())
        assert "1 has a B11 that cannot be read" in reasons
        assert "1 has no date, and a product whose name has none" in reasons
        assert "1 is no Parquet file that can be read" in reasons
        assert "2 has no column B03" in reasons

    def test_some_bands_alone(self, major_tom, add, tmp_path):
        add(major_tom, "major-tom", bands=("B04", "B03", "B02"), offset=0)
        assert found(tmp_path)[0].bands == ("B04", "B03", "B02")
        with pytest.raises(CatalogError, match="--bands: B10 are not in the files, which have B01, B02"):
            IMPORTERS["major-tom"](major_tom, Options(bands=("B10",))).facts()


class TestSsl4eo:
    def test_four_dates_without_the_offset_and_without_what_the_mask_takes(self, ssl4eo, add, make, tmp_path):
        added = add(ssl4eo, "ssl4eo-s12")
        assert (added.samples, added.losses.total, added.size_px) == (3, 0, 32)
        subset, rows = found(tmp_path)
        assert subset.chip_shape == (4, 12, 32, 32)
        chip = subset.read(np.array([rows["0060573"]]))[0]
        np.testing.assert_array_equal(chip, [make.chip(12, 32, seed=2 + 10 + t) for t in range(4)])
        masked = subset.read(np.array([rows["0080717"]]))[0]
        assert not masked[0, :, 0].any()
        assert masked[0, :, 1:].all()
        assert masked[1:].all()
        table = subset.table.to_pylist()
        assert {row["id"]: row["pwcat:split"] for row in table} == {
            "0080717": "train",
            "0060573": "train",
            "0000173": "val",
        }
        item = table[rows["0080717"]]
        assert item["datetime"] == datetime(2020, 3, 1, 10, 0, 1, tzinfo=UTC)
        assert item["proj:transform"] == [10.0, 0.0, 500_000.0, 0.0, -10.0, 4_900_020.0]
        assert item["proj:centroid"] == {"lat": 44.25, "lon": 3.002}
        assert item["pwcat:scene_ids"] == [f"scene_0080717_{t}" for t in range(4)]
        times = subset.collections[0].cube.to_xarray()["datetime"].values
        assert (np.diff(times) == np.timedelta64(90, "D")).all()

    def test_one_products_folder_alone_and_stores_that_are_not_zipped(self, ssl4eo, add, tmp_path):
        import zipfile

        store = next((ssl4eo / "train" / "S2L2A").glob("*.zip"))
        plain = tmp_path / "S2L2A" / store.name.removesuffix(".zip")
        with zipfile.ZipFile(store) as archive:
            archive.extractall(plain)
        assert add(plain.parent, "ssl4eo-s12", offset=0).samples == 2

    def test_other_products_and_editions_are_refused(self, ssl4eo, add, make, tmp_path):
        (ssl4eo / "train" / "S1GRD").mkdir()
        name = "ssl4eos12_train_seasonal_data_000001.zarr.zip"
        make.ssl4eo_store(ssl4eo / "train" / "S1GRD" / name, ["0080717"], bands=("vv", "vh"))
        with pytest.raises(CatalogError, match="S1GRD is no reflectance; products are S2L2A, S2L1C"):
            add(ssl4eo, "ssl4eo-s12", product="S1GRD")
        with pytest.raises(CatalogError, match="bands vv, vh are no reflectance"):
            add(ssl4eo / "train" / "S1GRD", "ssl4eo-s12")
        with pytest.raises(CatalogError, match=r"no stores S2L1C/\*\.zarr\.zip there"):
            add(ssl4eo, "ssl4eo-s12", product="S2L1C")
        (tmp_path / "later" / "train" / "S2L2A").mkdir(parents=True)
        (tmp_path / "later" / "train" / "S2L2A" / "ssl4eos12_shard_000001.tar").touch()
        with pytest.raises(CatalogError, match="tar files are of the later edition"):
            add(tmp_path / "later", "ssl4eo-s12")

    def test_a_truncated_store_is_counted(self, ssl4eo, add):
        store = next((ssl4eo / "val" / "S2L2A").glob("*.zip"))
        store.write_bytes(store.read_bytes()[:2000])
        added = add(ssl4eo, "ssl4eo-s12")
        assert added.samples == 2
        assert [r for r in added.losses.counts if r.startswith("is no Zarr store that can be read: ")]

    def test_a_store_whose_codec_runs_code_is_not_read(self, ssl4eo, add, tmp_path):
        import zipfile

        import zarr

        store = next((ssl4eo / "val" / "S2L2A").glob("*.zip"))
        plain = tmp_path / "plain.zarr"
        with zipfile.ZipFile(store) as archive:
            archive.extractall(plain)
        shutil.rmtree(plain / "center_lon")
        group = zarr.open_group(plain, mode="a", zarr_format=2)
        group.create_array("center_lon", shape=(1,), dtype="f8", filters=[numcodecs.Pickle()], compressors=None)
        store.unlink()
        shutil.make_archive(str(store.with_suffix("")), "zip", plain)
        added = add(ssl4eo, "ssl4eo-s12")
        assert (added.samples, added.losses.total) == (2, 1)
        assert "pickle" in next(iter(added.losses.counts))


def test_only_codecs_known_are_read(tmp_path):
    import zarr

    from catalog.importers.ssl4eo import _array

    group = zarr.open_group(tmp_path / "store", mode="a", zarr_format=2)
    group.create_array("bands", shape=(1,), dtype="f8", filters=[numcodecs.Quantize(digits=1, dtype="f8")])
    with pytest.raises(ValueError, match="bands is encoded by quantize, which is not read"):
        _array(group, "bands")


class TestFmow:
    def test_splits_are_those_of_the_tables(self, fmow, add, tmp_path):
        (fmow / "train.csv").rename(fmow / "test_gt.csv")
        (fmow / "train").rename(fmow / "test_gt")
        assert add(fmow, "fmow-sentinel").samples == 2
        catalog = open_catalog(tmp_path / "catalog")
        assert len(catalog.search(filter="split = 'test'")) == 2
        assert len(catalog.search(split="train")) == 0

    def test_images_of_several_sizes_with_or_without_a_crs(self, fmow, add, make, tmp_path):
        added = add(fmow, "fmow-sentinel")
        assert added.samples == 2
        assert dict(added.losses.counts) == {
            "has a single band: its download failed when the dataset was made": 1,
            "is listed in train.csv, and its file is not there": 1,
        }
        assert added.size_px is None
        subset, rows = found(tmp_path)
        assert set(rows) == {"train_airport_0_0", "train_airport_0_1"}
        item = subset.table.slice(rows["train_airport_0_1"], 1).to_pylist()[0]
        box = [item["bbox"][k] for k in ("xmin", "ymin", "xmax", "ymax")]
        np.testing.assert_allclose(box, [3.0, 44.2, 3.005, 44.204])
        assert item["proj:shape"] == [48, 48]
        with pytest.raises(CatalogError, match=r"chips of this dataset differ in size.*--size-px"):
            subset.read(np.array([0]))

    def test_centre_windows_of_one_size_can_be_read(self, fmow, add, make, tmp_path):
        added = add(fmow, "fmow-sentinel", size_px=44)
        assert (added.samples, added.losses.counts["is smaller than 44 pixels a side"]) == (1, 1)
        subset, _ = found(tmp_path)
        np.testing.assert_array_equal(subset.read(np.array([0]))[0, 0], make.chip(13, 48, seed=1)[:, 2:46, 2:46])
        assert subset.bands[7:11] == ("B08", "B8A", "B09", "B10")
        item = subset.table.to_pylist()[0]
        assert item["proj:shape"] == [44, 44]
        np.testing.assert_allclose(item["proj:transform"][2], 3.0 + 2 * 0.005 / 48)
