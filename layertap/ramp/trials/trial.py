"""One submission, trained and scored as `ramp-test` does it, in a process of its own that cannot harm another trial.

The program prints the tables of `ramp-test`, and writes to ``submissions/NAME/training_output`` the files of
``ramp-test --save-output``, the trained model of each fold, and ``scores.json``.
"""

from __future__ import annotations

import argparse
import inspect
import io
import json
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import LayertapError
from feature_cache.process.native_output import import_quietly
from layertap.ramp.images import read_image
from layertap.ramp.kit import PREPROCESSOR_FILE
from layertap.ramp.problem import Kit, Part
from layertap.ramp.saving import save_model
from layertap.ramp.transforms.code_loading import BadSubmission, error_line, place, plain
from layertap.ramp.transforms.identity import load_transforms
from layertap.ramp.trials import old_keras
from layertap.ramp.trials.keras2_compat import image_data_format
from layertap.ramp.trials.leaderboard import rank
from layertap.ramp.trials.scoring import SCORES, bag, predictions_digest, score_types, source_digest

ERROR, CHECKED, RANKED = "error.txt", "checked.json", "ranked.json"
NO_READER = 128 + signal.SIGPIPE  # the exit status, as shells report it


class Trial:
    """The folds of one submission.

    Parameters
    ----------
    kit : Kit
    name : str
    out : Path
        The existing folder for predictions, models and scores.
    """

    def __init__(self, kit: Kit, name: str, out: Path) -> None:
        self.kit, self.name, self.out = kit, name, out
        self.path = kit.submission(name)
        self.train, self.test = kit.train(), kit.test()
        self.scores = score_types(kit.problem)

    def run(self) -> dict[str, Any]:
        """Train and score all folds, and print the tables.

        Returns
        -------
        dict
            The content of ``scores.json``.

        Raises
        ------
        BadSubmission
            When the submission raises an error, or returns values of the wrong kind.
        """
        from rampwf.utils import pretty_print  # optional, and slow to load
        from rampwf.utils.pretty_print import print_df_scores, print_title
        from rampwf.utils.scoring import mean_score_matrix, round_df_scores

        if not sys.stdout.isatty():
            pretty_print.IS_COLOR_TERM = False  # not by TERM, which decides on "±" too
        kit, problem, source = self.kit, self.kit.problem, source_digest(self.path)
        print_title(f"Testing {problem.problem_title}")
        print_title(f"Training submissions/{self.name} ...")
        folds = [tuple(fold) for fold in problem.get_cv(self.train.X, self.train.y)]
        tables, valid, test = [], [], []
        for number, fold in enumerate(folds):
            print_title(f"CV fold {number}")
            table, valid_part, test_part = self._fold(number, fold)
            print_df_scores(round_df_scores(table, self.scores), indent="\t")
            tables.append(table)
            valid.append(valid_part)
            test.append(test_part)
        for title in ("----------------------------", "Mean CV scores", "----------------------------"):
            print_title(title)
        print_df_scores(mean_score_matrix(tables, self.scores), indent="\t")
        bagged = self._bagged(folds, valid, test)
        sys.stdout.flush()
        return {
            "submission": self.name,
            "source": source,
            "kit": kit.digest(self.train, self.test),
            "predictions": predictions_digest(self.out),
            "folds": [{step: row.to_dict() for step, row in table.iterrows()} for table in tables],
            "bagged": bagged,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }

    def image_shape(self) -> tuple[int, ...]:
        """The shape of a training image after the submission's transform; empty where it is not known."""
        before = np.random.get_state(), random.getstate()  # noqa: NPY002
        try:
            folder, ids = self.train.X
            transform, _ = load_transforms(self.path / PREPROCESSOR_FILE)
            return np.shape(transform(read_image(str(Path(folder, str(ids[0]))))))
        except Exception:  # the kit has no such images, or the submission raises, which training will report
            return ()
        finally:
            np.random.set_state(before[0])  # noqa: NPY002
            random.setstate(before[1])

    def _fold(self, number: int, fold: Any) -> tuple[Any, Any, Any]:
        """The table of scores, and the predictions for the part that is held out and for the test images."""
        from rampwf.utils.scoring import score_matrix  # optional, and slow to load

        problem, (train_is, valid_is) = self.kit.problem, fold
        folder = self.out / f"fold_{number}"
        folder.mkdir()
        workflow, times = problem.workflow, {}
        trained, times["train"] = _timed(
            lambda: workflow.train_submission(str(self.path), self.train.X, self.train.y, train_is), self.path
        )
        parts: dict[str, tuple[Any, Any]] = {}
        predictions, times["valid"] = self._predictions(workflow, trained, self.train, fold)
        _save(folder, "train", predictions)
        Predictions = problem.Predictions
        for step, rows in (("train", train_is), ("valid", valid_is)):
            parts[step] = Predictions(y_true=self.train.y, fold_is=rows), Predictions(y_pred=predictions, fold_is=rows)
        if self.test is not None:
            predictions, times["test"] = self._predictions(workflow, trained, self.test, None)
            _save(folder, "test", predictions)
            if self.test.y is not None:
                parts["test"] = Predictions(y_true=self.test.y), Predictions(y_pred=predictions)
        truths, predicted = ({step: pair[which] for step, pair in parts.items()} for which in (0, 1))
        try:
            table = score_matrix(self.scores, ground_truth=truths, predictions=predicted)
        except Exception as error:  # scores refuse values that are not probabilities
            raise BadSubmission(
                f"{_where(trained, self.path)} gives what cannot be scored: {error_line(error, None)}"
            ) from error
        table["time"] = [times[step] for step in table.index]
        table.to_csv(folder / "scores.csv")
        for step, seconds in times.items():
            (folder / f"{step}_time").write_text(str(seconds))
        (folder / "state.txt").write_text("scored")
        try:
            save_model(trained, folder / "model")
        except (Exception, SystemExit) as error:  # a submission may have made a model of any kind
            print(f"The trained model is not kept: {error_line(error, None)}", file=sys.stderr)
        return table, predicted["valid"], predicted.get("test")

    def _predictions(self, workflow: Any, trained: Any, part: Part, fold: Any) -> tuple[np.ndarray, float]:
        names = list(inspect.signature(workflow.test_submission).parameters)
        more = (fold,) if names[2:] == ["fold"] else ()  # ramp-workflow decides it in the same way
        predictions, seconds = _timed(lambda: workflow.test_submission(trained, part.X, *more), self.path)
        predictions, where = np.asarray(predictions), _where(trained, self.path)
        columns = getattr(self.kit.problem.Predictions, "n_columns", None)
        rows = len(predictions) if part.y is None else len(part.y)
        expected = (rows, *([columns] if columns else []))
        if columns is not None and predictions.shape != expected:
            raise BadSubmission(f"{where} gives an array of shape {predictions.shape}; it is to be {expected}.")
        if predictions.dtype.kind == "f" and not np.isfinite(predictions).all():
            wrong = int((~np.isfinite(predictions).reshape(len(predictions), -1)).any(axis=1).sum())
            raise BadSubmission(f"{where} gives what is no finite number for {wrong} of {len(predictions)} images.")
        return predictions, seconds

    def _bagged(self, folds: list[Any], valid: list[Any], test: list[Any]) -> dict[str, dict[str, float]]:
        """Print the scores of the mean of all folds' predictions, and save that mean."""
        import pandas as pd  # optional, and slow to load
        from rampwf.utils.pretty_print import print_df_scores, print_title
        from rampwf.utils.scoring import round_df_scores

        bagged = {"valid": bag(self.kit.problem, self.scores, self.train.y, valid, [rows for _, rows in folds])}
        if self.test is not None and self.test.y is not None:
            bagged["test"] = bag(self.kit.problem, self.scores, self.test.y, test)
        for title in ("----------------------------", "Bagged scores", "----------------------------"):
            print_title(title)
        table = pd.DataFrame.from_dict({step: scores for step, (_, scores) in bagged.items()}, orient="index")
        table.columns.name, table.index.name = "score", "step"
        print_df_scores(round_df_scores(table, self.scores), indent="\t")
        for step, (predictions, _) in bagged.items():
            _save(self.out, f"bagged_{step}", predictions.y_pred)
        table.to_csv(self.out / "bagged_scores.csv")
        return {step: scores for step, (_, scores) in bagged.items()}


def _timed(work: Callable[[], Any], submission: Path) -> tuple[Any, float]:
    begun = time.perf_counter()
    try:
        result = work()
    except LayertapError:
        raise
    except (Exception, SystemExit) as error:  # a submission may raise anything, and even exit
        raise BadSubmission(error_line(error, submission / "batch_classifier.py")) from error
    return result, time.perf_counter() - begun


def _where(trained: Any, submission: Path) -> str:
    """The line of the method that predicts."""
    for one in trained if isinstance(trained, tuple) else (trained,):
        method = getattr(one, "predict_proba", None) or getattr(one, "predict", None)
        if method is not None:
            return place(method)
    return str(submission)


def _save(folder: Path, name: str, predictions: np.ndarray) -> None:
    np.savez_compressed(folder / f"y_pred_{name}.npz", y_pred=predictions)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=("check", "run", "rank"))
    parser.add_argument("kit", type=Path)
    parser.add_argument("out", type=Path, help="a folder")
    parser.add_argument("name", nargs="?")
    parser.add_argument("--old-keras", action="store_true")
    args = parser.parse_args(argv)
    shown = f"{args.kit.resolve()}{os.sep}"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what has been computed is stored
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # its encoding need not have the character ±
            stream.reconfigure(errors="backslashreplace")
    try:
        if args.task == "check":
            result = check(args.kit)
        else:
            kit = Kit(args.kit, json.loads((args.out / CHECKED).read_text()))
            result = _run(kit, args) if args.task == "run" else rank(kit)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the program that read the tables, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except Exception as error:  # a kit may raise any error
        line = str(error) if isinstance(error, LayertapError) else error_line(error, args.kit.resolve() / "problem.py")
        line = " ".join(plain(line).split()).replace(shown, "")
        (args.out / ERROR).write_text(plain(f"{line}\n\n{traceback.format_exc()}"), encoding="utf-8")
        return error.exit_code if isinstance(error, LayertapError) else 1
    (args.out / {"check": CHECKED, "run": SCORES, "rank": RANKED}[args.task]).write_text(json.dumps(result, indent=2))
    return 0


def _run(kit: Kit, args: argparse.Namespace) -> dict[str, Any]:
    """Train and score a submission."""
    old_keras.let_nets_take_channels_first()
    import_quietly("tensorflow")  # it prints messages, whatever TF_CPP_MIN_LOG_LEVEL is
    if args.old_keras:
        old_keras.translate()
    trial = Trial(kit, args.name, args.out)
    if args.old_keras:
        import keras  # slow to load

        for file in sorted(trial.path.glob("*.py")):
            order = image_data_format(file, trial.image_shape)
            if order:
                print(f"Keras's image_data_format is {order}, as {file.name} has it.", file=sys.stderr)
                keras.config.set_image_data_format(order)
    return trial.run()


def _end_with_parent() -> None:
    """End this process when its parent, which holds the other end of the standard input, has ended."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def check(folder: Path) -> dict[str, Any]:
    """The positions of the images of a kit that cannot be used, and notes about the kit."""
    kit = Kit(folder)
    train, test = kit.train(), kit.test()
    parts = {"train": train, "test": test} if test is not None else {"train": train}
    return {
        "bad": {name: part.bad_positions for name, part in parts.items()},
        "lines": [*kit.notes, *(line for part in parts.values() for line in part.bad)],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
