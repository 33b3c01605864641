"""Region layers as a recipe names them: a known dataset, a file, or a collection of class rasters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pwcat.document import Document
from pwcat.errors import RegionError
from pwcat.providers.document import public_url
from pwcat.regions.datasets import find_dataset

__all__ = ["Layer", "RegionLayers"]


class Layer(Document):
    """A region layer: a known dataset by its name, a vector or raster file, or a collection of class rasters.

    A plain string is the name of a dataset.
    """

    dataset: str | None = Field(None, description="a dataset by name; `pwcat regions list` shows them")
    path: str | None = Field(
        None, description="a vector or raster file, relative to the recipe; with `dataset`, that dataset's own file"
    )
    field: str | None = Field(None, description="vector files: the attribute that holds the class")
    classes: Literal["igbp", "worldcover"] | dict[int, str] | None = Field(
        None, description="rasters: what the values mean; collections say it themselves, if they can"
    )
    collection: str | None = Field(None, description="a collection of class rasters, at the recipe's own source")
    url: str | None = Field(None, description="collections: another STAC API than the recipe's source")
    datetime: str | None = Field(None, description="collections: only items of this date or span, as STAC writes it")
    asset: str = Field("map", description="collections: the asset that holds the classes")

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, document: Any) -> Any:
        return {"dataset": document} if isinstance(document, str) else document

    @field_validator("dataset")
    @classmethod
    def _known(cls, dataset: str | None) -> str | None:
        if dataset is not None:
            try:
                return find_dataset(dataset).name
            except RegionError as exc:
                raise ValueError(str(exc)) from None
        return None

    @field_validator("url")
    @classmethod
    def _public(cls, url: str | None, info: ValidationInfo) -> str | None:
        return None if url is None else public_url(url, info)

    @field_validator("asset")
    @classmethod
    def _one_kind(cls, asset: str, info: ValidationInfo) -> str:
        given = info.data
        if not {"dataset", "path", "field", "classes", "collection", "url", "datetime"} <= given.keys():
            return asset
        faults = _mixed(given) or _incomplete(given)
        if faults:
            raise ValueError(faults)
        return asset


def _mixed(given: dict[str, Any]) -> str:
    path, collection, dataset = (given[name] is not None for name in ("path", "collection", "dataset"))
    if not (path or collection or dataset) or (path and collection) or (dataset and collection):
        return "a layer is either a `dataset` (or just its name), a `path` or a `collection`"
    if dataset and given["classes"] is not None:
        return "a dataset knows its `classes`: leave them out"
    stac = dataset and find_dataset(given["dataset"]).kind == "stac"
    if not (collection or stac) and (given["url"] is not None or given["datetime"] is not None):
        return "`url` and `datetime` are for collections"
    return (
        "`path` and `field` are not for a dataset that is read through STAC"
        if stac and (path or given["field"])
        else ""
    )


def _incomplete(given: dict[str, Any]) -> str:
    if (
        given["dataset"] is None
        and given["path"] is not None
        and (given["field"] is None) == (given["classes"] is None)
    ):
        return "a file needs `field` (vector) or `classes` (raster), and not both"
    return "a collection has no `field`" if given["collection"] is not None and given["field"] is not None else ""


# Names that a plan or its summary give to something else: a layer's name is a column, too.
COLUMNS_OF_A_PLAN = frozenset({
    "id", "lon", "lat", "landcover_area", "landcover_fractions", "stratum", "scene_ids", "datetime", "epsg", "x0", "y0",
    "composite_ids", "resolution_m", "split", "shard",
})  # fmt: skip


def _not_a_column(name: str) -> str:
    if name in COLUMNS_OF_A_PLAN:
        raise ValueError(f"{name!r} is a column of every plan: give the layer another name")
    return name


LayerName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$"), AfterValidator(_not_a_column)]


class RegionLayers(Document):
    """The layers that label sites. A layer left out leaves its labels empty; others may be added under names of their own."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[LayerName, Layer] = Field(init=False)

    continent: Layer | None = None
    biome: Layer | None = None
    ecoregion: Layer | None = None
    landcover: Layer | None = None

    @field_validator("continent", "biome", "ecoregion", "landcover")
    @classmethod
    def _of_the_dataset(cls, layer: Layer | None, info: ValidationInfo) -> Layer | None:
        if layer is None or layer.dataset is None or layer.field is not None:
            return layer
        dataset, name = find_dataset(layer.dataset), info.field_name
        if name not in dataset.layers:
            can = " or ".join(f"`{other}`" for other in dataset.layers) or "points, which are no layer"
            raise ValueError(f"the dataset {dataset.name!r} has no {name}: it is {can}")
        return layer

    def given(self) -> dict[str, Layer]:
        """The layers that are given, by name: the four known ones first, then the others in the order of the document."""
        known = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            name: layer for name, layer in {**known, **(self.__pydantic_extra__ or {})}.items() if layer is not None
        }

    def get(self, name: str) -> Layer | None:
        """The layer of that name, or ``None``."""
        return self.given().get(name)
