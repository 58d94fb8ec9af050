"""Compression: smaller, faster models out of trained ones, none of which loses more than was allowed.

for report in compress(Settings("teacher.safetensors", ("photographs/",), "small.safetensors", prune=0.5)):
    ...                                  # each pull is a step; closing the stream leaves nothing behind
print(table(report.figures), report.refused or report.files)
"""

from .errors import CompressionError
from .model_metrics import ModelMetrics
from .quality_gate import CompressReport, compress
from .report import format_table, json_records
from .settings import CompressSettings

__all__ = [
    "CompressReport",
    "CompressSettings",
    "CompressionError",
    "ModelMetrics",
    "compress",
    "format_table",
    "json_records",
]
