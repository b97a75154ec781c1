"""Which images stay on the same side of every split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from layertap.workflows.training.protocol_options import ProtocolOptions
from transfer.data.datasets import load


def test_copies_and_groups_lead_to_each_other(tmp_path: Path) -> None:
    rows = ["id,class,patient"]
    for number, patient in enumerate("abbcdc"):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,x{number % 2},{patient}")
    (tmp_path / "data.csv").write_text("\n".join(rows))
    dataset = load(str(tmp_path / "data.csv"))
    groups = ProtocolOptions(cv=2, groups="patient").split_groups(dataset, np.array([0, 0, 1, 2, 3, 4]))
    assert len(set(groups[:3])) == 1
    assert groups[3] == groups[5]
    assert len(set(groups.tolist())) == 3
