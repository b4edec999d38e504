"""One self-contained HTML page about scored completions: what a data set can teach, and where not.

Numbers come from narrow columns; of the texts only those that the page shows are kept.
"""

import sys

from gspo_rs import CalledModule
from gspo_rs.report.page import report

__all__ = ["report"]

sys.modules[__name__].__class__ = CalledModule  # so that `gspo_rs.report(…)` is `report(…)`
