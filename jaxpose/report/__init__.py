"""HTML report of a run: metrics, curves and images in one file that works offline.

``write_report`` writes a page; ``report_run`` collects its content from a workdir.
"""

from jaxpose.report.page import Panel, PanelImage, Section, write_report
from jaxpose.report.run import report_run

__all__ = ["Panel", "PanelImage", "Section", "report_run", "write_report"]
