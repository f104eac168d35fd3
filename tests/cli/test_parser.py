"""A family of commands that exists is offered."""

import importlib
import pkgutil
from argparse import ArgumentParser

import codesign.cli


def _commands(parser):
    return set(parser._subparsers._group_actions[0].choices)


def test_every_module_with_commands_is_part_of_the_command_line():
    offered = _commands(codesign.cli.parser())
    for module in pkgutil.iter_modules(codesign.cli.__path__):
        family = importlib.import_module(f"codesign.cli.{module.name}")
        if hasattr(family, "add_commands"):
            alone = ArgumentParser()
            family.add_commands(alone.add_subparsers())
            assert _commands(alone) <= offered, f"add {module.name} to `parser` in codesign/cli/__init__.py"
