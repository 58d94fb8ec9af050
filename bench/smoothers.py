"""Compare path smoothers at equal crop on synthetic and measured camera paths.

    python bench/smoothers.py [--paths 2] [--seconds 3] [--clip bikes.mp4 ...] [--weights FILE] > smoothers.json

Paths of every kind (core/training/smoother/synthetic_paths.py, with seeds that training does not use) are smoothed by
the learned smoother within a maximum zoom. The crop that it uses, at the frame that needs most, is the limit for every
other smoother: its period is as long as that allows. The result is the root mean square acceleration of the frame's
corners, in pixels of 1280x720 per frame squared, as the geometric mean over paths. The paths of clips are measured shot
by shot and reported separately: real cameras, on which no smoother was trained. The JSON goes to stdout.

`--budget` compares what users get instead: the whole correction, with the exact limit of the zoom, by the learned
smoother, Kalman and L1, at each max_zoom of BUDGET_ZOOMS.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import torch
from steadyscale.core import VideoClip, estimate_motion, flow_model, geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.path.trajectory import Trajectory
from steadyscale.core.smoothing.smooth import Smoothing
from steadyscale.core.smoothing.smoothers.gaussian import gaussian
from steadyscale.core.smoothing.smoothers.kalman import kalman, kalman_lagged
from steadyscale.core.smoothing.smoothers.whittaker import whittaker
from steadyscale.core.smoothing.stabilize import plan_correction
from steadyscale.core.training.smoother.losses import fidelity, temporal
from steadyscale.core.training.smoother.measured_paths import shot_paths
from steadyscale.core.training.smoother.synthetic_paths import ASPECT, PathKind, camera_path
from steadyscale.models import load_path_smoother
from steadyscale.models.smoother.path_net import corner_displacements, crop_margin, margin_usage, tangent_scale
from steadyscale.models.smoother.path_smoother import WEIGHTS_PATH, PathSmoother, simulate_live

FPS, FRAME_COUNT, SEED = 30.0, 160, 20_000
PERIODS_FRAMES = np.geomspace(4, 300, 16)  # tried for the other smoothers
ZOOMS, LOOK_AHEADS_FRAMES = (1.05, 1.1, 1.2), (0, 5, 15)
BUDGET_ZOOMS = (1.05, 1.1, 1.3)
BUDGET_INFO = ClipInfo(1280, 720, Fraction(FPS), FRAME_COUNT)
SHAKY_KINDS = [kind for kind in PathKind if kind is not PathKind.TRIPOD]
Smoother = Callable[[np.ndarray, float], np.ndarray]


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--paths", type=int, default=2, help="of each kind")
    options.add_argument("--seconds", type=float, default=3.0)
    options.add_argument("--clip", action="append", default=[], help="a video whose camera is followed, repeatable")
    options.add_argument("--budget", action="store_true", help="compare whole corrections, within a zoom")
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
    report: dict[str, Any] = {"fps": FPS, "frames": FRAME_COUNT, "paths": len(paths), "seconds": arguments.seconds}
    real = [path for clip in arguments.clip for path in measure_camera_paths(clip)]
    if arguments.budget:
        report["budget"] = compare_within_budget(network, paths, arguments.seconds)
        if real:
            report["measured"] = {"shots": len(real), **compare_within_budget(network, real, arguments.seconds)}
        print(json.dumps(report, indent=1))
        return
    report["quadratic"] = compare_closed_form(network, paths, period)
    report |= evaluate_smoothers(network, paths, period)
    if real:
        report["measured"] = {
            "clips": len(arguments.clip),
            "shots": len(real),
            **evaluate_smoothers(network, real, period),
        }
    print(json.dumps(report, indent=1))


def measure_camera_paths(clip: str) -> list[np.ndarray]:
    """Paths (n, 8) of each long enough shot of a video, in half widths."""
    return shot_paths(Trajectory.of(estimate_motion(VideoClip(clip), flow_model())))


def compare_within_budget(network: PathSmoother, paths: list[np.ndarray], seconds: float) -> dict[str, Any]:
    """Compare the acceleration that complete corrections leave.

    Also reports how often the learned smoother leaves less.
    """
    report: dict[str, Any] = {}
    for zoom in BUDGET_ZOOMS:
        methods = {
            "learned": network.make_smoother(BUDGET_INFO.width, BUDGET_INFO.height, zoom),
            "kalman": Smoothing.KALMAN,
            "l1": Smoothing.L1,
        }
        left = {
            name: np.array([acceleration_left(path, method, seconds, zoom) for path in paths])
            for name, method in methods.items()
        }
        means = {name: round(float(np.exp(np.log(values).mean())), 4) for name, values in left.items()}
        wins = {
            f"better than {name}": round(float((left["learned"] < left[name]).mean()), 2) for name in ("kalman", "l1")
        }
        report[f"max_zoom {zoom}"] = means | wins
        print(zoom, file=sys.stderr)
    return report


def acceleration_left(path: np.ndarray, method: Any, seconds: float, zoom: float) -> float:
    """RMS acceleration of the corrected frame's corners.

    In pixels of 1280x720 per frame squared.
    """
    half = BUDGET_INFO.width / 2
    poses = geometry.matrices_from_tangents(path * [half, half, 1, 1, 1, 1, 1 / half, 1 / half])
    measured = Trajectory(poses, [slice(0, len(path))], BUDGET_INFO)
    steady = measured.corrected(plan_correction(measured, method, seconds, max_zoom=zoom)).poses
    corners = np.array([[x, y] for x in (-half, half) for y in (-BUDGET_INFO.height / 2, BUDGET_INFO.height / 2)])
    to_middle = geometry.inverse(steady[1:-1])
    before, after = (
        np.stack([geometry.transform_points(step, corners) for step in to_middle @ poses])
        for poses in (steady[:-2], steady[2:])
    )
    return float(np.sqrt(((before + after - 2 * corners) ** 2).sum(axis=-1).mean())) + 1e-12


def evaluate_smoothers(network: PathSmoother, paths: list[np.ndarray], period: float) -> dict[str, Any]:
    """Compare smoothers for each zoom, offline and with each look-ahead."""
    report: dict[str, Any] = {}
    for zoom in ZOOMS:
        margin = crop_margin(zoom)
        scale = (tangent_scale(2, 2 / ASPECT, margin)).numpy()

        def smooth_offline(path: np.ndarray, period: float) -> np.ndarray:
            return network.offline(torch.from_numpy(path)[None], period, ASPECT)[0].numpy()

        rivals = {"whittaker": whittaker, "kalman": kalman, "gaussian": gaussian}
        report[f"offline, zoom {zoom}"] = compare_smoothers(
            [p * scale for p in paths], smooth_offline, rivals, period, margin
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
                [p * scale for p in paths], smooth_live, lagged, period, margin
            )
        print(zoom, file=sys.stderr)
    return report


def compare_closed_form(network: PathSmoother, paths: list[np.ndarray], period: float) -> dict[str, float]:
    """Ratio of the learned smoother's cost to the closed-form solution's.

    Without a crop limit.
    """
    scale = tangent_scale(2, 2 / ASPECT, crop_margin(None))
    ratios = []
    for path in paths:
        p = (torch.from_numpy(path) * scale)[None]
        learned, optimal = network.offline(p, period, ASPECT), torch.from_numpy(whittaker(p[0].numpy(), period))[None]
        cost = [float(fidelity(z, p, ASPECT) + temporal(z, period, ASPECT)) for z in (learned, optimal)]
        ratios.append(cost[0] / cost[1])
    return {"cost against the closed form, mean": round(float(np.mean(ratios)), 4), "worst": round(max(ratios), 4)}


def compare_smoothers(
    paths: list[np.ndarray], learned: Smoother, rivals: dict[str, Smoother], period: float, margin: float
) -> dict[str, float]:
    """Compare the mean acceleration of smoothers at equal crop.

    Also reports how often the learned smoother is better.
    """
    accelerations: dict[str, list[float]] = {name: [] for name in ("learned", *rivals)}
    used, seconds = [], 0.0
    for path in paths:
        start = time.process_time()
        smoothed = learned(path, period)
        seconds += time.process_time() - start
        used.append(peak_crop_usage(smoothed, path))
        accelerations["learned"].append(corner_acceleration(smoothed, margin))
        for name, rival in rivals.items():
            accelerations[name].append(corner_acceleration(smooth_at_equal_crop(rival, path, used[-1]), margin))
    rows = {name: round(float(np.exp(np.mean(np.log(values)))), 4) for name, values in accelerations.items()}
    best = np.array(accelerations["learned"])
    wins = {f"better than {name}": float(np.mean(best < np.array(accelerations[name]))) for name in rivals}
    return {
        "share of the budget used, mean": round(float(np.mean(used)), 3),
        "worst": round(max(used), 3),
        "cpu ms a frame": round(1000 * seconds / sum(map(len, paths)), 3),
        **rows,
        **{name: round(share, 2) for name, share in wins.items()},
    }


def smooth_at_equal_crop(smoother: Smoother, path: np.ndarray, max_usage: float) -> np.ndarray:
    """Smooth with the longest period whose peak crop usage is at most `max_usage`.

    Between two periods of the list, the results are interpolated so that the crop is used completely.
    """
    longer = None
    for period in PERIODS_FRAMES[::-1]:
        shorter = smoother(path, float(period))
        if peak_crop_usage(shorter, path) <= max_usage:
            break
        longer = shorter
    else:
        shorter = path
    if longer is None:
        return shorter
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        fits = peak_crop_usage(shorter + middle * (longer - shorter), path) <= max_usage
        low, high = (middle, high) if fits else (low, middle)
    return shorter + low * (longer - shorter)


@cache
def fixed_lag_weights(frames: int, period: float, look_ahead: int) -> np.ndarray:
    """Weights (frames, frames) of the Kalman smoother with a look-ahead.

    As in core/warping/live.py.
    """
    history, weights = int(np.ceil(2 * period)), np.zeros((frames, frames))
    rows: dict[tuple[int, int], np.ndarray] = {}
    for index in range(frames):
        start, stop = max(0, index - history), min(frames, index + look_ahead + 1)
        key = stop - start, index - start
        if key not in rows:
            rows[key] = kalman_lagged(np.eye(key[0]), period)[key[1]]
        weights[index, start:stop] = rows[key]
    return weights


def peak_crop_usage(smooth: np.ndarray, path: np.ndarray) -> float:
    """Maximum over frames of the fraction of the crop margin that is used."""
    return float(margin_usage(torch.from_numpy(smooth - path), ASPECT).max())


def corner_acceleration(smooth: np.ndarray, margin: float) -> float:
    """RMS acceleration of the corners, in pixels of 1280x720 per frame squared."""
    moves = corner_displacements(torch.from_numpy(np.diff(smooth, 2, axis=0)), ASPECT).view(-1, 4, 2).numpy() * margin
    return float(np.sqrt(((moves * [640, 360]) ** 2).sum(axis=-1).mean())) + 1e-12


if __name__ == "__main__":
    main()
