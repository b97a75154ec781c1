"""The numbers of a review: confident learning, outliers and near-duplicates, on made-up arrays."""

from __future__ import annotations

import numpy as np
from PIL import Image

from layertap.analysis.label_issues import NEIGHBORS, class_thresholds, confident_joint, find_label_issues
from layertap.analysis.near_duplicates import find_near_duplicates


def test_confident_joint_counts_by_the_thresholds_of_the_paper():
    labels = np.array([0, 0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.3, 0.7], [0.45, 0.55]])
    assert np.allclose(class_thresholds(labels, probabilities), [0.6, 0.625])
    assert confident_joint(labels, probabilities).tolist() == [[2, 1], [0, 1]]  # the last is counted as nothing


def test_labels_of_neighbours_decide_where_probabilities_are_equal():
    labels = np.array([0] * 22 + [1] * 22)
    probabilities = np.full((44, 2), 0.5)
    neighbors = np.array([[j for j in range(44) if j != i and labels[j] == labels[i]][:NEIGHBORS] for i in range(44)])
    neighbors[3] = np.arange(22, 22 + NEIGHBORS)  # among images of the other class
    issues = find_label_issues(labels, probabilities, neighbors)
    assert issues.ranking[0] == 3
    assert issues.suggested[3] == 1
    assert issues.contradicted.tolist() == [place == 3 for place in range(44)]


def test_mirrored_cropped_and_recompressed_images_are_found_among_others():
    rng = np.random.default_rng(0)

    def scene() -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, (12, 12), np.uint8)).resize((200, 200), Image.Resampling.BICUBIC)

    scenes = [scene() for _ in range(20)]
    copies = [
        scenes[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        scenes[1].crop((13, 29, 173, 189)),
        scenes[2].resize((90, 90)),
    ]
    grays = np.stack([np.asarray(image.resize((64, 64), Image.Resampling.BOX)) for image in scenes + copies])
    neighbors = np.array([[other for other in range(23) if other != image] for image in range(23)])
    found = find_near_duplicates(neighbors, grays)
    assert sorted((pair.first, pair.second, pair.how) for pair in found) == [
        (0, 20, "mirrored"),
        (1, 21, "cropped to 80% of its sides"),
        (2, 22, "recompressed or resized"),
    ]


def test_horizons_are_not_taken_for_versions_of_one_another():
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (20 * 12, 12), np.uint8))
    scenes = list(np.asarray(noise.resize((64, 20 * 64), Image.Resampling.BICUBIC)).reshape(20, 64, 64))
    sky = np.where(np.arange(64) < 30, 200, 60)[:, None]
    horizons = [(sky + rng.integers(-9, 10, (64, 64))).astype(np.uint8) for _ in range(3)]
    grays = np.stack(scenes + horizons)
    neighbors = np.array([[other for other in range(23) if other != image] for image in range(23)])
    assert find_near_duplicates(neighbors, grays) == []
    grays[0] = horizons[0][:, ::-1]  # one of them, mirrored, is found by its details
    found = find_near_duplicates(neighbors, grays)
    assert [(pair.first, pair.second, pair.how) for pair in found] == [(0, 20, "mirrored")]


def test_labels_of_classes_that_resemble_each_other_are_suspected_later():
    """Two images of class 2 look as unlike their label: only one of them looks like a class that never looks like 2."""
    labels = np.repeat([0, 1, 2], 20)
    probabilities = np.full((60, 3), 0.005)
    probabilities[np.arange(60), labels] = 0.99
    probabilities[20:40] = [0.005, 0.9, 0.095]  # images of class 1 often look like 2
    probabilities[40], probabilities[41] = [0.96, 0.02, 0.02], [0.02, 0.96, 0.02]
    issues = find_label_issues(labels, probabilities)
    assert issues.contradicted[40] and issues.contradicted[41]
    assert np.flatnonzero(issues.suspected).tolist() == [40]
