"""Sources of sensors, opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from pwcat.providers import OpenSource, open_source
from pwcat.sensors.document import Sensor

__all__ = ["open_sensors"]


@contextmanager
def open_sensors(sensors: Mapping[str, Sensor], *, base_dir: Path) -> Iterator[dict[str, OpenSource]]:
    """The sources of sensors, ready to answer, by name; one that several take collections of is opened once.

    Args:
        sensors: of the recipe.
        base_dir: the folder that a relative ``path`` starts from.

    Raises:
        SourceError: an archive's folder does not exist.
    """
    with ExitStack() as stack:
        places: dict[str, OpenSource] = {}
        opened = {}
        for name, sensor in sensors.items():
            place = sensor.source.model_dump_json(exclude={"collection"})
            if place not in places:
                places[place] = stack.enter_context(open_source(sensor.source, base_dir=base_dir))
            opened[name] = replace(places[place], collection=sensor.source.collection)
        yield opened
