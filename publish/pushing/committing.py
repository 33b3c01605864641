"""Files sent ahead, out of sight, and one commit that makes everything visible at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from huggingface_hub import CommitOperationAdd, CommitOperationDelete

from publish.pushing.planning import Plan, plan_commit
from publish.pushing.progress import PushProgress, PushState
from publish.pushing.retrying import call, status_of
from publish.pushing.target import Target
from pwcat.errors import PublishError

__all__ = ["Committing"]

logger = logging.getLogger(__name__)

# What a failure in the middle of a batch may have to send again; also how often progress is told.
BATCH_FILES = 64
BATCH_BYTES = 2**30
MOST_MOVES = 3  # times that the head may move under a push before it gives up
MOVED = 412
# Instead of the repository's own .gitignore, which could leave files of ours out of the commit.
NOTHING_IGNORED = "# nothing is left out\n"


@dataclass
class Committing:
    """One commit on its way, and what has been sent for it: that survives a second plan.

    Attributes:
        target: The repository and its folder.
        message: First line of the commit.
        progress: Told after each batch and at each step.
    """

    target: Target
    message: str
    progress: PushProgress
    _arrived: dict[str, CommitOperationAdd] = field(default_factory=dict, init=False)

    def carry_out(self, plan: Plan) -> tuple[str, Plan]:
        """The commit that holds the folder, verified, and the plan that it followed in the end.

        Where the head moves meanwhile, the plan is made again from the new one, unless a file of this release was touched.

        Raises:
            PublishError: A file is not what the manifest says, somebody else committed to files of this release, or the
                Hub refused or lists other checksums than were sent.
        """
        first = plan
        for _ in range(MOST_MOVES):
            self._send(plan)
            try:
                commit = self._commit(plan)
                break
            except PublishError as exc:
                if status_of(exc) != MOVED:
                    raise
                plan = self._planned_again(plan, cause=exc)
                if plan.is_empty:  # this very commit arrived and its answer was lost, or somebody else made the same
                    return plan.head, first
        else:
            raise PublishError(
                f"the head of {self.target.repo} moved {MOST_MOVES} times during this push: nothing was committed; wait "
                "until nobody else writes to it, then run the same command again; what was sent is not sent twice"
            )
        self.progress(self._state(plan, "verifying"))
        self.target.require_same(commit)
        return commit, plan

    def _send(self, plan: Plan) -> None:
        missing = [path for path in plan.changed if path not in self._arrived]
        additions = [CommitOperationAdd(path, self.target.folder / path) for path in missing]
        self.progress(self._state(plan, "sending"))
        for batch in _batches(additions):
            call(f"send files to {self.target.repo}", lambda batch=batch: self._preupload(batch))  # type: ignore[misc]
            self._require_listed(batch)
            self._arrived.update({addition.path_in_repo: addition for addition in batch})
            logger.info("sent %s", ", ".join(addition.path_in_repo for addition in batch))
            self.progress(self._state(plan, "sending"))

    def _preupload(self, batch: Sequence[CommitOperationAdd]) -> None:
        self.target.api.preupload_lfs_files(
            self.target.repo,
            additions=batch,
            repo_type=self.target.kind,
            free_memory=False,
            gitignore_content=NOTHING_IGNORED,
        )

    def _require_listed(self, batch: Sequence[CommitOperationAdd]) -> None:
        """The client hashed what it read as it sent it: compare that with the manifest before anything is visible."""
        paths = [addition.path_in_repo for addition in batch if not self._is_listed(addition)]
        if paths:
            raise PublishError(
                f"{', '.join(paths)} in {self.target.folder} are not what the manifest says, though their sizes are: "
                "nothing was committed; build the folder again"
            )

    def _is_listed(self, addition: CommitOperationAdd) -> bool:
        return bool(addition.upload_info.sha256.hex() == self.target.records[addition.path_in_repo].sha256)

    def _commit(self, plan: Plan) -> str:
        self.progress(self._state(plan, "committing"))
        additions = [self._arrived[path] for path in plan.changed]
        deletions = [CommitOperationDelete(path) for path in plan.stale]

        def commit() -> str:
            info = self.target.api.create_commit(
                self.target.repo,
                [*additions, *deletions],
                commit_message=self.message,
                repo_type=self.target.kind,
                parent_commit=plan.head,
            )
            return str(info.oid)

        return call(f"commit to {self.target.repo}", commit, busy=True)

    def _planned_again(self, plan: Plan, *, cause: PublishError) -> Plan:
        """The plan from the head as it is now, where whoever moved it left the files of this release alone."""
        repo, head = self.target.repo, self.target.head()
        again = plan_commit(self.target, head)
        if again.is_empty:
            return again
        if touched := plan.touched_since(again.tree, frozenset(self.target.records)):
            raise PublishError(
                f"someone else committed to {repo} meanwhile (its head was {plan.head[:12]} and is {head[:12]}) and "
                f"changed files of this release ({', '.join(touched[:5])}), so nothing was committed: look at their "
                "change, then run the same command again; what was sent is not sent twice"
            ) from cause
        logger.warning(
            "someone else committed to %s meanwhile (its head was %s and is %s), but to no file of this release: planned "
            "again, %d files to change and %d to remove",
            repo,
            plan.head[:12],
            head[:12],
            len(again.changed),
            len(again.stale),
        )
        return again

    def _state(self, plan: Plan, step: str) -> PushState:
        records = self.target.records
        done = [path for path in plan.changed if path in self._arrived]
        return PushState(
            step=step,  # type: ignore[arg-type]
            files=len(done),
            files_total=len(plan.changed),
            bytes=sum(records[path].bytes for path in done),
            bytes_total=sum(records[path].bytes for path in plan.changed),
        )


def _batches(additions: Sequence[CommitOperationAdd]) -> Iterator[list[CommitOperationAdd]]:
    """Batches of at most so many files and bytes; a larger file goes alone."""
    batch: list[CommitOperationAdd] = []
    size = 0
    for addition in additions:
        if batch and (len(batch) == BATCH_FILES or size + addition.upload_info.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(addition)
        size += addition.upload_info.size
    if batch:
        yield batch
