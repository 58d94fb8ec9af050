"""Every architecture of spandrel, small and with random weights, on a simulated GPU."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
import torch
from nearest_upscaler import random_frames
from steadyscale.core.upscaling.settings import Precision, UpscaleSettings, UpscaleStats
from steadyscale.core.upscaling.upscale import upscale
from steadyscale.models import Upscaler
from steadyscale.models.loading.spandrel_adapter import load_with_spandrel

pytestmark = pytest.mark.filterwarnings("ignore")  # of spandrel's networks
spandrel = pytest.importorskip("spandrel")

SWIN = {"embed_dim": 16, "num_heads": (2,), "window_size": 8, "upscale": 2}
# Folder of the architecture -> (class, arguments).
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "ATD": (
        "ATD",
        {
            **SWIN,
            "depths": (2,),
            "category_size": 64,
            "num_tokens": 8,
            "reducted_dim": 4,
            "upsampler": "pixelshuffledirect",
        },
    ),
    "CRAFT": ("CRAFT", {"embed_dim": 24, "depths": [2], "num_heads": [6], "upscale": 2}),
    "Compact": ("SRVGGNetCompact", {"num_feat": 8, "num_conv": 2, "upscale": 2}),
    "DAT": (
        "DAT",
        {"embed_dim": 16, "split_size": [4, 8], "depth": [2], "num_heads": [2], "expansion_factor": 2.0, "upscale": 2},
    ),
    "DCTLSA": ("DCTLSA", {"nf": 20, "num_modules": 6, "upscale": 2}),
    "DITN": ("DITN_Real", {"dim": 12, "ITL_blocks": 1, "SAL_blocks": 1, "upscale": 2}),
    "DRCT": (
        "DRCT",
        {
            "embed_dim": 16,
            "depths": (2,),
            "num_heads": (2,),
            "window_size": 16,
            "upscale": 2,
            "upsampler": "pixelshuffle",
            "gc": 8,
        },
    ),
    "DRUNet": ("DRUNet", {"in_nc": 4, "out_nc": 3, "nc": [8, 8, 8, 8], "nb": 2}),
    "DnCNN": ("DnCNN", {"in_nc": 3, "out_nc": 3, "nc": 8, "nb": 17, "act_mode": "R"}),
    "ESRGAN": ("RRDBNet", {"num_filters": 8, "num_blocks": 1, "scale": 2}),
    "FBCNN": ("FBCNN", {"nc": [8, 8, 8, 512], "nb": 2}),
    "FDAT": ("FDAT", {"scale": 2, "embed_dim": 16, "num_groups": 1, "depth_per_group": 1, "num_heads": 2}),
    "FFTformer": ("FFTformer", {"dim": 8, "num_blocks": [1, 1, 1], "num_refinement_blocks": 1}),
    "GRL": (
        "GRL",
        {
            "embed_dim": 16,
            "upscale": 2,
            "upsampler": "pixelshuffle",
            "depths": [2],
            "num_heads_window": [2],
            "num_heads_stripe": [2],
            "mlp_ratio": 2,
            "anchor_window_down_factor": 2,
        },
    ),
    "HAT": ("HAT", {**SWIN, "depths": (2,), "squeeze_factor": 4}),
    "HVICIDNet": ("CIDNet", {"channels": [4, 4, 8, 16], "heads": [1, 1, 2, 4]}),
    "IPT": ("IPT", {"n_feats": 4, "scale": [2], "num_layers": 1, "patch_size": 12}),
    "KBNet": ("KBNet_s", {"width": 8, "middle_blk_num": 1, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]}),
    "MMRealSR": (
        "MMRRDBNet_test",
        {
            "num_in_ch": 3,
            "num_out_ch": 3,
            "num_feat": 8,
            "num_block": 1,
            "num_grow_ch": 4,
            "num_feats": [8, 8, 8, 8],
            "num_blocks": [1, 1, 1, 1],
        },
    ),
    "MixDehazeNet": ("MixDehazeNet", {"embed_dims": [8, 8, 8, 8, 8]}),
    "MoESR": ("MoESR", {"scale": 2, "dim": 16, "n_blocks": 1, "n_block": 1, "upsample_dim": 16}),
    "MoSR": ("MoSR", {"upscale": 2, "n_block": 2, "dim": 16}),
    "NAFNet": ("NAFNet", {"width": 8, "middle_blk_num": 1, "enc_blk_nums": [1], "dec_blk_nums": [1]}),
    "OmniSR": ("OmniSR", {"num_feat": 16, "block_num": 1, "res_num": 1, "up_scale": 2}),
    "PLKSR": ("RealPLKSR", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2, "dysample": True}),
    "RCAN": ("RCAN", {"scale": 2, "n_resgroups": 1, "n_resblocks": 1, "n_feats": 16}),
    "RGT": (
        "RGT",
        {"embed_dim": 16, "depth": [2], "num_heads": [2], "mlp_ratio": 2.0, "upscale": 2, "split_size": [8, 8]},
    ),
    "RealCUGAN": ("UpCunet2x", {}),
    "RetinexFormer": ("RetinexFormer", {"n_feat": 8, "stage": 1}),
    "SAFMN": ("SAFMN", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2}),
    "SAFMNBCIE": ("SAFMN_BCIE", {"dim": 16, "n_blocks": 1, "num_layers": 1}),
    "SCUNet": ("SCUNet", {"config": [1, 1, 1, 1, 1, 1, 1]}),
    "SeemoRe": ("SeemoRe", {"scale": 2, "num_experts": 2, "num_layers": 1, "embedding_dim": 16}),
    "SwiftSRGAN": ("Generator", {"num_channels": 16, "num_blocks": 1, "upscale_factor": 2}),
    "Swin2SR": ("Swin2SR", {**SWIN, "depths": [2], "upsampler": "pixelshuffle"}),
    "SwinIR": ("SwinIR", {**SWIN, "depths": [2], "upsampler": "pixelshuffledirect"}),
    "Uformer": ("Uformer", {"embed_dim": 4, "depths": [1] * 9, "num_heads": [1] * 9}),
}
SKIPPED = {
    "AuraSR": "it draws noise at each call, so that no two results are equal",
    "GFPGAN": "it needs faces of 512x512 pixels, and has no small variant",
    "LaMa": "it takes an image and a mask, so that it is no upscaler",
    "RestoreFormer": "it needs faces of 512x512 pixels, and has no small variant",
    "SPAN": "it assigns inference tensors to `.data`, which torch allows for CUDA, XPU and MPS, not for other backends",
}
# The CPU, which computes for the simulated GPU, takes long for its attention in 16 bits.
SLOW_IN_HALF = {"SCUNet"}


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny networks are faster on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _folders() -> list[str]:
    return sorted(
        type(support.architecture).__module__.split(".")[2] for support in spandrel.MAIN_REGISTRY.architectures()
    )


def make_network(folder: str) -> Upscaler:
    name, arguments = NETWORKS[folder]
    package = importlib.import_module(f"spandrel.architectures.{folder}.__arch")
    modules = [importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    network_class = next(getattr(module, name) for module in modules if hasattr(module, name))
    torch.manual_seed(0)
    loaded = load_with_spandrel(network_class(**arguments).state_dict())
    assert loaded is not None
    return Upscaler(loaded[0], folder, loaded[1])


# In every run: common ones, and those that crashed once.
QUICK = ("Compact", "ESRGAN", "FFTformer", "GRL", "SwinIR")


@pytest.mark.parametrize("folder", [pytest.param(f, marks=() if f in QUICK else pytest.mark.slow) for f in _folders()])
def test_the_result_is_that_of_the_cpu(gpu, folder):
    if folder not in NETWORKS:
        pytest.skip(SKIPPED.get(folder, "no arguments for a small network are known"))
    model, frames = make_network(folder), [random_frames(1, height=12, width=16)]
    fp32 = UpscaleSettings(precision=Precision.FP32)
    (expected,) = upscale(iter(frames), model, fp32)
    assert float(expected.std()) > 5e-4
    (result,) = upscale(iter(frames), model, fp32, device="simgpu")
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)
    if folder in SLOW_IN_HALF:
        return
    stats = UpscaleStats()
    (result,) = upscale(iter(frames), model, device="simgpu", stats=stats)
    assert bool(torch.isfinite(result).all())
    assert float((result - expected).abs().mean()) < 1 / 255
    assert stats.mode in ("fp16", "fp32")
    assert all(parameter.device.type == "cpu" for parameter in model.model.parameters())
