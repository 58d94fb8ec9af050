"""Test that the node search finds our nodes by the words that people type."""

from __future__ import annotations

import pytest
import schemas

NODES = {node.node_id.removeprefix("SteadyScale_"): node for node in schemas.read_schemas()}
WORDS = {
    "deshake": "StabilizeVideo",
    "shaky": "StabilizeVideo",
    "anti shake": "StabilizeVideo",
    "steady": "StabilizeVideo",
    "stabilize": "StabilizeVideo",
    "stabilise": "StabilizeVideo",
    "video stabilization": "StabilizeVideo",
    "super resolution": "UpscaleFrames",
    "upscale video": "UpscaleFrames",
    "video upscale": "EnhanceVideo",
    "2x": "UpscaleFrames",
    "4x": "EnhanceVideo",
    "real-esrgan": "UpscaleFrames",
    "deflicker": "UpscaleFrames",
    "optical flow": "EstimateFlow",
    "camera path": "SmoothTrajectory",
    "rolling shutter": "StabilizeVideo",
    "before after": "CompareFrames",
    "psnr": "CompareModels",
    "fine-tune": "TrainESRGAN",
    "outpaint": "WarpFrames",
    "camera shake": "ApplyMotion",
}


@pytest.mark.parametrize("words", WORDS)
def test_a_node_has_the_words(words: str) -> None:
    node = NODES[WORDS[words]]
    assert words in (node.display_name.lower(), *node.search_aliases) or words in node.display_name.lower()


@pytest.mark.parametrize("name", NODES)
def test_aliases_are_plain_words_and_unique(name: str) -> None:
    aliases = NODES[name].search_aliases
    assert len(set(aliases)) == len(aliases) >= 3
    assert all(alias == alias.strip().lower() != "" for alias in aliases)


def test_each_node_is_in_one_of_the_four_folders() -> None:
    folders = ("upscale", "stabilize", "preview", "train")
    assert {node.category for node in NODES.values()} == {f"SteadyScale/{folder}" for folder in folders}
