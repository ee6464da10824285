"""Steps install what the development environment was tested with."""

from pathlib import Path

from sft_components.requirements import PINS

ROOT = Path(__file__).parents[2]


def test_pins_are_the_constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    locked = dict(line.split("==") for line in lines if "==" in line and line[0] != "#")
    locked = {name.lower().replace("_", "-"): version for name, version in locked.items()}
    assert {name: locked[name] for name in PINS} == PINS
