"""`layertap compare`: layers of nets, and two runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path


def test_layers_and_runs_are_compared(main: Callable, data: Path) -> None:
    layers = json.loads(main("compare", data, "glyphnet:block3_pool", "glyphnet", "--json").stdout)
    assert layers["spaces"] == ["glyphnet:block3_pool", "glyphnet:block4_pool"]
    assert 0 < layers["cka"][0][1] == layers["cka"][1][0] < 1
    for head in ("ridge", "prototypes"):
        assert main("train-head", data, "--net", "glyphnet", "--head", head, "--cv", 2, "--out", head).status == 0
    found = json.loads(main("compare", data, "ridge", "prototypes", "--json").stdout)
    assert found["images"] == 12
    assert found["difference"] == (len(found["only_second"]) - len(found["only_first"])) / 12
    outcome = main("compare", data, "ridge", "prototypes")
    assert "Cohen's kappa" in outcome.stdout
    outcome = main("compare", data, "glyphnet", "glyphnet")
    assert outcome.status == 2
    assert "at least two different spaces are compared" in outcome.stderr
