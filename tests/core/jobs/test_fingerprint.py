"""What is the same has the same description, in any process; what differs in anything that counts has another."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from camera_simulation import make_shake_path
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.jobs.fingerprint import fingerprint, hash_file, hash_files
from steadyscale.core.motion.flow import FlowMethod, flow_model
from steadyscale.core.path.border import Border
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.pipeline.upscale_op import UpscaleOp
from steadyscale.core.pipeline.warp_op import WarpOp
from steadyscale.core.upscaling.settings import OutputSize, PostProcess, Reuse, UpscaleStats
from steadyscale.core.video.encode.codecs import Encoding
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


class Wrapped:
    """As spandrel's descriptor wraps a network."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.scale, self.runs = model, 2, 0


def fix(more: float = 0.0) -> Correction:
    parameters = make_shake_path(10)
    parameters[4, 0] += more
    return Correction(geometry.matrices_from_parameters(parameters), [slice(0, 6), slice(6, 10)], INFO)


DIFFERENT = [
    UpscaleOp(Network()),
    UpscaleOp(Network(seed=1)),
    UpscaleOp(Network(), OutputSize(factor=1.5)),
    UpscaleOp(Network(), OutputSize(size=(100, 100))),
    UpscaleOp(Network(), reuse=Reuse(threshold=1)),
    UpscaleOp(Network(), postprocess=PostProcess(grain=0.1)),
    UpscaleOp(Network(), device="cuda"),
    WarpOp(fix()),
    WarpOp(fix(more=0.01)),
    WarpOp(fix(), Border.FILL),
    WarpOp(replace(fix(), shots=[slice(0, 10)])),
    WarpOp(replace(fix(), poses=fix().matrices)),
    Encoding(),
    Encoding(crf=16),
    Encoding(codec="hevc"),
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


def test_whatever_counts_makes_a_difference():
    told = [json.dumps(fingerprint(value)) for value in DIFFERENT]
    assert len({*told}) == len(told)
    assert told == [json.dumps(fingerprint(value)) for value in DIFFERENT], "and nothing else does"


def test_what_a_network_remembers_and_who_wraps_it_does_not_count():
    used = Wrapped(Network())
    used.runs = 7
    assert fingerprint(Wrapped(Network())) == fingerprint(used) == fingerprint(Network())
    assert fingerprint(UpscaleOp(Network(), stats=UpscaleStats(frames=9))) == fingerprint(UpscaleOp(Network()))


def test_the_last_digits_of_arithmetic_do_not_count():
    matrices = fix().matrices * (1 + 1e-13)
    assert fingerprint(replace(fix(), matrices=matrices)) == fingerprint(fix())


def test_it_is_the_same_in_another_process():
    program = (
        "import json; from steadyscale.core.jobs.fingerprint import fingerprint;"
        "from steadyscale.core.motion.flow import FlowMethod, flow_model;"
        "from steadyscale.core.video.encode.codecs import Encoding;"
        "print(json.dumps([fingerprint([Encoding(crf=3), [flow_model(m) for m in FlowMethod]])]))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    here = [fingerprint([Encoding(crf=3), [flow_model(method) for method in FlowMethod]])]
    assert json.loads(told) == json.loads(json.dumps(here))


def test_flow_methods_differ():
    assert len({json.dumps(fingerprint(flow_model(method))) for method in FlowMethod}) == len(FlowMethod)


def test_objects_that_hold_each_other_have_an_end():
    class Node:
        other: object = None

    one, two = Node(), Node()
    one.other, two.other = two, one
    assert json.dumps(fingerprint(one))


def test_content_counts_and_names_do_not(tmp_path: Path):
    for name, content in {"a": b"one", "b": b"two", "c": b"one", "d": b"onetwo"}.items():
        (tmp_path / name).write_bytes(content)
    a, b, c, d = (tmp_path / name for name in "abcd")
    assert hash_file(a) == hash_file(c) != hash_file(b)
    assert hash_files([a, b]) == hash_files([c, b])
    assert len({hash_files([a, b]), hash_files([b, a]), hash_files([a]), hash_files([d])}) == 4
    with pytest.raises(FileNotFoundError):
        hash_files([tmp_path / "missing"])
