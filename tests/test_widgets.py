"""Test that a new node shows few widgets: what is rarely needed is advanced."""

from __future__ import annotations

import pytest
import schemas

NODES = {node.node_id.removeprefix("SteadyScale_"): node for node in schemas.read_schemas()}
EXPERT_INPUTS = {
    "fps", "tile", "precision", "alpha", "linear_light", "compile_network", "resumable", "rolling_shutter", "detail",
    "reference", "strength_x", "strength_y", "strength_roll", "strength_zoom", "strength_tilt", "horizon", "keyframes",
    "mesh",
    "seed", "steps", "crop", "batch", "learning_rate", "adversarial",
}  # fmt: skip
MAX_VISIBLE = 5


@pytest.mark.parametrize("name", NODES)
def test_at_most_five_widgets_are_visible(name: str) -> None:
    visible = [each.name for each in NODES[name].inputs if each.is_widget and not each.is_advanced]
    # Frontends add a widget for what happens to a seed after a run, and on the classic canvas it is always visible.
    visible += ["control after generate" for each in NODES[name].inputs if each.name == "seed"]
    assert len(visible) <= MAX_VISIBLE, visible


@pytest.mark.parametrize("name", NODES)
def test_expert_inputs_are_advanced(name: str) -> None:
    visible = {each.name for each in NODES[name].inputs if each.is_widget and not each.is_advanced}
    assert not visible & EXPERT_INPUTS


def test_frames_and_models_are_no_widgets() -> None:
    sockets = {each.name for node in NODES.values() for each in node.inputs if not each.is_widget}
    assert sockets == {
        "upscale_model", "frames", "mask", "flow", "correction", "path", "before", "after", "model_a", "model_b",
        "truth", "region_mask",
    }  # fmt: skip


def test_sockets_are_not_advanced() -> None:
    """Frontends hide widgets only."""
    assert not [each for node in NODES.values() for each in node.inputs if each.is_advanced and not each.is_widget]
