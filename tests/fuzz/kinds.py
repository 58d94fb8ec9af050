"""Kinds of input: files that are right, how they are mutated, and what must hold for a mutated one that is accepted."""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import mutators
import numpy as np
import torch
from ncnn_writer import write_rrdb, write_srvgg
from numbered_video import make_video
from PIL import Image
from safetensors.torch import save_file
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.jobs.state.layout import JobFolder
from steadyscale.core.path.motion import Motion
from steadyscale.core.path.serialize import load_path, save_path
from steadyscale.core.path.trajectory import Correction, Trajectory
from steadyscale.core.remote.workflow import RunError, read_workflow
from steadyscale.core.smoothing.stabilize import plan_correction
from steadyscale.core.training import TrainingError
from steadyscale.core.training.config.schema import TrainConfig, config_from, read_config
from steadyscale.core.training.config.toml_dataclass import to_table, to_toml
from steadyscale.core.video.decode.corruption_report import OnDamage
from steadyscale.core.video.decode.timestamps import read_timestamps
from steadyscale.core.video.open import open_clip, write_clip
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, WeightsError, load_upscaler
from steadyscale.models.arch.separable import to_separable

Mutate = Callable[[Path, random.Random], bytes]

REFUSALS = (ClipError, WeightsError, TrainingError, RunError)
"""The errors that users get as one line."""

MAX_PIXELS = 4_000_000


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    make_files: writes the corpus into a folder. mutate: the bytes of a mutated file. check: reads a file as the product
    does; raises one of REFUSALS, or AssertionError for a result that is wrong.
    """

    make_files: Callable[[Path], list[Path]]
    mutate: Mutate
    check: Callable[[Path, random.Random], None]


def mutate_binary(path: Path, rng: random.Random) -> bytes:
    return mutators.mutate_bytes(path.read_bytes(), rng)


# ---- images ----


def make_images(folder: Path) -> list[Path]:
    levels = np.arange(24 * 20 * 4, dtype=np.uint16).reshape(24, 20, 4) * 31
    bytes_ = (levels % 251).astype(np.uint8)
    files: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "rgb.png": (Image.fromarray(bytes_[..., :3]), {}),
        "rgba.png": (Image.fromarray(bytes_), {}),
        "gray16.png": (Image.fromarray(levels[..., 0]), {}),
        "palette.png": (Image.fromarray(bytes_[..., :3]).quantize(16), {"transparency": 3}),
        "photo.jpg": (Image.fromarray(bytes_[..., :3]), {"exif": _exif(6)}),
        "gray.jpg": (Image.fromarray(bytes_[..., 0]), {"progressive": True}),
        "lossless.webp": (Image.fromarray(bytes_), {"lossless": True}),
        "lossy.webp": (Image.fromarray(bytes_[..., :3]), {"exif": _exif(3)}),
        "plain.tiff": (Image.fromarray(bytes_[..., :3]), {}),
        "packed.tiff": (Image.fromarray(bytes_), {"compression": "tiff_lzw"}),
        "jpeg.tiff": (Image.fromarray(bytes_[..., :3]), {"compression": "jpeg"}),
        "deep.tiff": (Image.fromarray(levels[..., 0]), {}),
    }
    for name, (image, options) in files.items():
        image.save(folder / name, **options)
    return [folder / name for name in files]


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def check_image(path: Path, rng: random.Random) -> None:
    clip = open_clip(path, max_pixels=MAX_PIXELS)
    frames = [*clip.frames()]
    assert len(frames) == clip.info.length == 1
    _check_frame(frames[0], clip.info)


def _check_frame(frames: torch.Tensor, info: ClipInfo) -> None:
    assert frames.shape[1] in (3, 4)
    assert frames.shape[2:] == (info.height, info.width), (frames.shape, info)
    assert info.width * info.height <= MAX_PIXELS
    assert math.isfinite(float(frames.sum()))
    assert 0 <= float(frames.min()) <= float(frames.max()) <= 1


# ---- containers ----


def make_videos(folder: Path) -> list[Path]:
    small, one = (32, 24), {"count": 6, "size": (32, 24)}
    files = [
        make_video(folder / "h264.mp4", **one, audio_start=0.0),
        make_video(folder / "turned.mov", **one, rotation=90, pixel_aspect=Fraction(4, 3)),
        make_video(folder / "h264.mkv", **one, audio_start=0.25),
        make_video(folder / "lossless.mkv", **one, codec="ffv1", pixel_format="yuv444p10le"),
        make_video(folder / "h264.ts", **one, audio_start=0.0),
        make_video(folder / "motion.avi", **one, codec="mpeg4", audio_start=0.0, audio_codec="mp3"),
        make_video(folder / "vp9.webm", **one, codec="libvpx-vp9", audio_start=0.0, audio_codec="libopus"),
        make_video(folder / "uneven.mkv", size=small, starts=[0, 1000, 2500, 2600, 9000], codec="mpeg4"),
    ]
    images = [Image.new("RGB", small, (40 * i, 90, 200 - 30 * i)) for i in range(4)]
    for name, kind in (("loop.gif", "GIF"), ("loop.apng", "PNG")):
        durations = [40, 300, 80, 900]
        images[0].save(folder / name, kind, save_all=True, append_images=images[1:], duration=durations, loop=0)
        files.append(folder / name)
    return files


def check_video(path: Path, rng: random.Random) -> None:
    """A clip has a frame for each timestamp; a result made from it passes the checks of its writer."""
    clip = open_clip(path, max_pixels=MAX_PIXELS, on_damage=OnDamage.KEEP)
    assert 0 < clip.info.fps < 100_000
    count = 0
    for frames in clip.frames():
        _check_frame(frames, clip.info)
        count += len(frames)
    times = read_timestamps(path)
    if len(times.starts) != count:  # Damage may hide a packet; a result is refused then.
        _check_copy(path, -1)
    assert len(times.starts) == len(times.durations)
    assert all(a < b for a, b in pairwise(times.starts))
    assert all(duration > 0 for duration in times.durations)
    if rng.random() < 0.25:
        _check_copy(path, count)


def _check_copy(path: Path, count: int) -> None:
    target = path.with_name(f"{path.stem}-copy.mkv")
    clip = open_clip(path, max_pixels=MAX_PIXELS, on_damage=OnDamage.KEEP)
    try:
        assert write_clip(target, clip.frames(), clip.info, source=path) == count
        with av.open(str(target)) as container:
            assert sum(1 for _ in container.decode(video=0)) == count
    finally:
        assert [file.name for file in path.parent.iterdir() if file.name.startswith(".")] == []
        target.unlink(missing_ok=True)


# ---- weights ----


def make_weights(folder: Path) -> list[Path]:
    torch.manual_seed(0)
    networks = {
        "rrdb": RRDBNet(RRDBConfig(features=4, blocks=1, growth=2, scale=2)),
        "rrdb4": RRDBNet(RRDBConfig(features=4, blocks=1, growth=2, scale=4)),
        "compact": SRVGGNetCompact(SRVGGConfig(features=4, convs=1, scale=2)),
        "separable": to_separable(SRVGGNetCompact(SRVGGConfig(features=4, convs=2, scale=2))),
    }
    files: list[Path] = []
    for name, network in networks.items():
        state = network.state_dict()
        save_file(state, folder / f"{name}.safetensors", {"author": "someone"})
        torch.save({"params_ema": state, "iter": 3}, folder / f"{name}.pth")
        torch.save(state, folder / f"{name}-old.pt", _use_new_zipfile_serialization=False)
        files += [folder / f"{name}.safetensors", folder / f"{name}.pth", folder / f"{name}-old.pt"]
    return files


def mutate_weights(path: Path, rng: random.Random) -> bytes:
    """Bytes of any file; or keys, shapes and values, in a file that is well formed."""
    if rng.random() < 0.5:
        return mutate_binary(path, rng)
    state: dict[str, torch.Tensor] = {key: t.clone() for key, t in _read_state(path).items()}
    for _ in range(rng.randint(1, mutators.MAX_EDITS)):
        key = rng.choice([*state])
        edit, tensor = rng.randrange(7), state[key]
        if edit == 0 and len(state) > 1:
            del state[key]
        elif edit == 1:
            state[rng.choice(("extra", f"model.{key}", key.replace("body", "trunk"), key + ".", ""))] = state.pop(key)
        elif edit == 2:
            state[key] = torch.cat([torch.atleast_1d(tensor)] * 2)
        elif edit == 3:
            state[key] = tensor.unsqueeze(0) if rng.random() < 0.5 else tensor.reshape(-1)
        elif edit == 4:
            dtype = rng.choice((torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.int64))
            state[key] = tensor.to(dtype)
        elif edit == 5 and tensor.is_floating_point():
            tensor.view(-1)[:1] = rng.choice((float("nan"), float("inf"), 1e30, 0.0))
        else:
            state[key] = tensor[:0]
    buffer = io.BytesIO()
    torch.save(state, buffer)
    if path.suffix != ".safetensors":
        return buffer.getvalue()
    from safetensors.torch import save

    return save({key: tensor.contiguous() for key, tensor in state.items()})


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    content = torch.load(path, weights_only=True)
    return content.get("params_ema", content)


def check_weights(path: Path, rng: random.Random) -> None:
    model = load_upscaler(path)
    image = torch.rand(1, model.in_channels, 12, 10, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        result = model(image)
    assert result.shape[2:] == (12 * model.scale, 10 * model.scale), (result.shape, model.scale)


# ---- ncnn ----


def make_ncnn(folder: Path) -> list[Path]:
    torch.manual_seed(0)
    rrdb = RRDBNet(RRDBConfig(features=4, blocks=1, growth=2, scale=2))
    compact = SRVGGNetCompact(SRVGGConfig(features=4, convs=1, scale=2))
    return [
        write_rrdb(rrdb).save(folder, "rrdb"),
        write_rrdb(rrdb, half=True).save(folder, "half"),
        write_srvgg(compact).save(folder, "compact"),
    ]


def mutate_ncnn(path: Path, rng: random.Random) -> bytes:
    """Lines, words or bytes of the .param; in a third of the cases nothing, as only the .bin is mutated then."""
    return mutators.mutate_text(path.read_text(), rng) if rng.random() > 0.33 else path.read_bytes()


def check_ncnn(path: Path, rng: random.Random) -> None:
    """The case is a .param; its .bin is that of the corpus, mutated in a third of the cases."""
    binary = path.with_suffix(".bin")
    original = path.parent.parent / "corpus" / path.with_suffix(".bin").name
    binary.write_bytes(mutate_binary(original, rng) if rng.random() > 0.67 else original.read_bytes())
    check_weights(path, rng)


# ---- JSON ----


JOB_BODY = {"settings": {"scale": 2}, "pieces": [[0, 12], [12, 20]]}


def make_documents(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    count, info = 12, ClipInfo(64, 48, Fraction(30000, 1001), 12)
    parameters = np.concatenate([rng.normal(0, 2, (count, 2)), rng.normal(0, 0.01, (count, 2))], axis=1)
    steps = geometry.matrices_from_parameters(parameters)
    steps[0] = steps[7] = np.eye(3)
    confidence = np.ones(count)
    confidence[[0, 7]] = 0
    motion = Motion(steps, confidence, info, 0.5)
    trajectory = Trajectory.of(motion)
    save_path(motion, folder / "motion.json")
    save_path(trajectory, folder / "trajectory.json")
    save_path(plan_correction(trajectory, seconds=0.5), folder / "correction.json")
    workflow = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": "a.mp4"}, "_meta": {"title": "Load"}},
        "2": {"class_type": "SteadyScaleStabilize", "inputs": {"video": ["1", 0], "seconds": 4.0}},
    }
    (folder / "workflow.json").write_text(json.dumps(workflow))
    (folder / "job").mkdir()
    JobFolder(folder / "job").write("plan.json", JOB_BODY)
    (folder / "job.json").write_bytes((folder / "job" / "plan.json").read_bytes())
    return [folder / f"{name}.json" for name in ("motion", "trajectory", "correction", "workflow", "job")]


def mutate_document(path: Path, rng: random.Random) -> bytes:
    if rng.random() < 0.25:
        return mutate_binary(path, rng)
    tree = mutators.mutate_tree(json.loads(path.read_text()), rng)
    return json.dumps(tree).encode("utf-8", "replace")


def check_document(path: Path, rng: random.Random) -> None:
    if path.stem == "workflow":
        read_workflow(path)
    elif path.stem == "job":
        _check_job(path)
    else:
        _check_path(path)


def _check_job(path: Path) -> None:
    """A document of a job is read as it was written, or not at all."""
    assert JobFolder(path.parent).read(path.name) in (None, JOB_BODY)


def _check_path(path: Path) -> None:
    """What was read is written and read again without a change, and can be used."""
    value = load_path(path)
    copy = path.with_name("again.json")
    save_path(value, copy)
    again = load_path(copy)
    assert type(again) is type(value)
    assert json.loads(copy.read_text())["shots"] == [[shot.start, shot.stop] for shot in value.shots]
    if isinstance(value, Correction):
        return
    trajectory = Trajectory.of(value) if isinstance(value, Motion) else value
    assert np.isfinite(plan_correction(trajectory, seconds=0.5).matrices).all()


# ---- TOML ----


def make_configs(folder: Path) -> list[Path]:
    (folder / "all.toml").write_text(to_toml(TrainConfig()))
    (folder / "small.toml").write_text('name = "small"\nsteps = 10\n[network]\nkind = "compact"\nscales = [2, 4]\n')
    return [folder / "all.toml", folder / "small.toml"]


def mutate_config(path: Path, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return mutators.mutate_text(path.read_text(), rng)
    import tomli_w

    table = mutators.mutate_tree(to_table(read_config(path)), rng)
    try:
        return tomli_w.dumps(table).encode("utf-8", "replace")
    except (TypeError, AttributeError, ValueError):  # a value that TOML cannot hold
        return mutators.mutate_text(path.read_text(), rng)


def check_config(path: Path, rng: random.Random) -> None:
    config = read_config(path)
    assert to_table(config_from(to_table(config))) == to_table(config)


KINDS = {
    "images": Kind(make_images, mutate_binary, check_image),
    "containers": Kind(make_videos, mutate_binary, check_video),
    "weights": Kind(make_weights, mutate_weights, check_weights),
    "ncnn": Kind(make_ncnn, mutate_ncnn, check_ncnn),
    "json": Kind(make_documents, mutate_document, check_document),
    "toml": Kind(make_configs, mutate_config, check_config),
}


def iterate_cases(kind: Kind, files: list[Path], folder: Path, first: int, count: int) -> Iterator[tuple[int, Path]]:
    """Write the cases of consecutive seeds, one at a time, under the name of the original file."""
    for seed in range(first, first + count):
        rng = random.Random(seed)
        source = rng.choice(files)
        case = folder / source.name
        case.write_bytes(kind.mutate(source, rng))
        yield seed, case
        case.unlink(missing_ok=True)
