"""Annotation files of other tools: COCO's JSON, and the ``data.yaml`` and label files of YOLO.

`coco` and `yolo` read them into an `Annotated`: images, and the boxes in them. `labelled` makes a data set of that,
with the images as they are or with each box as an image (`crop_source`), and `loading` says which files these are.
"""

from transfer.data.annotation.loading import annotated_dataset, folder_file, is_known

__all__ = ["annotated_dataset", "folder_file", "is_known"]
