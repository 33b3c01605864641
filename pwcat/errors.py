"""The errors a user can meet. The command line prints a :class:`PwcatError` as one line and exits with 2."""

__all__ = [
    "ArchiveError",
    "CatalogError",
    "CubeError",
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
