"""Threads that allow and forbid TF32 at the same time."""

import threading

import torch
from steadyscale.core.runtime.device.accelerator import CudaAccelerator


def test_threads_with_and_without_tf32_do_not_mix():
    """The setting is that of the process: the check of one GPU must not change how another one computes."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before, gpu = (cudnn.allow_tf32, cuda.allow_tf32), CudaAccelerator(torch.device("cuda"), None)
    seen: list[tuple[bool, bool, bool]] = []

    def work(wanted):
        with gpu.tf32(wanted):
            seen.append((wanted, cudnn.allow_tf32, cuda.allow_tf32))

    threads = [threading.Thread(target=work, args=(wanted,)) for wanted in (True, False)]
    with gpu.tf32(True):
        for thread in threads:
            thread.start()
        threads[0].join(30)
        threads[1].join(0.1)
        assert seen == [(True, True, True)], "the thread without TF32 waits"
        assert (cudnn.allow_tf32, cuda.allow_tf32) == (True, True)
    threads[1].join(30)
    assert seen[1:] == [(False, False, False)]
    assert (cudnn.allow_tf32, cuda.allow_tf32) == before
