"""Equal settings have equal fingerprints, in any process and under any name in the code; others differ."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from camera_simulation import make_shake_path
from job_run import start_process
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.crop.border import Border
from steadyscale.core.jobs.state.fingerprint import fingerprint, hash_file, hash_files
from steadyscale.core.jobs.state.stable_names import STABLE_NAMES, StableName
from steadyscale.core.motion.optical_flow.farneback import farneback
from steadyscale.core.motion.optical_flow.flow import FlowMethod, TorchFarneback, flow_model
from steadyscale.core.path.mesh import MESH_SHAPE
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.pipeline.deflicker_op import DeflickerOp
from steadyscale.core.pipeline.operation import Operation
from steadyscale.core.pipeline.upscale_op import UpscaleOp
from steadyscale.core.pipeline.warp_op import WarpOp
from steadyscale.core.upscaling.settings import (
    Alpha,
    OutputSize,
    PostProcess,
    Precision,
    Reuse,
    Tiling,
    UpscaleSettings,
    UpscaleStats,
)
from steadyscale.core.video.decode.timestamps import TimeRange
from steadyscale.core.video.encode.codecs import Encoding
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact
from torch import nn

INFO = ClipInfo(640, 360, Fraction(25), 10)


class Network(nn.Module):
    scale = 2

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 12, 3)
        torch.manual_seed(seed)
        nn.init.normal_(self.body.weight)
        nn.init.zeros_(self.body.bias)


class Wrapper:
    """Wraps a network as spandrel's descriptor does."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.scale, self.runs = model, 2, 0


def make_correction(shift: float = 0.0) -> Correction:
    parameters = make_shake_path(10)
    parameters[4, 0] += shift
    return Correction(geometry.matrices_from_parameters(parameters), [slice(0, 6), slice(6, 10)], INFO)


DIFFERENT = [
    UpscaleOp(Network()),
    UpscaleOp(Network(seed=1)),
    UpscaleOp(Network(), UpscaleSettings(OutputSize(factor=1.5))),
    UpscaleOp(Network(), UpscaleSettings(OutputSize(size=(100, 100)))),
    UpscaleOp(Network(), UpscaleSettings(reuse=Reuse(threshold=1))),
    UpscaleOp(Network(), UpscaleSettings(postprocess=PostProcess(grain=0.1))),
    UpscaleOp(Network(), UpscaleSettings(precision=Precision.FP16)),
    UpscaleOp(Network(), UpscaleSettings(tiling=Tiling(size=64))),
    UpscaleOp(Network(), UpscaleSettings(alpha=Alpha.NETWORK)),
    UpscaleOp(Network(), device="cuda"),
    WarpOp(make_correction()),
    WarpOp(make_correction(shift=0.01)),
    WarpOp(make_correction(), Border.FILL),
    WarpOp(replace(make_correction(), shots=[slice(0, 10)])),
    WarpOp(replace(make_correction(), poses=make_correction().matrices)),
    DeflickerOp(),
    DeflickerOp(0.5),
    DeflickerOp(flow=flow_model(FlowMethod.DIS)),
    TimeRange(),
    TimeRange(1.0),
    Encoding(),
    Encoding(crf=16),
    Encoding(codec="hevc"),
    Encoding(encoder="nvenc"),
    Encoding(encoder="auto"),
    INFO,
    replace(INFO, fps=Fraction(24)),
    torch.zeros(2, 3),
    torch.zeros(3, 2),
    torch.zeros(2, 3, dtype=torch.float64),
    torch.tensor([0.0, -0.0, 1.0]),
    np.ones((2, 3), np.float32),
    [1, 2],
    [12],
    {"a": 1},
    None,
    0,
    "0",
    partial(sum, start=1),
    partial(sum, start=2),
]


def test_settings_that_differ_in_any_value_have_different_fingerprints():
    fingerprints = [json.dumps(fingerprint(value)) for value in DIFFERENT]
    assert len({*fingerprints}) == len(fingerprints)
    assert fingerprints == [json.dumps(fingerprint(value)) for value in DIFFERENT]


def test_the_state_and_the_wrapper_of_a_network_do_not_count():
    used = Wrapper(Network())
    used.runs = 7
    assert fingerprint(Wrapper(Network())) == fingerprint(used) == fingerprint(Network())
    assert fingerprint(UpscaleOp(Network(), stats=UpscaleStats(frames=9))) == fingerprint(UpscaleOp(Network()))


def test_the_mesh_of_a_correction_counts():
    plain, mesh = make_correction(), np.zeros((10, *MESH_SHAPE, 2), np.float32)
    other = mesh + np.float32(0.25)
    prints = [fingerprint(replace(plain, mesh=each)) for each in (None, mesh, other, other + np.float32(1e-5))]
    assert prints[0] != prints[1] != prints[2] == prints[3]


def test_rounding_errors_of_a_correction_do_not_count():
    matrices = make_correction().matrices * (1 + 1e-13)
    assert fingerprint(replace(make_correction(), matrices=matrices)) == fingerprint(make_correction())


# ---- names in the code do not count ----

STABLE_FINGERPRINTS = [
    (INFO, {"": "clip", "fps": "25", "height": 360, "length": 10, "width": 640}),
    (TimeRange(1.5, 2.0), {"": "time-range", "duration": 2.0, "start": 1.5}),
    (
        Encoding("hevc", 20, "slow", "yuv420p"),
        {"": "encoding", "codec": "hevc", "crf": 20, "pixel-format": "yuv420p", "preset": "slow"},
    ),
    (
        Encoding(encoder="nvenc"),
        {"": "encoding", "codec": None, "crf": None, "encoder": "nvenc", "pixel-format": None, "preset": None},
    ),
    (DeflickerOp(0.5, 0.25), {"": "deflicker", "flow": None, "grain": 0.25, "strength": 0.5}),
    (OutputSize(size=(8, 6)), {"": "output-size", "factor": None, "size": [8, 6]}),
    (
        UpscaleSettings(),
        {
            "": "upscale-settings",
            "alpha": "resize",
            "compile": False,
            "postprocess": {
                "": "postprocess",
                "color-correction": "none",
                "grain": 0.0,
                "linear-light": False,
                "strength": 1.0,
            },
            "precision": "auto",
            "reuse": {"": "reuse", "enabled": True, "threshold": 0.0},
            "size": {"": "output-size", "factor": None, "size": None},
            "tiling": {"": "tiling", "halo": None, "size": None},
        },
    ),
    (Border.CROP_ADAPTIVE, "crop-adaptive"),
    (TorchFarneback("cuda:0"), {"": "torch-farneback", "device": "cuda:0"}),
    (flow_model(FlowMethod.TRACKS), {"": "klt-tracker"}),
]


@pytest.mark.parametrize(("value", "expected"), STABLE_FINGERPRINTS)
def test_fingerprints_are_those_of_earlier_versions(value: object, expected: object):
    """Change no expectation here: it would invalidate every unfinished job."""
    assert fingerprint(value) == expected
    assert list(json.loads(json.dumps(fingerprint(value)))) == list(json.loads(json.dumps(expected))), "sorted keys"


def test_operations_and_networks_go_by_stable_names():
    networks = (SRVGGNetCompact(SRVGGConfig(features=4, convs=1)), RRDBNet(RRDBConfig(features=4, blocks=1)))
    for network, name in zip(networks, ("srvgg", "rrdb"), strict=True):
        found = fingerprint(UpscaleOp(network))
        assert (found[""], found["model"][""]) == ("upscale", name)
    found = fingerprint(WarpOp(make_correction()))
    assert (found[""], found["border"], found["correction"][""]) == ("warp", "crop", "correction")


def test_every_operation_and_setting_of_this_package_has_stable_names():
    pending: list[object] = [*DIFFERENT, *(value for value, _ in STABLE_FINGERPRINTS)]
    found: set[type] = set()
    while pending:
        value = pending.pop()
        if is_dataclass(value) and type(value).__module__.startswith("steadyscale."):
            found.add(type(value))
            pending += [getattr(value, field.name) for field in fields(value)]
    own = {cls for cls in Operation.__subclasses__() if cls.__module__.startswith("steadyscale.")}
    assert found >= own, "an example of each operation"
    assert (found | own) - {*STABLE_NAMES, Correction, UpscaleStats} == set(), "add it to stable_names.py"


def test_every_field_of_a_registered_class_has_a_stable_name():
    for cls, names in STABLE_NAMES.items():
        if is_dataclass(cls):
            assert {field.name for field in fields(cls)} == set(names.fields), f"{cls}: see stable_names.py"
            assert names.new_fields <= {field.name for field in fields(cls) if field.default is not MISSING}
        used = [name for name in names.fields.values() if name is not None]
        assert len({*used}) == len(used)
    assert len({names.name for names in STABLE_NAMES.values()}) == len(STABLE_NAMES)


@contextmanager
def renamed(*classes: type) -> Iterator[None]:
    """Give classes another name and module, as if the code had been reorganized."""
    names = [(cls.__qualname__, cls.__module__) for cls in classes]
    try:
        for cls in classes:
            cls.__qualname__, cls.__module__ = "Renamed", "elsewhere"
        yield
    finally:
        for cls, (name, module) in zip(classes, names, strict=True):
            cls.__qualname__, cls.__module__ = name, module


def test_renaming_and_moving_a_class_or_a_field_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    @dataclass(frozen=True)
    class RenamedEncoding:
        quality: int | None = None  # was crf, and comes first now
        codec_name: str | None = None
        preset: str | None = None
        pixel_format: str | None = None

    names = {"quality": "crf", "codec_name": "codec", "preset": "preset", "pixel_format": "pixel-format"}
    before, before_warp = fingerprint(Encoding("hevc", 20)), fingerprint(WarpOp(make_correction()))
    monkeypatch.setitem(STABLE_NAMES, RenamedEncoding, StableName("encoding", names))
    assert json.dumps(fingerprint(RenamedEncoding(20, "hevc"))) == json.dumps(before)
    assert fingerprint(RenamedEncoding(21, "hevc")) != before
    with renamed(WarpOp, Correction, ClipInfo, Border):
        assert fingerprint(WarpOp(make_correction())) == before_warp


def test_the_name_of_an_option_counts_and_that_of_its_member_does_not(monkeypatch: pytest.MonkeyPatch):
    before = fingerprint(Border.FILL)
    monkeypatch.setattr(Border.FILL, "_name_", "RENAMED")
    assert fingerprint(Border.FILL) == before != fingerprint(Border.CROP)


def test_renaming_a_network_of_ours_changes_nothing():
    network = SRVGGNetCompact(SRVGGConfig(features=4, convs=1))
    before = fingerprint(network)
    with renamed(SRVGGNetCompact):
        assert fingerprint(network) == before
    with torch.no_grad():
        next(network.parameters()).add_(1)
    assert fingerprint(network) != before


def test_foreign_classes_go_by_their_name_and_public_attributes():
    class Foreign:
        def __init__(self, strength: int) -> None:
            self.strength, self._cache = strength, object()

    class Subclass(RRDBNet):
        pass

    assert fingerprint(Foreign(1)) == fingerprint(Foreign(1)) != fingerprint(Foreign(2))
    assert fingerprint(Foreign(1))[""].endswith(".Foreign")
    assert fingerprint(Subclass(RRDBConfig(features=4, blocks=1)))[""].endswith(".Subclass"), "another forward()"


def test_what_is_ours_without_a_stable_name_does_not_depend_on_where_the_package_is():
    assert fingerprint(farneback)[0] == "core.motion.optical_flow.farneback.farneback"


def test_the_content_of_a_network_without_weights_counts():
    first, second, other = Network(), Network(), Network()
    first.content_hash, second.content_hash, other.content_hash = "a", "a", "b"
    assert fingerprint(first) == fingerprint(second) != fingerprint(other)


def write_fingerprints(file: Path) -> None:
    values = [Encoding(crf=3), [flow_model(method) for method in FlowMethod]]
    file.write_text(json.dumps([hash("text"), fingerprint(values)]))


def test_fingerprints_are_equal_in_another_process(tmp_path: Path):
    write_fingerprints(tmp_path / "here.json")
    process = start_process(write_fingerprints, tmp_path / "there.json")
    process.join(120)
    (seed, here), (other_seed, there) = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("here", "there")
    )
    assert here == there
    assert seed != other_seed or "PYTHONHASHSEED" in os.environ, "it must not depend on the order of sets"


def test_flow_methods_differ():
    assert len({json.dumps(fingerprint(flow_model(method))) for method in FlowMethod}) == len(FlowMethod)


def test_cyclic_references_end():
    class Node:
        other: object = None

    one, two = Node(), Node()
    one.other, two.other = two, one
    assert json.dumps(fingerprint(one))


def test_the_content_of_files_counts_and_their_names_do_not(tmp_path: Path):
    for name, content in {"a": b"one", "b": b"two", "c": b"one", "d": b"onetwo"}.items():
        (tmp_path / name).write_bytes(content)
    a, b, c, d = (tmp_path / name for name in "abcd")
    assert hash_file(a) == hash_file(c) != hash_file(b)
    assert hash_files([a, b]) == hash_files([c, b])
    assert len({hash_files([a, b]), hash_files([b, a]), hash_files([a]), hash_files([d])}) == 4
    with pytest.raises(FileNotFoundError):
        hash_files([tmp_path / "missing"])
