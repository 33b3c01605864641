"""Region datasets that are known by name: where they come from, what they may be used for, and how they are read."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pwcat.errors import RegionError

__all__ = ["DATASETS", "DEFAULTS", "Dataset", "find_dataset"]

NATURAL_EARTH = "https://naciscdn.org/naturalearth"
NATURAL_EARTH_LICENCE = "public domain"
NATURAL_EARTH_CREDIT = "Made with Natural Earth (naturalearthdata.com)"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What is known of a dataset before it is there.

    Attributes:
        name: as recipes and the command line say it.
        title: for people, with the version.
        kind: how it is read.
        layers: the layers it can be, each with the field that holds the class (empty for rasters).
        page: where people read about it.
        licence: under which it may be used.
        attribution: how its makers ask to be named.
        url: of the file; empty where the official source cannot be fetched without an account.
        filename: in the cache.
        inside: the file within a zip archive.
        bytes: size of the file, where it is known.
        sha256: of the file, where it is pinned; else the sum of the first fetch is kept.
        legend: rasters: key in :data:`pwcat.landcover.LEGENDS`.
        leave_out: a field and a value whose rows are no class of the dataset's.
        by_land: countries: made into continents by :mod:`pwcat.regions.continents`.
        collection, asset, datetime: STAC collections: what to ask for at ``url``.
        moved: STAC collections: start of hrefs, and the same files where they need no signature.
        pixel_m: STAC collections: native sampling.
        version: that is meant, where files say theirs.
        granule: what the makers call a file, a regular expression with the groups ``version`` and ``year``.
        by_hand: how to get it, where it cannot be fetched.
    """

    name: str
    title: str
    kind: Literal["vector", "raster", "stac", "points"]
    layers: Mapping[str, str] = field(default_factory=dict)
    page: str
    licence: str
    attribution: str
    url: str = ""
    filename: str = ""
    inside: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    legend: str | None = None
    leave_out: tuple[str, str] | None = None
    by_land: bool = False
    collection: str = ""
    asset: str = ""
    datetime: str | None = None
    moved: tuple[str, str] | None = None
    pixel_m: float | None = None
    version: str = ""
    granule: str = ""
    by_hand: str = ""


_MCD12C1_BY_HAND = """\
MCD12C1 is HDF4 behind NASA's Earthdata login, and the GDAL that pip installs reads no HDF4. Get it once by hand:
  1. with a free account (urs.earthdata.nasa.gov) download the file of a year from
     https://lpdaac.usgs.gov/products/mcd12c1v061/ (MCD12C1.A2022001.061.*.hdf, say);
  2. with a GDAL that has HDF4 (conda install -c conda-forge gdal libgdal-hdf4) convert its IGBP classes:
     gdal_translate -a_srs EPSG:4326 -a_ullr -180 90 180 -90 -co COMPRESS=DEFLATE \\
       'HDF4_EOS:EOS_GRID:"MCD12C1.A2022001.061.….hdf":MOD12C1:Majority_Land_Cover_Type_1' MCD12C1.tif;
  3. pwcat regions fetch landcover --from MCD12C1.tif"""

DATASETS: Mapping[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="natural-earth",
            title="Natural Earth 1:10m countries 5.1.1, made into continents by land",
            kind="vector",
            layers={"continent": "CONTINENT"},
            page="https://www.naturalearthdata.com/downloads/10m-cultural-vectors/",
            licence=NATURAL_EARTH_LICENCE,
            attribution=NATURAL_EARTH_CREDIT,
            url=f"{NATURAL_EARTH}/10m/cultural/ne_10m_admin_0_countries.zip",
            filename="ne_10m_admin_0_countries.zip",
            inside="ne_10m_admin_0_countries.shp",
            bytes=4_930_492,
            sha256="ce1ac7036499a0edd641fbc093cd209a98f96a49d2eca8480aaacad35138a7f6",
            by_land=True,
        ),
        Dataset(
            name="natural-earth-110m",
            title="Natural Earth 1:110m countries, made into continents by land: small, and coarse at coasts",
            kind="vector",
            layers={"continent": "CONTINENT"},
            page="https://www.naturalearthdata.com/downloads/110m-cultural-vectors/",
            licence=NATURAL_EARTH_LICENCE,
            attribution=NATURAL_EARTH_CREDIT,
            url=f"{NATURAL_EARTH}/110m/cultural/ne_110m_admin_0_countries.zip",
            filename="ne_110m_admin_0_countries.zip",
            inside="ne_110m_admin_0_countries.shp",
            by_land=True,
        ),
        Dataset(
            name="resolve-2017",
            title="RESOLVE Ecoregions 2017: 14 biomes, 846 ecoregions",
            kind="vector",
            layers={"biome": "BIOME_NAME", "ecoregion": "ECO_NAME"},
            page="https://ecoregions.appspot.com/",
            licence="CC-BY-4.0",
            attribution="RESOLVE Ecoregions 2017 (Dinerstein et al. 2017, doi:10.1093/biosci/bix014)",
            url="https://storage.googleapis.com/teow2016/Ecoregions2017.zip",
            filename="Ecoregions2017.zip",
            inside="Ecoregions2017.shp",
            bytes=149_248_653,
            sha256="be36d6209e443038d02e309f0447c6e7f2a62f5fe60c605ffe90d064952f2a60",
            leave_out=("BIOME_NAME", "N/A"),  # rock and ice: neither a biome nor an ecoregion
        ),
        Dataset(
            name="mcd12c1",
            title="MODIS MCD12C1 land cover, IGBP classes, 0.05°",
            kind="raster",
            layers={"landcover": ""},
            page="https://lpdaac.usgs.gov/products/mcd12c1v061/",
            licence="open (NASA)",
            attribution="MCD12C1 v6.1 (Friedl and Sulla-Menashe 2022, doi:10.5067/MODIS/MCD12C1.061), NASA LP DAAC",
            filename="MCD12C1.tif",
            legend="igbp",
            version="061",
            granule=r"MCD12C1\.A(?P<year>\d{4})\d{3}\.(?P<version>\d{3})\.",
            by_hand=_MCD12C1_BY_HAND,
        ),
        Dataset(
            name="worldcover",
            title="ESA WorldCover 10 m 2021 v200, read tile by tile through STAC",
            kind="stac",
            layers={"landcover": ""},
            page="https://esa-worldcover.org/en/data-access",
            licence="CC-BY-4.0",
            attribution="© ESA WorldCover project 2021 / Contains modified Copernicus Sentinel data (2021) processed by "
            "ESA WorldCover consortium",
            url="https://planetarycomputer.microsoft.com/api/stac/v1",
            collection="esa-worldcover",
            asset="map",
            datetime="2021-01-01/2021-12-31",
            legend="worldcover",
            # The API's own hrefs need a signature; the makers' bucket in the Registry of Open Data holds the same files.
            moved=(
                "https://ai4edataeuwest.blob.core.windows.net/esa-worldcover/",
                "https://esa-worldcover.s3.eu-central-1.amazonaws.com/",
            ),
            pixel_m=10.0,
        ),
        Dataset(
            name="ne-populated-places",
            title="Natural Earth 1:10m populated places 5.1.2: cities with their population",
            kind="points",
            page="https://www.naturalearthdata.com/downloads/10m-cultural-vectors/10m-populated-places/",
            licence=NATURAL_EARTH_LICENCE,
            attribution=NATURAL_EARTH_CREDIT,
            url=f"{NATURAL_EARTH}/10m/cultural/ne_10m_populated_places.zip",
            filename="ne_10m_populated_places.zip",
            inside="ne_10m_populated_places.shp",
            bytes=2_811_199,
            sha256="cd149186f03d2603e0410da399b980a4357d0ac32d3a2305a49ed3dffcc41d7b",
        ),
    )
}

# The dataset that a layer's name alone means on the command line.
DEFAULTS: Mapping[str, str] = {
    "continent": "natural-earth",
    "biome": "resolve-2017",
    "ecoregion": "resolve-2017",
    "landcover": "mcd12c1",
}


def find_dataset(name: str) -> Dataset:
    """The dataset of that name, or that a layer's name stands for.

    Raises:
        RegionError: there is none; names close ones and lists all.
    """
    if name in DEFAULTS:
        return DATASETS[DEFAULTS[name]]
    if name in DATASETS:
        return DATASETS[name]
    close = difflib.get_close_matches(name, [*DATASETS, *DEFAULTS], n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    raise RegionError(f"unknown dataset {name!r}: {hint}Known: {', '.join(DATASETS)}")
