"""The recipes for published networks, tried out with a small one."""

import compression_recipes
import pytest
from steadyscale.core.compress import CompressSettings
from steadyscale.models.zoo import zoo


@pytest.fixture
def run_recipe(half_dead_weights, texture_folder, tmp_path):
    """The exit status of a recipe with half of a network, half of whose channels are dead."""

    def run(**changes):
        words = [
            "--model",
            half_dead_weights,
            "--steps",
            0,
            "--device",
            "cpu",
            "--output",
            tmp_path / "small.safetensors",
        ]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in changes.items():
                patch.setattr(compression_recipes, name, value)
            return compression_recipes.main(
                ["animevideov3-third", "--calibrate", str(texture_folder), *map(str, words)]
            )

    return run


def test_a_recipe_passes_the_gate_and_keeps_its_promise(run_recipe, tmp_path, capsys):
    recipe = compression_recipes.Recipe("realesr-animevideov3", 0.5, 10, max_cost=0.6)
    assert run_recipe(RECIPES={"animevideov3-third": recipe}) == 0
    assert (tmp_path / "small.safetensors").is_file()
    cost = float(capsys.readouterr().out.split("cost: ")[1].split(" ")[0])
    assert 0.25 < cost < 0.6  # between the square of a half, of the inner layers, and a half, of the outer ones


def test_a_promise_that_is_not_kept_is_an_error(run_recipe):
    recipe = compression_recipes.Recipe("realesr-animevideov3", 0.5, 10, max_cost=0.1)
    assert run_recipe(RECIPES={"animevideov3-third": recipe}) == 1


@pytest.mark.parametrize("name", compression_recipes.RECIPES)
def test_the_networks_of_the_recipes_can_be_fetched(name):
    recipe = compression_recipes.RECIPES[name]
    assert zoo.get_entry(recipe.model).name == recipe.model
    assert CompressSettings(recipe.model, ("clips",), "small.safetensors", prune=recipe.prune, steps=recipe.steps)
