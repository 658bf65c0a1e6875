"""Report: a study folder or a run folder as one offline HTML page."""

from foveate.report.html import study_answer, study_table, write_report

__all__ = ["study_answer", "study_table", "write_report"]
