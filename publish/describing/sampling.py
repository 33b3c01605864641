"""How the places of a recipe were chosen, in sentences: for cards, where the recipe itself stands below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from publish.maps import is_map

__all__ = ["describe_recipe"]

DOMAINS = {
    "land": "over land",
    "globe": "over the whole Earth",
    "scenes": "over the area that the source's scenes cover",
}
QUOTAS = {
    "equal": "in equal numbers for each {classes}",
    "proportional": "in proportion to the area of each {classes}",
    "square_root": "in proportion to the square root of the area of each {classes}",
}

# Weights that are told one by one; of more, how many there are.
MOST_WEIGHTS = 8

Document = Mapping[str, Any]


def describe_recipe(recipe: Document) -> str:
    """Where, when and under which constraints the samples of a recipe were chosen, in two or three sentences.

    Args:
        recipe: as JSON, defaults included.
    """
    if is_map(recipe):
        return _tiles(recipe)
    when = recipe["when"]
    sentences = [
        f"{recipe['num_samples']:,} places for {recipe['name']} were drawn from seed {recipe['seed']}, "
        f"{_sampler(recipe['sampler'])}.",
        *_constraints(recipe.get("constraints") or {}),
        f"Each place has {_dates(when)} between {when['start']} and {when['end']}, from scenes with at most "
        f"{when['max_cloud_cover']:g} % cloud.",
        *(_sensor(name, sensor) for name, sensor in (recipe.get("sensors") or {}).items()),
    ]
    return " ".join(sentences)


def _tiles(recipe: Document) -> str:
    """How the tiles of a map recipe were chosen."""
    grid, images, split = recipe["tiles"], recipe.get("images"), recipe["split"]
    need = {"any": "entities or an image", "map": "entities", "images": "an image", "both": "entities and an image"}
    sentences = [
        f"Tiles of zoom {grid['zoom']} for {recipe['name']} are those {_where(grid)} that have {need[grid['need']]}, "
        f"split by groups of zoom {grid['group_zoom']} from seed {recipe['seed']}: {_percent(split['val'])} of the groups are "
        f"`val`, {_percent(split['test'])} `test`."
    ]
    if recipe.get("map"):
        sentences.append(f"Entities are those of {PurePath(recipe['map']['path']).name} that have tags.")
    if images and images.get("source"):
        sentences.append(f"Each tile has the newest image of {images['source']['collection']} that covers it.")
    return " ".join(sentences)


def _where(grid: Document) -> str:
    """Which tiles were asked for."""
    if grid["boxes"]:
        return "that touch a box of the recipe" if len(grid["boxes"]) == 1 else "that touch one of the recipe's boxes"
    if grid["within"]:
        return f"that touch the areas of {PurePath(grid['within']).name}"
    return f"of a list of {_count(len(grid['only']), 'tile')}" if grid["only"] else "of the whole map"


def _sensor(name: str, sensor: Document) -> str:
    """What stands beside the source."""
    within = sensor.get("within_days")
    if within is None:
        near = "the same at every date"
    else:
        near = f"of the scene nearest to each date, at most {within} days away" if within else "of the same day or span"
    without = "; places without it were left out" if sensor.get("required") else ""
    bands = _list(sensor["bands"])
    return f"On the same pixels, {name} ({sensor['source']['collection']}) gives {bands}, {near}{without}."


def _sampler(sampler: Document) -> str:
    """What follows "were drawn from seed 0, "."""
    tell = _STRATEGIES.get(sampler["strategy"])
    return tell(sampler) if tell else f"by the strategy {sampler['strategy']}"


def _uniform(sampler: Document) -> str:
    conditions = [
        f"the {_layer(layer)} is {_list([values] if isinstance(values, str) else values, 'or')}"
        for layer, values in (sampler.get("inside") or {}).items()
    ]
    where = f" where {_list(conditions)}" if conditions else ""
    return f"uniformly by area {DOMAINS[sampler['domain']]}{where}"


def _one_hot(sampler: Document) -> str:
    where = {"scenes": ", where the source has scenes", "land": "" if sampler["layer"] == "continent" else ", on land"}
    return (
        f"uniformly by area within the {_layer(sampler['layer'])} {sampler['value']}{where.get(sampler['domain'], '')}"
    )


def _stratified(sampler: Document) -> str:
    layers = [_layer(name) for name in sampler["by"]]
    classes = f"combination of {_list(layers)}" if len(layers) > 1 else layers[0]
    area = f"uniformly by area {DOMAINS[sampler['domain']]} within each"
    quotas = sampler["quotas"]
    if not isinstance(quotas, str):
        return f"{_weights(quotas, classes)}, {area}"
    left_out = [*sampler.get("exclude", [])]
    if sampler.get("min_share"):
        left_out.append(f"those with less than {_percent(sampler['min_share'])} of the area")
    but = f" except {_list(left_out)}" if left_out else ""
    return f"{QUOTAS[quotas].format(classes=classes)}{but}, {area}"


def _weights(quotas: Mapping[str, float] | Sequence[Document], classes: str) -> str:
    if isinstance(quotas, Mapping):
        named = [(name, weight) for name, weight in quotas.items()]
    else:
        named = [(" × ".join(quota["classes"]), quota["weight"]) for quota in quotas]
    if len(named) > MOST_WEIGHTS:
        return f"with weights of their own for {len(named)} classes by {classes}"
    return f"with the weights {_list([f'{name} {weight:g}' for name, weight in named])} by {classes}"


def _mixture(sampler: Document) -> str:
    parts = sampler["parts"]
    total = sum(part["weight"] for part in parts)
    told = [f"{_percent(part['weight'] / total)} {_sampler(part['sampler'])}" for part in parts]
    return f"as a mixture ({'; '.join(told)})"


def _clustered(sampler: Document) -> str:
    domain = DOMAINS[sampler["domain"]]
    if sampler.get("mask"):
        mask = sampler["mask"]
        return f"uniformly by area {domain} where the {_layer(mask['layer'])} is {_list(mask['values'], 'or')}"
    around = sampler["around"]
    places = PurePath(around["path"]).name if around.get("path") else around["dataset"]
    chosen = f"chosen in proportion to {around['weight']}, " if around.get("weight") else ""
    return f"within {sampler['radius_km']:g} km of places in {places} ({chosen}uniformly by area around each), {domain}"


def _grid(sampler: Document) -> str:
    grid = {"major-tom": "Major TOM's grid", "equal-area": "an equal-area grid"}[sampler["system"]]
    site = "at a random point of it" if sampler.get("jitter") else "in its middle"
    order = "row by row from the south-west" if sampler.get("order") == "row" else "in random order"
    but = f" without {_list(sampler['exclude'])}" if sampler.get("exclude") else ""
    where = f"{DOMAINS[sampler['domain']]}{but}"
    return f"at most one in each cell of {grid} of {sampler['cell_km']:g} km, {site}, {order}, {where}"


def _points(sampler: Document) -> str:
    order = "in the file's order" if sampler.get("order") == "file" else "in random order"
    return f"among the places in {PurePath(sampler['path']).name}, {order}"


def _spectral(sampler: Document) -> str:
    bands = f" of {_list(sampler['bands'])}" if sampler.get("bands") else ""
    return (
        f"by spectral entropy: of {sampler['candidates']:g} times as many, drawn {_sampler(sampler['base'])}, and scored on "
        f"pixels{bands} {sampler['factor']} times as coarse, {_aim(sampler['aim'])}"
    )


def _aim(aim: str | Document) -> str:
    if isinstance(aim, str):
        return f"those with the {aim} entropy were taken"
    edges, weights = aim["edges"], aim["weights"]
    bins = f"{len(weights)} bins between {edges[0]:g} and {edges[-1]:g} nats"
    if len(set(weights)) == 1:
        return f"some were taken that fill {bins} equally"
    shares = (
        f"as {' : '.join(f'{weight:g}' for weight in weights)}" if len(weights) <= MOST_WEIGHTS else "by given weights"
    )
    return f"some were taken that fill {bins} {shares}"


_STRATEGIES: Mapping[str, Callable[[Document], str]] = {
    "uniform": _uniform,
    "one_hot": _one_hot,
    "stratified": _stratified,
    "mixture": _mixture,
    "clustered": _clustered,
    "grid": _grid,
    "points": _points,
    "spectral": _spectral,
}


def _dates(when: Document) -> str:
    if when.get("composite") != "median":
        return _windows(when)
    return f"{_windows(when)}, each the median of up to {when['most_scenes']} scenes,"


def _windows(when: Document) -> str:
    if seasons := when.get("phenology"):
        table, columns = PurePath(seasons["path"]).name, seasons["columns"]
        place = f"{_list(columns)} of the nearest place in {table}"
        return f"{_count(len(columns), 'date')} by phenology ({place}, {seasons['days']} days before or after)"
    if (when.get("months") or []) == list(range(1, 13)):
        return "one date in each month"
    if months := [str(month) for month in when.get("months") or []]:
        return (
            f"one date in month {months[0]}" if len(months) == 1 else f"one date in each of the months {_list(months)}"
        )
    dates = when.get("dates_per_site") or 1
    return "one date" if dates == 1 else _count(dates, "date")


def _constraints(limits: Document) -> list[str]:
    """What holds for every place, as one sentence; none where there is nothing to say."""
    clauses = []
    if limits.get("min_spacing_km"):
        clauses.append(f"places are at least {limits['min_spacing_km']:g} km apart")
    if limits.get("min_land_fraction"):
        clauses.append(f"at least {_percent(limits['min_land_fraction'])} of each chip is land")
    if limits.get("exclude"):
        clauses.append(f"no chip {_list([_zone(zone) for zone in limits['exclude']], 'or')}")
    if limits.get("max_sites_per_scene"):
        clauses.append(f"no scene serves more than {_count(limits['max_sites_per_scene'], 'place')}")
    if limits.get("min_sites_per_scene", 1) > 1:
        clauses.append(f"places lie in groups of at least {limits['min_sites_per_scene']:,} that share their scenes")
    if limits.get("reserve_fraction"):
        clauses.append(f"{_percent(limits['reserve_fraction'])} more were drawn to replace samples without pixels")
    told = "; ".join(clauses)
    return [f"{told[0].upper()}{told[1:]}."] if told else []


def _zone(zone: Document) -> str:
    near = f"comes within {zone['buffer_km']:g} km of" if zone.get("buffer_km") else "touches"
    return f"{near} the places in {PurePath(zone['path']).name}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number > 1 else ''}"


def _layer(name: str) -> str:
    return "land cover" if name == "landcover" else name.replace("_", " ")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _list(items: Sequence[str], word: str = "and") -> str:
    *first, last = items
    return f"{', '.join(first)} {word} {last}" if first else last
