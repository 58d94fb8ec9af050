"""Smoothers of camera paths at equal crop: what each leaves of shake that none was made for.

    python bench/smoothers.py [--paths 2] [--seconds 3] [--clip bikes.mp4 ...] [--weights FILE] > smoothers.json

Paths of every kind (core/training/paths.py, seeds that training does not draw) are smoothed by the learned smoother
within a budget of picture. What of it was used, at the frame that needs most, is what every other smoother may use too:
its period is made as long as that allows. Told is the root mean square acceleration of the frame's corners that is
left, in pixels of 1280x720 per frame squared, as the geometric mean over paths. The paths of clips are measured, shot
by shot, and told of apart: real cameras, which no smoother here has learnt from. The JSON goes to stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from steadyscale.core import VideoClip, estimate_motion, flow_model
from steadyscale.core.path.smooth import smooth
from steadyscale.core.path.smoothers.gaussian import gaussian
from steadyscale.core.path.smoothers.kalman import kalman, kalman_lagged
from steadyscale.core.path.smoothers.whittaker import whittaker
from steadyscale.core.path.trajectory import Trajectory
from steadyscale.core.training.smoother.losses import fidelity, temporal
from steadyscale.core.training.smoother.synthetic_paths import ASPECT, PathKind, camera_path
from steadyscale.models import load_path_smoother
from steadyscale.models.smoother.path_net import corner_displacements, crop_margin, margin_usage, tangent_scale
from steadyscale.models.smoother.path_smoother import WEIGHTS_PATH, PathSmoother, simulate_live

FPS, FRAME_COUNT, SEED = 30.0, 160, 20_000
PERIODS_FRAMES = np.geomspace(4, 300, 16)  # that a rival may have, in frames
ZOOMS, LOOK_AHEADS_FRAMES = (1.05, 1.1, 1.2), (0, 5, 15)
MIN_SHOT_FRAMES = 40  # frames of a shot whose camera is followed
SHAKY_KINDS = [kind for kind in PathKind if kind is not PathKind.TRIPOD]
Smoother = Callable[[np.ndarray, float], np.ndarray]


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--paths", type=int, default=2, help="of each kind")
    options.add_argument("--seconds", type=float, default=3.0)
    options.add_argument("--clip", action="append", default=[], help="a video whose camera is followed, repeatable")
    options.add_argument("--weights", default=WEIGHTS_PATH, help="of the learned smoother (default: the shipped ones)")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    network, period = load_path_smoother(arguments.weights), arguments.seconds * FPS
    paths = [
        camera_path(np.random.default_rng([SEED, i, list(PathKind).index(kind)]), kind, FRAME_COUNT, FPS)
        for kind in SHAKY_KINDS
        for i in range(arguments.paths)
    ]
    report = {"fps": FPS, "frames": FRAME_COUNT, "paths": len(paths), "seconds": arguments.seconds}
    report["quadratic"] = compare_closed_form(network, paths, period)
    report |= evaluate_smoothers(network, paths, period)
    if real := [path for clip in arguments.clip for path in measure_camera_paths(clip)]:
        report["measured"] = {
            "clips": len(arguments.clip),
            "shots": len(real),
            **evaluate_smoothers(network, real, period),
        }
    print(json.dumps(report, indent=1))


def measure_camera_paths(clip: str) -> Iterator[np.ndarray]:
    """(n, 8): the camera's path in each shot of a video that is long enough, in half widths, as smoothers see it."""
    film = VideoClip(clip)
    whole = Trajectory.of(estimate_motion(film, flow_model()))
    half = film.info.width / 2
    for shot in whole.shots:
        seen: list[np.ndarray] = []

        def record_path(values: np.ndarray, _: float, recorded: list[np.ndarray] = seen) -> np.ndarray:
            recorded.append(values.copy())
            return values

        alone = replace(whole, poses=whole.poses[shot], shots=[slice(0, shot.stop - shot.start)], rows=None)
        if shot.stop - shot.start >= MIN_SHOT_FRAMES:
            smooth(alone, record_path)
            yield seen[0] * [1 / half, 1 / half, 1, 1, 1, 1, half, half]


def evaluate_smoothers(network: PathSmoother, paths: list[np.ndarray], period: float) -> dict[str, Any]:
    """For each budget, offline and with each look-ahead: what the learned smoother and its rivals leave."""
    report: dict[str, Any] = {}
    for zoom in ZOOMS:
        room = crop_margin(zoom)
        scale = (tangent_scale(2, 2 / ASPECT, room)).numpy()

        def smooth_offline(path: np.ndarray, period: float) -> np.ndarray:
            return network.offline(torch.from_numpy(path)[None], period, ASPECT)[0].numpy()

        rivals = {"whittaker": whittaker, "kalman": kalman, "gaussian": gaussian}
        report[f"offline, zoom {zoom}"] = compare_smoothers(
            [p * scale for p in paths], smooth_offline, rivals, period, room
        )
        for ahead in LOOK_AHEADS_FRAMES:

            def smooth_live(path: np.ndarray, period: float, ahead: int = ahead) -> np.ndarray:
                return simulate_live(network.live, torch.from_numpy(path)[None], period, ahead, ASPECT)[0].numpy()

            lagged = {
                "kalman, fixed lag": lambda path, period, ahead=ahead: (
                    fixed_lag_weights(len(path), period, ahead) @ path
                )
            }
            report[f"{ahead} frames ahead, zoom {zoom}"] = compare_smoothers(
                [p * scale for p in paths], smooth_live, lagged, period, room
            )
        print(zoom, file=sys.stderr)
    return report


def compare_closed_form(network: PathSmoother, paths: list[np.ndarray], period: float) -> dict[str, float]:
    """Where nothing is cropped: the closed form's cost, and by how much the learned smoother's is higher."""
    scale = tangent_scale(2, 2 / ASPECT, crop_margin(None))
    ratios = []
    for path in paths:
        p = (torch.from_numpy(path) * scale)[None]
        found, best = network.offline(p, period, ASPECT), torch.from_numpy(whittaker(p[0].numpy(), period))[None]
        cost = [float(fidelity(z, p, ASPECT) + temporal(z, period, ASPECT)) for z in (found, best)]
        ratios.append(cost[0] / cost[1])
    return {"cost against the closed form, mean": round(float(np.mean(ratios)), 4), "worst": round(max(ratios), 4)}


def compare_smoothers(
    paths: list[np.ndarray], learned: Smoother, rivals: dict[str, Smoother], period: float, margin: float
) -> dict[str, float]:
    """Learned and rivals at the crop that the learned one uses; and how often they were better, over the paths."""
    left: dict[str, list[float]] = {name: [] for name in ("learned", *rivals)}
    used, seconds = [], 0.0
    for path in paths:
        begun = time.process_time()
        smooth = learned(path, period)
        seconds += time.process_time() - begun
        used.append(peak_crop_usage(smooth, path))
        left["learned"].append(corner_acceleration(smooth, margin))
        for name, rival in rivals.items():
            left[name].append(corner_acceleration(smooth_at_equal_crop(rival, path, used[-1]), margin))
    rows = {name: round(float(np.exp(np.mean(np.log(values)))), 4) for name, values in left.items()}
    wins = {f"better than {name}": float(np.mean(np.array(left["learned"]) < np.array(left[name]))) for name in rivals}
    return {
        "share of the budget used, mean": round(float(np.mean(used)), 3),
        "worst": round(max(used), 3),
        "cpu ms a frame": round(1000 * seconds / sum(map(len, paths)), 3),
        **rows,
        **{name: round(share, 2) for name, share in wins.items()},
    }


def smooth_at_equal_crop(smoother: Smoother, path: np.ndarray, max_usage: float) -> np.ndarray:
    """Smoothed over as long a period as needs no more room than `most` in any frame, and that room is used up: between
    two periods of the list lie their mixtures.
    """
    longer = None
    for period in PERIODS_FRAMES[::-1]:
        smooth = smoother(path, float(period))
        if peak_crop_usage(smooth, path) <= max_usage:
            break
        longer = smooth
    else:
        smooth = path
    if longer is None:
        return smooth
    low, high = 0.0, 1.0
    for _ in range(12):
        share = (low + high) / 2
        low, high = (
            (share, high) if peak_crop_usage(smooth + share * (longer - smooth), path) <= max_usage else (low, share)
        )
    return smooth + low * (longer - smooth)


@cache
def fixed_lag_weights(frames: int, period: float, look_ahead: int) -> np.ndarray:
    """(frames, frames): what each counts for each where Kalman's smoother knows `ahead` more, as in core/live.py."""
    reach, weights = int(np.ceil(2 * period)), np.zeros((frames, frames))
    known: dict[tuple[int, int], np.ndarray] = {}
    for at in range(frames):
        start, stop = max(0, at - reach), min(frames, at + look_ahead + 1)
        key = stop - start, at - start
        if key not in known:
            known[key] = kalman_lagged(np.eye(key[0]), period)[key[1]]
        weights[at, start:stop] = known[key]
    return weights


def peak_crop_usage(smooth: np.ndarray, path: np.ndarray) -> float:
    """The share of the room that the frame needs which is moved most."""
    return float(margin_usage(torch.from_numpy(smooth - path), ASPECT).max())


def corner_acceleration(smooth: np.ndarray, margin: float) -> float:
    """Root mean square acceleration of the corners, in pixels of 1280x720 per frame squared."""
    moves = corner_displacements(torch.from_numpy(np.diff(smooth, 2, axis=0)), ASPECT).view(-1, 4, 2).numpy() * margin
    return float(np.sqrt(((moves * [640, 360]) ** 2).sum(axis=-1).mean())) + 1e-12


if __name__ == "__main__":
    main()
