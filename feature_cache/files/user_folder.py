"""The folder of this user for what saves work and can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def user_folder() -> Path:
    """``layertap`` in the user's own cache folder: ``$XDG_CACHE_HOME``, or ``~/.cache``. It need not be there."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "layertap"
