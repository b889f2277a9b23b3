"""One self-contained page from the files of a run folder."""

from audio_engram.report.page import write_report

__all__ = ["write_report"]
