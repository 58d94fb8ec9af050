"""Make trained models smaller and faster, while they stay close to the original.

for report in compress(CompressSettings("teacher.safetensors", ("photographs/",), "small.safetensors", prune=0.5)):
    ...                                  # each item is one step; closing the generator leaves no files
print(format_table(report.metrics), format_verdicts(report.verdicts), report.rejection or report.files, sep="\\n")
"""

import warnings

from .errors import CompressionError
from .model_metrics import ModelMetrics
from .quality_gate import CompressReport, compress
from .quality_limits import QualityLimits, Verdict
from .report import format_table, format_verdicts, json_records, json_verdicts
from .settings import CompressSettings

__all__ = [
    "CompressReport",
    "CompressSettings",
    "CompressionError",
    "ModelMetrics",
    "QualityLimits",
    "Verdict",
    "compress",
    "format_table",
    "format_verdicts",
    "json_records",
    "json_verdicts",
]

DEPRECATED_NAMES = {
    "Figures": "ModelMetrics",
    "Report": "CompressReport",
    "Settings": "CompressSettings",
    "facts": "json_records",
    "table": "format_table",
}
"""Old name -> present name; the old ones are removed in version 0.2."""


def __getattr__(name: str) -> object:
    new = DEPRECATED_NAMES.get(name)
    if new is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"steadyscale.core.compress.{name} is now {new}", DeprecationWarning, stacklevel=2)
    return globals()[new]
