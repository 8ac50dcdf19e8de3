"""One self-contained page about a proposal or a campaign, for those who choose the next plate."""

from inverse_design.report.page import Attachment, Drawing, Number, Page, PageTable, Section, write_page

__all__ = ["Attachment", "Drawing", "Number", "Page", "PageTable", "Section", "write_page"]
