"""Training at the speed of the card: samples a second, use made of it, time spent waiting for data, memory.

Every row is the training of `pwcat pretrain`, its loop and its loader, on a recipe that comes with pwcat and a cube that is
read for real: a collection of made-up chips is written first. Each row has a process of its own; steps of warm-up (kernels are
chosen, the model is compiled) are not timed. Samples a second are of everything from the cube to the updated weights.

- MFU is of the rate of matrix products that the card reaches in this run, before or after the rows, on random matrices of their
  own type (8192 a side on a card); the data sheet's is named beside it where it is known. Operations: training/flops.py.
  SatCLIP's encoder of places computes in double precision, and is told as a share of the same rate.
- Placements: device holds the decoded chips on the card; cache decodes batches from pages that the system keeps; stream reads
  window by window, and its files are dropped from the pages kept first, so that the disk is read; but data of less than 1 GB
  (series, and all on a processor) are read to be measured in between, and then lie in memory.
- Attention: the two shapes of SatMAE-B, by each of torch's fused kernels, forward and backward, on a card alone.

Where there is no CUDA, smaller rows on the processor are the record, in float32, and the title says so.

    python benchmarks/gpu.py [--minutes 8.5] [--chips 24576] [--device cuda] [--out benchmarks/results/gpu.json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from card import DTYPES, attention_rates, card_of, product_rates
from made_collection import forget_pages, write_collection
from measured import RESULTS, keep
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch.nn.attention import SDPBackend, sdpa_kernel

from pwcat.cube import SensorBand

IMAGE_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
SENSORS = {
    "VV": SensorBand(sensor="s1", scale=0.001, offset=-20.0, unit="dB", gsd_m=10),
    "VH": SensorBand(sensor="s1", scale=0.001, offset=-25.0, unit="dB", gsd_m=10),
    "temperature_2m": SensorBand(sensor="era5", scale=0.01, offset=260.0, unit="K", gsd_m=30_000),
    "total_precipitation": SensorBand(sensor="era5", scale=5e-5, offset=-5e-5, unit="m", gsd_m=30_000),
    "elevation": SensorBand(sensor="dem", scale=0.25, offset=0.0, unit="m", gsd_m=30),
    "slope": SensorBand(sensor="dem", scale=0.002, offset=0.0, unit="degree", gsd_m=30),
    "dynamic_world": SensorBand(sensor="dw", scale=1.0, offset=-1.0, unit="class", gsd_m=10),
}
# SatMAE-B at 96 pixels and patches of 8, on an H200: 60 % and 45 % of the 790 TFLOP/s that one was measured to reach.
TARGETS = (("target", 3580, 0.60), ("pass mark", 2690, 0.45))
MOST_WAITING = 0.02


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row: a recipe on a collection.

    Attributes:
        name: of the model.
        kind: eager or compiled, and where the chips are.
        recipe: that comes with pwcat.
        data: the collection, ``images`` or ``series``.
        overrides: of the recipe.
        steps: timed.
        warmup: steps before them.
        counts: whether the targets are of this row.
        attention: the fused kernel to be preferred, by torch's name; torch's own choice where empty.
    """

    name: str
    kind: str
    recipe: str
    data: str
    overrides: Mapping[str, str] = field(default_factory=dict)
    steps: int
    warmup: int
    counts: bool = False
    attention: str = ""


def job(name: str, recipe: str, *, compiled: bool, placement: str, steps: int, warmup: int, **overrides: str) -> Job:
    """A row of a recipe, with ``__`` for the dots in names of overrides."""
    counts, data = overrides.pop("counts", ""), overrides.pop("data", "images")
    note, attention = overrides.pop("note", ""), overrides.pop("attention", "")
    values = {key.replace("__", "."): value for key, value in overrides.items()}
    return Job(
        name=name,
        kind=", ".join(
            [
                "compiled" if compiled else "eager",
                *([placement] if placement != "auto" else []),
                *([note] if note else []),
            ]
        ),
        recipe=recipe,
        data=data,
        overrides={"compile": str(compiled).lower(), "placement": placement, **values},
        steps=steps,
        warmup=warmup,
        counts=bool(counts),
        attention=attention,
    )


def jobs_on_cuda(work: Path) -> list[Job]:
    """The rows on a card, the most telling first: those that time does not allow are left out at the end."""
    base: dict[str, Any] = {"recipe": "satmae-b", "steps": 16, "warmup": 4, "batch_size": "256", "accumulate": "4"}
    series: dict[str, Any] = {"recipe": "presto", "data": "series", "steps": 24, "warmup": 6}
    places: dict[str, Any] = {"recipe": "satclip", "steps": 24, "warmup": 6, **frozen_tower(work)}
    tower = {"model__tower__config__image_size": "96", "model__tower__config__patch_size": "8", "accumulate": "4"}
    whole: dict[str, Any] = {"recipe": "satclip", "steps": 8, "warmup": 3, "note": "tower trains", **tower}
    large = {**base, "batch_size": "1024", "accumulate": "1"}
    name = "SatMAE-B 96/8"
    return [
        job(name, compiled=True, placement="device", counts="yes", **base),
        job(name, compiled=True, placement="stream", counts="yes", window_chips="4096", **base),
        job(name, compiled=False, placement="device", **base),
        job("Presto", compiled=False, placement="device", **series),
        job("SatCLIP, L = 40", compiled=False, placement="auto", **places),
        job(name, compiled=True, placement="cache", counts="yes", window_chips="4096", **base),
        job(name, compiled=True, placement="device", note="cuDNN attention", attention="CUDNN_ATTENTION", **base),
        job("Presto", compiled=True, placement="device", **series),
        job("Presto", compiled=True, placement="stream", window_chips="32768", **series),
        job(name, compiled=True, placement="device", note="1,024 at once", **large),
        job(name, compiled=False, placement="stream", window_chips="4096", **base),
        job("SatCLIP, L = 40", compiled=True, placement="auto", **places),
        job("SatCLIP, L = 40", compiled=True, placement="device", **whole),
        job("SatCLIP, L = 40", compiled=True, placement="stream", window_chips="4096", **whole),
        job("SatMAE-L 96/8", compiled=True, placement="device", **{**base, "recipe": "satmae-l", "steps": 8}),
    ]  # fmt: skip


def jobs_on_cpu(work: Path) -> list[Job]:
    """Small rows on the processor."""
    tiny: dict[str, Any] = {"recipe": "satmae-tiny", "steps": 12, "warmup": 3}
    base: dict[str, Any] = {"recipe": "satmae-b", "batch_size": "2", "accumulate": "1", "steps": 4, "warmup": 1}
    series: dict[str, Any] = {"data": "series", "steps": 12, "warmup": 3, "batch_size": "128"}
    places: dict[str, Any] = {"recipe": "satclip-tiny", "steps": 12, "warmup": 3, **frozen_tower(work)}
    return [
        job("SatMAE-tiny", compiled=False, placement="device", **tiny),
        job("SatMAE-tiny", compiled=True, placement="device", **tiny),
        job("SatMAE-tiny", compiled=False, placement="cache", window_chips="256", **tiny),
        job("SatMAE-tiny", compiled=False, placement="stream", window_chips="256", **tiny),
        job("SatMAE-B 96/8", compiled=False, placement="device", note="2 at once", **base),
        job("SatMAE-B 96/8", compiled=False, placement="stream", note="2 at once", **base),
        job("Presto-tiny", recipe="presto-tiny", compiled=False, placement="device", **series),
        job("Presto", recipe="presto", compiled=False, placement="device", note="128 at once", **series),
        job("Presto", recipe="presto", compiled=False, placement="stream", note="128 at once", **series),
        job("SatCLIP-tiny", compiled=False, placement="auto", **places),
        job(
            "SatCLIP-tiny",
            recipe="satclip-tiny",
            compiled=False,
            placement="device",
            note="tower trains",
            steps=12,
            warmup=3,
        ),
    ]


def frozen_tower(work: Path) -> dict[str, str]:
    """Overrides of a SatCLIP whose image tower is frozen, so that its features are kept: a small SatMAE of random weights."""
    tower = json.dumps({"origin": str(work / "tower"), "frozen": True})
    return {"model__tower": tower, "cached_views": "4", "note": "of kept features"}


def write_data(work: Path, *, chips: int, series: int) -> list[str]:
    """Write the collections and the frozen tower; what they are, in words."""
    from catalog.subset import load_subset
    from training.loader import Loader
    from training.models.satmae import SatMAE

    images = write_collection(work / "images", chips=chips, size_px=96, bands=IMAGE_BANDS)
    bands = (*IMAGE_BANDS, *SENSORS)
    sensors, classes = tuple(SENSORS.values()), ("dynamic_world",)
    kept = write_collection(
        work / "series",
        chips=series,
        size_px=1,
        times=12,
        bands=bands,
        shard_size=4096,
        sensors=sensors,
        classes=classes,
    )
    torch.manual_seed(0)
    tower = SatMAE.tiny()
    few = load_subset(work / "images").sample(min(256, chips))
    tower.normalization = Loader(few, bands=tower.bands, batch_size=256, seed=0).measure()
    tower.save_pretrained(work / "tower")
    return [
        f"{chips:,} made-up chips of {len(IMAGE_BANDS)} bands and 96 pixels, {images:.2f} GB of blosc-lz4",
        f"{series:,} made-up series of 12 months and {len(bands)} bands, {kept:.2f} GB",
    ]


def run_job(one: Job, work: Path, *, device: str) -> dict[str, Any]:
    """Train for the steps of a row, in this process; what it took."""
    from catalog.subset import load_subset
    from training.recipe import load_train_recipe
    from training.trial import time_steps

    recipe = load_train_recipe(one.recipe, overrides=one.overrides)
    with preferring(one.attention):
        trial = time_steps(
            load_subset(work / one.data), recipe, steps=one.steps, warmup_steps=one.warmup, device=device
        )
    told = asdict(trial)
    return {key: told[key] for key in told if key != "peak"} | {
        "batch": recipe.batch_size,
        "accumulate": recipe.accumulate,
    }


def preferring(kernel: str) -> AbstractContextManager[Any]:
    """Attention by this kernel where it can, else by another."""
    others = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
    return sdpa_kernel([getattr(SDPBackend, kernel), *others], set_priority=True) if kernel else nullcontext()


def in_process(*arguments: str, work: Path, seconds: float) -> dict[str, Any]:
    """What a part of this program prints, in a process of its own; why not, where it fails or takes too long."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=work, timeout=max(1.0, seconds), check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done within the {seconds:.0f} s that were left"}
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return {"failed": lines[-1] if lines else f"ended with {done.returncode}"}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def measure(work: Path, *, device: str, until: float) -> list[dict[str, Any]]:
    """All rows that time allows."""
    rows = []
    jobs = jobs_on_cuda(work) if device == "cuda" else jobs_on_cpu(work)
    for number, one in enumerate(jobs):
        if one.overrides["placement"] == "stream":
            forget_pages(work / one.data)
        left = until - time.monotonic()
        told = (
            in_process("--job", str(number), "--work", str(work), "--device", device, work=work, seconds=left)
            if left > 20
            else {"failed": "no time was left"}
        )
        rows.append({"name": one.name, "kind": one.kind, "counts": one.counts, **told})
        print(rows[-1], file=sys.stderr)
    return rows


def best_rates(*parts: Mapping[str, Any]) -> dict[str, float]:
    """The highest rate of matrix products of each type, of those measurements that came to an end."""
    return {dtype: max(found) for dtype in DTYPES if (found := [part[dtype] for part in parts if dtype in part])}


def with_use(row: dict[str, Any], tflops: float | None) -> dict[str, Any]:
    """A row with its MFU, of this rate of matrix products; where there is none, of what the row itself measured."""
    if "failed" in row or tflops is None:
        return row
    return {**row, "mfu": row["samples_per_second"] * row["flops_per_sample"] / (tflops * 1e12)}


def verdicts(rows: Sequence[Mapping[str, Any]], *, on_h200: bool) -> list[dict[str, Any]]:
    """Each target beside the rows that it is of; by samples a second on an H200, by use of the card on another."""
    told = []
    for row in rows:
        if not row["counts"] or "failed" in row:
            continue
        for word, rate, share in TARGETS:
            value, least = (row["samples_per_second"], rate) if on_h200 else (row["mfu"], share)
            told.append({"row": row["kind"], "what": word, "value": value, "least": least, "met": value >= least})
        waiting = row["wait_share"]
        told.append(
            {
                "row": row["kind"],
                "what": "waiting",
                "value": waiting,
                "most": MOST_WAITING,
                "met": waiting < MOST_WAITING,
            }
        )
    return told


def as_table(rows: Sequence[Mapping[str, Any]], *, title: str) -> Table:
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1, 0, 0))
    for heading in ("model", "how", "samples/s", "MFU", "waiting", "GB"):
        table.add_column(heading, justify="left" if heading in {"model", "how"} else "right")
    for row in rows:
        if "failed" in row:
            table.add_row(row["name"], row["kind"], f"[red]{row['failed'][:40]}[/red]", "", "", "")
            continue
        waiting, use = f"{row['wait_share']:.1%}", f"{row['mfu']:.1%}"
        memory = f"{row['peak_memory_mb'] / 1e3:.1f}"
        table.add_row(row["name"], row["kind"], f"{row['samples_per_second']:,.1f}", use, waiting, memory)
    return table


def sentences(card: Mapping[str, Any], rates: Mapping[str, float], told: Sequence[Mapping[str, Any]]) -> list[str]:
    """What stands below the table."""
    measured = ", ".join(f"{rate:.2f} {dtype}" for dtype, rate in rates.items())
    lines = [
        f"Products of random matrices here: {measured} TFLOP/s; MFU is of the rows' own type (SatCLIP's places are in float64)."
    ]
    if not rates:
        lines = ["Products of random matrices could not be measured; MFU is of each row's own short measurement."]
    if (known := card.get("datasheet_bf16_tflops")) and "bfloat16" in rates:
        lines.append(
            f"Data sheet: {known} TFLOP/s bfloat16, of which the measured rate is {rates['bfloat16'] / known:.0%}."
        )
    for one in told:
        bound = f">= {one['least']:g}" if "least" in one else f"< {one['most']:g}"
        lines.append(f"{one['row']}: {one['what']} {bound}: {one['value']:.4g}, {'met' if one['met'] else 'missed'}.")
    if not told:
        lines.append(
            "Targets are of a card (SatMAE-B on an H200: 3,580 samples/s, 2,690 to pass, under 2 % waiting): not measured here."
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="for all rows: 8.5 on a card, 4.5 on a processor")
    parser.add_argument("--chips", type=int, help="of 96 pixels: 24,576 on a card, 768 on a processor")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu.json")
    parser.add_argument("--job", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--part", choices=["products", "attention"], help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device, on_card = options.device, options.device == "cuda"
    if options.job is not None:
        jobs = jobs_on_cuda(options.work) if on_card else jobs_on_cpu(options.work)
        print(json.dumps(run_job(jobs[options.job], options.work, device=device)))
        return
    if options.part:
        print(json.dumps(product_rates(device) if options.part == "products" else {"rows": attention_rates()}))
        return
    until = time.monotonic() + 60 * (options.minutes or (8.5 if on_card else 4.5))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data = write_data(
            work, chips=options.chips or (24_576 if on_card else 768), series=262_144 if on_card else 4096
        )
        before = in_process("--part", "products", "--device", device, work=work, seconds=60)
        attention = in_process("--part", "attention", "--device", device, work=work, seconds=60) if on_card else {}
        rows = measure(work, device=device, until=until)
        after = in_process("--part", "products", "--device", device, work=work, seconds=60)
    rates = best_rates(before, after)
    rows = [with_use(row, rates.get("bfloat16" if on_card else "float32")) for row in rows]
    card = card_of(device)
    told = verdicts(rows, on_h200="H200" in card["name"])
    where = card["name"] if on_card else f"no CUDA here, so on a processor: {card['name']}"
    shown: list[Table | str] = [as_table(rows, title=f"Training, {where}"), *sentences(card, rates, told), *data]
    shown += [json.dumps(row) for row in attention.get("rows", [])]
    keep(
        options.out,
        shown,
        card=card,
        on_cuda=on_card,
        tflops=rates,
        attention=attention,
        data=data,
        rows=rows,
        targets=told,
    )


if __name__ == "__main__":
    main()
