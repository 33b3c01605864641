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
        opened: dict[str, OpenSource] = {}
        for sensor in sensors.values():
            if (said := _apart_from_collection(sensor)) not in opened:
                opened[said] = stack.enter_context(open_source(sensor.source, base_dir=base_dir))
        yield {
            name: replace(opened[_apart_from_collection(sensor)], collection=sensor.source.collection)
            for name, sensor in sensors.items()
        }


def _apart_from_collection(sensor: Sensor) -> str:
    return sensor.source.model_dump_json(exclude={"collection"})
