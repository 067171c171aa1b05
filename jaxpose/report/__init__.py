"""The HTML page of a run: metrics, curves, images, in one file that needs no network.

`write_report` makes a page of what it is given; `report_run` gathers that from a workdir.
"""

from jaxpose.report.page import Panel, PanelImage, Section, write_report
from jaxpose.report.run import report_run

__all__ = ["Panel", "PanelImage", "Section", "report_run", "write_report"]
