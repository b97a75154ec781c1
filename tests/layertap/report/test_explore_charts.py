"""Charts of a data set: a dot for each shape, and a line for each channel."""

from __future__ import annotations

import numpy as np

from layertap.report.explore.charts import LARGEST, level_chart, shape_chart


def test_a_dot_for_each_shape_is_as_large_as_the_share_of_its_images() -> None:
    drawn = shape_chart([(30, 20, 100), (20, 30, 25), (10, 10, 1)], (24, 24))
    assert drawn is not None
    (x0, y0, large, text), (x1, y1, half, _), (x2, y2, _, _) = drawn["spots"]
    assert (float(large), float(half), text) == (LARGEST, LARGEST / 2, "30 x 20: 100")
    assert x2 < x0 < x1 and y0 < y1 < y2  # widths go to the right, heights up
    assert np.isclose(x1 - x0, y1 - y0, atol=0.2)  # on the same scale
    assert drawn["across"]["numbers"][0][1] == "10"


def test_shapes_far_apart_are_on_logarithmic_axes_and_few_have_no_chart() -> None:
    drawn = shape_chart([(10, 10, 1), (100, 100, 1), (1000, 1000, 1)], (100, 100))
    assert drawn is not None
    first, second, third = (x for x, *_ in drawn["spots"])
    assert np.isclose(second - first, third - second, atol=0.2)
    assert shape_chart([(8, 8, 99), (8, 9, 1)], (8, 8)) is None


def test_channels_that_are_alike_are_one_line() -> None:
    levels = np.bincount([0, 0, 0, 255], minlength=256)
    gray, colour = (np.stack([levels, levels, other]) for other in (levels, levels[::-1]))
    assert level_chart(gray)["legend"] == (("main", "gray"),)
    drawn = level_chart(colour)
    assert [name for _, name in drawn["legend"]] == ["red", "green", "blue"]
    red, green, blue = (
        [float(pair.split(",")[1]) for pair in line["points"].split()] for line in drawn["chart"]["lines"]
    )
    assert red == green == blue[::-1] and red[0] < red[-1] < red[1]  # pixels go down the page
