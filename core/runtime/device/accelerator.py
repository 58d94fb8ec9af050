"""Devices that networks run on: one class per kind.

All differences between CUDA and ROCm, Apple's MPS, Intel's XPU, DirectML, other backends and the CPU are in this
module: dtypes, memory, streams, pinned memory; which errors mean that memory ran out is in out_of_memory.py. All other
modules treat devices alike.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .device_names import GPU_TYPES
from .main_memory import free_main_memory
from .tf32 import tf32_setting

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Bytes that are assumed to be free on a device that does not report its memory.
UNKNOWN_FREE_BYTES = float(2 << 30)


class Accelerator:
    """A device whose backend has the interface of `torch.cuda`.

    XPU, NPU and most others have it.
    half_dtypes: dtypes of 16 bits that are as accurate as video needs and faster than float32.
    channels_last: whether convolutions are faster in that layout.
    has_bicubic_grid_sample: whether `grid_sample` can interpolate bicubically and repeat the border.
    """

    half_dtypes: tuple[str, ...] = ("float16",)
    channels_last = False
    has_bicubic_grid_sample = True

    def __init__(self, device: torch.device, module: Any) -> None:
        self.device = device
        self._module = module

    @property
    def is_cpu(self) -> bool:
        return self.device.type == "cpu"

    @property
    def has_tf32(self) -> bool:
        """Whether convolutions in float32 can run in TF32.

        TF32 has the precision of float16 and the range of float32.
        """
        return False

    @property
    def allows_tf32(self) -> bool:
        """Whether work that is queued now may run in TF32."""
        return False

    def tf32(self, enabled: bool) -> AbstractContextManager[None]:
        """Allow or forbid TF32 for the work that is queued within a `with` block."""
        return nullcontext()

    @property
    def candidate_dtypes(self) -> tuple[torch.dtype, ...]:
        """The dtypes of 16 bits to try, the preferred one first."""
        import torch

        return tuple(getattr(torch, name) for name in self.half_dtypes)

    @property
    def name(self) -> str:
        """The name of the hardware, for people."""
        get_name = getattr(self._module, "get_device_name", None)
        return self.device.type if get_name is None else str(get_name(self.device))

    def free_memory(self) -> float:
        """Bytes that can be allocated now."""
        with suppress(AttributeError, RuntimeError, NotImplementedError):
            free, _ = self._module.mem_get_info(self.device)
            reserved, allocated = self._module.memory_reserved(self.device), self._module.memory_allocated(self.device)
            return float(free + max(0, reserved - allocated))
        return UNKNOWN_FREE_BYTES

    def total_memory(self) -> float:
        """Bytes of the device."""
        with suppress(AttributeError, RuntimeError, NotImplementedError):
            return float(self._module.mem_get_info(self.device)[1])
        return UNKNOWN_FREE_BYTES

    @property
    def reports_peak_memory(self) -> bool:
        """Whether `allocated_memory` and `peak_memory` are known."""
        return hasattr(self._module, "max_memory_allocated") and hasattr(self._module, "reset_peak_memory_stats")

    def reset_peak_memory(self) -> None:
        """Let `peak_memory` start anew."""
        self._module.reset_peak_memory_stats(self.device)

    def allocated_memory(self) -> int:
        """Bytes of all tensors on the device."""
        return int(self._module.memory_allocated(self.device))

    def peak_memory(self) -> int:
        """The most bytes of tensors since the last `reset_peak_memory`."""
        return int(self._module.max_memory_allocated(self.device))

    def release_cache(self) -> None:
        """Return memory that is not in use from torch's cache to the system."""
        with suppress(AttributeError):
            self._module.empty_cache()

    def synchronize(self) -> None:
        """Wait until all work is done."""
        self._module.synchronize(self.device)

    def as_current(self) -> AbstractContextManager[Any]:
        """Make this the current device of the thread within a `with` block.

        Kernels that torch does not launch, and captured graphs, run on the current device.
        """
        device = getattr(self._module, "device", None)
        return nullcontext() if device is None else device(self.device)

    @property
    def has_triton(self) -> bool:
        """Whether kernels in Triton run here."""
        return False

    @property
    def can_capture_graphs(self) -> bool:
        """Whether queued work can be captured in a graph."""
        return hasattr(self._module, self._graph_type) and hasattr(self._module, "graph")

    def capture_graph(self, queue_work: Callable[[], None]) -> Any:
        """Capture the work that a function queues.

        `replay()` of the result queues it again, on the same memory. The function must have run before, so that nothing
        is compiled or chosen while it is captured. Raises RuntimeError where it waits for the device.
        """
        graph = getattr(self._module, self._graph_type)()
        with self._capturing(graph):
            queue_work()
        return graph

    def _capturing(self, graph: Any) -> AbstractContextManager[Any]:
        return self._module.graph(graph)

    @property
    def _graph_type(self) -> str:
        return f"{self.device.type.upper()}Graph"  # as in `torch.cuda.CUDAGraph` and `torch.xpu.XPUGraph`

    def make_current(self) -> None:
        """Make this the current device of the thread.

        Names without a number, such as "cuda", then mean it, and collectives send Python objects through it.
        """
        set_device = getattr(self._module, "set_device", None)
        if set_device is not None and self.device.index is not None:  # pyright: ignore[reportUnnecessaryComparison]  # torch annotates int
            set_device(self.device)

    @property
    def collective_backend(self) -> str:
        """The backend of torch.distributed for tensors of this device.

        For a device without one it is gloo, the backend for tensors on the CPU.
        """
        import torch.distributed as dist

        name = dist.Backend.default_device_backend_map.get(self.device.type, dist.Backend.GLOO)
        # Those of plugins have no such function: they register themselves when they are loaded.
        is_available = getattr(dist, f"is_{name}_available", lambda: True)
        return name if is_available() else dist.Backend.GLOO

    def empty_pinned(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Return an uninitialized CPU tensor in pinned memory.

        Transfers from it are several times as fast. The memory is ordinary where the device has no pinned memory.
        """
        import torch

        with torch.inference_mode(False):
            with suppress(RuntimeError, NotImplementedError):
                return torch.empty(shape, dtype=dtype, pin_memory=True)
            return torch.empty(shape, dtype=dtype)

    def new_stream(self) -> Any:
        """A new stream, beside the current one; None where there are none."""
        make = getattr(self._module, "Stream", None)
        return None if make is None else make(device=self.device)

    def current_stream(self) -> Any:
        """The stream of this thread; None where there are none."""
        get = getattr(self._module, "current_stream", None)
        return None if get is None else get(self.device)

    def use_stream(self, stream: Any) -> AbstractContextManager[Any]:
        """Queue work on a stream within a `with` block."""
        return nullcontext() if stream is None else self._module.stream(stream)

    def record_event(self) -> Any:
        """An event after all work that is queued on the current stream.

        None where work is not asynchronous.
        """
        make = getattr(self._module, "Event", None)
        if make is None:
            return None
        event = make()
        # Without a stream it would be one of the current device.
        event.record(self.current_stream())
        return event


class CudaAccelerator(Accelerator):
    """CUDA, and ROCm, which has the same interface."""

    channels_last = True

    @property
    def has_triton(self) -> bool:
        return find_spec("triton") is not None

    @property
    def can_capture_graphs(self) -> bool:
        # cudaMallocAsync, ComfyUI's default, has no memory pools for graphs.
        get_backend = getattr(self._module, "get_allocator_backend", None)
        return super().can_capture_graphs and get_backend is not None and get_backend() == "native"

    def _capturing(self, graph: Any) -> AbstractContextManager[Any]:
        # Other threads go on to allocate and to transfer.
        return self._module.graph(graph, capture_error_mode="thread_local")

    @property
    def allows_tf32(self) -> bool:
        from torch.backends import cudnn

        return bool(cudnn.allow_tf32)

    @property
    def has_tf32(self) -> bool:
        import torch

        return torch.version.hip is None and self._module.get_device_capability(self.device) >= (8, 0)

    def tf32(self, enabled: bool) -> AbstractContextManager[None]:
        return tf32_setting.use(enabled)


class MpsAccelerator(Accelerator):
    """Apple's GPU, which shares its memory with the CPU."""

    has_bicubic_grid_sample = False  # in most versions of torch, nor the padding mode "border"

    @property
    def reports_peak_memory(self) -> bool:
        return False

    def free_memory(self) -> float:
        return max(0.0, self.total_memory() - float(self._module.driver_allocated_memory()))

    def total_memory(self) -> float:
        with suppress(AttributeError):
            return float(self._module.recommended_max_memory())
        return UNKNOWN_FREE_BYTES

    @property
    def name(self) -> str:
        return "mps"

    def synchronize(self) -> None:
        self._module.synchronize()

    def new_stream(self) -> None:
        return None

    def current_stream(self) -> None:
        return None

    def record_event(self) -> Any:
        event = self._module.event.Event()
        event.record()
        return event


class OpaqueAccelerator(Accelerator):
    """A backend without a module in torch, such as DirectML.

    It does not report its memory.
    """

    @property
    def reports_peak_memory(self) -> bool:
        return False

    def synchronize(self) -> None: ...


class Cpu(Accelerator):
    """The CPU.

    It emulates 16 bits, which was measured 11 (bfloat16) to 250 (float16) times slower than float32.
    """

    half_dtypes = ()

    @property
    def reports_peak_memory(self) -> bool:
        return False

    @property
    def name(self) -> str:
        return "cpu"

    def free_memory(self) -> float:
        return free_main_memory()

    def total_memory(self) -> float:
        import psutil

        return float(psutil.virtual_memory().total)

    def release_cache(self) -> None: ...

    def synchronize(self) -> None: ...

    def empty_pinned(self, *shape: int, dtype: torch.dtype) -> Tensor:
        import torch

        with torch.inference_mode(False):
            return torch.empty(shape, dtype=dtype)

    def new_stream(self) -> None:
        return None

    def current_stream(self) -> None:
        return None

    def record_event(self) -> None:
        return None


# The class of each type of device; `Accelerator` for all others with a module in torch.
_KINDS: dict[str, type[Accelerator]] = {"cpu": Cpu, "cuda": CudaAccelerator, "mps": MpsAccelerator}


@functools.cache
def accelerator_for(device: torch.device) -> Accelerator:
    """The accelerator of a device."""
    import torch

    module = getattr(torch, device.type, None)
    return OpaqueAccelerator(device, None) if module is None else _KINDS.get(device.type, Accelerator)(device, module)


def device_contexts() -> list[AbstractContextManager[Any]]:
    """Contexts that give another thread the current device of this one."""
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    modules: list[Any] = [getattr(torch, kind, None) for kind in (*GPU_TYPES, _other_backend(torch))]
    return [
        module.device(module.current_device())
        for module in modules
        if hasattr(module, "device") and hasattr(module, "is_initialized") and module.is_initialized()
    ]


def _other_backend(torch: Any) -> str:
    """The name of the backend that is registered with torch, such as "npu"."""
    return str(torch._C._get_privateuse1_backend_name())
