"""The commands that look through features: search, compare, drift, map and review."""

from __future__ import annotations

import argparse

from layertap.commands.arguments import options, types
from layertap.commands.arguments.parser import Parser, add_command

Commands = argparse._SubParsersAction  # of Parser


def add_search(commands: Commands[Parser]) -> None:
    sub = add_command(
        commands,
        "search",
        "layertap.commands.analysis.search:search",
        "find the images that are nearest to others by their features",
        options.add_data,
        options.add_features,
        options.add_cache,
        options.add_work,
        everyday="query k metric csv page index images split net layer cache json",
        examples=(
            ("search photos --net resnet50 --query a.jpg b.jpg", "the 12 photos most like each of these"),
            ("search photos --net resnet50 --query new -k 5 --page near.html", "for a folder, as a page of pictures"),
        ),
    )
    group = sub.add_argument_group("search")
    group.add_argument(
        "--query", required=True, nargs="+", metavar="IMAGE", help="image files, or one data set, to find images like"
    )
    group.add_argument("-k", type=types.positive, default=12, metavar="N", help="images for each query (default: 12)")
    group.add_argument(
        "--metric",
        choices=("cosine", "euclidean"),
        default="cosine",
        help="distance of features: 1 - cosine similarity, or Euclidean (default: cosine)",
    )
    group.add_argument("--csv", metavar="FILE", help="write the table to a CSV file, too")
    group.add_argument("--page", metavar="FILE", help="write a page of pictures, an HTML file")
    group.add_argument(
        "--index",
        action="store_true",
        help="ask an approximate index, which is kept beside the features: for millions of images (needs "
        "layertap[index])",
    )


def add_compare(commands: Commands[Parser]) -> None:
    sub = add_command(
        commands,
        "compare",
        "layertap.commands.analysis.compare:compare",
        "compare what layers of nets see in the same images, or what runs predict",
        options.add_data,
        everyday="page images split seed cache json",
        examples=(
            ("compare photos vgg16:block4_pool vgg16:block5_pool resnet50", "how alike three layers are"),
            ("compare more-photos run-a run-b --page compare.html", "runs beside each other, on labelled photos"),
        ),
    )
    text = "a run, or NET:LAYER; NET alone is its usual layer"
    sub.add_argument("first", metavar="A", help=text)
    sub.add_argument("second", metavar="B", help=text)
    sub.add_argument("more", nargs="*", metavar="C", help="more runs or layers, which are compared all with all")
    sub.add_argument("--page", metavar="FILE", help="write a page, an HTML file: of runs, with pictures")
    options.add_trust(sub)
    options.add_seed(sub)
    options.add_cache(sub)
    options.add_work(sub)


def add_drift(commands: Commands[Parser]) -> None:
    sub = add_command(
        commands,
        "drift",
        "layertap.commands.analysis.drift:drift",
        "tell whether new images differ from old ones, and which are unlike all of them",
        _add_old_and_new,
        options.add_features,
        options.add_cache,
        options.add_work,
        everyday="csv page images split net layer cache json",
        examples=(("drift photos new --net resnet50 --page drift.html", "a p-value, and the images furthest away"),),
        next_step="look at the images that are furthest away, and train again where they have come to stay",
    )
    group = sub.add_argument_group("drift")
    group.add_argument("--csv", metavar="FILE", help="write all new images with their distances to a CSV file, too")
    group.add_argument("--page", metavar="FILE", help="write a page of pictures, an HTML file")


def _add_old_and_new(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("data", metavar="OLD", help="the images to compare with, such as those of the training")
    sub.add_argument("new", metavar="NEW", help="the images to judge: a data set")
    options.add_csv(sub)


def add_map(commands: Commands[Parser]) -> None:
    sub = add_command(
        commands,
        "map",
        "layertap.commands.analysis.map:map_features",
        "write a page that shows every image as a point, to look through them",
        _add_mapped,
        options.add_features,
        *options.CODE_OF_RUNS,
        options.add_cache,
        options.add_work,
        everyday="out projection clusters parquet net layer images cache json",
        examples=(
            ("map photos --net resnet50 --out map.html", "a folder of photos, coloured by class or cluster"),
            ("map run --out map.html", "a run: what it predicts, how sure it is, and where it errs"),
        ),
        next_step="open the page in a browser",
    )
    sub.add_argument("--out", metavar="FILE", help="page of HTML to write, which needs no network")
    sub.add_argument("--parquet", metavar="FILE", help="table to write, with x, y and neighbors, for embedding-atlas")
    sub.add_argument(
        "--projection",
        choices=("pca", "umap"),
        default="pca",
        help="how features become two dimensions; umap takes minutes for 60,000 images (default: pca)",
    )
    sub.add_argument(
        "--clusters", type=types.positive, default=10, metavar="N", help="number of clusters of k-means (default: 10)"
    )
    sub.add_argument("--on", metavar="DATA2", help="show a run on these images (default: those that it was trained on)")


def _add_mapped(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("data", metavar="DATA|RUN", help="a data set, or the folder of a run")
    options.add_csv(sub)


def add_review(commands: Commands[Parser]) -> None:
    sub = add_command(
        commands,
        "review",
        "layertap.commands.analysis.review:review",
        "rank what looks wrong in the data of a run: labels, copies, near-duplicates, outliers",
        options.add_run,
        *options.CODE_OF_RUNS,
        options.add_cache,
        options.add_quiet,
        everyday="out overwrite cache json",
        examples=(("review run --out review", "a page to decide on, and review.csv"),),
        next_step="layertap train-head DATA --corrections review/review.csv --out RUN2",
    )
    options.add_optional_data(sub, "the images of the run (default: where they were when it was trained)")
    sub.add_argument(
        "--out", default="review", metavar="DIR", help="folder for review.html and review.csv (default: review)"
    )
    sub.add_argument("--overwrite", action="store_true", help="replace an existing review, and what was decided in it")
