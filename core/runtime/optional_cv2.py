"""OpenCV as an optional dependency.

It is several times faster than torch on a CPU, but never required.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from types import ModuleType

log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def optional_opencv() -> ModuleType | None:
    """Return the module cv2, or None if it cannot be imported.

    It may be missing or fail to load (some builds need libGL).
    """
    try:
        import cv2
    except ImportError as error:
        log.warning(
            "OpenCV cannot be imported (%s); torch is used instead, which is several times slower on a CPU. "
            "Install any OpenCV package, for example: pip install opencv-python-headless",
            error,
        )
        return None
    return cv2
