"""The works whose recipes come with pwcat: a dataset made by one of them says whose idea it follows, and cites it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pwcat.recipe import differing_keys
from pwcat.recipes import list_recipes, load_builtin

__all__ = ["Following", "Paper", "following"]

# Keys that say nothing of what was sampled.
_UNTOLD = frozenset({"name", "title", "license", "attribution"})

# What makes it that recipe, but for the area that it is asked for.
_ESSENCE = frozenset({"sampler", "tiles"})
_UNESSENTIAL = frozenset({"sampler.domain"})


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A work on arXiv; authors as its abstract page names them."""

    key: str
    title: str
    authors: tuple[str, ...]
    year: int
    arxiv: str

    @property
    def url(self) -> str:
        """Its page."""
        return f"https://arxiv.org/abs/{self.arxiv}"

    @property
    def short(self) -> str:
        """Who and when: the first author's last name, or both, and the year."""
        last = [author.split()[-1] for author in self.authors]
        return f"{' and '.join(last) if len(last) == 2 else f'{last[0]} et al.'}, {self.year}"

    @property
    def bibtex(self) -> str:
        """A BibTeX entry; braces keep the capitals of the title."""
        return (
            f"@misc{{{self.key},\n"
            f"  title = {{{{{self.title}}}}},\n"
            f"  author = {{{' and '.join(self.authors)}}},\n"
            f"  year = {{{self.year}}},\n"
            f"  eprint = {{{self.arxiv}}},\n"
            f"  archivePrefix = {{arXiv}},\n"
            f"  url = {{{self.url}}}\n"
            f"}}"
        )


@dataclass(frozen=True, kw_only=True)
class Following:
    """That a collection's recipe is a paper's.

    Attributes:
        recipe: its name.
        paper: whose it is.
        changed: keys of it that are other than in the recipe that comes with pwcat.
    """

    recipe: str
    paper: Paper
    changed: tuple[str, ...]


# Sources: the abstract pages at arxiv.org/abs/<number>, and for the third the record at aitopics.org.
_PRETRAIN_WHERE = Paper(
    key="kaur2026pretrain",
    title="Pretrain Where? Investigating How Pretraining Data Diversity Impacts Geospatial Foundation Model Performance",
    authors=("Amandeep Kaur", "Mirali Purohit", "Gedeon Muhawenayo", "Esther Rolf", "Hannah Kerner"),
    year=2026,
    arxiv="2604.21104",
)
_SPATIAL_DISTRIBUTION = Paper(
    key="purohit2025spatial",
    title="How Does the Spatial Distribution of Pre-training Data Affect Geospatial Foundation Models?",
    authors=("Mirali Purohit", "Gedeon Muhawenayo", "Esther Rolf", "Hannah Kerner"),
    year=2025,
    arxiv="2501.12535",
)
_GEOJEPA = Paper(
    key="lundqvist2025geojepa",
    title="GeoJEPA: Towards Eliminating Augmentation- and Sampling Bias in Multimodal Geospatial Learning",
    authors=("Theodor Lundqvist", "Ludvig Delvret"),
    year=2025,
    arxiv="2503.05774",
)
_SSL4ECO = Paper(
    key="plekhanova2025ssl4eco",
    title="SSL4Eco: A Global Seasonal Dataset for Geospatial Foundation Models in Ecology",
    authors=(
        "Elena Plekhanova",
        "Damien Robert",
        "Johannes Dollinger",
        "Emilia Arens",
        "Philipp Brun",
        "Jan Dirk Wegner",
        "Niklaus Zimmermann",
    ),
    year=2025,
    arxiv="2504.18256",
)
# By the start of the recipe's name. ``global-spectral`` is none of them: no paper made that set.
_FAMILIES: Mapping[str, Paper] = {
    "pretrain-where-": _PRETRAIN_WHERE,
    "spatial-distribution-": _SPATIAL_DISTRIBUTION,
    "geojepa-regions": _GEOJEPA,
    "ssl4eco-grid": _SSL4ECO,
}


def following(recipes: Mapping[str, Mapping[str, Any]]) -> tuple[Following, ...]:
    """Which of some recipes are a paper's: those that have the name of one that comes with pwcat, and choose places as it does.

    Other sizes, sources or dates leave it that paper's idea; another sampler, or other tiles, would not.

    Args:
        recipes: as JSON, by name of the collection.
    """
    found = []
    for recipe in recipes.values():
        name = str(recipe["name"])
        paper = next((paper for start, paper in _FAMILIES.items() if name.startswith(start)), None)
        if paper is None or name not in list_recipes():
            continue
        changed = _changed(recipe, name)
        if not any(key.partition(".")[0] in _ESSENCE for key in changed if key not in _UNESSENTIAL):
            found.append(Following(recipe=name, paper=paper, changed=tuple(changed)))
    return tuple(found)


def _changed(recipe: Mapping[str, Any], name: str) -> Sequence[str]:
    """Dotted keys that differ; recipes are kept with their defaults, so that as they stand they can be compared."""
    keys = differing_keys(recipe, load_builtin(name).model_dump(mode="json"))
    return [key for key in keys if key.partition(".")[0] not in _UNTOLD]
