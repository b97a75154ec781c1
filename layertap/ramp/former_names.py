"""What submissions written by version 0.1 import and call otherwise than is done today.

`heads` registers its former modules ``heads.grouping`` and ``heads.views`` as this one (see
`feature_cache.process.former_modules`); all else that such submissions import has only moved. They are left as they
are on disk: their source is a part of what identifies their transformed images in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import heads.evaluation.views
from heads.splitting.fit_groups import encode_groups as numbered
from heads.splitting.fit_groups import fit_params as for_fit
from heads.splitting.fit_groups import inner_split

__all__ = ["Views", "for_fit", "inner_split", "numbered"]


class Views(heads.evaluation.views.Views):
    """`heads.evaluation.views.Views`, whose groups were called `contents`."""

    def fit(
        self,
        head: Any,
        features: Any,
        targets: np.ndarray,
        images: np.ndarray | None = None,
        contents: np.ndarray | None = None,
    ) -> Any:
        return super().fit(head, features, targets, images, contents)
