"""Enumerated choices of a training configuration."""

from __future__ import annotations

from enum import Enum


class NetworkKind(Enum):
    """Architecture of the generator."""

    COMPACT = "compact"
    RRDB = "rrdb"
    SPAN = "span"


class DiscriminatorKind(Enum):
    """Architecture of the discriminator: a logit per crop (VGG) or pixel (U-Net)."""

    VGG = "vgg"
    UNET = "unet"


class OptimizerKind(Enum):
    """Optimizer of both networks."""

    ADAM = "adam"
    ADAMW = "adamw"
    SCHEDULE_FREE = "schedule-free"


class AutocastDtype(Enum):
    """Dtype of the forward and backward passes; weights stay in float32."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class PixelLossKind(Enum):
    """Distance of pixel values."""

    L1 = "l1"
    CHARBONNIER = "charbonnier"


class AdversarialLossKind(Enum):
    """GAN objective."""

    VANILLA = "vanilla"
    LSGAN = "lsgan"
    RELATIVISTIC = "relativistic"


class FrequencyLossKind(Enum):
    """Distance of spectra: of their amplitudes, or of their complex values."""

    AMPLITUDE = "amplitude"
    COMPLEX = "complex"


class Backbone(Enum):
    """Network whose features the perceptual and the content loss compare."""

    VGG19 = "vgg19"
    HED_VGG16 = "hed-vgg16"
