"""Studies: datasets × models × tasks × probes × seeds, run in turn by any number of processes, resumable at any point.

The parts are in :mod:`training.studying`, one concept a module; this is their public face. A study's folder:

- ``study.yaml``: the document, defaults included, with its hash;
- ``jobs/``: a folder a job and key: what it took, its rows, who is at it, why it failed;
- ``catalog/``, ``recipes/``, ``runs/``, ``embeddings/``: what the jobs make;
- ``results.csv``, ``rungs/*.csv``, ``datasets.csv``, ``embeddings.csv``, ``costs.csv``, ``ladder.csv``: the tables;
  ``report/``: the report.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from pwcat.errors import TrainingError
from training.studying.changes import Changes
from training.studying.document import StudyDocument
from training.studying.estimates import Estimate, Estimator, schedule_seconds
from training.studying.job import Job
from training.studying.ladder import Step, climb, write_ladder
from training.studying.planning import plan_jobs
from training.studying.records import Records
from training.studying.results import write_results
from training.studying.running import Event, Worker
from training.studying.shelf import (
    STUDY,
    OpenedStudy,
    hash_in,
    holds_others,
    list_studies,
    load_study,
    study_in,
    study_text,
    write_study,
)
from training.studying.status import Status, states_of
from training.studying.taking import Queue
from training.studying.workers import Crew

__all__ = [
    "Changes",
    "Estimate",
    "Estimator",
    "Event",
    "Job",
    "OpenedStudy",
    "Status",
    "Step",
    "StudyDocument",
    "begin_study",
    "chosen_jobs",
    "ladder_of",
    "list_studies",
    "load_study",
    "plan_jobs",
    "run_study",
    "schedule_seconds",
    "status_of",
    "study_in",
    "study_text",
    "work_on",
]


def begin_study(
    study: str | Path | None, folder: Path, *, mini: bool = False, tasks: Path | None = None
) -> tuple[OpenedStudy, bool]:
    """The study that a folder is to be of, and whether it was another's before; nothing is written.

    Args:
        study: name of a shipped study, or path of a YAML file; ``None`` for the one that the folder holds.
        folder: of the study.
        mini: of a shipped one, its miniature.
        tasks: folder that benchmarks' files lie in, each in a folder of its name.

    Raises:
        RecipeError: there is no such study, or it has faults.
        TrainingError: the folder holds other files.
    """
    before = hash_in(folder)
    if study is None:
        opened = study_in(folder)
    else:
        opened = load_study(study, mini=mini)
        opened = opened if opened.base != Path() else replace(opened, base=folder.resolve())
    if tasks is not None:
        place = os.path.relpath(tasks.resolve(), opened.base)
        opened = replace(opened, document=opened.document.model_copy(update={"tasks_folder": place}))
    if before is None and holds_others(folder):
        raise TrainingError(f"{folder} holds other files and no study: give a folder of its own")
    return opened, before not in (None, opened.hash)


def chosen_jobs(jobs: Sequence[Job], only: Sequence[str]) -> list[Job]:
    """Those jobs whose kind or name fits one of the patterns, and all that they need; all where there is no pattern.

    Raises:
        TrainingError: a pattern fits none.
    """
    if not only:
        return list(jobs)
    by_name, names = {job.name: job for job in jobs}, set[str]()
    for pattern in only:
        found = {job.name for job in jobs if pattern == job.kind or fnmatch(job.name, pattern)}
        if not found:
            kinds = ", ".join(dict.fromkeys(job.kind for job in jobs))
            raise TrainingError(
                f"--only {pattern}: no job is of this kind or name. Kinds are {kinds}; "
                f"names are such as {jobs[-1].name}, in which * stands for anything"
            )
        names |= found
    waiting = list(names)
    while waiting:
        for need in by_name[waiting.pop()].needs:
            if need not in names:
                names.add(need)
                waiting.append(need)
    return [job for job in jobs if job.name in names]


def run_study(
    study: str | Path | None,
    folder: str | Path,
    *,
    mini: bool = False,
    tasks: Path | None = None,
    only: Sequence[str] = (),
    devices: Sequence[str] = ("cpu",),
    workers: int | None = None,
    max_minutes: float | None = None,
    tell: Callable[[Event], None] = lambda event: None,
) -> list[Status]:
    """Do what is missing of a study, and leave its tables in the folder; the state of each job afterwards.

    Other processes, here or on other machines that see the folder, may do the same at the same time.

    Args:
        study: name of a shipped study, or path of a YAML file; ``None`` for the one that the folder holds.
        folder: of the study.
        mini: of a shipped one, its miniature.
        tasks: folder that benchmarks' files lie in, each in a folder of its name.
        only: kinds or names of jobs, with * for anything; what they need is done too.
        devices: torch devices, one a process; the first for all where there are more processes.
        workers: processes; by default as many as devices, or as the study says.
        max_minutes: after which no job is begun, and pretraining stops with a checkpoint.
        tell: told of everything, from several threads.

    Raises:
        RecipeError: there is no such study, or it has faults.
        TrainingError: the folder holds other files.
        KeyboardInterrupt: SIGINT or SIGTERM came; what was at hand was given back.
    """
    place = Path(folder)
    opened, changed = begin_study(study, place, mini=mini, tasks=tasks)
    jobs = plan_jobs(opened)
    if changed or not (place / STUDY).is_file():
        write_study(place, opened)
    chosen = chosen_jobs(jobs, only)
    records = Records(folder=place)
    many = workers or (len(devices) if len(devices) > 1 else opened.document.workers)
    if many == 1:
        work_on(place, device=devices[0], only=only, max_minutes=max_minutes, tell=tell)
    else:
        arguments = [part for pattern in only for part in ("--only", pattern)]
        arguments += [] if max_minutes is None else ["--max-minutes", str(max_minutes)]
        crew = Crew(
            folder=place,
            jobs=jobs,
            records=records,
            devices=[devices[number % len(devices)] for number in range(many)],
            arguments=arguments,
            threads=opened.document.threads,
            tell=tell,
        )
        crew.work()
        write_results(place, opened, jobs, records)
    return states_of(chosen, Records(folder=place))


def work_on(
    folder: Path,
    *,
    device: str,
    only: Sequence[str] = (),
    max_minutes: float | None = None,
    retry: Sequence[str] | None = None,
    tell: Callable[[Event], None] = lambda event: None,
) -> bool:
    """One process's work on the study that a folder holds; whether all that was chosen is done.

    Args:
        folder: of the study.
        device: torch device.
        only: see :func:`run_study`.
        max_minutes: likewise.
        retry: which failures are tried again; those that are there now, where ``None``.
        tell: told of everything.
    """
    study = study_in(folder)
    jobs = plan_jobs(study)
    records = Records(folder=folder)
    chosen = chosen_jobs(jobs, only)
    queue = Queue(jobs=chosen, records=records, device=device, retry=None if retry is None else frozenset(retry))
    return Worker(
        folder=folder,
        study=study,
        jobs=jobs,
        chosen=chosen,
        queue=queue,
        device=device,
        max_minutes=max_minutes,
        tell=tell,
    ).work()


def status_of(folder: str | Path, *, only: Sequence[str] = ()) -> list[Status]:
    """The state of each job of the study that a folder holds.

    Raises:
        RecipeError: it holds none.
    """
    place = Path(folder)
    return states_of(chosen_jobs(plan_jobs(study_in(place)), only), Records(folder=place))


def ladder_of(folder: str | Path) -> list[Step]:
    """How well each rung of a study orders the datasets as the study itself does; written to ``ladder.csv``, too.

    Raises:
        TrainingError: the study has no rungs, or nothing was scored by both yet.
    """
    place = Path(folder)
    steps = climb(place, [rung.name for rung in study_in(place).document.rungs])
    write_ladder(place, steps)
    return steps
