"""Compression: smaller, faster models out of trained ones, none of which loses more than was allowed.

for report in compress(Settings("teacher.safetensors", ("photographs/",), "small.safetensors", prune=0.5)):
    ...                                  # each pull is a step; closing the stream leaves nothing behind
print(table(report.figures), report.refused or report.files)
"""

from .errors import CompressionError
from .model_metrics import Figures
from .quality_gate import Report, compress
from .report import facts, table
from .settings import Settings

__all__ = ["CompressionError", "Figures", "Report", "Settings", "compress", "facts", "table"]
