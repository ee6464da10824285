"""Self-contained HTML reports: one file, no network, readable on a phone and in the dark.

Every helper returns `markupsafe.Markup`; every plain string given to one is data and is escaped.
"""

from sft_components.reports.charts import bar_groups, bin_values, histogram, line_chart
from sft_components.reports.elements import number, table, tiles, verdict
from sft_components.reports.page import Section, page

__all__ = [
    "Section",
    "bar_groups",
    "bin_values",
    "histogram",
    "line_chart",
    "number",
    "page",
    "table",
    "tiles",
    "verdict",
]
