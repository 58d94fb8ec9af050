"""Reuse of unchanged regions: the state that a stream carries from frame to frame.

A frame that repeats the one before needs no network. Of other frames, only the tiles within the receptive field of a
change are computed. A network that caches activations mid-network computes even less, because a change spreads only
half as far in each half. Screen recordings, slides and animation on twos gain much, camera footage nothing.

    state     last changed frame           changed regions of the next one
    FULL      computed in full             are computed from the input -> PARTIAL
    PARTIAL   computed in part             fill the cache, if the network has one -> CACHED
    CACHED    computed in part, cached     are computed from the cache -> CACHED, or PARTIAL where that fails

A frame that changed nearly everywhere leads to FULL from every state; a repeated frame leaves the state as it is.
The cache is filled by the second frame in a row that changed in part, which therefore costs about a full one.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from itertools import pairwise
from math import ceil

import torch
from torch import Tensor

from ...runtime.device.frame_buffers import empty_like
from ..model.model_runner import ModelRunner
from ..model.model_traits import ModelTraits
from ..settings import Reuse, UpscaleStats
from ..tiles import NATIVE_BLOCK, Rect, TilePlan
from .change_detection import changed_pixels, difference_mask, expand_to_tiles
from .dirty_rects import TILE_SIZE, RegionPlan, StageReach, plan_regions

# Beyond this halo a tile is mostly halo: only whole frames are compared.
MAX_TILE_HALO = 32
# Frames in a row that were computed in full, after which outputs are not kept any more.
REUSE_TIMEOUT_FRAMES = 12


class ReuseState(Enum):
    """How the last changed frame was computed, and thus what the next one can reuse."""

    FULL = "full"
    PARTIAL = "partial"
    CACHED = "cached"


class RegionReuse:
    """The state machine of one stream for the reuse of unchanged regions.

    It owns the last frame, the last output and the cached activations.

    halo: receptive field in input pixels. images_per_frame: of the network; only single images are cached.
    `reference` is the input that belongs to the last output. Where changes are within the threshold, its tiles may be
    older than the last frame. Outputs are not kept in camera footage, where the copy would cost a small network a fifth
    of its time; the first frame that could have reused one is then computed in full.
    Frames on a device other than the CPU are not compared: only the tensor of the last frame is a repeat of it.
    """

    def __init__(
        self,
        settings: Reuse,
        stats: UpscaleStats,
        traits: ModelTraits,
        runner: ModelRunner,
        *,
        halo: int,
        images_per_frame: int = 1,
    ) -> None:
        self.enabled, self.state = settings.enabled, ReuseState.FULL
        self.halo = max(halo, traits.exact_halo)
        self._stats, self._runner, self._scale = stats, runner, traits.scale
        self._tracks_tiles = halo <= MAX_TILE_HALO
        # 8-bit steps are not exact in floats; the hundredth keeps a change of exactly one step within a threshold of 1.
        self._threshold = (settings.threshold + 0.01) / 255 if settings.threshold else 0.0
        # The native engine rounds blocks of pixels together, which reaches further than the receptive field. A layer
        # that supports `roi` computes what the next one reads: from all of the halo to none of it, half on average.
        reach, is_exact = traits.exact_halo, traits.supports_roi and traits.exact_halo > 0
        dirty_radius = max(halo, reach - (NATIVE_BLOCK - 1))
        self._single_stage = [StageReach(dirty_radius, ceil(reach / 2) if is_exact else self.halo)]
        stages = runner.roi_stages if self._tracks_tiles and images_per_frame == 1 else ()
        self._cached_stages = [
            StageReach(end - (NATIVE_BLOCK - 1), ceil((end - start) / 2), (end - start) / reach)
            for start, end in pairwise([0, *stages])
        ]
        self._reference: Tensor | None = None  # (k, C, h, w)
        self._reference_version = 0  # of the last frame, where it is on a device and not copied
        self._output: Tensor | None = None  # (k, C, h * scale, w * scale), the network's result alone
        self._full_frames = 0  # in a row, up to the last frame

    @property
    def reference(self) -> Tensor:
        """The input frame (k, C, h, w) whose result is `output`."""
        assert self._reference is not None, "no frame was planned yet"
        return self._reference

    @property
    def output(self) -> Tensor:
        """The network's last result (k, C, h * scale, w * scale), clamped."""
        assert self._output is not None, "no frame was computed in full yet"
        return self._output

    @property
    def keeps_output(self) -> bool:
        """Whether the output of the frame that was planned last is to be kept."""
        return self.enabled and self._full_frames <= REUSE_TIMEOUT_FRAMES

    def plan(self, frame: Tensor) -> RegionPlan | None:
        """Decide which regions of a frame must be computed; None means all of it.

        The frame, (k, C, h, w), becomes the reference.

        A full frame is to be passed to `start_full` and to one of `copy_output` and `take_output`, a plan to `update`.
        """
        plan = self._plan_regions(frame) if self.enabled else None
        if plan is not None and not self.keeps_output:
            plan, self._full_frames = None, 0
        if plan is None:
            self._full_frames += 1
            self.state = ReuseState.FULL
            if self.enabled:
                self._store_reference(frame)
        else:
            self._full_frames = 0
            if plan.stage_rects and self.state is ReuseState.FULL:
                self.state = ReuseState.PARTIAL
        self._count(plan, *frame.shape[-2:])
        return plan

    def reset(self) -> None:
        """Forget the last frame: the next one is computed in full."""
        self._reference = self._output = None
        self.state = ReuseState.FULL
        self._runner.release_cache()

    def start_full(self, *, in_place: bool) -> None:
        """Release what is useless once a frame is computed in full.

        Call it before that frame takes memory.

        in_place: the next output is copied into the memory of the last one.
        """
        if not self.keeps_output:
            self._runner.release_cache()
        if not in_place:
            self._output = None

    def copy_output(self, output: Tensor) -> None:
        """Keep a copy of a full frame's output, which the consumer may change."""
        if not self.keeps_output:
            self._output = None
            return
        if self._output is None or self._output.shape != output.shape:
            self._output = empty_like(output)  # Used again: fresh pages would cost as much as the copy.
        self._output.copy_(output)

    def take_output(self, canvas: Tensor, per_frame: int) -> None:
        """Keep the output of the last frame of a canvas.

        canvas: (k * frames, C, H, W), with k = `per_frame`. A single frame is kept without a copy.
        """
        if self.keeps_output:
            last = canvas[-per_frame:]
            self._output = canvas if len(last) == len(canvas) else empty_like(last).copy_(last)

    def update(
        self, plan: RegionPlan, tiling: TilePlan, run: Callable[[Tensor, Tensor, list[Rect], TilePlan], TilePlan]
    ) -> TilePlan:
        """Update `output` to the frame that was planned.

        run: upscales rectangles: (input, output, rectangles, tiling) -> tiling. Returns the tiling that fit into
        memory.
        """
        rects = plan.stage_rects
        if not rects or (len(rects) > 1 and self._update_from_cache(rects, tiling)):
            return tiling
        return run(self.reference, self.output, rects[-1], tiling)

    def _update_from_cache(self, stage_rects: list[list[Rect]], tiling: TilePlan) -> bool:
        is_uncut = tiling.core_size >= max(self.reference.shape[-2:])
        if is_uncut and self._runner.update_regions(self.reference, stage_rects, self.output, self._scale):
            self.state = ReuseState.CACHED
            return True
        self.state, self._cached_stages = ReuseState.PARTIAL, []
        return False

    def _plan_regions(self, frame: Tensor) -> RegionPlan | None:
        reference = self._reference
        if reference is None or reference.shape != frame.shape or reference.device != frame.device:
            return None
        if frame.device.type != "cpu":  # A comparison would wait for the device.
            return RegionPlan([]) if _is_same_tensor(frame, self._reference_version, reference) else None
        changed = changed_pixels(frame, reference, self._threshold, any_is_full=not self._tracks_tiles)
        if changed is None:
            return None
        if not bool(changed.any()):
            return RegionPlan([])
        if not self._tracks_tiles:
            return None
        updated = expand_to_tiles(changed) if self._threshold else None
        if updated is not None:
            changed = updated & difference_mask(frame, reference, 0.0)
        stages, is_cached = self._single_stage, self.state is ReuseState.CACHED
        if self._cached_stages and self.state is not ReuseState.FULL:
            stages = self._cached_stages
        plan = plan_regions(changed.cpu().numpy(), stages, first_is_full=len(stages) > 1 and not is_cached)
        if plan.pixels >= changed.numel():
            return None
        reference.copy_(frame if updated is None else torch.where(updated, frame, reference))
        return plan

    def _store_reference(self, frame: Tensor) -> None:
        """Keep the frame, as a copy on the CPU: its producer may use its memory again."""
        if frame.device.type != "cpu":
            self._reference, self._reference_version = frame, _version(frame)
            return
        if self._reference is None or self._reference.shape != frame.shape or self._reference.device != frame.device:
            self._reference = empty_like(frame)
        self._reference.copy_(frame)

    def _count(self, plan: RegionPlan | None, height: int, width: int) -> None:
        stats, tiles = self._stats, -(-height // TILE_SIZE) * -(-width // TILE_SIZE)
        stats.frames += 1
        stats.pixels += height * width
        if plan is None:
            stats.tiles_computed += tiles
            stats.pixels_computed += height * width
        elif not plan.stage_rects:
            stats.repeated_frames += 1
        else:
            stats.tiles_computed += plan.tiles
            stats.tiles_reused += tiles - plan.tiles
            stats.pixels_computed += plan.pixels


def _version(tensor: Tensor) -> int:
    """The number of changes of a tensor; -1 if they are not counted."""
    return -1 if tensor.is_inference() else tensor._version


def _is_same_tensor(frame: Tensor, version: int, reference: Tensor) -> bool:
    """Whether a frame is the memory of the last one, unchanged since."""
    return frame.data_ptr() == reference.data_ptr() and version == _version(frame) != -1
