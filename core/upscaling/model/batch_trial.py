"""Find by a trial on the device how many images to compute at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from functools import partial

from torch import Tensor

from ...runtime.device.accelerator import Accelerator
from ...runtime.device.out_of_memory import is_out_of_memory
from .fastest_module import MAX_TIME_SHARE, measure_seconds

log = logging.getLogger(__name__)

BATCHES = (2, 4, 8)

_known_batches: dict[Hashable, int] = {}
_lock = threading.Lock()


def find_known_batch(key: Hashable) -> int | None:
    """The result of an earlier trial in this process; None if there was none."""
    with _lock:
        return _known_batches.get(key)


def try_batches(
    run: Callable[[Tensor], Tensor], image: Tensor, limit: int, accelerator: Accelerator, key: Hashable
) -> int:
    """Return the number of images (1, C, h, w) that takes the least time for each.

    limit: the largest number. A batch that runs out of memory ends the trial. The result is kept under the key.
    """
    seconds: dict[int, float] = {}
    best = 1
    for count in (1, *(count for count in BATCHES if count <= limit)):
        try:
            seconds[count] = measure_seconds(partial(run, image.repeat(count, 1, 1, 1)), accelerator) / count
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            break
        if seconds[count] < MAX_TIME_SHARE * seconds[best]:
            best = count
    accelerator.release_cache()
    times = ", ".join(f"{count}: {1000 * value:.3g} ms" for count, value in seconds.items())
    log.info("%d images of %s at once; ms for each image by their number: %s", best, tuple(image.shape), times)
    with _lock:
        _known_batches[key] = best
    return best
