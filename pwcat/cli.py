"""The one command, ``pwcat``. Its subcommands live in the four wings and are imported only when they are called.

This module alone may look up to the other packages, and does so by name, so that ``pwcat --help`` imports none of them.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import warnings

import click

from pwcat.errors import PwcatError
from pwcat.signals import TerminatedError

__all__ = ["main"]

# name: (module, attribute, one line of help), in the order of the road
SUBCOMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": ("publish.demo", "demo", "Play the whole road in miniature on the embedded archive."),
    "archive": ("pwcat.archive.commands", "archive", "Turn a folder of scenes into a STAC API on loopback."),
    "regions": ("pwcat.regions.commands", "regions", "List, fetch and show region layers; label points."),
    "recipes": ("pwcat.recipes.commands", "recipes", "List, show and copy the recipes that come with pwcat."),
    "sites": ("pwcat.commands", "sites", "Choose the places of a recipe alone, asking no source for scenes."),
    "plan": ("pwcat.commands", "plan", "Choose sites, scenes and pixel windows; show counts and costs; stop."),
    "build": ("catalog.commands.build", "build", "Materialise a recipe's chips into a cube, and describe them."),
    "doctor": ("pwcat.doctor.commands", "doctor", "Say what is wrong with a dataset's folder, and what mends it."),
    "catalog": ("catalog.commands.catalog", "catalog", "Describe, add, merge, check and export datasets."),
    "search": ("catalog.commands.search", "search", "Find samples by biome, land cover, place, date or spectrum."),
    "stats": ("catalog.commands.stats", "stats", "Show the diversity of a dataset or subset."),
    "subset": ("catalog.commands.subset", "subset", "Save, join, match, nest and split subsets."),
    "diff": ("catalog.commands.diff", "diff", "Compare two datasets or subsets: counts, diversity, distances."),
    "serve": ("catalog.commands.serve", "serve", "Serve a catalog as a STAC API, with the explorer."),
    "atlas": ("catalog.commands.atlas", "atlas", "Show a catalog, dataset or subset on one page of HTML."),
    "pretrain": ("training.commands.pretrain", "pretrain", "Pretrain a model from a dataset or subset."),
    "weights": ("training.commands.weights", "weights", "Import released weights; show what weights there are."),
    "tasks": ("training.commands.tasks", "tasks", "List, fetch and check the benchmarks models are scored on."),
    "evaluate": ("training.commands.evaluate", "evaluate", "Score a model on a benchmark, or on labels of a dataset."),
    "losses": ("training.commands.losses", "losses", "Measure the loss of each sample; keep it as a column."),
    "embed": ("training.commands.embed", "embed", "Embed samples by a model; keep the vectors as a column."),
    "similar": ("catalog.commands.similar", "similar", "Find samples like others by a column of vectors."),
    "duplicates": ("catalog.commands.similar", "duplicates", "Find near duplicates; save a subset without them."),
    "audit": ("training.commands.audit", "audit", "Find test samples that leak from pretraining samples."),
    "study": ("training.commands.study", "study", "Run a study: datasets, models, tasks, probes, seeds; report it."),
    "correlate": ("training.commands.correlate", "correlate", "Relate diversity to scores over many datasets."),
    "publish": ("publish.commands.publish", "publish", "Publish a dataset or a model to the Hub or to a folder."),
    "verify": ("publish.commands.verify", "verify", "Check what was published: whole, and it loads."),
    "pull": ("publish.commands.pull", "pull", "Make a local catalog of a published dataset, or of part of it."),
}


class LazyGroup(click.Group):
    """A click group that knows its subcommands by name and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the subcommands, in the order of the road."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand of that name, imported now; ``None`` where there is none."""
        if cmd_name not in SUBCOMMANDS:
            return None
        module, attribute, _ = SUBCOMMANDS[cmd_name]
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as exc:
            if (exc.name or "").partition(".")[0] in {"pwcat", "catalog", "training", "publish"}:
                raise
            raise PwcatError(
                f"`pwcat {cmd_name}` needs the package {exc.name!r}, which is not installed: "
                "pip install 'pwcat[all]' brings everything"
            ) from exc
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in SUBCOMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pwcat")
@click.option("-v", "--verbose", is_flag=True, help="Log what is done, to stderr.")
def cli(verbose: bool) -> None:
    """Decide where geospatial foundation models should be pretrained, and let others rerun the answer."""
    if verbose:
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr
        )
        return
    handler = _Stderr()
    handler.setFormatter(Told())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its retries; what comes of them is told


class _Stderr(logging.Handler):
    """Writes to stderr as it is at the moment: above the bars, while some are shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


class Told(logging.Formatter):
    """What is logged, as a line for people: ``Warning: …``, yellow on a terminal; red, where it is an error."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a traceback where there is one."""
        word, colour = ("Error", "red") if record.levelno >= logging.ERROR else ("Warning", "yellow")
        label = click.style(f"{word}:", fg=colour) if sys.stderr.isatty() else f"{word}:"
        return f"{label} {super().format(record)}"


def _said(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """A library's warning as what it says, without the line of code that said it."""
    return " ".join(str(message).split())


def main() -> None:
    """Run the command line: what the user can mend is one line on stderr and exit code 2, Ctrl-C is 130, SIGTERM 143."""
    warnings.formatwarning = _said
    logging.captureWarnings(True)
    try:
        cli(standalone_mode=False)
    except PwcatError as exc:
        click.echo(f"pwcat: {exc}", err=True)
        sys.exit(2)
    except OSError as exc:  # a path that is not there, of another kind, read-only; a full disk
        click.echo(f"pwcat: {exc}", err=True)
        sys.exit(2)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except (click.Abort, KeyboardInterrupt) as exc:
        click.echo("pwcat: interrupted; nothing half-written is left, and the same command goes on from here", err=True)
        _end_now(143 if isinstance(exc.__cause__, TerminatedError) else 130)


def _end_now(code: int) -> None:
    """End without waiting for threads: those of shards that were dropped may read on for minutes, and write nothing."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    if any(thread.name == "pwcat-shard" for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)
