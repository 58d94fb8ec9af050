"""What the errors, the memory and the streams of devices mean."""

import threading

import pytest
import simulated_gpu
import torch
from steadyscale.core.runtime.device import accelerator
from steadyscale.core.runtime.device.accelerator import accelerator_for, is_out_of_memory

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] not enough memory: you tried to allocate 5 bytes"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
        RuntimeError("Invalid buffer size: 24.00 GB"),
        RuntimeError("FIND was unable to find an engine to execute this computation"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("miopenStatusInternalError"),
        RuntimeError(
            "Could not allocate tensor with 4831838208 bytes. There is not enough GPU video memory available!"
        ),
        RuntimeError("Native API failed. Native API returns: -5 (PI_ERROR_OUT_OF_RESOURCES) -5"),
        RuntimeError("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
    ],
)
def test_errors_that_mean_out_of_memory(error):
    assert is_out_of_memory(error)


def test_other_errors_do_not():
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_the_cpu():
    cpu = accelerator_for(CPU)
    assert cpu.is_cpu
    assert cpu.candidate_dtypes == ()
    assert 1e6 < cpu.free_memory() <= cpu.total_memory()
    assert cpu.new_stream() is cpu.record_event() is None
    assert not cpu.empty_pinned(3, dtype=torch.uint8).is_pinned()


def test_a_simulated_gpu_is_a_device_like_others(gpu):
    device = accelerator_for(torch.device(simulated_gpu.DEVICE))
    free = device.free_memory()
    tensor = torch.ones(1 << 20, device=simulated_gpu.DEVICE)
    assert free - device.free_memory() == 4 << 20 == tensor.nbytes
    device.reset_peak_memory()
    tensor + 1  # released at once
    assert device.peak_memory() - device.allocated_memory() == 4 << 20
    assert device.empty_pinned(3, dtype=torch.uint8).is_pinned()
    assert device.name == "simulated GPU"


def test_threads_with_and_without_tf32_do_not_mix():
    """The setting is that of the process: the check of one GPU must not change how another one computes."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before, gpu = (cudnn.allow_tf32, cuda.allow_tf32), accelerator.CudaAccelerator(torch.device("cuda"), None)
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


def test_a_backend_without_a_module_is_used_as_far_as_it_goes():
    unknown = accelerator.OpaqueAccelerator(torch.device("cpu"), None)
    assert unknown.free_memory() == accelerator.UNKNOWN_FREE_BYTES
    assert not unknown.reports_peak_memory
    unknown.release_cache()
    unknown.synchronize()
    assert unknown.new_stream() is None
