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
    if len(first) > 1:
        yield f"{len(first)} of {len(standings.ranks)} rows share the first rank: {listed([titles[name] for name in first])}."
        return
    told = f"{titles[first[0]]} ranks first (mean rank {least:.2f})"
    if standings.stability is None:
        yield f"{told}, of one seed, so that how stable that is cannot be said."
        return
    share = float(standings.stability.first[standings.stability.names.index(first[0])])
    yield f"{told}, {'and stays so' if share >= CLEAR else 'but stays so only'} in {100 * share:.0f} % of draws of other seeds."


def _against_nothing(standings: Standings) -> Iterator[str]:
    names = [name for name in standings.scores if name != CONTROL and standings.mean(name).complete]
    if CONTROL not in standings.scores or not standings.mean(CONTROL).complete or not names:
        return
    nothing = standings.mean(CONTROL)
    gaps = {name: difference(standings.mean(name), nothing) for name in names}
    better = sum(gap > 0 for gap, _, _ in gaps.values())
    surely = sum(low > 0 for _, low, _ in gaps.values())
    repeated = better and any(np.isfinite(low) for _, low, _ in gaps.values())
    tail = f", {'all' if surely == better else surely or 'none'} beyond what seeds do" if repeated else ""
    have = "has" if better == 1 else "have"
    yield f"{better or 'None'} of {len(names)} pretrained models {have} a better mean score than random weights{tail}."


def _diversity(relations: Relations) -> Iterator[str]:
    if not relations.found:
        return
    if all(np.isnan(one.rho) for one in relations.found.values()):
        yield "All datasets have the same mean score or the same diversity: there is nothing to relate."
        return
    parts = [f"{words.lower()} {one.verdict.word} (ρ {decimal(one.rho)})" for words, one in relations.found.items()]
    first = next(iter(relations.found.values()))
    yield f"Diversity and mean score over {first.n} datasets: {', '.join(parts)}."
