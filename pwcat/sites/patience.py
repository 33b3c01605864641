"""How long a stratum is drawn from before its quota is said to be out of reach: long while sites come, not when they end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Patience", "Tally"]

# Candidates before anything is said of a stratum: of these, and of so many for each site that is wanted.
LEAST_TRIED, LEAST_TRIED_A_SITE = 32_768, 32

# Where fewer candidates are taken than five in a hundred thousand, no more are drawn.
LEAST_RATE = 5e-5

# Dear are places for which a source was asked and had no scene, and groups that failed. Whenever there are so many more, the
# sites taken meanwhile are looked at: none in 2,000 is the end, and in more, what with luck is not over one in a thousand.
DEAR_TRIED, LEAST_DEAR_RATE = 2_000, 1e-3

# A crowded plane takes in each doubling of the tries 2 ** -0.5 = .71 times as many sites as in the one before: the free area
# falls as the root of the tries (Feder 1980; Swendsen 1981). Nothing is taken to slow down faster than this.
LEAST_RATIO = 0.8


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How far a stratum has come.

    Attributes:
        tried: candidates.
        dear: places that a source was asked about and had no scene for; a group that failed counts as several.
        placed: sites.
    """

    tried: int = 0
    dear: int = 0
    placed: int = 0


class Patience:
    """Looks at a stratum whenever its tries have doubled, and where they are dear, oftener.

    Args:
        first: tries before the first look.
        endless: candidates have no end; a list of them is tried to its end, unless that is dear.
    """

    def __init__(self, *, first: int, endless: bool) -> None:
        self._next, self._endless = first, endless
        self._floor = max(LEAST_TRIED, LEAST_TRIED_A_SITE * first)
        self._before, self._last, self._paid = Tally(), Tally(), Tally()

    def until_next_look(self, tried: int) -> int:
        """Candidates that may be tried before."""
        return max(self._next - tried, 0)

    def is_over(self, now: Tally, *, missing: int) -> bool:
        """Whether the ``missing`` sites are out of reach, by all that is seen. Ask after each round."""
        return self._too_dear(now) or self._too_slow(now, missing)

    def _too_dear(self, now: Tally) -> bool:
        paid = now.dear - self._paid.dear
        if paid < DEAR_TRIED:
            return False
        placed, self._paid = now.placed - self._paid.placed, now
        return _likely(placed) <= LEAST_DEAR_RATE * paid

    def _too_slow(self, now: Tally, missing: int) -> bool:
        if now.tried < self._next:
            return False
        earlier, later = self._last.placed - self._before.placed, now.placed - self._last.placed
        tried = now.tried - self._last.tried
        self._before, self._last, self._next = self._last, now, 2 * now.tried
        if not self._endless or now.tried < self._floor:
            return False
        if _likely(later) < LEAST_RATE * tried:
            return True
        ratio = max(later / earlier if earlier else 1.0, LEAST_RATIO)
        return ratio < 1 and missing > _likely(later) * ratio / (1 - ratio)  # what all doublings to come will bring


def _likely(count: int) -> float:
    """As many as might have been placed, had luck been better: a run of bad luck is no end."""
    return float(count + 2 * np.sqrt(count) + 2)
