"""Annotation files of other tools: COCO's JSON, and the ``data.yaml`` and label files of YOLO.

`coco` and `yolo` read them into an `Annotated`: images, and the boxes in them. `annotated` makes a data set of that, of
the images as they are, or of each box as an image (`crop_source`). `loading` says which files these are. Tables name
boxes, too (`transfer.data.tables.files`).
"""
