"""For all tests: convolutions by torch, whatever this machine has built, so that equal means equal to the last bit.

tests/models/native switches the native engine on for itself.
"""

from __future__ import annotations

import os

os.environ["STEADYSCALE_NATIVE"] = "0"
