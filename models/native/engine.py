"""Runs the networks of this package natively on a CPU, where that was built and gives torch's results."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ..rrdb import RRDBNet, pad_to_multiple
from ..separable import SeparableRRDB, SeparableSRVGG, dense
from ..srvgg import SRVGGNetCompact
from .build import cache_folder, find, find_compiler
from .library import Library
from .networks import CompactCompiler, Compiler, halfway, rrdb_compiler, srvgg_reach
from .program import Area, Program

log = logging.getLogger(__name__)

SWITCH = "STEADYSCALE_NATIVE"  # 0 turns the engine off
# Largest difference from torch that passes the self-check, for results in [0, 1]. Noise, which it runs on, differs by
# up to 6e-5 with the published networks, pictures by 2e-5.
MOST_DIFFERENCE = 1e-4
# Of the self-check's picture: every kind of edge, more than one patch both ways.
CHECKED_HEIGHT, CHECKED_WIDTH = 15, 22

# What the middle of a compact network may take, so that frames of which a part changes cost less: 64 channels of 720p.
MOST_KEPT = 256 << 20

# Rows and columns of the input of which alone the enlargement is wanted.
Wanted: TypeAlias = "tuple[slice, slice]"


class NativeNetwork:
    """(B, in_channels, h, w) float32 on the CPU -> what the network makes of it, float32, clamped to [0, 1] on request.

    wanted: only this part of the result is returned, with the same bits; each layer of a compact network then makes no
    more than the next one reads. Raises ValueError for what is no part of the picture. out: where the result of a
    compact network is put, if it can be, which saves a copy; float32 on the CPU.
    Weights are transformed once. The memory for one size of picture is kept for the next call, and serves its parts
    too. Results do not depend on the number of threads, which is torch's. Safe to call from several threads, one after
    the other.
    """

    def __init__(self, network: RRDBNet | SRVGGNetCompact, library: Library) -> None:
        self._network = network
        self._fold = 1
        if isinstance(network, RRDBNet):
            self._fold = network.config.unshuffle
            self._compile: Compiler = rrdb_compiler(library, network)
        else:
            self._compile = CompactCompiler(library, network)
        self._enlarge = network.scale * self._fold
        self._program: tuple[tuple[int, int, Area | None], Program] | None = None
        self._kept: tuple[object, int, int] | None = None  # whose picture's middle is kept, and its height and width
        self._lock = threading.Lock()

    @torch.no_grad()
    def __call__(
        self, images: Tensor, *, wanted: Wanted | None = None, out: Tensor | None = None, clamped: bool = False
    ) -> Tensor:
        height, width = images.shape[-2:]
        if isinstance(self._network, SRVGGNetCompact):
            return self._run(images.contiguous(), _area(wanted, height, width), out, clamped)
        folded = images
        if self._fold > 1:
            folded = nn.functional.pixel_unshuffle(pad_to_multiple(images, self._network.multiple), self._fold)
        whole = slice(0, height), slice(0, width)
        return part_of(self._run(folded.contiguous(), None, None, clamped), wanted or whole, self._network.scale)

    def _run(self, images: Tensor, area: Area | None, out: Tensor | None, clamped: bool) -> Tensor:
        """(B, C, h, w) as the program reads them -> the area of them, or all, enlarged; in `out` if that fits."""
        height, width = images.shape[-2:]
        made = area or Area(0, height, 0, width)
        sides = (made.bottom - made.top) * self._enlarge, (made.right - made.left) * self._enlarge
        shape = len(images), self._network.out_channels, *sides
        result = out if out is not None and _can_hold(out, shape) else torch.empty(shape)
        key = height, width, area
        with self._lock:
            if self._program is None or self._program[0] != key:
                self._program = None  # The next one works in its memory.
                self._program = key, self._compile(*key)
            for source, target in zip(images, result, strict=True):
                self._go(self._program[1], source, target, clamped)
        return result

    def renew(self, image: Tensor, steps: Sequence[Sequence[Wanted]], out: Tensor, owner: object) -> bool:
        """Bring `out`, the clamped result of another picture, up to date for one (1, C, h, w) that differs in places.

        steps: the parts that may differ in the middle of a compact network, and those that may in the result, in pixels
        of the input. The middle is kept of the whole picture, for one owner at a time; it must be told to renew all of
        it where nothing is kept for this one. False, and nothing done, where it is not, where `out` cannot be written
        to, or where too much memory would be kept.
        """
        compile, k, (height, width) = self._compile, self._enlarge, image.shape[-2:]
        shape = len(image), self._network.out_channels, height * k, width * k
        if not isinstance(compile, CompactCompiler) or not compile.middle or not _can_hold(out, shape):
            return False
        if compile.kept_bytes(height, width) > MOST_KEPT:
            return False
        changed, wanted = ([_part(part, height, width) for part in parts] for parts in steps)
        kept = owner, height, width
        with self._lock:
            if self._kept != kept and changed != [Area(0, height, 0, width)]:
                return False
            self._kept = self._program = None  # The memory is that of all programs, and these are for once.
            try:
                compile.make_room(height, width)
            except MemoryError:
                return False
            source = image[0].contiguous()
            for area in changed:
                self._go(compile.until_middle(height, width, area), source, out[0], clamped=True)
            for area in wanted:
                place = out[0, :, area.top * k : area.bottom * k, area.left * k : area.right * k]
                self._go(compile.from_middle(height, width, area), source, place, clamped=True)
            self._kept = kept
        return True

    def forget(self, owner: object) -> None:
        """What is kept for this owner is not needed any more."""
        with self._lock:
            if self._kept is not None and self._kept[0] is owner and isinstance(self._compile, CompactCompiler):
                self._kept = self._program = None
                self._compile.drop()

    def _go(self, program: Program, source: Tensor, target: Tensor, clamped: bool) -> None:
        channels = self._network.out_channels
        skip = source if len(source) >= channels else source.expand(channels, -1, -1).contiguous()
        program.run(source, skip, target, torch.get_num_threads(), clamped=clamped)


def part_of(result: Tensor, wanted: Wanted | None, scale: int) -> Tensor:
    """Of a picture that is `scale` times larger what is wanted."""
    if wanted is None:
        return result
    rows, cols = (slice(side.start * scale, side.stop * scale) for side in wanted)
    return result[..., rows, cols]


def _can_hold(out: Tensor, shape: tuple[int, ...]) -> bool:
    return tuple(out.shape) == shape and out.dtype is torch.float32 and out.device.type == "cpu" and out.stride(-1) == 1


def _area(wanted: Wanted | None, height: int, width: int) -> Area | None:
    """The same as an area; None for all of it."""
    whole = Area(0, height, 0, width)
    area = whole if wanted is None else _part(wanted, height, width)
    return None if area == whole else area


def _part(wanted: Wanted, height: int, width: int) -> Area:
    area = Area(wanted[0].start, wanted[0].stop, wanted[1].start, wanted[1].stop)
    # The engine would write where no memory is.
    if not (0 <= area.top < area.bottom <= height and 0 <= area.left < area.right <= width):
        raise ValueError(f"{area} is no part of a picture of {height} rows and {width} columns")
    return area


def native_network(module: nn.Module) -> NativeNetwork | None:
    """The native twin of an RRDBNet or SRVGGNetCompact with float32 weights on the CPU, self-checked against it.

    Separable networks have one too. None where there is none: another module, device or format, the engine not built
    (`steadyscale native build`) or switched off (STEADYSCALE_NATIVE=0), or results that differ from torch's, which is
    logged.
    """
    library = _library()
    if library is None or not isinstance(module, (RRDBNet, SRVGGNetCompact)):
        return None
    if any(p.dtype is not torch.float32 or p.device.type != "cpu" for p in module.parameters()):
        return None
    if isinstance(module, SRVGGNetCompact) and module.in_channels not in (1, module.out_channels):
        return None  # Its one channel of detail is added to several: nobody has trained that.
    # One dense convolution runs faster here than the two that it was trained as.
    separable = isinstance(module, (SeparableSRVGG, SeparableRRDB))
    native = NativeNetwork(dense(module) if separable else module, library)
    generator = torch.Generator().manual_seed(1)
    picture = torch.rand(1, module.in_channels, CHECKED_HEIGHT, CHECKED_WIDTH, generator=generator)
    with torch.no_grad():
        truth = module(picture)
    difference = float((native(picture) - truth).abs().max()) / max(1.0, float(truth.abs().max()))
    if not difference <= MOST_DIFFERENCE:  # So that NaN fails too.
        log.warning("the native engine differs from torch by %.1e on this CPU; torch is used instead", difference)
        return None
    return native


def _library() -> Library | None:
    """The engine as it was built for this machine, unless it is switched off."""
    if os.environ.get(SWITCH) == "0":
        return None
    path = find()
    return None if path is None else _loaded(path)


@lru_cache(maxsize=1)
def _loaded(path: Path) -> Library | None:
    try:
        return Library(path)
    except (OSError, AttributeError) as error:
        log.warning("the native engine cannot be loaded, torch is used instead: %s", error)
        return None


class Native:
    """A module's native twin, made when first needed and again when the weights have changed.

    engine: what the last call ran on, "native" or "torch".
    """

    def __init__(self, module: nn.Module) -> None:
        self.engine = "torch"
        self._module = module
        self._known: Sequence[tuple[object, ...]] | None = None
        self._held: list[Tensor] = []
        self._twin: NativeNetwork | None = None

    def __call__(self, images: Tensor, wanted: Wanted | None = None, out: Tensor | None = None) -> Tensor:
        """The module's result clamped to [0, 1], by the faster way: native for float32 on the CPU, else torch.

        wanted: only this part of it is returned. out: where it may be put, which saves a copy; else it lies elsewhere.
        """
        twin = self._find(images)
        self.engine = "torch" if twin is None else "native"
        if twin is not None:
            return twin(images, wanted=wanted, out=out, clamped=True)
        result = self._module(images)
        result = part_of(result, wanted, result.shape[-1] // images.shape[-1])
        # The results of our networks are nobody else's, and a copy costs as much as a layer of a compact network.
        own = isinstance(self._module, (RRDBNet, SRVGGNetCompact)) and not torch.is_grad_enabled()
        return result.clamp_(0, 1) if own else result.clamp(0, 1)

    @property
    def ready(self) -> bool:
        """Whether float32 on the CPU will run natively, as far as can be told without trying."""
        return isinstance(self._module, (RRDBNet, SRVGGNetCompact)) and _library() is not None

    @property
    def reach(self) -> int:
        """Input pixels that change a native result to its last bit, for windows that start at multiples of 6; 0 where
        that is not known or the engine does not run.
        """
        return srvgg_reach(self._module) if self.ready and isinstance(self._module, SRVGGNetCompact) else 0

    @property
    def reaches(self) -> tuple[int, ...]:
        """Input pixels that change what the engine keeps in the middle of the network, and the result, to the last bit;
        none where it cannot renew a part of a result.
        """
        if not (self.ready and isinstance(self._module, SRVGGNetCompact)):
            return ()
        middle = halfway(self._module)
        return (srvgg_reach(self._module, middle), srvgg_reach(self._module)) if middle else ()

    def renew(self, image: Tensor, steps: Sequence[Sequence[Wanted]], out: Tensor, owner: object) -> bool:
        """See `NativeNetwork.renew`; False also where torch serves."""
        twin = self._find(image)
        return twin is not None and twin.renew(image, steps, out, owner)

    def forget(self, owner: object) -> None:
        """See `NativeNetwork.forget`."""
        if self._twin is not None:
            self._twin.forget(owner)

    def __reduce__(self) -> tuple[type[Native], tuple[nn.Module]]:
        """Copies, in memory or in a file, make a twin of their own."""
        return Native, (self._module,)

    def _find(self, images: Tensor) -> NativeNetwork | None:
        if images.device.type != "cpu":
            self._twin, self._known, self._held = None, None, []  # The network has moved; so should its memory go.
            return None
        if images.dtype is not torch.float32 or torch.is_grad_enabled():
            return None
        parameters = [parameter.detach() for parameter in self._module.parameters()]
        known = [(p.data_ptr(), p.dtype, p.device, _version(p)) for p in parameters]
        if known != self._known:
            self._twin = None
            self._twin = native_network(self._module)
            # Held, so that other weights cannot come to lie where these were and pass for them.
            self._known, self._held = known, parameters
        return self._twin


def _version(parameter: Tensor) -> int:
    """How often a tensor was written to, which tensors made in inference mode do not count."""
    return 0 if parameter.is_inference() else parameter._version


def describe() -> dict[str, str | int | None]:
    """For people and reports: whether the engine is built, on, and for which vectors."""
    path, library = find(), _library()
    return {
        "library": None if path is None else str(path),
        "active": library is not None,
        "switch": os.environ.get(SWITCH),
        "vector_floats": None if library is None else library.vector,
        "threads": torch.get_num_threads(),
        "compiler": " ".join(find_compiler() or []) or None,
        "folder": str(cache_folder()),
    }
