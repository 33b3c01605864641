"""The texts of a publication, rendered from recorded numbers alone."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from publish.describing.facts import DatasetFacts

__all__ = [
    "as_yaml",
    "dataset_front_matter",
    "feature_list",
    "hub_license",
    "render",
    "size_category",
]

# SPDX identifiers whose names on the Hub are not just their lower case (hub-docs, repositories-licenses).
HUB_LICENSES: Mapping[str, str] = {
    "ODbL-1.0": "odbl",
    "ODC-By-1.0": "odc-by",
    "PDDL-1.0": "pddl",
    "etalab-2.0": "etalab-2.0",
    "CDLA-Permissive-1.0": "cdla-permissive-1.0",
    "CDLA-Permissive-2.0": "cdla-permissive-2.0",
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
    "CC0-1.0": "cc0-1.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    "CC-BY-NC-SA-4.0": "cc-by-nc-sa-4.0",
    "CC-BY-3.0": "cc-by-3.0",
}
TAGS = ["geospatial", "earth-observation", "remote-sensing", "satellite", "multi-spectral", "pretraining", "stac"]
MAP_TAGS = ["geospatial", "openstreetmap", "maps", "pretraining", "stac"]
SATELLITES = ("sentinel-1", "sentinel-2", "landsat", "naip", "cop-dem")
SIZES = [
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
]

_environment = Environment(
    loader=PackageLoader("publish", "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 - Markdown, not HTML
)


def render(template: str, **values: Any) -> str:
    """A template of this package filled in; a value that is missing is a bug and raises."""
    return _environment.get_template(template).render(**values)


def _thousands(value: Any) -> str:
    return f"{value:,}"


def as_yaml(value: Any) -> str:
    """YAML in the order of its keys."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %"


def _measure(measure: Any) -> str:
    """A score with its interval."""
    return f"{measure.mean:.3f} ({measure.ci_low:.3f} to {measure.ci_high:.3f})"


def _km(value: float) -> str:
    """A distance with its unit, to three digits or the metre; an interval's end below 0 is 0."""
    value = max(value, 0.0)
    return f"{1000 * value:,.0f} m" if value < 1 else f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f} km"


def _size(count: int) -> str:
    """Bytes in the largest unit of which there is one."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count} bytes"


def _quoted(value: str) -> str:
    """A text as Python, and JSON, write it."""
    return json.dumps(value, ensure_ascii=False)


def _where(value: str, column: str) -> str:
    """A condition as an argument of the shell: what it would read as a command or a variable, it does not."""
    condition = "{} = '{}'".format(column, value.replace("'", "''"))
    return f'"{condition}"' if not re.search(r'["$`\\!\n]', condition) else shlex.quote(condition)


def _cell(value: Any) -> str:
    """A text within a table of Markdown: no end of line, and no bar that would end the cell."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _latex(value: str) -> str:
    """A text within a field of BibTeX."""
    return re.sub(r"([&%$#_{}])", r"\\\1", value)


def _sentence(value: str) -> str:
    return value[:1].upper() + value[1:]


_FILTERS: Mapping[str, Callable[..., str]] = {
    "thousands": _thousands,
    "yaml": as_yaml,
    "km": _km,
    "size": _size,
    "quoted": _quoted,
    "where": _where,
    "sentence": _sentence,
    "cell": _cell,
    "latex": _latex,
}
_environment.filters |= _FILTERS
_environment.globals |= {"share": _share, "measure": _measure, "zip": zip}


def size_category(num_samples: int) -> str:
    """The Hub's word for a number of rows."""
    return next((name for limit, name in SIZES if num_samples < limit), "n>10M")


def hub_license(licenses: Sequence[str]) -> dict[str, str]:
    """The licence fields of a card: one of the Hub's names, or ``other`` with a link to the folder's own page."""
    if len(licenses) == 1 and licenses[0] in HUB_LICENSES:
        return {"license": HUB_LICENSES[licenses[0]]}
    return {"license": "other", "license_name": "see-licenses", "license_link": "LICENSES.md"}


def _tags(facts: DatasetFacts) -> list[str]:
    """What the Hub finds it by: kind, satellites, sensors and papers."""
    collections = [
        str(source["collection"]).lower() for recipe in facts.recipes.values() for source in _sources(recipe)
    ]
    satellites = [name for name in SATELLITES if any(name in collection for collection in collections)]
    copernicus = ["sentinel-2"] if facts.is_copernicus else []
    aerial = ["aerial-imagery"] if facts.of_tiles and facts.has_images else []
    sensors = [band.sensor.replace("_", "-") for band in facts.sensors]
    papers = [f"arxiv:{one.paper.arxiv}" for one in facts.papers]
    return list(
        dict.fromkeys([*(MAP_TAGS if facts.of_tiles else TAGS), *aerial, *copernicus, *satellites, *sensors, *papers])
    )


def _sources(recipe: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The sources of pixels that a recipe names: its own, its images', its sensors'."""
    parts = [recipe, recipe.get("images") or {}, *(recipe.get("sensors") or {}).values()]
    return [part["source"] for part in parts if part.get("source")]


def dataset_front_matter(facts: DatasetFacts, *, schemas: Mapping[str, pa.Schema], files: Mapping[str, Any]) -> str:
    """The YAML that heads a dataset's card: what the Hub indexes, and how ``load_dataset`` finds the files.

    Features are given without numbers of rows: with them, ``load_dataset(filters=...)`` fails on every filter.

    Args:
        facts: Recorded facts.
        schemas: The columns of each config, by name, the default one first.
        files: The data files of each config: split to pattern.
    """
    front = {
        "pretty_name": facts.title,
        **hub_license(facts.licenses),
        "size_categories": [size_category(facts.num_samples)],
        "task_categories": ["image-feature-extraction"],
        "tags": _tags(facts),
        "configs": [_config(name, files[name], default=i == 0) for i, name in enumerate(schemas)],
        "dataset_info": [{"config_name": name, "features": feature_list(schema)} for name, schema in schemas.items()],
    }
    return as_yaml(front)


def _config(name: str, files: Mapping[str, str], *, default: bool) -> dict[str, Any]:
    data_files = [{"split": split, "path": path} for split, path in files.items()]
    return {"config_name": name, **({"default": True} if default else {}), "data_files": data_files}


def feature_list(schema: pa.Schema) -> list[dict[str, Any]]:
    """An Arrow schema in the words of a card's ``dataset_info``; a field ``thumbnail`` is an image."""
    return [{"name": field.name, **_feature(field)} for field in schema]


def _feature(field: pa.Field) -> dict[str, Any]:
    dtype = field.type
    if field.name == "thumbnail":
        return {"dtype": "image"}
    if pa.types.is_struct(dtype):
        return {"struct": feature_list(pa.schema(list(dtype)))}
    if pa.types.is_list(dtype):
        inner = _feature(pa.field("element", dtype.value_type))
        return {"list": inner.get("struct", inner.get("dtype", inner))}
    return {"dtype": {"double": "float64", "float": "float32"}.get(str(dtype), str(dtype))}
