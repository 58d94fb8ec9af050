"""OpenCV, where there is one: it does some things several times faster than torch on a CPU, and none alone."""

from __future__ import annotations

import logging
from functools import lru_cache
from types import ModuleType

log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def optional_opencv() -> ModuleType | None:
    """The module cv2, or None where it is missing or cannot load (some builds need libGL, which a server lacks)."""
    try:
        import cv2
    except ImportError as error:
        log.warning(
            "OpenCV cannot be used (%s); torch does its work, several times more slowly on a CPU. "
            "Any OpenCV serves; if you have none: pip install opencv-python-headless",
            error,
        )
        return None
    return cv2
