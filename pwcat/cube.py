"""The cube: a dataset's chips in one Zarr v3 store. Dimension names and meanings are fixed here, once.

=============  ==========================  ========================================================================
array          dimensions                  meaning
=============  ==========================  ========================================================================
chips          sample, time, band, y, x    uint16; reflectance is ``chips * scale + offset``, by the store's attributes; 0
                                           is no data
id             sample                      sample id, as in the plan
lon, lat       sample                      the site, EPSG:4326, degrees
epsg           sample                      CRS of the chip's own pixel grid
x0, y0         sample                      upper-left corner of the chip in that CRS, metres
datetime       sample, time                acquisition, seconds since 1970-01-01 UTC
scene_id       sample, time                STAC item that the pixels come from
boa_offset     sample, time                DN that harmonisation subtracted
valid_fraction sample                      share of pixels that have data in every band of the main source and date
band           band                        band names
wavelength_nm  band                        centre wavelength, nanometres; NaN where unknown
gsd_m          band                        native ground sampling, metres; NaN where unknown
=============  ==========================  ========================================================================

Where sensors stand beside the main source, their bands come behind its own, and four more arrays say what each band is:

=============  ==========================  ========================================================================
sensor         band                        name of the sensor; empty for the main source's bands
scale, offset  band                        the value of a pixel is ``chips * scale + offset``, where ``chips`` is not 0
unit           band                        of that value
=============  ==========================  ========================================================================

One chip is one chunk, and a power of two of chips one shard. A shard is written whole, by one writer, in one rename.
"""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from pwcat.atomic import replacing
from pwcat.chips import ChipReader
from pwcat.errors import CubeError

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "DIMS",
    "Cube",
    "CubeSpec",
    "SensorBand",
    "band_columns",
    "create_cube",
    "encode_shard",
    "open_cube",
    "quietly",
    "shard_path",
    "unreadable_metadata",
    "write_coordinates",
    "write_shard",
]

DIMS = ("sample", "time", "band", "y", "x")
DTYPE = "uint16"
NODATA = 0
SCALE = 0.0001
OFFSET = 0.0
ZARRS_PARTIAL = re.compile(r".+\.[0-9a-f]{32}\.partial")

# Centre wavelength (nm, Sentinel-2A) and native ground sampling (m): ESA, Sentinel-2 MSI spatial and spectral resolutions.
SENTINEL2_BANDS: Mapping[str, tuple[float, float]] = {
    "B01": (442.7, 60),
    "B02": (492.4, 10),
    "B03": (559.8, 10),
    "B04": (664.6, 10),
    "B05": (704.1, 20),
    "B06": (740.5, 20),
    "B07": (782.8, 20),
    "B08": (832.8, 10),
    "B8A": (864.7, 20),
    "B09": (945.1, 60),
    "B10": (1373.5, 60),
    "B11": (1613.7, 20),
    "B12": (2202.4, 20),
}


BAND_ATTRIBUTES: Mapping[str, dict[str, Any]] = {
    "band": {"long_name": "band name"},
    "wavelength_nm": {"units": "nm"},
    "gsd_m": {"units": "m"},
}
SAMPLE_ATTRIBUTES: Mapping[str, dict[str, Any]] = {
    "lon": {"units": "degrees_east", "standard_name": "longitude"},
    "lat": {"units": "degrees_north", "standard_name": "latitude"},
    "x0": {"units": "m"},
    "y0": {"units": "m"},
    "datetime": {"standard_name": "time"},
    "boa_offset": {"units": "1e-4"},
}


@dataclass(frozen=True, kw_only=True)
class CubeSpec:
    """Shape and layout of a cube."""

    num_samples: int
    num_times: int
    bands: tuple[str, ...]
    size_px: int
    shard_size: int

    @property
    def chip_shape(self) -> tuple[int, int, int, int]:
        """``(time, band, y, x)``."""
        return self.num_times, len(self.bands), self.size_px, self.size_px

    @property
    def num_shards(self) -> int:
        """How many shards, the last one perhaps partly filled."""
        return -(-self.num_samples // self.shard_size)

    def layout(self, num_samples: int) -> dict[str, Any]:
        """Keyword arguments of :func:`zarr.create_array` for that many samples."""
        return {
            "shape": (num_samples, *self.chip_shape),
            "dtype": DTYPE,
            "chunks": (1, *self.chip_shape),
            "shards": (self.shard_size, *self.chip_shape),
            "compressors": BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=2),
            "fill_value": NODATA,
            "dimension_names": DIMS,
            "config": {"write_empty_chunks": True},
        }


@dataclass(frozen=True, kw_only=True)
class SensorBand:
    """What a band is, in a cube with sensors.

    Attributes:
        sensor: name of the sensor; empty for a band of the main source.
        scale: the value of a pixel is its number * scale + offset.
        offset: see ``scale``.
        unit: of the value.
        gsd_m: native ground sampling, metres; NaN where unknown.
    """

    sensor: str
    scale: float
    offset: float
    unit: str
    gsd_m: float


@contextmanager
def quietly() -> Iterator[None]:
    """Without zarr's warnings of its own strings."""
    # zarr-python says of its variable-length strings that the v3 specification has not named them yet. Every reader we
    # promise (xarray through zarr-python) knows them; the pixels need none.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.UnstableSpecificationWarning)
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        yield


def create_cube(
    path: Path, spec: CubeSpec, *, attributes: Mapping[str, Any], sensors: Sequence[SensorBand] = ()
) -> None:
    """Write the empty store: metadata only, no pixels. The chips come last: where they are, all is.

    Only one process may do so at a time: what zarr left half-written is taken for that of a killed one, and removed.

    Args:
        path: the store; existing metadata is replaced by the same, and so is what cannot be read.
        spec: shape and layout.
        attributes: recipe hash, versions, licence and what else belongs to the whole; scale, offset and nodata are added.
        sensors: what the last bands are, where they are not the main source's.
    """
    for useless in (*_half_written(path), *unreadable_metadata(path)):
        useless.unlink()
    group = zarr.open_group(path, mode="a", zarr_format=3, use_consolidated=False)
    group.attrs.update({"scale": SCALE, "offset": OFFSET, "nodata": NODATA, **attributes})
    for name, values in band_columns(spec, sensors).items():
        _write_array(path, name, values, ("band",), BAND_ATTRIBUTES.get(name, {}))
    if "chips" not in group:
        zarr.create_array(store=path, name="chips", **spec.layout(spec.num_samples))
    group["chips"].attrs.update({"long_name": "surface reflectance, scaled", "units": "1e-4", "coordinates": "lon lat"})


def band_columns(spec: CubeSpec, sensors: Sequence[SensorBand] = ()) -> dict[str, NDArray[Any]]:
    """What a cube says of its bands, ``(band,)`` each: those of the main source first."""
    main = spec.bands[: len(spec.bands) - len(sensors)]
    known = [SENTINEL2_BANDS.get(band, (np.nan, np.nan)) for band in main]
    known += [(np.nan, band.gsd_m) for band in sensors]
    columns: dict[str, NDArray[Any]] = {
        "band": np.array(spec.bands, dtype=object),
        "wavelength_nm": np.array([k[0] for k in known], dtype=np.float64),
        "gsd_m": np.array([k[1] for k in known], dtype=np.float64),
    }
    if sensors:
        plain = SensorBand(sensor="", scale=SCALE, offset=OFFSET, unit="1", gsd_m=np.nan)
        bands = [plain] * len(main) + list(sensors)
        columns |= {
            "sensor": np.array([band.sensor for band in bands], dtype=object),
            "scale": np.array([band.scale for band in bands], dtype=np.float64),
            "offset": np.array([band.offset for band in bands], dtype=np.float64),
            "unit": np.array([band.unit for band in bands], dtype=object),
        }
    return columns


def unreadable_metadata(path: Path) -> list[Path]:
    """What says what the store and its chips are, and cannot be read: a build writes it again."""
    files = [path / "zarr.json", path / "chips" / "zarr.json"]
    return [file for file in files if file.is_file() and not _is_metadata(file)]


def _is_metadata(file: Path) -> bool:
    """Whether zarr understands it. Bytes can be wrong in more ways than it has errors for."""
    try:
        with quietly():
            zarr.open(file.parent, mode="r", zarr_format=3, use_consolidated=False)
    except Exception:
        return False
    return True


def _half_written(path: Path) -> list[Path]:
    """What zarr writes beside a file before it takes that file's place; shards and other arrays are written otherwise."""
    files = [*path.glob("*.partial"), *path.glob("chips/*.partial")]
    return [file for file in files if ZARRS_PARTIAL.fullmatch(file.name)]


def shard_path(path: Path, shard: int) -> Path:
    """The file of one shard of ``chips``."""
    return path / "chips" / "c" / str(shard) / "0" / "0" / "0" / "0"


def encode_shard(spec: CubeSpec, shard: int, chips: NDArray[np.uint16]) -> bytes:
    """The bytes of one whole shard, encoded in memory by zarr itself, so that its file can appear in one rename.

    Args:
        spec: shape and layout of the cube.
        shard: number of the shard.
        chips: ``(samples of the shard, time, band, y, x)``.

    Raises:
        CubeError: the chips are not those of a shard of this cube.
    """
    rows = min(spec.shard_size, spec.num_samples - shard * spec.shard_size)
    if chips.shape != (rows, *spec.chip_shape) or chips.dtype != np.uint16:
        raise CubeError(f"shard {shard} holds uint16 {(rows, *spec.chip_shape)}, got {chips.dtype} {chips.shape}")
    store = MemoryStore()
    array = zarr.create_array(store=store, **spec.layout(rows))
    array[...] = chips
    buffer = asyncio.run(store.get("c/0/0/0/0/0", prototype=default_buffer_prototype()))
    assert buffer is not None, "empty chunks are written too"
    return buffer.to_bytes()


def write_shard(path: Path, shard: int, payload: bytes) -> None:
    """Put the bytes of :func:`encode_shard` in their place in the store, whole or not at all."""
    target = shard_path(path, shard)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        temporary.write_bytes(payload)


def write_coordinates(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write the arrays that describe the samples; names and dimensions as in the table of this module."""
    stored_as = {"datetime": {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian"}}
    for name, values in columns.items():
        attributes = stored_as.get(name, {}) | SAMPLE_ATTRIBUTES.get(name, {})
        _write_array(path, name, values, DIMS[: values.ndim], attributes)
    with quietly():
        zarr.consolidate_metadata(path, zarr_format=3)


def _write_array(
    path: Path, name: str, values: NDArray[Any], dims: tuple[str, ...], attributes: Mapping[str, Any]
) -> None:
    """Write a small array, one chunk: its values first, what says that they are there last, each file whole."""
    files: dict[str, Buffer] = {}
    with quietly():
        dtype: Any = str if values.dtype == object else values.dtype
        array = zarr.create_array(
            store=MemoryStore(files),
            shape=values.shape,
            dtype=dtype,
            chunks=values.shape,
            dimension_names=dims,
            attributes=dict(attributes),
        )
        array[...] = values
    for key in sorted(files, key=lambda key: (key == "zarr.json", key)):
        file = path / name / key
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            part.write_bytes(files[key].to_bytes())
    for file in (path / name).rglob("*"):  # a chunk of nothing but zeros has no file
        if file.is_file() and not file.name.endswith(".partial") and str(file.relative_to(path / name)) not in files:
            file.unlink()


@dataclass(frozen=True)
class Cube:
    """A cube to read from. Opening it reads metadata alone."""

    path: Path

    def __getstate__(self) -> dict[str, Any]:
        """What it is by, without what it has opened: that stays in its process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _member(self, name: str) -> zarr.Array[Any]:
        """One of its arrays."""
        return zarr.open_array(self.path / name, mode="r")

    def _has(self, name: str) -> bool:
        """Whether it has an array of that name."""
        return (self.path / name / "zarr.json").is_file()

    @cached_property
    def array(self) -> zarr.Array[Any]:
        """The chips as zarr has them, for what it says of them: to read pixels, see :meth:`read`.

        Raises:
            CubeError: its dimensions are others than :data:`DIMS`, or its numbers other than uint16.
        """
        array = self._member("chips")
        if array.metadata.dimension_names != DIMS:  # type: ignore[union-attr]
            raise CubeError(f"{self.path}: chips has the dimensions {array.metadata.dimension_names}, not {DIMS}")  # type: ignore[union-attr]
        if array.dtype != np.dtype(DTYPE):
            raise CubeError(f"{self.path}: chips are {array.dtype}, not {DTYPE}: write them again as digital numbers")
        return array

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """What the store says of itself: scale, offset, nodata, recipe hash, versions, licence."""
        return dict(zarr.open_group(self.path, mode="r").attrs)

    @property
    def chips_attrs(self) -> dict[str, Any]:
        """What the store says of its chips: what they are, in which units."""
        return dict(self.array.attrs.asdict())

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Band names, in order."""
        with quietly():
            return tuple(np.asarray(self._member("band")[...]).tolist())

    def stored(self, name: str) -> NDArray[Any] | None:
        """Values of an array that describes samples or bands; ``None`` where it is missing or cannot be read.

        Bytes can be wrong in more ways than zarr has errors for.
        """
        try:
            with quietly():
                values = np.asarray(self._member(name)[...])
        except Exception:
            return None
        return values if values.dtype.kind in "biufM" else np.array(values.tolist(), dtype=object)

    @cached_property
    def meanings(self) -> tuple[SensorBand, ...]:
        """What each band is, where sensors stand beside the main source; else nothing: the attributes say what bands are."""
        if not self._has("sensor"):
            return ()
        names = [field.name for field in fields(SensorBand)]
        with quietly():
            columns = [np.asarray(self._member(name)[...]).tolist() for name in names]
        return tuple(SensorBand(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True))

    @property
    def sensors(self) -> tuple[str, ...]:
        """The sensor of each band; empty for bands of the main source."""
        return tuple(meaning.sensor for meaning in self.meanings) or ("",) * len(self.bands)

    @property
    def main(self) -> slice:
        """The bands of the main source, whose numbers are reflectance: all, unless sensors stand behind them."""
        return slice(self.sensors.count(""))

    @property
    def num_samples(self) -> int:
        """How many samples, those without data included."""
        return int(self.array.shape[0])

    @property
    def num_times(self) -> int:
        """Dates a sample."""
        return int(self.array.shape[1])

    @property
    def size_px(self) -> int:
        """Side of a chip in pixels."""
        return int(self.array.shape[4])

    @property
    def shard_size(self) -> int:
        """Samples a shard."""
        return int((self.array.shards or self.array.chunks)[0])

    @property
    def chip_shape(self) -> tuple[int, int, int, int]:
        """``(time, band, y, x)``."""
        time, band, y, x = (int(n) for n in self.array.shape[1:])
        return time, band, y, x

    @cached_property
    def reader(self) -> ChipReader:
        """What reads its chips, into memory of the caller's."""
        return ChipReader(self)

    def read(self, index: NDArray[np.integer[Any]]) -> NDArray[np.uint16]:
        """Chips of some samples in the order asked for, ``(n, time, band, y, x)``; see :class:`~pwcat.chips.ChipReader`.

        Raises:
            CubeError: a sample is not in the cube, or a shard is missing or damaged.
        """
        wanted = np.asarray(index, dtype=np.int64)
        chips = np.empty((len(wanted), *self.chip_shape), dtype=np.uint16)
        self.reader.read_into(chips, wanted)
        return chips

    def dates(self, index: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """When some samples were taken, in the order asked for: ``(n, time)``, seconds since 1970-01-01 UTC.

        Raises:
            CubeError: the cube does not say.
        """
        stored = self.stored("datetime")
        if stored is None:
            raise CubeError(f"{self.path}: its dates are missing or cannot be read; `pwcat build` writes them again")
        wanted = stored[np.asarray(index, dtype=np.int64)]
        return np.asarray(wanted.astype("datetime64[s]") if wanted.dtype.kind == "M" else wanted).astype(np.int64)

    def read_shard(self, shard: int) -> NDArray[np.uint16]:
        """All chips of one shard, ``(samples of the shard, time, band, y, x)``.

        Raises:
            CubeError: it is not of the cube, missing or damaged.
        """
        last = (self.num_samples - 1) // self.shard_size
        if not 0 <= shard <= last:
            raise CubeError(f"{self.path}: shards are 0 to {last}, asked for {shard}")
        start = shard * self.shard_size
        return self.read(np.arange(start, min(start + self.shard_size, self.num_samples)))

    def select(self, index: NDArray[np.integer[Any]]) -> xr.Dataset:
        """Some samples as a lazy dataset, in the order asked for."""
        return self.to_xarray().isel(sample=np.asarray(index, dtype=np.int64))

    def to_xarray(self) -> xr.Dataset:
        """The cube as a lazy dataset: one Dask chunk a shard."""
        import xarray as xr

        with quietly():
            dataset = xr.open_zarr(self.path, consolidated=False, chunks=None)
        dataset = dataset.assign(chips=dataset["chips"].chunk({"sample": self.shard_size}))
        return dataset.set_coords([name for name in dataset.variables if name != "chips"])


def open_cube(path: str | Path) -> Cube:
    """The cube in a folder.

    Raises:
        CubeError: there is none, or its metadata cannot be read.
    """
    path = Path(path)
    if not (path / "chips" / "zarr.json").is_file():
        raise CubeError(f"{path}: no cube there (looked for chips/zarr.json)")
    cube = Cube(path)
    try:
        _ = cube.num_samples, cube.bands, cube.attrs
    except (ValueError, KeyError, OSError) as exc:
        raise CubeError(f"{path}: its metadata cannot be read ({exc}); remove the cube and build again") from exc
    return cube
