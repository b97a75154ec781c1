"""Makes mnist_ramp.ipynb of mnist_ramp.py, without outputs. Run after each change: python examples/notebook.py."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("mnist_ramp.py")
NOTEBOOK = SCRIPT.with_suffix(".ipynb")


def notebook(script: str) -> dict[str, Any]:
    """A notebook, without outputs, of a script in percent format: cells that start with ``# %%``."""
    cells = []
    for number, (markdown, text) in enumerate(
        re.findall(r"^# %%( \[markdown\])?\n(.*?)(?=^# %%|\Z)", script, re.M | re.S)
    ):
        cell: dict[str, Any] = {"cell_type": "markdown" if markdown else "code", "id": f"cell-{number}", "metadata": {}}
        if markdown:
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        else:
            cell |= {"execution_count": None, "outputs": []}
        cells.append({**cell, "source": text.strip().splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    about = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}


def main() -> None:
    content = notebook(SCRIPT.read_text(encoding="utf-8"))
    NOTEBOOK.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
