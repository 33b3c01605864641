"""The errors a user can meet. The command line prints a :class:`PwcatError` as one line and exits with 2."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "ArchiveError",
    "BusyError",
    "CatalogError",
    "CubeError",
    "DamagedError",
    "ForbiddenError",
    "PublishError",
    "PwcatError",
    "RecipeError",
    "RegionError",
    "SourceError",
    "TrainingError",
]


class PwcatError(Exception):
    """Something the user can mend: the message says what failed, what was got, what is allowed, what to do.

    Bugs of ours are not of this kind: they keep their traceback.
    """


class BusyError(PwcatError):
    """Another process does the same at this moment. Whoever can wait tries again once that has ended."""


class RecipeError(PwcatError):
    """A recipe asks for what is unknown or impossible. Lists every fault; raised before any work is done."""


class RegionError(PwcatError):
    """A region layer is missing or unreadable, a class is unknown, or the regions leave no place to sample."""


class SourceError(PwcatError):
    """A STAC API cannot be reached, refuses, or has no scene that serves. Not for single chips: the ledger has those."""


class ArchiveError(PwcatError):
    """The embedded archive cannot be made, extended or served."""


class CubeError(PwcatError):
    """A cube is missing, of another shape than its plan says, or damaged."""


class CatalogError(PwcatError):
    """A catalog, collection or subset cannot be read, or a query names what it does not hold."""


class TrainingError(PwcatError):
    """A run cannot start or go on: data of other bands or units, a checkpoint that does not fit, a loss that is NaN."""


class PublishError(PwcatError):
    """A publication cannot be built, pushed, verified or loaded."""


class DamagedError(RuntimeError):
    """Tiles of a scene are damaged, and come with the same bytes when they are asked for again.

    Not for users: who asked for chips asks again for those that touch none of these tiles.

    Attributes:
        reasons: which tile it is, in words, by the corner of each chip that touches one: easting and northing.
    """

    def __init__(self, reasons: Mapping[tuple[float, float], str]) -> None:
        super().__init__(reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        return "; ".join(dict.fromkeys(self.reasons.values()))


class ForbiddenError(RuntimeError):
    """A server refuses an asset (401, 403): mostly because the signature of its address has expired.

    Not for users: who signed the address signs it again and tries once more.

    Attributes:
        href: of the asset, unsigned where that can be.
    """

    def __init__(self, href: str) -> None:
        super().__init__(href)
        self.href = href

    def __str__(self) -> str:
        return f"Error reading {self.href}: the server refuses it (403); a signature may have expired"
