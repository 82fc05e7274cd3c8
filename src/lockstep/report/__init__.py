"""What a person sees of a run: progress, tables and pictures.

These modules take time to load, so import them by their own names:
confusion_picture, contact_sheet, curves, figure_style, html_comparison, html_report,
run_report.
"""

from lockstep.report.check_plotly import check_plotly
from lockstep.report.comparison_table import best_first, comparison_of
from lockstep.report.numbers import shown
from lockstep.report.progress import Console, say
from lockstep.report.text_table import text_table

__all__ = ["Console", "best_first", "check_plotly", "comparison_of", "say", "shown", "text_table"]
