"""Probes beside their peers: few-shot logistic regressions beside scikit-learn's one by one, neighbours beside faiss.

50 seeds x 5 strengths of a logistic regression on embeddings of length 768 and 10 classes, at 1, 5 and 20 samples a class,
each fitted and applied to 2,000 test samples: ours all at once, scikit-learn's one by one with one thread, its fastest (it is
given standardised features, so only fits and predictions are timed). Targets are of scikit-learn with its own tolerance. Of few
samples and weak penalties that is some way from the optimum, so it is timed with a tolerance of 1e-6 too, and with that mean
accuracies of each strength may differ by .003 at most.

Then the 20 nearest of 50,000 for 10,000 queries, by cosine, beside faiss's flat index, on all cores: ours by candidates of
float32, bfloat16 and int8, ranked in double precision, so that all three answer the same. faiss is given vectors of unit
length; ours makes them so. Beside each stands what the products of matrices alone take, which nothing exact that looks at
every product can beat. All ways take turns; medians of rounds.

With ``--device cuda`` ours is on the card, where its embeddings are already, and the peers stay on the processor: scikit-learn
with one thread, faiss with all.

    python benchmarks/probes.py [--rounds 3] [--sizes 1 5 20] [--reference 50000] [--device cuda] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from card import card_of
from measured import RESULTS, keep
from rich.box import SIMPLE_HEAD
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from training.probing.heads import Affine
from training.probing.logistic import fit_logistic, precision_for
from training.probing.neighbours import Precision, nearest
from training.probing.stacks import stacked
from training.resampling import Draw, FewShot

LENGTH, CLASSES, SEEDS, TEST = 768, 10, 50, 2000
STRENGTHS = (1e-2, 1e-1, 1.0, 1e1, 1e2)
TARGETS = {"cpu": {1: 7.0, 5: 5.0, 20: 2.5}, "cuda": {1: 50.0, 5: 50.0, 20: 50.0}}
NEAREST = 20
FAISS = "faiss, flat index"
DEFAULT, TIGHT = "peer, tol 1e-4", "peer, tol 1e-6"
SCORES_AGREE_TO = 0.003


def embeddings(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings as an encoder gives them: far from the origin, most of their variance in few directions; and classes."""
    shape = np.random.default_rng(0)
    directions = np.linalg.qr(shape.normal(size=(LENGTH, LENGTH)))[0] * (1 + np.arange(LENGTH)) ** -0.6
    centres = 0.45 * shape.normal(size=(CLASSES, LENGTH))
    codes = rng.integers(CLASSES, size=count)
    values = (centres[codes] + rng.normal(size=(count, LENGTH))) @ directions.T + 0.2 * shape.normal(size=LENGTH)
    return values.astype(np.float32), codes


def few_shot(size: int, rounds: int, device: str) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    features, codes = embeddings(rng, 5000 + TEST)
    sides = np.where(np.arange(len(codes)) < 5000, "train", "test")
    lonlat = rng.uniform(-60, 60, (len(codes), 2))
    draws = FewShot(sizes=(size,), seeds=SEEDS).draws(codes, lonlat=lonlat, sides_N=sides)
    scaled = [standardised(features, draw) for draw in draws]
    on_device = torch.from_numpy(features).to(device), torch.from_numpy(codes).to(device)
    together(*on_device, draws[:2])  # libraries of the card start
    ways: dict[str, Callable[[], np.ndarray]] = {
        "pwcat": lambda: together(*on_device, draws),
        DEFAULT: lambda: one_by_one(scaled, codes, draws, tolerance=1e-4),
        TIGHT: lambda: one_by_one(scaled, codes, draws, tolerance=1e-6),
    }
    seconds, answers = take_turns(ways, rounds)
    truth = codes[draws[0].test]
    scores = {way: (found == truth).mean(axis=(0, 2)) for way, found in answers.items()}  # of each strength
    return {
        "per_class": size, "seconds": seconds, "target": TARGETS[device].get(size),
        "times_as_fast": {way: seconds[way] / seconds["pwcat"] for way in ways},
        "accuracy": {way: found.tolist() for way, found in scores.items()},
        "scores_differ": {way: float(np.abs(scores[way] - scores["pwcat"]).max()) for way in ways},
        "same_predictions": {way: float((answers[way] == answers["pwcat"]).mean()) for way in ways},
    }  # fmt: skip


def standardised(features: np.ndarray, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    mean, deviation = features[draw.train].mean(axis=0), features[draw.train].std(axis=0)
    return (features[draw.train] - mean) / deviation, (features[draw.test] - mean) / deviation


def one_by_one(
    scaled: list[tuple[np.ndarray, np.ndarray]], codes: np.ndarray, draws: list[Draw], *, tolerance: float
) -> np.ndarray:
    found = np.empty((len(draws), len(STRENGTHS), TEST), dtype=np.int64)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for s, ((train, test), draw) in enumerate(zip(scaled, draws, strict=True)):
            for q, strength in enumerate(STRENGTHS):
                model = LogisticRegression(C=strength, max_iter=1000, tol=tolerance).fit(train, codes[draw.train])
                found[s, q] = model.predict(test)
    return found


def together(features: torch.Tensor, codes: torch.Tensor, draws: list[Draw]) -> np.ndarray:
    dtype = precision_for(len(draws[0].train))
    stack = stacked([draw.train for draw in draws], dtype=dtype, device=features.device)
    strengths = torch.tensor(STRENGTHS, dtype=dtype, device=features.device).expand(len(draws), -1)
    heads = Affine.of(fit_logistic(features, codes, stack, strengths_SQ=strengths, classes=CLASSES))
    outputs = heads.outputs(features, [draw.test for draw in draws])
    return torch.stack([each.argmax(dim=2).T for each in outputs]).cpu().numpy()


def neighbours(reference: int, queries: int, rounds: int, device: str) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    (stored, _), (asked, _) = embeddings(rng, reference), embeddings(rng, queries)
    tensors = torch.from_numpy(asked).to(device), torch.from_numpy(stored).to(device)

    def ours(precision: Precision) -> tuple[np.ndarray, np.ndarray]:
        rows, similarity = nearest(*tensors, k=NEAREST, precision=precision)
        return rows.cpu().numpy(), similarity.cpu().numpy()

    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (stored, asked)]

    def flat() -> tuple[np.ndarray, np.ndarray]:
        import faiss

        index = faiss.IndexFlatIP(LENGTH)
        index.add(unit[0])
        similarity, rows = index.search(unit[1], NEAREST)
        return rows, similarity

    missing = {} if importlib.util.find_spec("faiss") else {"faiss": "not installed"}
    precisions = get_args(Precision)[1:] if device == "cpu" else ("float32",)
    ways: dict[str, Callable[[], Any]] = {} if missing else {FAISS: flat}
    ways |= {f"pwcat, {each}": partial(ours, each) for each in precisions}
    for each in precisions:
        nearest(tensors[0][:10], tensors[1][:1000], k=NEAREST, precision=each)  # compiles
    if device == "cpu":
        ways |= {f"products alone, {each}": partial(products, each, reference, queries) for each in precisions}
    seconds, answers = take_turns(ways, rounds)
    rows, exact = answers[f"pwcat, {precisions[-1]}"]
    found = {way: answer for way, answer in answers.items() if answer is not None}
    return {
        "reference": reference, "queries": queries, "seconds": seconds, "missing": missing,
        "same_rows": {way: float((each[0] == rows).mean()) for way, each in found.items()},
        "similarities_differ": {way: float(np.abs(each[1] - exact).max()) for way, each in found.items()},
    }  # fmt: skip


def products(precision: Precision, reference: int, queries: int) -> None:
    """As many products of matrices of this type as a search needs, in blocks that stay in the cache, by all threads."""
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(precision, torch.int8)
    one, other = (torch.ones(count, LENGTH).to(dtype) for count in (2048, 2048))
    out = torch.empty(2048, 2048, dtype=torch.int32 if precision == "int8" else dtype)
    for _ in range(round(reference * queries / 2048**2)):
        if precision == "float32":  # OpenBLAS, the fastest here
            np.matmul(one.numpy(), other.numpy().T, out=out.numpy())
        else:
            (torch._int_mm if precision == "int8" else torch.mm)(one, other.T, out=out)


def take_turns(ways: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Median seconds of each way over the rounds, and what each answers."""
    answers: dict[str, Any] = {}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            started = time.perf_counter()
            answers[way] = run()
            times[way].append(time.perf_counter() - started)
    return {way: statistics.median(each) for way, each in times.items()}, answers


def logistic_table(rows: list[dict[str, Any]], device: str) -> Table:
    on = " on a card" if device == "cuda" else ""
    title = f"{SEEDS} seeds x {len(STRENGTHS)} logistic regressions{on}; peer: scikit-learn, one thread"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("a class", "way", "seconds", "times", "target", "accuracy", "off", "same"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for row in rows:
        for way, seconds in row["seconds"].items():
            ours = way == "pwcat"
            table.add_row(
                str(row["per_class"]) if ours else "", way, f"{seconds:.3f}",
                "" if ours else f"{row['times_as_fast'][way]:.1f}", f"{row['target']}" if way == DEFAULT else "",
                f"{np.mean(row['accuracy'][way]):.3f}", "" if ours else f"{row['scores_differ'][way]:.4f}",
                "" if ours else f"{row['same_predictions'][way]:.3f}",
            )  # fmt: skip
    return table


def neighbours_table(found: dict[str, Any]) -> Table:
    title = f"The {NEAREST} nearest of {found['reference']:,} for {found['queries']:,} queries, {LENGTH} numbers"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("way", "seconds", "times faiss", "same rows", "similarity off by"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    peer = found["seconds"].get(FAISS)
    for way, seconds in found["seconds"].items():
        times = f"{peer / seconds:.2f}" if peer else ""
        same, off = found["same_rows"].get(way), found["similarities_differ"].get(way)
        answers = ("", "") if same is None else (f"{same:.4f}", f"{off:.1e}")
        table.add_row(way, f"{seconds:.3f}", times, *answers)
    for way, reason in found["missing"].items():
        table.add_row(way, reason)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 5, 20])
    parser.add_argument("--reference", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, help="default: results/probes.json, of a card probes_gpu.json")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no CUDA here")
    load, device = os.getloadavg()[0], options.device
    rows = [few_shot(size, options.rounds, device) for size in options.sizes]
    shown: list[Table | str] = [logistic_table(rows, device)] if rows else []
    found = neighbours(options.reference, options.queries, options.rounds, device) if options.reference else None
    if found:
        shown.append(neighbours_table(found))
    card = card_of(device)
    shown.append(f"{card['name']}; other work on the cores when this began: {load:.1f}")
    if apart := [row["per_class"] for row in rows if row["scores_differ"][TIGHT] > SCORES_AGREE_TO]:
        shown.append(f"scores differ by more than {SCORES_AGREE_TO} at {apart} a class: these are not the same answers")
    out = options.out or RESULTS / ("probes.json" if device == "cpu" else "probes_gpu.json")
    keep(out, shown, logistic=rows, neighbours=found, load=load, threads=torch.get_num_threads(), card=card)


if __name__ == "__main__":
    main()
