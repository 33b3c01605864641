"""What came out, in a few sentences, each as strong as the figures and no stronger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from training.reporting.cells import difference
from training.reporting.digits import decimal
from training.reporting.records import CONTROL, listed
from training.reporting.relations import Relations
from training.reporting.standings import Standings

__all__ = ["findings_of"]

CLEAR = 0.95


def findings_of(headline: Sequence[Standings], relations: Sequence[Relations]) -> list[str]:
    """Sentences on the best dataset, on random weights, and on diversity, of each model's first probe."""
    found = []
    for standings, related in zip(headline, relations, strict=True):
        told = [*_best(standings), *_against_nothing(standings), *_diversity(related)]
        if told:
            found.append(f"{standings.view.title}: {' '.join(told)}")
    return found


def _best(standings: Standings) -> Iterator[str]:
    titles = standings.view.records.titles
    if len(standings.ranks) < 2:
        return
    least = min(standings.ranks.values())
    first = [name for name, rank in standings.ranks.items() if np.isclose(rank, least)]
    told = (
        f"{listed([titles[name] for name in first])} rank{'s' if len(first) == 1 else ''} first (mean rank {least:.2f})"
    )
    stability = standings.stability
    if stability is None:
        yield f"{told}, of one seed, so that how stable that is cannot be said."
        return
    share = max(float(stability.first[stability.names.index(name)]) for name in first)
    sure = "and stays so" if share >= CLEAR else "but stays so only"
    yield f"{told}, {sure} in {100 * share:.0f} % of draws of other seeds." if len(first) == 1 else f"{told}."


def _against_nothing(standings: Standings) -> Iterator[str]:
    names = [name for name in standings.scores if name != CONTROL and standings.mean(name).complete]
    if CONTROL not in standings.scores or not standings.mean(CONTROL).complete or not names:
        return
    nothing = standings.mean(CONTROL)
    gaps = {name: difference(standings.mean(name), nothing) for name in names}
    better = sum(gap > 0 for gap, _, _ in gaps.values())
    surely = sum(low > 0 for _, low, _ in gaps.values())
    tail = (
        f", {'all' if surely == better else surely} beyond what seeds do"
        if any(np.isfinite(low) for _, low, _ in gaps.values())
        else ""
    )
    yield f"{better} of {len(names)} pretrained models have a better mean score than random weights{tail}."


def _diversity(relations: Relations) -> Iterator[str]:
    if not relations.found:
        return
    parts = [f"{words.lower()} {one.verdict.word} (ρ {decimal(one.rho)})" for words, one in relations.found.items()]
    first = next(iter(relations.found.values()))
    yield f"Diversity and mean score over {first.n} datasets: {', '.join(parts)}."
