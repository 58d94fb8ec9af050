"""The TF32 setting of torch, shared by threads."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager


class Tf32Setting:
    """The settings of torch for TF32.

    They are those of the process, and count when work is queued: threads that want another value wait.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._users, self._value = 0, False
        self._before = False, False

    @contextmanager
    def use(self, enabled: bool) -> Generator[None, None, None]:
        from torch.backends import cuda, cudnn

        with self._condition:
            self._condition.wait_for(lambda: self._users == 0 or self._value == enabled)
            if self._users == 0:
                self._before, self._value = (cudnn.allow_tf32, cuda.matmul.allow_tf32), enabled
                cudnn.allow_tf32 = cuda.matmul.allow_tf32 = enabled
            self._users += 1
        try:
            yield
        finally:
            with self._condition:
                self._users -= 1
                if self._users == 0:
                    cudnn.allow_tf32, cuda.matmul.allow_tf32 = self._before
                    self._condition.notify_all()


tf32_setting = Tf32Setting()
