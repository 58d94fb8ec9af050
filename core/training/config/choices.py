"""Choices that a training configuration offers."""

from __future__ import annotations

from enum import Enum


class Pixel(Enum):
    L1 = "l1"
    CHARBONNIER = "charbonnier"


class Adversarial(Enum):
    VANILLA = "vanilla"
    LSGAN = "lsgan"
    RELATIVISTIC = "relativistic"


class Frequency(Enum):
    AMPLITUDE = "amplitude"
    COMPLEX = "complex"


class Backbone(Enum):
    VGG19 = "vgg19"
    HED_VGG16 = "hed-vgg16"
