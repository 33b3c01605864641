"""What is wrong with a dataset's folder, in words, and the command that mends each thing."""

from __future__ import annotations

from pwcat.doctor.examination import examine
from pwcat.doctor.findings import Diagnosis, Finding

__all__ = ["Diagnosis", "Finding", "examine"]
