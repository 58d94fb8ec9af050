"""Choices that a training configuration offers."""

from __future__ import annotations

from enum import Enum


class PixelLossKind(Enum):
    L1 = "l1"
    CHARBONNIER = "charbonnier"


class AdversarialLossKind(Enum):
    VANILLA = "vanilla"
    LSGAN = "lsgan"
    RELATIVISTIC = "relativistic"


class FrequencyLossKind(Enum):
    AMPLITUDE = "amplitude"
    COMPLEX = "complex"


class Backbone(Enum):
    VGG19 = "vgg19"
    HED_VGG16 = "hed-vgg16"
