"""The STAC item of a published model, checked against the schemas of the kit."""

from __future__ import annotations

import json

import jsonschema
import pystac
from referencing import Registry, Resource


def valid_mlm(folder, *, kit):
    """The STAC item of a folder, checked against its schemas."""
    item = json.loads((folder / "mlm-item.json").read_text())
    schema = json.loads((kit / "stac_schemas" / "mlm.json").read_text())
    # The kit has no raster schema, of which MLM takes the data types alone.
    numbers = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
    known = [*numbers, "float16", "float32", "float64", "cint16", "cint32", "cfloat32", "cfloat64", "other"]
    types = {"bands": {"items": {"properties": {"data_type": {"enum": known}}}}}
    raster = Resource.from_contents({"$schema": schema["$schema"], "definitions": types})
    registry = Registry().with_resource("https://stac-extensions.github.io/raster/v1.1.0/schema.json", raster)
    jsonschema.Draft7Validator(schema, registry=registry).validate(item)
    pystac.Item.from_dict({**item, "stac_extensions": []}).validate()
    return item
