"""What may be said of a relation, in words, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from training.relating.estimates import COEFFICIENT, Method
from training.relating.influence import LeftOut
from training.relating.intervals import Interval
from training.relating.orders import smallest_p
from training.relating.partial import Partial

__all__ = ["RULE", "Evidence", "Verdict", "Word", "number", "signed", "signless", "verdict"]

Word = Literal["shown", "suggestive", "not shown"]
RULE = (
    "shown: p after Holm is at most alpha, and so is p whichever single dataset is left out; with covariates, the partial p "
    "after Holm too. suggestive: p is at most alpha (with covariates: either p), but not all of that. not shown: the rest, "
    "which is not the same as no relation."
)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a verdict rests on; see the fields of the same names of :class:`training.correlation.Correlation`."""

    method: Method
    n: int
    alpha: float
    rho: float
    p: float
    p_holm: float
    family: int
    interval: Interval
    detectable: float
    least_p: float
    leave_one_out: Sequence[LeftOut]
    partial: Partial | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A word by :data:`RULE`, and the reason in a sentence or two.

    Attributes:
        word: "shown", "suggestive" or "not shown".
        why: the figures that decided it; of "not shown", also how large a relation could hide.
        hidden_low: most negative coefficient that the 95 % interval leaves open, where not shown; else NaN.
        hidden_high: most positive one.
    """

    word: Word
    why: str
    hidden_low: float = math.nan
    hidden_high: float = math.nan


def verdict(e: Evidence) -> Verdict:
    """What may be said, by :data:`RULE`."""
    if math.isnan(e.rho):
        return Verdict(word="not shown", why="one side is the same for all datasets: there is nothing to relate.")
    against = _against(e)
    if e.p <= e.alpha and not against:
        return Verdict(word="shown", why=_for(e))
    if e.p <= e.alpha:
        return Verdict(word="suggestive", why=f"p {number(e.p)}, but {', and '.join(against)}.")
    if e.partial and e.partial.p <= e.alpha:
        why = f"p {number(e.p)}, but {number(e.partial.p)} given {', '.join(e.partial.given)}."
        return Verdict(word="suggestive", why=why)
    why = f"p {number(e.p)}. {_hidden(e)}"
    return Verdict(word="not shown", why=why, hidden_low=e.interval.low, hidden_high=e.interval.high)


def number(p: float) -> str:
    """A p as papers write it: three decimals, or four below .01, without the leading zero."""
    if math.isnan(p):
        return "–"
    if p >= 0.9995:
        return "1"
    if p < 0.0001:
        return "<.0001"
    decimals = 3 if p >= 0.0095 else 4
    return f"{p:.{decimals}f}".lstrip("0")


def signed(coefficient: float) -> str:
    """A coefficient with its sign and two decimals, without the leading zero."""
    return "–" if math.isnan(coefficient) else f"{coefficient:+.2f}".replace("0.", ".", 1)


def signless(coefficient: float) -> str:
    """The size of a coefficient, likewise."""
    return signed(abs(coefficient)).lstrip("+")


def _for(e: Evidence) -> str:
    corrected = f", {number(e.p_holm)} after Holm over {e.family}" if e.family > 1 else ""
    worst = max(e.leave_one_out, key=lambda left: left.p)
    given = f", {number(e.partial.p)} given {', '.join(e.partial.given)}" if e.partial else ""
    return (
        f"p {number(e.p)}{corrected}{given}; at most {number(worst.p)} whichever dataset is left out ({worst.dataset})."
    )


def _against(e: Evidence) -> list[str]:
    """What speaks against a p that is small enough."""
    found = []
    if not e.p_holm <= e.alpha:
        found.append(f"{number(e.p_holm)} after Holm over {e.family} metrics")
    weak = [left for left in e.leave_one_out if not left.p <= e.alpha]
    if weak:
        worst = max(weak, key=lambda left: math.inf if math.isnan(left.p) else left.p)
        more = f" (and above alpha without {len(weak) - 1} others)" if len(weak) > 1 else ""
        found.append(f"{number(worst.p)} without {worst.dataset}{more}")
    if e.partial and not e.partial.p_holm <= e.alpha:
        after = f" after Holm over {e.family} metrics" if e.family > 1 else ""
        found.append(f"{number(e.partial.p_holm)} given {', '.join(e.partial.given)}{after}")
    return found


def _hidden(e: Evidence) -> str:
    """How large a relation could still be there."""
    letter = COEFFICIENT[e.method][1]
    least, sentences = e.least_p * e.family, []
    if least > e.alpha:
        among = f" and {e.family} metrics" if e.family > 1 else ""
        ties = " with these ties" if e.least_p > 1.5 * smallest_p(e.n, method=e.method) else ""
        sentences.append(
            f"Nothing could be shown: the smallest p of {e.n} datasets{ties}{among} is {number(min(1.0, least))}."
        )
    if alone := [left.dataset for left in e.leave_one_out if math.isnan(left.rho)]:
        sentences.append(f"All datasets but {alone[0]} are the same on one side, so that there is no interval.")
    elif math.isfinite(e.interval.low):
        sentences.append(f"{letter} from {signed(e.interval.low)} to {signed(e.interval.high)} could hide here.")
    elif math.isfinite(e.detectable):
        sentences.append(f"|{letter}| below {signless(e.detectable)} would mostly stay hidden.")
    hiding = [left for left in e.leave_one_out if left.p <= e.alpha]
    if hiding:
        strongest = min(hiding, key=lambda left: left.p)
        others = f" ({len(hiding) - 1} others do the like)" if len(hiding) > 1 else ""
        sentences.append(
            f"Leaving out {strongest.dataset} makes it {signed(strongest.rho)}, p {number(strongest.p)}{others}."
        )
    return " ".join(sentences)
