"""The report of a study: one page, Markdown, tables and figures from its CSVs.

``records`` reads, ``views`` and ``cells`` make scores of rows, a module a section makes ``blocks``, ``charts`` draw, and
``page``, ``markdown`` and ``latex`` write.
"""

from training.reporting.writing import write_report

__all__ = ["write_report"]
