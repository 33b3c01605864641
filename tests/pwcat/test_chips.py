from __future__ import annotations

import os
import pickle
import re
import shutil
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import blosc
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec

from pwcat.chips import ChipReader
from pwcat.chunks import files
from pwcat.chunks.codecs import BloscDecoder
from pwcat.cube import DIMS, open_cube, shard_path
from pwcat.errors import CubeError

CODECS = {
    "none": None,
    "blosc lz4, bit shuffle": BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=2),
    "blosc lz4, byte shuffle": BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=2),
    "blosc lz4, no shuffle": BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle", typesize=2),
    "blosc lz4, level 0": BloscCodec(cname="lz4", clevel=0, shuffle="bitshuffle", typesize=2),
    "blosc zstd": BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", typesize=2),
    "blosclz": BloscCodec(cname="blosclz", clevel=5, shuffle="shuffle", typesize=2),
    "zstd": ZstdCodec(level=1),
    "zstd, checksums": ZstdCodec(level=1, checksum=True),
    "gzip": GzipCodec(level=1),
}
SAMPLES = 23


def some_chips(count=SAMPLES, bands=3, size=16, times=1):
    """Smooth land, noise that does not compress, and one chip of nothing at all."""
    rng = np.random.default_rng(0)
    chips = rng.integers(300, 340, (count, times, bands, size, size), dtype=np.uint16)
    chips[1::3] = rng.integers(0, 2**16, chips[1::3].shape)
    chips[2] = 0
    return chips


def write_cube(path, chips, *, compressors=None, shard=4, **options):
    """A cube of these chips, written by zarr itself."""
    zarr.create_group(path, attributes={"scale": 0.0001, "offset": 0.0})
    bands = zarr.create_array(
        path, name="band", shape=chips.shape[2:3], dtype="i4", chunks=chips.shape[2:3], dimension_names=["band"]
    )
    bands[...] = np.arange(chips.shape[2])
    layout = {
        "chunks": (1, *chips.shape[1:]),
        "shards": None if shard is None else (shard, *chips.shape[1:]),
        "compressors": compressors,
        **options,
    }
    array = zarr.create_array(
        path, name="chips", shape=chips.shape, dtype=chips.dtype, dimension_names=DIMS,
        config={"write_empty_chunks": True}, **layout,
    )  # fmt: skip
    array[...] = chips
    return open_cube(path)


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def is_direct(reader):
    return type(reader._source).__name__ == "_Shards"


@pytest.mark.parametrize("codec", CODECS)
def test_what_zarr_wrote_is_read_whatever_the_codec(tmp_path, codec, monkeypatch):
    chips = some_chips()
    cube = write_cube(tmp_path / "c", chips, compressors=CODECS[codec])
    assert is_direct(cube.reader)
    order = np.random.default_rng(1).permutation(np.repeat(np.arange(SAMPLES), 2))
    monkeypatch.setattr(
        "pwcat.chunks.codecs.BloscDecoder.patience", BloscDecoder.decoded + 20
    )  # both ways of decoding blosc's frames
    for _ in range(2):
        np.testing.assert_array_equal(cube.read(order), chips[order])
    np.testing.assert_array_equal(cube.read_shard(5), chips[20:])
    assert cube.read(np.array([], dtype=int)).shape == (0, 1, 3, 16, 16)


LAYOUTS = {
    "an index at the start of a shard": (True, {"index_location": "start"}, {}),
    "an index without checksum": (True, {"index_codecs": [BytesCodec()]}, {}),
    "chunks with checksums": (False, {"codecs": [BytesCodec(), Crc32cCodec()]}, {}),
    "big-endian chunks": (False, {"codecs": [BytesCodec(endian="big")]}, {}),
    "half a chip a chunk": (False, {"chunk_shape": (1, 1, 3, 8, 16)}, {}),
    "two chips a chunk": (False, {"chunk_shape": (2, 1, 3, 16, 16)}, {}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_shards_are_read_directly_or_by_zarr(tmp_path, layout):
    direct, sharding, _ = LAYOUTS[layout]
    chips = some_chips()
    write_cube(tmp_path / "c", chips)
    shutil.rmtree(tmp_path / "c" / "chips")
    codec = ShardingCodec(**{"chunk_shape": (1, 1, 3, 16, 16), "codecs": [BytesCodec()], **sharding})
    array = zarr.create(
        shape=chips.shape, chunks=(4, *chips.shape[1:]), dtype="uint16", store=tmp_path / "c", path="chips",
        codecs=[codec], dimension_names=DIMS, zarr_format=3, fill_value=0,
    )  # fmt: skip
    array[...] = chips
    cube = open_cube(tmp_path / "c")
    assert is_direct(cube.reader) is direct
    order = np.array([22, 0, 7, 7, 3, 2, 4, 5])
    np.testing.assert_array_equal(cube.read(order), chips[order])
    np.testing.assert_array_equal(cube.read_shard(0), chips[:4])


FOREIGN = {
    "not sharded": {"shard": None},
    "keys with dots": {"chunk_key_encoding": {"name": "default", "separator": "."}},
    "keys of version 2": {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
}


@pytest.mark.parametrize("dtype", ["int16", "uint8", "int32", "float32"])
def test_other_numbers_than_ours_are_refused_and_not_cut_to_fit(tmp_path, dtype):
    with pytest.raises(CubeError, match=f"chips are {dtype}, not uint16: write them again"):
        write_cube(tmp_path / "c", np.full((5, 1, 2, 16, 16), 3).astype(dtype))


@pytest.mark.parametrize("layout", FOREIGN)
def test_foreign_layouts_are_left_to_zarr(tmp_path, layout):
    chips = some_chips()
    cube = write_cube(tmp_path / "c", chips, **FOREIGN[layout])
    assert not is_direct(cube.reader)
    order = np.array([22, 0, 7, 7, 3])
    np.testing.assert_array_equal(cube.read(order), chips[order])
    cube.reader.advise([0], will_need=True)
    for file in (tmp_path / "c" / "chips").rglob("*"):
        if file.is_file() and file.name != "zarr.json":
            file.unlink()
    with pytest.raises(CubeError, match="shard 0 is missing; `pwcat build`"):
        cube.read(np.array([0]))


@given(
    count=st.integers(1, 20), shard=st.sampled_from([1, 2, 4, 8]), size=st.sampled_from([1, 3, 8, 12]),
    times=st.integers(1, 3), codec=st.sampled_from(sorted(CODECS)), threads=st.integers(1, 3), most=st.integers(1, 3),
    data=st.data(),
)  # fmt: skip
def test_any_order_is_what_zarr_reads(tmp_path_factory, count, shard, size, times, codec, threads, most, data):
    chips = (
        some_chips(count=count, size=size, times=times, bands=2) if count > 2 else some_chips(3, 2, size, times)[:count]
    )
    path = tmp_path_factory.mktemp("cube") / "c"
    reader = ChipReader(
        write_cube(path, chips, compressors=CODECS[codec], shard=shard), threads=threads, most_files=most
    )
    if codec.startswith("blosc"):
        reader._source._layout.decode.patience = 0
    whole = zarr.open_array(path / "chips", mode="r")[...]
    index = np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=30)), dtype=np.int64)
    out = np.full((len(index), *chips.shape[1:]), 7, dtype=np.uint16)
    reader.read_into(out, index)
    np.testing.assert_array_equal(out, whole[index])


def test_chunks_of_several_blocks_are_read(tmp_path, monkeypatch):
    """Blosc cuts a large chip into blocks, and the last is shorter."""
    monkeypatch.setattr("pwcat.chunks.codecs.BloscDecoder.patience", 0)
    for number, size in enumerate((512, 300)):
        chips = some_chips(count=4, bands=5, size=size)
        cube = write_cube(tmp_path / str(number), chips, compressors=CODECS["blosc lz4, bit shuffle"], shard=2)
        np.testing.assert_array_equal(cube.read(np.arange(4)), chips)


@pytest.mark.parametrize("layout", [{}, {"compressors": CODECS["blosc lz4, bit shuffle"]}, {"shard": None}])
def test_parts_of_chips_fill_some_rows_and_no_others(tmp_path, layout):
    chips = some_chips(times=2)
    cube = write_cube(tmp_path / "c", chips, **layout)
    order, rows, plane = np.array([22, 0, 7, 7, 2, 4]), np.array([6, 1, 0, 3, 4, 2]), 16 * 16
    out = np.full((8, 1, 2, 16, 16), 7, dtype=np.uint16)
    for threads in (1, 2):  # the third band and the first, of the second time
        reader = ChipReader(cube, threads=threads)
        reader.read_into(out, order, rows=rows, parts=[(0, 5 * plane, plane), (plane, 3 * plane, plane)])
        np.testing.assert_array_equal(out[rows], chips[order][:, 1:, [2, 0]])
    assert (out[[5, 7]] == 7).all()
    with pytest.raises(ValueError, match="chips go into contiguous uint16"):
        cube.reader.read_into(out, order, rows=rows, parts=[(0, 0, plane)])


def test_parts_of_a_chip_that_is_not_there_or_cut_short(tmp_path):
    cube = write_cube(tmp_path / "c", some_chips())
    out, part = np.ones((1, 1, 1, 16, 16), dtype=np.uint16), [(0, 2 * 256, 256)]
    file = shard_path(tmp_path / "c", 5)  # of three chips and a place without one
    reader = ChipReader(cube)
    reader.num_samples = 24
    reader.read_into(out, np.array([23]), parts=part)
    assert (out == 0).all()
    os.truncate(file, 3 * 1536 - 1)
    with pytest.raises(CubeError, match=r"shard 5 is damaged \(chip 2 of it ends within\)"):
        reader.read_into(out, np.array([22]), parts=part)


@given(
    numbers=st.one_of(st.integers(1, 3000), st.integers(1, 60).map(lambda n: 64 * n)),
    block=st.sampled_from([0, 128, 256, 384, 1024, 4096]),
    size=st.sampled_from([1, 2, 4, 8]),
    shuffle=st.sampled_from([blosc.NOSHUFFLE, blosc.SHUFFLE, blosc.BITSHUFFLE]),
    level=st.integers(0, 9),
    most=st.sampled_from([0, 1, 255, 256, 4000, 65535]),
    least=st.sampled_from([0, 65535]),
)
def test_every_frame_is_decoded_as_blosc_does(numbers, block, size, shuffle, level, most, least):
    pixels = np.random.default_rng(numbers).integers(min(least, most), most + 1, numbers, dtype=np.uint16)
    pixels[:: 1 + level] = least
    raw = pixels.tobytes()
    frame = _compressed(raw, size, level, shuffle, block)
    out, decoder = np.full(numbers, 7, dtype=np.uint16), BloscDecoder()
    decoder.patience = -1
    decoder(memoryview(bytearray(frame)), out)
    np.testing.assert_array_equal(out, pixels)


def _compressed(raw, size, level, shuffle, block):
    """A frame of LZ4, from numbers said to be of ``size`` bytes."""
    values = np.frombuffer(raw + bytes(-len(raw) % size), dtype=f"u{size}")
    if values.nbytes != len(raw):
        values = np.frombuffer(raw, dtype="u2")
    return blosc.compress(values, b"lz4", level, shuffle, blocksize=block)


def test_a_chip_whose_chunk_is_not_there_has_no_data(tmp_path):
    chips = some_chips()
    cube = write_cube(tmp_path / "c", chips)
    file = shard_path(cube.path, 0)
    shard = bytearray(file.read_bytes())
    table = np.frombuffer(shard, dtype="<u8", count=8, offset=len(shard) - 68).copy()
    table[2:4] = 2**64 - 1
    write_index(file, shard, table)
    found = cube.read(np.array([0, 1, 3]))
    assert not found[1].any()
    np.testing.assert_array_equal(found[[0, 2]], chips[[0, 3]])


def write_index(file, shard, table):
    import google_crc32c

    shard[-68:] = table.tobytes() + google_crc32c.value(table.tobytes()).to_bytes(4, "little")
    file.write_bytes(shard)


@pytest.mark.parametrize("codec", CODECS)
def test_a_damaged_shard_is_named(tmp_path, codec):
    chips = some_chips()
    cube = write_cube(tmp_path / "c", chips, compressors=CODECS[codec])
    file = shard_path(cube.path, 1)
    whole, told = file.read_bytes(), re.escape(f"{cube.path}: shard 1 is damaged (")
    done = re.escape(f"); remove {file} and build again")
    flipped = bytearray(whole)
    flipped[-20] ^= 1
    empty = bytearray(whole)
    table = np.frombuffer(whole, dtype="<u8", count=8, offset=len(whole) - 68).copy()
    longer = table.copy()
    longer[0] = len(whole)
    shorter = table.copy()
    shorter[1::2] -= 5
    for damage, why in (
        (bytes(len(whole)), "the checksum of its index is wrong"),
        (b"", "it has 0 bytes, its index alone 68"),
        (whole[: len(whole) // 2], "the checksum of its index is wrong"),
        (bytes(flipped), "the checksum of its index is wrong"),
        ((empty, longer), r"chip 0 of it ends at byte \d+ of \d+"),
        ((empty, shorter), ".+"),
    ):
        if isinstance(damage, tuple):
            write_index(file, *damage)
        else:
            file.write_bytes(damage)
        for reader in (open_cube(cube.path), open_cube(cube.path)):
            with pytest.raises(CubeError, match=f"^{told}{why}{done}$"):
                reader.read(np.array([0, 4, 5, 6, 7]))
    np.testing.assert_array_equal(open_cube(cube.path).read(np.array([0, 8])), chips[[0, 8]])
    file.unlink()
    with pytest.raises(CubeError, match="shard 1 is missing; `pwcat build` of its recipe makes it again"):
        open_cube(cube.path).read_shard(1)


def is_read(path):
    try:
        open_cube(path).read(np.arange(4))
    except CubeError as exc:
        if "shard 0 is damaged" not in str(exc):
            raise
        return False
    return True


@pytest.mark.parametrize("codec", [name for name in CODECS if "blosc" in name])
def test_whatever_is_wrong_in_a_blosc_frame_is_an_error_or_other_pixels(tmp_path, codec, monkeypatch):
    """Never a crash, never an error of another kind, and never memory that is not the caller's."""
    monkeypatch.setattr("pwcat.chunks.codecs.BloscDecoder.patience", 0)
    cube = write_cube(tmp_path / "c", some_chips(), compressors=CODECS[codec])
    file = shard_path(cube.path, 0)
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    failed = 0
    for number in range(60):
        damaged = bytearray(whole)
        place = number if number < 40 else int(rng.integers(0, len(whole) - 68))
        damaged[place] ^= int(rng.integers(1, 256))
        file.write_bytes(damaged)
        failed += not is_read(cube.path)
    assert failed > 10


def test_a_shard_that_is_cut_short_while_it_is_open_is_an_error(tmp_path):
    """A map of it would end the process."""
    cube = write_cube(tmp_path / "c", some_chips())
    cube.read(np.array([0]))
    os.truncate(shard_path(cube.path, 0), 100)
    with pytest.raises(CubeError, match=r"shard 0 is damaged \(chip 3 of it ends after 0 of 1536 bytes\)"):
        cube.read(np.array([3]))


def test_a_shard_that_was_closed_and_replaced_is_read_anew(tmp_path):
    chips = some_chips(count=8)
    cube = write_cube(tmp_path / "c", chips, compressors=CODECS["zstd"])
    write_cube(tmp_path / "other", chips[::-1].copy(), compressors=CODECS["zstd"])
    reader = ChipReader(cube, most_files=1)
    out = np.empty((1, 1, 3, 16, 16), dtype=np.uint16)
    reader.read_into(out, np.array([0]))
    reader.read_into(out, np.array([4]))  # closes the first
    shard_path(tmp_path / "other", 0).replace(shard_path(cube.path, 0))
    reader.read_into(out, np.array([0]))
    np.testing.assert_array_equal(out[0], chips[7])


def test_samples_that_are_not_there_and_memory_that_does_not_fit_are_refused(tmp_path):
    cube = write_cube(tmp_path / "c", some_chips())
    out = np.zeros((2, 1, 3, 16, 16), dtype=np.uint16)
    with pytest.raises(CubeError, match="samples are 0 to 22, asked for -1 to 23"):
        cube.reader.read_into(out, np.array([-1, 23]))
    with pytest.raises(CubeError, match="shards are 0 to 5, asked for 6"):
        cube.read_shard(6)
    for wrong in (out[:1], out.astype(np.int16), np.zeros((4, 1, 3, 16, 16), dtype=np.uint16)[::2], out[..., :8]):
        with pytest.raises(ValueError, match=r"chips go into contiguous uint16 \(2, 1, 3, 16, 16\), got "):
            cube.reader.read_into(wrong, np.array([0, 1]))


def test_few_files_stay_open_and_none_when_nobody_reads_any_more(tmp_path):
    chips = some_chips(count=60)
    cube = write_cube(tmp_path / "c", chips, shard=1)
    before = open_files()
    reader = ChipReader(cube, threads=3, most_files=4)
    order = np.random.default_rng(0).permutation(np.tile(np.arange(60), 3))
    out = np.empty((len(order), *chips.shape[1:]), dtype=np.uint16)
    reader.read_into(out, order)
    np.testing.assert_array_equal(out, chips[order])
    assert open_files() <= before + 4
    reader.advise(range(70), will_need=True)
    reader.advise(range(70), will_need=False)
    assert open_files() <= before + 4
    del reader
    assert open_files() == before


def test_memory_does_not_grow_with_what_was_read(tmp_path):
    chips = some_chips(count=64, size=64)
    reader = write_cube(tmp_path / "c", chips, compressors=CODECS["blosc lz4, bit shuffle"], shard=8).reader
    out = np.empty((16, *chips.shape[1:]), dtype=np.uint16)
    reader.read_into(out, np.arange(16))
    tracemalloc.start()
    for start in range(0, 64, 16):
        reader.read_into(out, np.arange(start, start + 16))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 2 * chips[0].nbytes


def test_threads_share_a_reader(tmp_path):
    chips = some_chips(count=60, size=48)
    cube = write_cube(tmp_path / "c", chips, compressors=CODECS["blosc lz4, bit shuffle"])
    reader = ChipReader(cube, threads=3, most_files=2)
    started = threading.Barrier(6)

    def read(seed):
        order = np.random.default_rng(seed).integers(0, 60, 200)
        out = np.empty((200, *chips.shape[1:]), dtype=np.uint16)
        started.wait()
        reader.read_into(out, order)
        return np.array_equal(out, chips[order])

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read, range(6)))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_and_a_pickle_read_on(tmp_path):
    chips = some_chips(count=40, size=96)
    cube = write_cube(tmp_path / "c", chips)
    np.testing.assert_array_equal(cube.read(np.arange(40)), chips)
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(cube.read(np.arange(40)), chips) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    again = pickle.loads(pickle.dumps(cube))  # noqa: S301
    assert again == cube
    np.testing.assert_array_equal(again.read(np.array([39, 0])), chips[[39, 0]])


def test_a_file_is_closed_at_the_end_of_the_process_too_when_modules_are_gone(tmp_path, monkeypatch):
    (tmp_path / "shard").write_bytes(b"bytes")
    shard = files.ShardFile(tmp_path / "shard")
    number = shard.descriptor
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", None)
        del shard  # what it raised would be told as unraisable, which fails a test
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
