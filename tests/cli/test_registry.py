"""Each file of the folder is a command, and each command is a file."""

from __future__ import annotations

from pathlib import Path

from steadyscale.cli import commands, registry


def test_every_file_is_in_the_list_under_its_own_name():
    files = {path.stem for path in Path(commands.__file__).parent.glob("[!_]*.py")}
    assert {name.replace("-", "_").replace(" ", "_") for name in registry.COMMANDS} == files
    assert {registry.load_command(name).__name__.rsplit(".", 1)[-1] for name in registry.COMMANDS} == files


def test_commands_of_two_words_are_of_a_group_that_says_what_it_is():
    assert {name.split()[0] for name in registry.COMMANDS if " " in name} == set(registry.GROUPS)
