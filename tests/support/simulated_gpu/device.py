"""Register the simulated GPU with torch, and give it the interface of `torch.cuda` as `torch.simgpu`."""

from __future__ import annotations

import ctypes
import functools
import sys
import types
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import torch

from .build import build_backend
from .graph import CapturedGraph

DEVICE = "simgpu"
GIB = 1 << 30
# The order of c10::ScalarType.
_SCALAR_TYPES = {torch.float16: 5, torch.float32: 6, torch.float64: 7, torch.bfloat16: 15}


@dataclass(frozen=True)
class Counters:
    """What the simulated GPU did: operators launched, times the CPU waited for it, and bytes transferred.

    pageable_bytes: the part of the bytes that was not in pinned memory, whose transfer cannot overlap with work.
    bytes_moved: that operators other than convolutions read and wrote on the device. A captured graph is one launch.
    """

    launches: int
    synchronizations: int
    bytes_to_device: int
    bytes_to_host: int
    pageable_bytes: int
    allocations: int
    bytes_moved: int

    def __sub__(self, other: Counters) -> Counters:
        return Counters(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


class SimulatedGPU:
    """The devices while they are enabled: counters, memory, faults to inject."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.cache_releases = 0  # calls of `empty_cache`

    def read_counters(self) -> Counters:
        values = (ctypes.c_int64 * 7)()
        self._library.simulated_gpu_read_counters(values)
        return Counters(*values)

    def read_launches(self) -> dict[str, int]:
        """Launches since the start of the process by name of the operator."""
        launches: dict[str, int] = {}
        visit = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int64)
        self._library.simulated_gpu_read_launches(visit(lambda name, n: launches.__setitem__(name.decode(), n)))
        return launches

    def read_memory(self, device: int = 0) -> tuple[int, int, int]:
        """(allocated, peak, limit) in bytes."""
        values = (ctypes.c_int64 * 3)()
        self._library.simulated_gpu_read_memory(device, values)
        return values[0], values[1], values[2]

    def set_memory_limit(self, size: int, device: int = 0) -> None:
        self._library.simulated_gpu_set_limit(device, ctypes.c_int64(size))

    def fail_allocation(self, index: int) -> None:
        """Raise OutOfMemoryError once, in the allocation of this number from now, counted from 0."""
        self._library.simulated_gpu_fail_allocation(ctypes.c_int64(index))


@contextmanager
def enabled(
    devices: int = 1, *, memory: int = 8 * GIB, computes: bool = True, unsupported: torch.dtype | None = None
) -> Generator[SimulatedGPU, None, None]:
    """Provide simulated GPUs within a `with` block.

    memory: bytes of each. computes: if False, operators only allocate their results, in no time. unsupported: a dtype
    in which no tensor can be created.
    """
    library = register()
    gpu = torch.simgpu.gpu = SimulatedGPU(library)  # type: ignore[attr-defined]
    dtype = -1 if unsupported is None else _SCALAR_TYPES[unsupported]
    _configure(library, devices, memory, computes, dtype)
    try:
        yield gpu
    finally:
        library.simulated_gpu_set_device(0)
        _configure(library, 0, memory, True, -1)


def _configure(library: ctypes.CDLL, devices: int, memory: int, computes: bool, dtype: int) -> None:
    library.simulated_gpu_configure(devices, ctypes.c_int64(memory), ctypes.c_bool(computes), dtype)
    for device in range(devices):
        library.simulated_gpu_reset_peak(device)


@functools.cache
def register() -> ctypes.CDLL:
    """Load the backend; once in a process, because torch cannot unload it.

    It must happen before the first backward pass, even one on the CPU: autograd counts the devices then, and only then.
    """
    path = build_backend()
    torch.ops.load_library(path)
    library = ctypes.CDLL(str(path))
    library.simulated_gpu_register()
    # torch documents both functions, and exports neither.
    torch.utils.rename_privateuse1_backend(DEVICE)  # pyright: ignore[reportPrivateImportUsage]
    module = _device_module(library)
    torch._register_device_module(DEVICE, module)
    sys.modules[f"torch.{DEVICE}"] = module
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=False)  # pyright: ignore[reportPrivateImportUsage]
    return library


class _Event:
    """An event of the only stream: everything is synchronous, so it has always passed."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def record(self, stream: object = None) -> None: ...

    def wait(self, stream: object = None) -> None: ...

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        self._library.simulated_gpu_count_synchronization()


class _Stream:
    def __init__(self, device: object = None, priority: int = 0) -> None: ...

    def wait_stream(self, stream: object) -> None: ...

    def wait_event(self, event: object) -> None: ...

    def synchronize(self) -> None:
        torch.simgpu.synchronize()  # type: ignore[attr-defined]


def _device_module(library: ctypes.CDLL) -> Any:
    """`torch.simgpu`, as far as this package, torch itself and ComfyUI use the interface of `torch.cuda`."""
    module: Any = types.ModuleType(f"torch.{DEVICE}")

    def index(device: Any = None) -> int:
        if device is None:
            return library.simulated_gpu_device()
        if isinstance(device, int):
            return device
        return torch.device(device).index or 0

    @contextmanager
    def device(wanted: Any) -> Generator[None, None, None]:
        before = library.simulated_gpu_device()
        library.simulated_gpu_set_device(index(wanted))
        try:
            yield
        finally:
            library.simulated_gpu_set_device(before)

    @contextmanager
    def stream(wanted: object) -> Generator[None, None, None]:
        yield

    def memory(device: Any = None) -> tuple[int, int, int]:
        return SimulatedGPU(library).read_memory(index(device))

    def empty_cache() -> None:
        module.gpu.cache_releases += 1

    def mem_get_info(device: Any = None) -> tuple[int, int]:
        allocated, _, limit = memory(device)
        return limit - allocated, limit

    module.device, module.stream, module.Stream = device, stream, _Stream
    module.Event = lambda *args, **kwargs: _Event(library)
    module.current_stream = lambda device=None: _Stream()
    module.device_count = library.simulated_gpu_device_count
    module.is_available = module.is_initialized = lambda: library.simulated_gpu_device_count() > 0
    module.current_device = library.simulated_gpu_device
    module.set_device = lambda wanted: library.simulated_gpu_set_device(index(wanted))
    module.synchronize = lambda device=None: library.simulated_gpu_count_synchronization()
    module.get_device_name = lambda device=None: "simulated GPU"
    module.memory_allocated = module.memory_reserved = lambda device=None: memory(device)[0]
    module.max_memory_allocated = lambda device=None: memory(device)[1]
    module.reset_peak_memory_stats = lambda device=None: library.simulated_gpu_reset_peak(index(device))
    module.mem_get_info, module.empty_cache = mem_get_info, empty_cache
    module.OutOfMemoryError = torch.OutOfMemoryError
    module.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]
    module.SIMGPUGraph = lambda: CapturedGraph(library)
    module.graph = lambda graph: graph
    module.manual_seed = module.manual_seed_all = lambda seed: None
    module._is_in_bad_fork = lambda: False
    module._lazy_init = lambda: None
    return module
