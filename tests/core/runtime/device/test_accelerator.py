"""Memory and streams of devices."""

import simulated_gpu
import torch
from steadyscale.core.runtime.device import accelerator
from steadyscale.core.runtime.device.accelerator import accelerator_for

CPU = torch.device("cpu")


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


def test_a_backend_without_a_module_is_used_as_far_as_it_goes():
    unknown = accelerator.OpaqueAccelerator(torch.device("cpu"), None)
    assert unknown.free_memory() == accelerator.UNKNOWN_FREE_BYTES
    assert not unknown.reports_peak_memory
    unknown.release_cache()
    unknown.synchronize()
    assert unknown.new_stream() is None
