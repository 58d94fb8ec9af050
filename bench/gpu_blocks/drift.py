"""How far each dtype is from float32 with TF32 off, on photographs."""

from __future__ import annotations

import torch
from steadyscale.core.upscaling.model.precision import ComputeMode, check_dtype
from steadyscale.models import load_upscaler
from steadyscale.models.zoo import zoo
from torch import Tensor, nn

from .networks import Variant, make_network, place_images, place_network
from .photographs import load_photographs
from .session import Row, Session

NETWORKS = ("realesrgan-x4plus", "realesr-animevideov3", "realesrgan-x4plus-anime", "steadyscale-2x", "steadyscale-4x")
SIDE = 256  # of the photographs
FP32 = Variant(ComputeMode.FP32)


def run(session: Session) -> None:
    photographs = load_photographs(session, session.size(SIDE, SIDE)[0])
    for network, weights, module in _load_networks(session):
        for name, image in photographs.items():
            keys = {"network": network, "weights": weights, "photograph": name}
            reference = _forward(session, module, image, FP32)
            for mode in session.modes:
                session.measure_row(
                    lambda mode=mode, module=module, image=image, reference=reference: _compare(
                        _forward(session, module, image, Variant(mode)), reference
                    ),
                    **keys,
                    dtype=mode.value,
                    reference="fp32 on the device",
                )
            if not session.accelerator.is_cpu and (session.is_quick or module.scale == 2 or "compact" in network):
                session.measure_row(
                    lambda module=module, image=image, reference=reference: _compare(
                        reference, _forward_on_cpu(module, image)
                    ),
                    **keys,
                    dtype="fp32",
                    reference="fp32 on the CPU",
                )


def summarize(rows: list[Row]) -> str:
    parts = []
    checked = [row for row in rows if "share" in row and row["reference"] == "fp32 on the device"]
    for mode in dict.fromkeys(row["dtype"] for row in checked):
        of_mode = [row for row in checked if row["dtype"] == mode]
        accepted = {row["network"]: True for row in of_mode}
        for row in of_mode:
            accepted[row["network"]] &= row["accepted"]
        worst = min(row["share"] for row in of_mode)
        parts.append(f"{mode} accepted for {sum(accepted.values())} of {len(accepted)} networks (worst {worst:.2%})")
    return "; ".join(parts)


def _load_networks(session: Session):
    """Yield (name, "trained" or "random", module on the CPU)."""
    names = NETWORKS[3:4] if session.is_quick else NETWORKS
    for name in names:
        if zoo.is_available(name):
            yield name, "trained", load_upscaler(zoo.find_weights(name)).model
    if session.is_quick or not zoo.is_available(NETWORKS[0]):
        yield "rrdb23", "random", make_network("rrdb23", is_quick=session.is_quick)


@torch.inference_mode()
def _forward(session: Session, module: nn.Module, image: Tensor, variant: Variant) -> Tensor:
    """The result on the device."""
    with variant.settings(session):
        return place_network(module, variant, session)(place_images(image, variant, session))


@torch.inference_mode()
def _forward_on_cpu(module: nn.Module, image: Tensor) -> Tensor:
    return module(image)


@torch.inference_mode()
def _compare(result: Tensor, reference: Tensor) -> Row:
    result = result.to(reference.device)
    check = check_dtype(result, reference)
    difference = (result.float().clamp(0, 1) - reference.float().clamp(0, 1)).abs()
    return {
        "accepted": not check.problem,
        "share": check.share,
        "psnr": check.psnr,
        "worst_of_255": 255 * float(difference.max()),
        "problem": check.problem,
    }
