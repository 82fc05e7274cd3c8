"""What a person sees of a run: progress, tables and pictures.

These modules take time to load, so import them by their own names:
confusion_picture, contact_sheet, curves, figure_style, run_report.
"""

from lockstep.report.comparison_table import comparison_of, most_accurate_first
from lockstep.report.progress import Console, say
from lockstep.report.text_table import text_table

__all__ = ["Console", "comparison_of", "most_accurate_first", "say", "text_table"]
