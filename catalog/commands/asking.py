"""Options that ask for samples, shared by the commands that search; their help, in groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import click

from catalog.subset import Subset
from pwcat.errors import CatalogError

__all__ = [
    "GroupedCommand",
    "GroupedOption",
    "asked",
    "conditions_of",
    "filter_options",
    "search_options",
    "shown_place",
]

F = TypeVar("F", bound=Callable[..., Any])


WHAT, WHERE, WHICH, LAST = "What is there", "Where and when", "Which, and how many", "Output"


class Data(click.Path):
    """A path that is there, or an address, which is looked at when it is opened."""

    name = "data"

    def __init__(self) -> None:
        super().__init__(exists=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text as it stands."""
        return value if "://" in str(value) else super().convert(value, param, ctx)


class GroupedOption(click.Option):
    """An option that is listed under a heading of its command's help."""

    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists options under headings, in the order in which they were given."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, heading by heading; those without one come last."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "group", LAST), []).append(record)
        groups[LAST] = groups.pop(LAST, [])
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{name:<31}", text) for name, text in records], col_max=32)


_OPTIONS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (WHAT, "--biome", {"multiple": True, "metavar": "NAME", "help": "A biome; several times for several."}),
    (WHAT, "--landcover", {"multiple": True, "metavar": "NAME", "help": "Land cover of most of the chip."}),
    (WHAT, "--landcover-share", {"multiple": True, "metavar": "NAME=MIN[:MAX]", "help": "Share of the chip, 0 to 1."}),
    (WHAT, "--continent", {"multiple": True, "metavar": "NAME", "help": "A continent."}),
    (WHAT, "--ecoregion", {"multiple": True, "metavar": "NAME", "help": "An ecoregion."}),
    (WHAT, "--min-spectral-entropy", {"type": float, "metavar": "NATS", "help": "At least so rich in spectra."}),
    (WHAT, "--filter", {"metavar": "CQL2", "help": "A CQL2 text over the items' fields."}),
    (WHERE, "--bbox", {"nargs": 4, "type": float, "metavar": "W S E N", "help": "Degrees; may cross 180."}),
    (WHERE, "--near", {"metavar": "LON,LAT|FILE", "help": "Near a place, or the samples of a subset."}),
    (WHERE, "--within", {"type": float, "metavar": "KM", "help": "How near."}),
    (WHERE, "--datetime", {"metavar": "START/END", "help": "A day or an interval; .. leaves an end open."}),
    (WHICH, "--collection", {"multiple": True, "metavar": "NAME", "help": "Only this dataset."}),
    (WHICH, "--split", {"metavar": "NAME", "help": "train, val or test."}),
    (WHICH, "--id", {"multiple": True, "metavar": "ID", "help": "Only this sample."}),
    (WHICH, "--limit", {"type": int, "metavar": "N", "help": "At most so many, drawn at random."}),
    (WHICH, "--limit-by", {"metavar": "LAYER", "help": "As many of each class of it."}),
    (WHICH, "--seed", {"type": int, "default": 0, "help": "Of that draw."}),
)
_NAMES = {"--filter": "filter_", "--collection": "collections", "--id": "ids"}


_DRAWING = ("--limit", "--limit-by", "--seed")


def search_options(command: F, *, also: Mapping[str, str] = MappingProxyType({})) -> F:
    """Add the options that ask for samples; their values are what :func:`asked` takes.

    Args:
        command: that gets them.
        also: another name that an option has, which comes first.
    """
    return _with_options(command, _OPTIONS, also)


def filter_options(command: F) -> F:
    """As :func:`search_options`, but for those that draw some of the samples."""
    return _with_options(command, tuple(option for option in _OPTIONS if option[1] not in _DRAWING))


def _with_options(
    command: F,
    options: tuple[tuple[str, str, dict[str, Any]], ...],
    also: Mapping[str, str] = MappingProxyType({}),
) -> F:
    for group, name, settings in reversed(options):
        declared = [*([also[name]] if name in also else []), name, *([_NAMES[name]] if name in _NAMES else [])]
        command = click.option(*declared, cls=GroupedOption, group=group, **settings)(command)
    return command


def asked(catalog: str, **options: Any) -> Subset:
    """The samples that the options ask for.

    Raises:
        CatalogError: one of them makes no sense.
    """
    from catalog.query import open_catalog

    return open_catalog(catalog).search(**conditions_of(**options))


def conditions_of(**options: Any) -> dict[str, Any]:
    """The options as :meth:`catalog.query.Catalog.search` takes them.

    Raises:
        CatalogError: one of them makes no sense.
    """
    listed = {
        name: list(options[name]) or None
        for name in ("biome", "landcover", "continent", "ecoregion", "collections", "ids")
    }
    return {
        **listed,
        "landcover_share": dict(map(_share, options["landcover_share"])) or None,
        "min_spectral_entropy": options["min_spectral_entropy"],
        "filter": options["filter_"],
        "bbox": options["bbox"],
        "near": _near(options["near"]),
        "within_km": options["within"],
        "datetime": options["datetime"],
        "split": options["split"],
        "limit": options.get("limit"),
        "limit_by": options.get("limit_by"),
        "seed": options.get("seed", 0),
    }


def _share(text: str) -> tuple[str, float | tuple[float, float]]:
    name, _, bounds = text.rpartition("=")
    low, _, high = bounds.partition(":")
    try:
        return name.strip(), (float(low), float(high or 1))
    except ValueError as exc:
        raise CatalogError(
            f"--landcover-share {text}: NAME=MIN or NAME=MIN:MAX is wanted, as in tree_cover=0.3"
        ) from exc


def _near(text: str | None) -> tuple[float, float] | Subset | None:
    from catalog.subset import load_subset

    if text is None:
        return None
    lon, comma, lat = text.partition(",")
    try:
        return (float(lon), float(lat)) if comma else load_subset(text)
    except ValueError as exc:
        if Path(text).is_file():
            return load_subset(text)
        raise CatalogError(f"--near {text}: LON,LAT in degrees or a subset's file is wanted, as in 8.5,47.4") from exc


def shown_place(name: str | None, width: int) -> str:
    """A name for a column so wide: cut at its end, ``none`` where there is none."""
    name = name or "none"
    return name if len(name) <= width else f"{name[: width - 1].rstrip()}…"
