"""Benchmark stabilization against vid.stab and vidstab, with known camera paths.

    python bench/stabilize.py [--kinds hand,cut,...] [--frames 150] > stabilize.json
    python bench/stabilize.py --hard [--kinds jello,flashes,...] [--frames 90] > hard.json
    python bench/stabilize.py --layered [--kinds blobs,swimming,...] [--frames 90] > layered.json

Each contender is a process that converts one file to another. The result is measured independently of them: SIFT
features of every output frame are matched to the filmed scene, which gives the path of the frames across the scene; its
deviation from smooth motion is the jitter (core/metrics.py), in pixels over the frame. The crop is reported too,
because more crop reduces any jitter, and the fraction of frames with more than a pixel of non-source content at the
edge: a contender with less crop may have filled it with black or with an older frame. Contenders that are not installed
are skipped.
The hard clips (hard_clips.py) cannot be registered. Corrections, and what vid.stab moves each frame by, are composed
with the true path of the camera; the jitter is that above 0.8 Hz. No clip should come out worse than it went in. Clips
with layers, or a subject, have a row for each that is held, with the jitter of each layer.
The layered clips (layered_clips.py) have no single path: every point of the result is traced. Their table compares the
homographies alone with the mesh.
The JSON goes to stdout, progress to stderr. CPU seconds count; on a shared machine the wall clock measures other load.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from hard_clips import HARD_KINDS, HardClip, fisheye_jitter
from hard_clips import HEIGHT as HARD_HEIGHT
from hard_clips import WIDTH as HARD_WIDTH
from layered_clips import LAYERED_KINDS, LayeredClip
from steadyscale.core import ClipInfo, Correction, Hold, Motion, TensorClip, geometry
from steadyscale.core.crop.zoom import zooms_to_fill
from steadyscale.core.metrics import jitter
from steadyscale.core.motion.held.held_motion import hold_motion
from steadyscale.core.smoothing.mesh_smooth import MeshWarp
from steadyscale.core.stabilize import StabilizeSettings, correct_motion, measure_motion
from steadyscale.core.video.open import open_clip
from steadyscale.core.warping.sampling_map import sampling_maps
from synthetic_clip import FPS, HEIGHT, KINDS, WIDTH, SyntheticClip
from vidstab_peer import find_vidstab, vidstab_matrices

PYTHON = sys.executable
HARD_SIZE = (HARD_WIDTH, HARD_HEIGHT)
VIDSTAB_CODE = "import sys, vidstab; vidstab.VidStab().stabilize(sys.argv[1], sys.argv[2], smoothing_window=30)"


def find_contenders() -> dict[str, list[list[str]]]:
    """Name -> commands, run in sequence; IN, OUT and TMP are placeholders for files."""
    ours = [str(Path(PYTHON).with_name("steadyscale")), "stabilize", "IN", "OUT", "--quiet"]
    found = {"steadyscale": [ours]}
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg and b"vidstabdetect" in subprocess.run([ffmpeg, "-filters"], capture_output=True, check=False).stdout:
        start = [ffmpeg, "-hide_banner", "-loglevel", "error", "-y", "-i", "IN"]
        found["vid.stab"] = [
            [*start, "-vf", "vidstabdetect=result=TMP", "-f", "null", "-"],
            [*start, "-vf", "vidstabtransform=input=TMP:smoothing=30:optzoom=1", "-crf", "16", "OUT"],
        ]
    if importlib.util.find_spec("vidstab"):
        found["vidstab (PyPI)"] = [[PYTHON, "-c", VIDSTAB_CODE, "IN", "OUT"]]
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--hard", action="store_true", help="clips on which stabilizers go wrong")
    options.add_argument("--layered", action="store_true", help="clips with depth or swimming textures")
    options.add_argument("--kinds")
    options.add_argument("--frames", type=int)
    arguments = options.parse_args()
    kinds = LAYERED_KINDS if arguments.layered else HARD_KINDS if arguments.hard else KINDS
    arguments.kinds = arguments.kinds or ",".join(kinds)
    arguments.frames = arguments.frames or (90 if arguments.hard or arguments.layered else 150)
    if arguments.hard or arguments.layered:
        if arguments.layered:
            rows = {
                kind: measure_layered_clip(LayeredClip(kind, arguments.frames)) for kind in arguments.kinds.split(",")
            }
        else:
            rows = {kind: measure_hard_clip(HardClip(kind, arguments.frames)) for kind in arguments.kinds.split(",")}
        report = {"machine": describe_machine(), "frames": arguments.frames, "size": list(HARD_SIZE), "clips": rows}
        print(json.dumps(report, indent=1))
        return
    report: dict = {"machine": describe_machine(), "frames": arguments.frames, "size": [WIDTH, HEIGHT], "clips": {}}
    with tempfile.TemporaryDirectory() as folder:
        for kind in arguments.kinds.split(","):
            clip, source = SyntheticClip(kind, arguments.frames), Path(folder) / "in.mp4"
            write_clip(clip, source)
            rows = {"left alone": {"jitter_px": measure_jitter(clip, clip.poses)}}
            for name, commands in find_contenders().items():
                target = Path(folder) / "out.mp4"
                cost = run_commands(commands, source, target, Path(folder) / "motion", arguments.frames)
                rows[name] = {**measure_quality(clip, target), **cost}
                print(kind, name, rows[name], file=sys.stderr)
                target.unlink(missing_ok=True)
            report["clips"][kind] = rows
    print(json.dumps(report, indent=1))


def measure_hard_clip(clip: HardClip) -> dict[str, Any]:
    """Measure jitter above 0.8 Hz in pixels, zoom, shots and CPU time.

    Jitter is measured before and after stabilization.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_clip(clip, Path(folder) / "in.mp4", HARD_SIZE)
        start = time.process_time()
        motion = measure_motion(open_clip(Path(folder) / "in.mp4"))
        correction = correct_motion(motion)
        cpu = time.process_time() - start
        ffmpeg = find_vidstab()
        peer = vidstab_matrices(ffmpeg, Path(folder) / "in.mp4", clip.length, Path(folder)) if ffmpeg else None
    if clip.kind == "fisheye":
        return measure_fisheye(clip, correction, cpu)
    true_poses, info = clip.true_poses(), motion.info
    matrices = {"input_px": None, "output_px": correction.matrices} | ({} if peer is None else {"vidstab_px": peer})
    report = {}
    for name, moves in matrices.items():
        poses = true_poses if moves is None else geometry.normalize(true_poses @ geometry.inverse(moves))
        squares = [jitter(poses[shot], info, 0.46) ** 2 for shot in clip.shots]
        report[name] = round(float(np.sqrt(np.mean(squares))), 3)
    report |= {"zoom": round(float(zooms_to_fill(correction).max()), 3), "shots": len(motion.shots)}
    report["cpu_ms_per_frame"] = round(1000 * cpu / clip.length, 1)
    if layers := clip.layer_poses():
        report["held"] = measure_held(clip, motion, layers)
    print(clip.kind, report, file=sys.stderr)
    return report


def measure_layered_clip(clip: LayeredClip) -> dict[str, dict[str, float]]:
    """Displayed motion of the input, with homographies and with a mesh.

    Above 0.8 Hz, in pixels, by layer; with zoom and CPU time. line_bend_px: the largest distance by which a line of the
    scene is bent.
    """
    row = clip.displayed_motion(None) | {"line_bend_px": clip.line_bend(None)}
    report = {"input": {name: round(value, 3) for name, value in row.items()}}
    with tempfile.TemporaryDirectory() as folder:
        write_clip(clip, Path(folder) / "in.mp4", HARD_SIZE)
        for mesh in MeshWarp:
            settings, start = StabilizeSettings(mesh=mesh), time.process_time()
            correction = correct_motion(measure_motion(open_clip(Path(folder) / "in.mp4"), settings), settings)
            cpu = 1000 * (time.process_time() - start) / clip.length
            row = clip.displayed_motion(correction) | {"zoom": float(zooms_to_fill(correction).max())}
            row |= {"line_bend_px": clip.line_bend(correction), "cpu_ms_per_frame": cpu}
            report[f"mesh {mesh.value}"] = {name: round(value, 3) for name, value in row.items()}
    print(clip.kind, report, file=sys.stderr)
    return report


def measure_fisheye(clip: HardClip, correction: Correction, cpu: float) -> dict[str, float | int]:
    """As `measure_hard_clip`, along the rays of the lens."""
    x, y = np.meshgrid(np.linspace(-0.45, 0.45, 9) * HARD_WIDTH, np.linspace(-0.45, 0.45, 7) * HARD_HEIGHT)
    points, center = np.stack([x.ravel(), y.ravel()], axis=-1), (np.array(HARD_SIZE) - 1) / 2
    unchanged = np.tile(points, (clip.length, 1, 1))
    corrected = np.stack([mapping.map_points(points + center) - center for mapping in sampling_maps(correction)])
    report = {
        name: round(fisheye_jitter(clip, sources, 0.46), 3)
        for name, sources in (("input_px", unchanged), ("output_px", corrected))
    }
    report |= {"zoom": round(float(zooms_to_fill(correction).max()), 3), "shots": len(correction.shots)}
    report["cpu_ms_per_frame"] = round(1000 * cpu / clip.length, 1)
    print(clip.kind, report, file=sys.stderr)
    return report


def measure_held(clip: HardClip, motion: Motion, layers: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Jitter of each layer in pixels, by what is held."""
    frames = np.stack(list(clip.frames()))[..., ::-1].copy()
    source = TensorClip(torch.from_numpy(frames).movedim(-1, 1).float() / 255, Fraction(FPS))
    report: dict[str, dict[str, float]] = {}
    for hold in (Hold.REGION,) if "subject" in layers else (Hold.BACKGROUND, Hold.FOREGROUND):
        correction = correct_motion(hold_motion(source, motion, hold, region=clip.subject_region()))
        report[hold.value] = {
            name: round(jitter(geometry.normalize(poses @ geometry.inverse(correction.matrices)), motion.info, 0.46), 3)
            for name, poses in layers.items()
        }
    return report


def describe_machine() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {"cpu": cpu, "cores": str(os.cpu_count()), "python": platform.python_version(), "opencv": cv2.__version__}


def write_clip(
    clip: SyntheticClip | HardClip | LayeredClip, path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> None:
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", rate=FPS, options={"crf": "12", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for frame in clip.frames():
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="bgr24")))
        sink.mux(stream.encode(None))


def run_commands(commands: list[list[str]], source: Path, target: Path, scratch: Path, frames: int) -> dict[str, float]:
    """CPU milliseconds and frames per second of all commands, and peak MiB of one."""
    names = {"IN": str(source), "OUT": str(target)}
    cpu, peak, start = 0.0, 0, time.monotonic()
    for command in commands:
        words = [names.get(word, word.replace("TMP", str(scratch))) for word in command]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ended = 0
        while not ended:
            # Sampled while it runs: the system's figure at the end is at least that of this process.
            peak = max(peak, peak_memory_mib(process.pid))
            time.sleep(0.05)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if status:
            print(f"{words[0]} failed with {os.waitstatus_to_exitcode(status)}", file=sys.stderr)
        cpu += usage.ru_utime + usage.ru_stime
    wall = time.monotonic() - start
    return {"cpu_ms_per_frame": round(1000 * cpu / frames, 1), "fps": round(frames / wall, 1), "peak_mib": peak}


def peak_memory_mib(pid: int) -> int:
    """Peak resident memory of a process in MiB; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)


def measure_quality(clip: SyntheticClip, path: Path) -> dict[str, float | int | None]:
    """Frame count, jitter in pixels, zoom and share of frames with a border."""
    if not path.exists():
        return {"frames": 0, "jitter_px": None, "zoom": None, "bordered_share": None}
    estimator = PoseEstimator(clip)
    with av.open(str(path)) as container:
        frames = enumerate(container.decode(video=0))
        poses = np.stack([estimator.estimate_pose(i, frame.to_ndarray(format="bgr24")) for i, frame in frames])
    true_poses = clip.poses[: len(poses)]
    scale, true_scale = (np.sqrt(np.abs(np.linalg.det(p[:, :2, :2]))) for p in (poses, true_poses))
    zoom = float(np.median(true_scale / scale))
    matrices = geometry.normalize(np.linalg.inv(poses) @ true_poses)
    required = zooms_to_fill(Correction(matrices, [], ClipInfo(WIDTH, HEIGHT, Fraction(FPS), len(poses))))
    bordered = float(np.mean(required > 1 + 2 / HEIGHT))
    report = {"frames": len(poses), "jitter_px": measure_jitter(clip, poses), "zoom": round(zoom, 3)}
    return {**report, "bordered_share": round(bordered, 2)}


def measure_jitter(clip: SyntheticClip, poses: np.ndarray) -> float:
    info = ClipInfo(WIDTH, HEIGHT, Fraction(FPS), len(poses))
    if min(shot.stop - shot.start for shot in clip.shots) <= 64:
        raise SystemExit(f"{clip.kind}: shots of 64 frames and fewer are too short to measure; give more --frames")
    return round(float(np.sqrt(np.mean([jitter(poses[shot], info, 0.7) ** 2 for shot in clip.shots]))), 3)


class PoseEstimator:
    """Registers frames to the filmed scene.

    A frame that fails gets the pose of the previous one.
    """

    def __init__(self, clip: SyntheticClip) -> None:
        self._clip, self._sift = clip, cv2.SIFT_create(2500, contrastThreshold=0.01)
        self._last_pose = np.eye(3)
        self._scene_features = [self._sift.detectAndCompute(scene, None) for scene in clip.scenes]

    def estimate_pose(self, i: int, frame: np.ndarray) -> np.ndarray:
        light = 4.0 if self._clip.kind == "low light" else 1.0
        frame = cv2.GaussianBlur(np.clip(frame * light, 0, 255).astype(np.uint8), (0, 0), 1.2 if light > 1 else 0.5)
        scene = self._clip.scene_at(i)
        index = next(n for n, s in enumerate(self._clip.scenes) if s is scene)
        scene_keypoints, scene_descriptors = self._scene_features[index]
        keypoints, descriptors = self._sift.detectAndCompute(frame, None)
        if descriptors is None or len(descriptors) < 8:
            return self._last_pose
        pairs = cv2.BFMatcher().knnMatch(descriptors, scene_descriptors, k=2)
        good = [a for a, b in pairs if a.distance < 0.75 * b.distance]
        if len(good) < 8:
            return self._last_pose
        center, scene_center = ((np.array(image.shape[1::-1]) - 1) / 2 for image in (frame, scene))
        src_points = np.array([keypoints[m.queryIdx].pt for m in good]) - center
        dst_points = np.array([scene_keypoints[m.trainIdx].pt for m in good]) - scene_center
        pose, _ = cv2.findHomography(src_points, dst_points, cv2.USAC_MAGSAC, 1.5, maxIters=5000, confidence=0.999)
        if pose is not None:
            self._last_pose = pose / pose[2, 2]
        return self._last_pose


if __name__ == "__main__":
    main()
