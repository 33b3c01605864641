"""What a changed study keeps of what was done, and what it does anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from training.studying.job import Job, JobKind
from training.studying.records import Records

__all__ = ["Changes", "changes_of"]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What changes in a folder.

    Attributes:
        is_new: whether nothing was done there yet, or nothing changes.
        stay: jobs that are done and stay so.
        to_do: jobs that are not done.
        unused: jobs that are done and are not among those of the study now.
        anew: of those to be done, those of which the same was done from other inputs, by kind.
    """

    is_new: bool
    stay: int
    to_do: int
    unused: int
    anew: Mapping[JobKind, list[str]] = field(default_factory=dict)


def changes_of(jobs: Sequence[Job], records: Records, *, changed: bool) -> Changes:
    """Compare a study's jobs with what its folder holds.

    Args:
        jobs: of the study as it is now.
        records: of the folder.
        changed: whether the folder was another study's before.
    """
    done = records.slugs()
    names = {slug.rpartition("-")[0] for slug in done}
    here = {job.slug for job in jobs}
    missing = [job for job in jobs if job.slug not in done]
    anew: dict[JobKind, list[str]] = {}
    for job in missing:
        if job.slug.rpartition("-")[0] in names:
            anew.setdefault(job.kind, []).append(job.name.partition("/")[2] or job.name)
    return Changes(
        is_new=not changed or not done,
        stay=len(here & done),
        to_do=len(missing),
        unused=len(done - here),
        anew=anew,
    )
