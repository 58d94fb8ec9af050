"""A network of this package with its weights transformed, ready to run natively on pictures of any size."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ..arch.rrdb import RRDBNet, pad_to_multiple
from ..arch.srvgg import SRVGGNetCompact
from .bindings import Library
from .compile_rrdb import rrdb_compiler
from .compile_srvgg import CompactCompiler
from .plan import PLAIN, Area, Compiler, Program

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
        # A collector may end somebody's stream, and with it call `forget`, in the midst of what is done here.
        self._lock = threading.RLock()

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
        result = out if out is not None and _can_hold(out, shape) else torch.empty(shape, **PLAIN)
        key = height, width, area
        with self._lock:
            held = self._program
            if held is None or held[0] != key:
                held = self._program = None  # The next one works in its memory.
                held = self._program = key, self._compile(*key)
            for source, target in zip(images, result, strict=True):
                self._go(held[1], source, target, clamped)
        return result

    def renew(self, image: Tensor, steps: Sequence[Sequence[Wanted]], out: Tensor, owner: object) -> bool:
        """Bring `out`, the clamped result of another picture, up to date for one (1, C, h, w) that differs in places.

        steps: the parts that may differ in the middle of a compact network, and those that may in the result, in pixels
        of the input. The middle is kept of the whole picture, for one owner at a time; it must be told to renew all of
        it where nothing is kept for this one. False where it is not, where `out` cannot be written to, where too much
        memory would be kept, or where there is not enough: parts of the result may then be new already.
        """
        compile, k, (height, width) = self._compile, self._enlarge, image.shape[-2:]
        shape = 1, self._network.out_channels, height * k, width * k
        if not isinstance(compile, CompactCompiler) or not compile.middle:
            return False
        if len(image) != 1 or not _can_hold(out, shape):
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
                source = image[0].contiguous()
                for area in changed:
                    self._go(compile.until_middle(height, width, area), source, out[0], clamped=True)
                for area in wanted:
                    place = out[0, :, area.top * k : area.bottom * k, area.left * k : area.right * k]
                    self._go(compile.from_middle(height, width, area), source, place, clamped=True)
            except MemoryError:
                compile.drop()
                return False
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
