"""What a person sees of a run: progress, tables and pictures.

These take time to load and are imported by their own names:
contact_sheet, curves, figures, run_report.
"""

from lockstep.report.progress import Console, say
from lockstep.report.run_table import most_accurate_first, table

__all__ = ["Console", "most_accurate_first", "say", "table"]
