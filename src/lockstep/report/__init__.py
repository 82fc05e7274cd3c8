"""What a person sees of a run: progress, tables and pictures.

These modules take time to load, so import them by their own names:
html.html_comparison, html.html_report, figures.confusion_figure, figures.contact_sheet, figures.curves,
figures.figure_style, run_report.
"""

from lockstep.report.comparison_table import best_first, comparison_of
from lockstep.report.html.check_plotly import INSTALL_PLOTLY, check_plotly, has_plotly
from lockstep.report.numbers import shown
from lockstep.report.progress_bar import Console, say
from lockstep.report.text_table import text_table

__all__ = [
    "INSTALL_PLOTLY",
    "Console",
    "best_first",
    "check_plotly",
    "comparison_of",
    "has_plotly",
    "say",
    "shown",
    "text_table",
]
