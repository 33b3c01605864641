"""What a look at a dataset's folder finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Diagnosis", "Finding"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        kind: a word for programs.
        what: what is wrong, in words.
        mend: the command, or commands joined by ``&&``, that mend it; ``None`` where no command can.
    """

    kind: str
    what: str
    mend: str | None = None


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All that was found.

    Attributes:
        folder: that was looked at.
        counts: samples of the plan by status; ``missing`` are those that no ledger of this plan tells of.
        shards: of the cube.
        findings: what is not as it should be.
        notes: what is good to know, and needs no mending.
    """

    folder: Path
    counts: dict[str, int]
    shards: int
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "folder": str(self.folder),
            "well": self.is_well,
            "counts": self.counts,
            "shards": self.shards,
            "findings": [vars(finding) for finding in self.findings],
            "notes": self.notes,
        }
