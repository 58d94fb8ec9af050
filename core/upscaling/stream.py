"""Chunks of a stream through its network: what must be run, at the size and with the finish that were asked for."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from ..runtime.buffer_pool import Room, empty_like
from .change_detection import Watcher
from .postprocess import finished
from .precision import Runner
from .settings import Finish
from .tile_size import free_memory
from .tiles import ALIGN, ANCHOR, Box, Cut, is_out_of_memory, run_tiles

log = logging.getLogger(__name__)


class Enlarger:
    """One stream's network, and what it made of the last frame. It ends with the stream.

    scale, halo: of the network, see `run_tiles`. watcher: says what must be run. room: where results lie.
    """

    def __init__(self, runner: Runner, scale: int, halo: int, watcher: Watcher, finish: Finish, room: Room) -> None:
        self._runner, self._scale, self._halo, self._watcher, self._finish = runner, scale, halo, watcher, finish
        self._room = room
        self._last: Tensor | None = None  # (k, C, h * scale, w * scale), the network's result alone
        self._quay: Tensor | None = None  # memory of the machine that a card can write to by itself

    def fill(self, result: Tensor, images: Tensor, each: int, first: int, cut: Cut) -> Cut:
        """Fill result (B * k, C, H, W) on the CPU from images (B * k, C, h, w), k = `each` of them for a frame.

        first: number of the first frame in its stream. Returns the cut that worked.
        """
        count = len(images) // each
        most = count if self._direct(result, images) else max(1, cut.frames // each)
        start = 0  # Frames from here on wait to be run together.
        for n in range(count):
            steps = self._watcher.see(images[n * each : (n + 1) * each])
            if steps is not None:
                cut = self._all(result, images, each, first, start, n, cut)
                cut = self._some(result, images, each, first, n, steps, cut)
            elif n + 1 - start == most:
                cut = self._all(result, images, each, first, start, n + 1, cut)
            else:
                continue
            start = n + 1
        return self._all(result, images, each, first, start, count, cut)

    def _direct(self, result: Tensor, images: Tensor) -> bool:
        """Whether the network writes into the result; not where a card keeps what it made, to use it again uncopied."""
        if self._watcher.on and self._runner.device.type == "cuda":
            return False
        height, width = images.shape[-2:]
        return self._finish.plain and result.shape[-2:] == (height * self._scale, width * self._scale)

    def _all(self, result: Tensor, images: Tensor, each: int, first: int, start: int, end: int, cut: Cut) -> Cut:
        """Frames start ... end - 1 whole."""
        if start == end:
            return cut
        part = slice(start * each, end * each)
        if self._direct(result, images):
            cut = self._whole(images[part], result[part], cut)
            self._keep(result[part][-each:])
            return cut
        self._last = None  # It is of no use any more, and the memory is.
        canvas = self._canvas(images[part])
        cut = self._whole(images[part], canvas, cut)
        if self._watcher.hopes:
            self._last = canvas if end - start == 1 else empty_like(canvas[-each:]).copy_(canvas[-each:])
        self._bring(self._finished(canvas, result[part], images[part], each, first + start), result[part])
        return cut

    def _some(
        self, result: Tensor, images: Tensor, each: int, first: int, n: int, steps: list[list[Box]], cut: Cut
    ) -> Cut:
        """Frame n, of which only boxes are run, in one step or in several."""
        assert self._last is not None, "nothing can be reused before a frame was run whole"
        if steps and not (len(steps) > 1 and self._renewed(self._last, steps, cut)):
            cut = self._run(self._watcher.held, self._last, cut, steps[-1])
        part = slice(n * each, (n + 1) * each)
        if self._direct(result, images):
            result[part] = self._last
        else:
            self._bring(self._finished(self._last, result[part], images[part], each, first + n), result[part])
        return cut

    def _whole(self, images: Tensor, out: Tensor, cut: Cut) -> Cut:
        """The network's result of whole frames."""
        if not self._watcher.hopes:
            self._runner.forget()
        return self._run(images, out, cut)

    def _renewed(self, last: Tensor, steps: list[list[Box]], cut: Cut) -> bool:
        """Whether the network has brought the last result up to date by what it kept of the frame before."""
        watcher = self._watcher
        uncut = cut.size >= max(watcher.held.shape[-2:])
        watcher.kept = uncut and self._runner.renew(watcher.held, steps, last, self._scale)
        if not watcher.kept:
            watcher.give_up()
        return watcher.kept

    def _run(self, images: Tensor, out: Tensor, cut: Cut, boxes: list[Box] | None = None) -> Cut:
        # Boxes stand beside what was made of the whole frame, and are to be equal to it.
        halo, anchor = (self._halo, ALIGN) if boxes is None else (self._watcher.halo, ANCHOR)
        return run_tiles(
            self._runner,
            images,
            out,
            scale=self._scale,
            halo=halo,
            cut=cut,
            boxes=boxes or (),
            clamped=True,
            anchor=anchor,
            parts=self._runner.parts,
        )

    def _keep(self, made: Tensor) -> None:
        """A copy, for whoever gets the frame may change it; in the same memory, for fresh pages cost as much again."""
        if not self._watcher.hopes:
            self._last = None
            return
        if self._last is None or self._last.shape != made.shape:
            self._last = self._room.empty(*made.shape)
        self._last.copy_(made)

    def _canvas(self, images: Tensor) -> Tensor:
        """Room for the network's result; on a card if that and the finish take a small part of it, else on the CPU.

        On a card it has the network's own format: what is made in half precision travels in half the bytes.
        """
        shape = (*images.shape[:2], images.shape[2] * self._scale, images.shape[3] * self._scale)
        device = self._runner.device
        if device.type == "cuda" and 4 * torch.Size(shape).numel() * 4 < free_memory(device):
            place, dtype = device, self._runner.dtype
        else:
            place, dtype = "cpu", torch.float32
        with torch.inference_mode(False):  # see `empty_like`
            return torch.empty(shape, device=place, dtype=dtype)

    def _finished(self, canvas: Tensor, result: Tensor, images: Tensor, each: int, first: int) -> Tensor:
        """The canvas at the size of `result` and finished, as images again."""
        if self._finish.plain and canvas.shape == result.shape:
            return canvas
        large, source = (x.reshape(len(x) // each, -1, *x.shape[-2:]).float() for x in (canvas, images))
        size = result.shape[-1], result.shape[-2]
        try:
            done = finished(large, source, size, self._finish, first)
        except RuntimeError as error:
            if not (canvas.is_cuda and is_out_of_memory(error)):
                raise
            done = finished(large.cpu(), source, size, self._finish, first)
        return done.reshape(result.shape)

    def _bring(self, made: Tensor, result: Tensor) -> None:
        """Copy into result, float32 on the CPU."""
        quay = self._landing(made) if made.is_cuda else None
        result.copy_(made if quay is None else quay.copy_(made))

    def _landing(self, made: Tensor) -> Tensor | None:
        """Memory like `made` that a card writes to several times as fast as to what the system may move; None where the
        system gives no such memory."""
        if self._quay is None or self._quay.shape != made.shape or self._quay.dtype != made.dtype:
            self._quay = None  # Before the next one is made.
            try:
                with torch.inference_mode(False):
                    self._quay = torch.empty(made.shape, dtype=made.dtype, pin_memory=True)
            except RuntimeError as error:
                log.debug("no pinned memory: %s", error)
        return self._quay
