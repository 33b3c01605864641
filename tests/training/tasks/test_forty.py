"""ForTy: small shards of TensorFlow's records, written here by hand and, as an oracle, by others' writers."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwcat.errors import TrainingError
from training.embed import embed_task
from training.models import build_model
from training.models.presto_series import read_series
from training.tasks import open_task
from training.tasks.files.tfrecords import array_of, features_of, records_of
from training.tasks.forty import BANDS, CLASSES, OPTICAL, SHAPES, Forty


def varint(number: int) -> bytes:
    out = b""
    number &= (1 << 64) - 1
    while number >= 0x80:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def field(number: int, content: bytes) -> bytes:
    """A field of a message whose length comes first."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(features: Mapping[str, np.ndarray]) -> bytes:
    """A message tf.train.Example."""
    entries = b""
    for name, values in features.items():
        flat = np.asarray(values).ravel()
        if flat.dtype.kind == "f":
            value = field(2, field(1, flat.astype("<f4").tobytes()))
        else:
            small = flat.min(initial=0) >= 0 and flat.max(initial=0) < 0x80
            packed = flat.astype(np.uint8).tobytes() if small else b"".join(varint(int(each)) for each in flat)
            value = field(3, field(1, packed))
        entries += field(1, field(1, name.encode()) + field(2, value))
    return field(1, entries)


def masked(data: bytes) -> bytes:
    crc = int(google_crc32c.value(data))
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def write_records(path: Path, examples: Sequence[bytes]) -> None:
    with path.open("wb") as file:
        for data in examples:
            length = struct.pack("<Q", len(data))
            file.write(length + masked(length) + data + masked(data))


def sample(identity: int, *, lat: float = 50.0, lon: float = 10.0, seed: int = 0) -> dict[str, np.ndarray]:
    """A chip of one forest, whose bands are those of leaves."""
    rng = np.random.default_rng(seed)
    leaves = np.array([250, 500, 300, 900, 2200, 2700, 2800, 3000, 1500, 700], dtype=np.float32)
    season = np.array([1.0, 1.2, 1.4, 1.1], dtype=np.float32)[:, None, None, None]
    s2 = np.rint(leaves * season * rng.uniform(0.95, 1.05, (4, 128, 128, 1))).astype(np.float32)
    radar = rng.uniform([-14, -22, 30], [-8, -15, 45], (4, 128, 128, 3)).astype(np.float32)
    labels = np.ones((128, 128), dtype=np.uint8)
    labels[:4, :9] = np.arange(9)
    features: dict[str, np.ndarray] = {
        "climate": np.zeros((4, 1, 1, 14), dtype=np.float32),
        "elevation": rng.uniform([100, 0, 0], [900, 30, 360], (128, 128, 3)).astype(np.float32),
        "id": np.array([identity]),
        "lat": np.array([lat], dtype=np.float32),
        "lon": np.array([lon], dtype=np.float32),
        "s1_asc": radar,
        "s1_asc_mask": np.ones((4, 128, 128, 3), dtype=np.uint8),
        "s1_desc": radar - 1,
        "s1_desc_mask": np.ones((4, 128, 128, 3), dtype=np.uint8),
        "s2": s2,
        "s2_mask": np.ones((4, 128, 128, 10), dtype=np.uint8),
        "segmentation_labels": labels,
    }
    return features


def shard(split: str, place: int = 0) -> str:
    return f"forty_v1-{split}.tfrecord-{place:05d}-of-01024"


@pytest.fixture(scope="module")
def samples() -> list[dict[str, np.ndarray]]:
    """Two of the north, one of the south, one more of the north."""
    places = [(131_072, 50.0, 10.0), (7, 10.0, 20.0), (90_001, -30.0, 140.0), (199_999, 60.0, -100.0)]
    return [sample(identity, lat=lat, lon=lon, seed=k) for k, (identity, lat, lon) in enumerate(places)]


@pytest.fixture
def folder(tmp_path: Path, samples: list[dict[str, np.ndarray]]) -> Path:
    write_records(tmp_path / shard("train"), [example(samples[0]), example(samples[1])])
    write_records(tmp_path / shard("validation"), [example(samples[2])])
    write_records(tmp_path / shard("test", 3), [example(samples[3])])
    return tmp_path


def test_reads_the_official_layout(folder: Path, samples: list[dict[str, np.ndarray]]) -> None:
    data = open_task("forty", folder)
    assert data.ids.tolist() == ["199999", "131072", "7", "90001"]  # in the order of the files' names
    assert data.splits.tolist() == ["test", "train", "train", "val"]
    assert data.info.classes == CLASSES
    assert data.targets.shape == (4, 0)
    np.testing.assert_array_equal(data.lonlat, [[-100, 60], [10, 50], [20, 10], [140, -30]])
    assert data.left_out == {
        "in shards of train that are not here": 160_189,
        "in shards of validation that are not here": 19_660,
        "in shards of test that are not here": 20_147,
    }
    assert data.chips.shape == (4, 14, 128, 128)
    batch = next(data.batches(np.array([3, 1]), bands=BANDS, times="all"))
    assert batch.chips is not None
    bands = data.chips.bands
    values = batch.chips.numpy() * np.array(bands.scale)[:, None, None] + np.array(bands.offset)[:, None, None]
    # summer first: in the south the file's order, in the north its third quarter
    for place, source, order in ((0, samples[2], [0, 1, 2, 3]), (1, samples[0], [2, 3, 0, 1])):
        s2 = np.moveaxis(source["s2"], -1, 1)[order]
        np.testing.assert_allclose(values[place, :, :10], s2 / 1e4, atol=1e-9)
        radar = np.moveaxis(source["s1_desc"], -1, 1)[order][:, :2]  # no fewer pixels than the other pass
        np.testing.assert_allclose(values[place, :, 10:12], radar, atol=0.00051)
        ground = np.moveaxis(source["elevation"], -1, 0)[:2]
        for step in range(4):
            np.testing.assert_allclose(values[place, step, 12], ground[0], atol=0.126)
            np.testing.assert_allclose(values[place, step, 13], ground[1], atol=0.00101)
    assert batch.months.tolist() == [[1, 4, 7, 10], [7, 10, 1, 4]]
    assert batch.lonlat.tolist() == [[140, -30], [10, 50]]


def test_masks_have_the_classes_and_what_is_unknown(folder: Path) -> None:
    masks = open_task("forty", folder).masks(np.array([2, 0]))
    assert masks.shape == (2, 128, 128)
    assert masks.dtype == np.int16
    assert masks[0, 0, :10].tolist() == [-1, 0, 1, 2, 3, 4, 5, 6, 7, 0]
    assert (masks[:, 5:] == 0).all()


def test_one_date_is_that_of_the_summer(folder: Path, samples: list[dict[str, np.ndarray]]) -> None:
    batch = next(open_task("forty", folder).batches(np.array([1]), bands=("B04",), times="first"))
    assert batch.chips is not None
    np.testing.assert_array_equal(batch.chips[0, 0, 0].numpy(), samples[0]["s2"][2, :, :, 2])


def test_what_is_masked_is_no_data(tmp_path: Path) -> None:
    one = sample(1)
    one["s2_mask"][:, :64] = 0
    one["s1_desc_mask"][:, :, :32] = 0
    one["s1_asc_mask"][:, :, :64] = 0
    one["s1_asc"][3, 100, 100, 0] = np.nan
    one["elevation"][0, 0] = np.nan
    two = {**sample(2), "s1_desc_mask": np.zeros((4, 128, 128, 3), dtype=np.uint8)}
    write_records(tmp_path / shard("train"), [example(one), example(two)])
    write_records(tmp_path / shard("validation"), [example(sample(3))])
    write_records(tmp_path / shard("test"), [example(sample(4))])
    data = open_task("forty", tmp_path)
    chips = next(data.batches(np.array([1, 2]), bands=BANDS, times="all")).chips
    assert chips is not None
    there = chips.numpy() != 0
    assert not there[0, :, :10, :64].any()
    assert there[0, :, :10, 64:].all()
    assert not there[0, :, 10:12, :, :32].any()  # the descending pass, which has more
    assert there[0, :, 10:12, :, 32:].all()
    assert not there[0, :, 12:, 0, 0].any()
    assert there[1, :, 10:12].all()  # the other pass, where one has nothing


def test_presto_reads_the_middle_pixel_of_four_months(folder: Path) -> None:
    data = open_task("forty", folder)
    series = read_series(next(data.batches(np.array([1]), bands=BANDS, times="all")), steps=12)
    assert series.there_BL.sum().item() == 4 * 7 + 1  # radar, five groups of bands and NDVI a season, and the ground
    assert embed_task(build_model("presto", {"dim": 16, "heads": 2, "depth": 1}), data).shape == (4, 16)


def test_bands_in_another_order_are_refused(tmp_path: Path) -> None:
    ten_metres_first = [
        OPTICAL.index(name) for name in ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12")
    ]
    for k, split in enumerate(("train", "validation", "test")):
        one = sample(k)
        one["s2"] = one["s2"][..., ten_metres_first]
        write_records(tmp_path / shard(split), [example(one)])
    with pytest.raises(TrainingError, match=r"the bands of Sentinel-2 cannot be B02, B03, .* B05 0\.3"):
        open_task("forty", tmp_path)


def test_snow_tells_nothing_of_the_order(tmp_path: Path) -> None:
    for k, split in enumerate(("train", "validation", "test")):
        one = sample(k)
        one["s2"][:] = 8000
        write_records(tmp_path / shard(split), [example(one)])
    assert len(open_task("forty", tmp_path)) == 3


def test_hash_is_of_the_records(folder: Path, samples: list[dict[str, np.ndarray]]) -> None:
    first = open_task("forty", folder).hash
    assert open_task("forty", folder).hash == first
    changed = {**samples[3], "segmentation_labels": np.full((128, 128), 2, dtype=np.uint8)}
    write_records(folder / shard("test", 3), [example(changed)])
    assert open_task("forty", folder).hash != first


def test_a_missing_side_is_told_with_where_to_get_it(tmp_path: Path) -> None:
    write_records(tmp_path / shard("train"), [example(sample(1))])
    with pytest.raises(
        TrainingError, match=r"no shard of validation, .* https://storage\.googleapis\.com/.*no shard of test"
    ):
        open_task("forty", tmp_path)
    assert len(Forty().faults(tmp_path / "nowhere")) == 3


def test_shards_cut_short_are_told(folder: Path) -> None:
    path = folder / shard("train")
    whole = path.read_bytes()
    path.write_bytes(whole[:-70_000])
    with pytest.raises(
        TrainingError,
        match=r"train\.tfrecord-00000-of-01024 cannot be read: it ends within record 1, 70,000 bytes early",
    ):
        open_task("forty", folder)
    path.write_bytes(whole + whole[:5])
    with pytest.raises(TrainingError, match="it ends within the head of record 2"):
        open_task("forty", folder)
    path.write_bytes(b"\x1f\x8b" + whole[2:])
    with pytest.raises(TrainingError, match="record 0 has no sound head"):
        open_task("forty", folder)


def test_downloads_under_way_are_told(folder: Path) -> None:
    (folder / f".{shard('train', 1)}.part").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"train\.tfrecord-00001-of-01024\.part is a download that has not ended"):
        open_task("forty", folder)


def test_damaged_pixels_are_told_when_they_are_read(folder: Path) -> None:
    data = open_task("forty", folder)
    path = folder / shard("validation")
    broken = bytearray(path.read_bytes())
    broken[2_500_000] ^= 1
    path.write_bytes(broken)
    with pytest.raises(
        TrainingError, match=r"sample 90001 cannot be read \(the record at byte 12 is damaged: its checksum differs\)"
    ):
        next(data.batches(np.array([3]), bands=("B02",)))


def test_the_releases_own_note_is_held_against_the_shards(folder: Path) -> None:
    lengths = ["2", *["1"] * 1023]
    note = {"splits": [{"name": name, "shardLengths": lengths} for name in ("train", "validation", "test")]}
    (folder / "dataset_info.json").write_text(json.dumps(note))
    with pytest.raises(
        TrainingError, match=r"validation\.tfrecord-00000-of-01024 has 1 records, where dataset_info\.json tells 2"
    ):
        open_task("forty", folder)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(TrainingError, match=r"dataset_info\.json is damaged"):
        open_task("forty", folder)


def test_samples_that_are_there_twice_are_told(folder: Path) -> None:
    (folder / shard("train", 1)).write_bytes((folder / shard("train")).read_bytes())
    with pytest.raises(TrainingError, match="2 samples are there twice"):
        open_task("forty", folder)


def test_examples_of_another_dataset_are_told(folder: Path) -> None:
    write_records(folder / shard("test", 3), [example({"id": np.array([1]), "s2": np.zeros(3, dtype=np.float32)})])
    with pytest.raises(TrainingError, match="its examples have no s2_mask, s1_desc"):
        open_task("forty", folder)


def test_features_of_other_shapes_and_labels_of_other_codes_are_told(
    folder: Path, samples: list[dict[str, np.ndarray]]
) -> None:
    wrong = {**samples[3], "segmentation_labels": np.full((128, 128), 9, dtype=np.uint8)}
    write_records(folder / shard("test", 3), [example(wrong)])
    with pytest.raises(TrainingError, match="labels from 9 to 9, where those of ForTy are 0 to 8"):
        open_task("forty", folder)
    wrong = {**samples[3], "s2": np.zeros((4, 64, 64, 10), dtype=np.float32)}
    write_records(folder / shard("test", 3), [example(wrong)])
    with pytest.raises(TrainingError, match=r"sample 199999 cannot be read .*cannot reshape"):
        open_task("forty", folder)


NUMBERS = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20)
FLOATS = st.lists(st.floats(width=32, allow_nan=False), max_size=20)


@given(NUMBERS, FLOATS)
def test_examples_are_read_as_they_were_written(numbers: list[int], floats: list[float]) -> None:
    data = example({"numbers": np.array(numbers, dtype=np.int64), "ü": np.array(floats, dtype=np.float32)})
    at = features_of(lambda place, length: data[place : place + length], 0, len(data))
    found = {name: array_of(data[start : start + length]) for name, (start, length) in at.items()}
    assert list(found) == ["numbers", "ü"]
    assert found["numbers"].tolist() == numbers
    assert found["ü"].tolist() == floats


def message_of() -> Any:
    """The class tf.train.Example, made by Protocol Buffers from the published definition."""
    pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tf", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *fields: tuple[str, int, int, str, bool], of: Any = file.message_type) -> Any:
        made = of.add(name=name)
        for label, number, kind, type_name, repeated in fields:
            added = made.field.add(name=label, number=number, type=kind, type_name=type_name or None)
            added.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
        return made

    message("FloatList", ("value", 1, kinds.TYPE_FLOAT, "", True))
    message("Int64List", ("value", 1, kinds.TYPE_INT64, "", True))
    message(
        "Feature",
        ("float_list", 2, kinds.TYPE_MESSAGE, ".tf.FloatList", False),
        ("int64_list", 3, kinds.TYPE_MESSAGE, ".tf.Int64List", False),
    )
    features = message("Features", ("feature", 1, kinds.TYPE_MESSAGE, ".tf.Features.FeatureEntry", True))
    entry = message(
        "FeatureEntry",
        ("key", 1, kinds.TYPE_STRING, "", False),
        ("value", 2, kinds.TYPE_MESSAGE, ".tf.Feature", False),
        of=features.nested_type,
    )
    entry.options.map_entry = True
    message("Example", ("features", 1, kinds.TYPE_MESSAGE, ".tf.Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tf.Example"))


def test_records_and_examples_of_others_writers_are_read(tmp_path: Path) -> None:
    """Protocol Buffers' own messages in TensorBoard's own records."""
    writer = pytest.importorskip("tensorboard.summary.writer.record_writer")
    example_class = message_of()
    path = tmp_path / "events"
    written = []
    with path.open("wb") as file:
        records = writer.RecordWriter(file)
        for k in range(3):
            made = example_class()
            made.features.feature["id"].int64_list.value.extend([k, 300, -1])
            made.features.feature["s2"].float_list.value.extend([0.5, k])
            made.features.feature["empty"].float_list.SetInParent()
            written.append(made.SerializeToString(deterministic=True))
            records.write(written[-1])
        records.flush()
    found = records_of(path)
    content = path.read_bytes()

    def read(place: int, length: int) -> bytes:
        return content[place : place + length]

    assert [record.data(read) for record in found] == written
    for k, record in enumerate(found):
        at = features_of(read, record.start, record.length)
        assert array_of(read(*at["id"])).tolist() == [k, 300, -1]
        assert array_of(read(*at["s2"])).tolist() == [0.5, k]
        assert array_of(read(*at["empty"])).size == 0


def test_a_file_of_no_records_is_empty_and_nonsense_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert records_of(tmp_path / "empty") == []
    write_records(tmp_path / "nonsense", [b"not an example at all"])
    (record,) = records_of(tmp_path / "nonsense")
    content = (tmp_path / "nonsense").read_bytes()
    with pytest.raises(ValueError, match="no example of named lists"):
        features_of(lambda place, length: content[place : place + length], record.start, record.length)
    with pytest.raises(ValueError, match="a whole number ends early"):
        array_of(field(3, field(1, b"\x80\x80")))
    with pytest.raises(ValueError, match="no list of numbers"):
        array_of(field(1, field(1, b"words")))


def test_shapes_are_those_of_the_release() -> None:
    """Bytes of all records without their frames, as dataset_info.json of the release tells them; ids are 0 to 199,999.

    So there are no other features, and every label and mask takes a single byte.
    """
    one = sample(0)
    assert {name: values.size for name, values in one.items() if name != "climate"} == {
        name: int(np.prod(shape)) for name, shape in SHAPES.items()
    }
    of_length = {identity: len(example({**one, "id": np.array([identity])})) for identity in (0, 128, 16_384)}
    total = 128 * of_length[0] + (16_384 - 128) * of_length[128] + (200_000 - 16_384) * of_length[16_384]
    assert total == 874_064_877_546 + 107_278_121_550 + 109_935_384_392
