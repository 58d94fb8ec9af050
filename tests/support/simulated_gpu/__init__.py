"""A simulated GPU: the torch device "simgpu", with counters of launches, synchronizations and transfers.

    with simulated_gpu.enabled() as gpu:
        before = gpu.read_counters()
        ...
        assert (gpu.read_counters() - before).synchronizations == 1

Only inside of `enabled` has it devices; elsewhere `torch.simgpu.is_available()` is False, as on a computer without GPU.
"""

from .build import can_build
from .device import DEVICE, Counters, SimulatedGPU, enabled, register

__all__ = ["DEVICE", "Counters", "SimulatedGPU", "can_build", "enabled", "register"]
