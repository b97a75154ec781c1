"""Converted nets on disk: converted once, noticed when damaged, and never in the way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_cache.cache import FeatureCache
from transfer.data import datasets
from transfer.engines import openvino_store
from transfer.engines.net_part import NetPart
from transfer.engines.openvino_store import CannotConvert, converted, folder, is_kept
from transfer.engines.openvino_upkeep import candidates, kept, remove
from transfer.engines.runner import BatchRunner
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

ROOT = Path(__file__).resolve().parents[3]
WHAT = {"net": "some net"}
KEPT = ("net.xml", "net.bin")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Conversions of a test are kept in a folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg"


@pytest.fixture
def needs_openvino(needs_tensorflow: None) -> None:
    pytest.importorskip("openvino")


def fill(text: str = "weights", size: int = 0) -> Callable[[Path], None]:
    """A stand-in for a conversion, which writes two files."""

    def convert(file: Path) -> None:
        file.write_text(f"net of {text}")
        file.with_suffix(".bin").write_bytes(text.encode() + bytes(size))

    return convert


def never(file: Path) -> None:
    pytest.fail("converted again")


def places() -> set[Path]:
    return set(folder().iterdir()) if folder().is_dir() else set()


class TestKept:
    def test_the_second_use_converts_nothing(self) -> None:
        assert not is_kept(WHAT)
        file = converted(WHAT, fill())
        assert is_kept(WHAT)
        assert file.read_text() == "net of weights"
        assert converted(WHAT, never) == file

    def test_they_are_in_the_users_cache_folder(self, own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert converted(WHAT, fill()).is_relative_to(own_folder / "layertap" / "openvino")
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(own_folder / "home"))
        assert converted(WHAT, fill()).is_relative_to(own_folder / "home" / ".cache" / "layertap" / "openvino")

    def test_the_order_in_which_it_is_told_does_not_matter(self) -> None:
        file = converted({"a": 1, "b": (1, 2)}, fill())
        assert converted({"b": [1, 2], "a": 1}, never) == file

    def test_anything_else_is_another_conversion(self) -> None:
        wanted = [{"net": "a"}, {"net": "b"}, {"net": "a", "size": 32}, {"net": "a", "size": 33}]
        files = [converted(what, fill(str(what))) for what in wanted]
        assert len(set(files)) == len(wanted)
        for what, file in zip(wanted, files, strict=True):
            assert converted(what, never) == file
            assert file.with_suffix(".bin").read_text() == str(what)

    def test_another_version_of_a_package_is_another_conversion(self, monkeypatch: pytest.MonkeyPatch) -> None:
        versions = {"openvino": "1", "keras": "1", "tensorflow": "1", "layertap": "1"}
        monkeypatch.setattr(openvino_store, "version", lambda name: versions[name])
        files = {converted(WHAT, fill())}
        for name in versions:
            versions[name] = "2"
            assert not is_kept(WHAT)
            files.add(converted(WHAT, fill()))
        assert len(files) == 5

    def test_only_what_is_whole_is_left_of_a_conversion(self) -> None:
        file = converted(WHAT, fill())
        assert places() == {file.parent}


class TestDamage:
    @pytest.mark.parametrize("name", KEPT)
    @pytest.mark.parametrize("how", ["altered", "cut short", "longer", "emptied", "gone"])
    def test_it_is_noticed_and_mended(self, name: str, how: str) -> None:
        file = converted(WHAT, fill(size=3000))
        damaged = file.with_name(name)
        whole = damaged.read_bytes()
        middle = len(whole) // 2
        match how:
            case "altered":
                damaged.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
            case "cut short":
                damaged.write_bytes(whole[:-1])
            case "longer":
                damaged.write_bytes(whole + b"\0")
            case "emptied":
                damaged.write_bytes(b"")
            case "gone":
                damaged.unlink()
        again = converted(WHAT, fill(size=3000))
        assert again.with_name(name).read_bytes() == whole
        assert converted(WHAT, never) == again

    def test_what_has_no_check_is_not_used(self) -> None:
        file = converted(WHAT, fill())
        for other in file.parent.iterdir():
            if other.name not in KEPT:
                other.unlink()
        assert not is_kept(WHAT)
        assert converted(WHAT, fill("anew")).read_text() == "net of anew"

    def test_a_killed_conversion_leaves_nothing_that_is_used(self, run_python: Callable) -> None:
        code = """
import os, signal
from transfer.engines.net_part import NetPart
from transfer.engines.openvino_store import converted
def convert(file):
    file.write_text("net of half")
    file.with_suffix(".bin").write_text("ha")
    os.kill(os.getpid(), signal.SIGKILL)
converted({"net": "some net"}, convert)
"""
        assert run_python(code).returncode == -signal.SIGKILL
        assert not is_kept(WHAT)
        assert converted(WHAT, fill()).read_text() == "net of weights"
        assert converted(WHAT, never).with_suffix(".bin").read_text() == "weights"

    def test_an_interrupted_conversion_leaves_nothing_that_is_used(self) -> None:
        def interrupted(file: Path) -> None:
            fill("half")(file)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            converted(WHAT, interrupted)
        assert not is_kept(WHAT)
        assert converted(WHAT, fill()).read_text() == "net of weights"

    def test_an_interrupted_conversion_leaves_no_files(self) -> None:
        def interrupted(file: Path) -> None:
            fill("half")(file)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            converted(WHAT, interrupted)
        assert places() == set()


class TestRefusals:
    def test_what_cannot_be_converted_is_said_now_and_later_without_trying_again(self) -> None:
        def fail(file: Path) -> None:
            fill("half")(file)
            raise RuntimeError("no rule for\n  the operation Erfinv")

        for convert in (fail, never):
            with pytest.raises(CannotConvert, match=r"^no rule for the operation Erfinv$"):
                converted(WHAT, convert)
        assert not is_kept(WHAT)
        assert {file.suffix for place in places() for file in place.iterdir()}.isdisjoint({".xml", ".bin"})
        assert converted({"net": "another"}, fill()).is_file()

    def test_an_error_without_words_has_a_reason_too(self) -> None:
        def fail(file: Path) -> None:
            raise RuntimeError

        with pytest.raises(CannotConvert, match="RuntimeError"):
            converted(WHAT, fail)

    @pytest.mark.parametrize("error", [MemoryError("none left"), OSError(28, "No space left on device")])
    def test_want_of_memory_or_disk_says_nothing_about_the_net(self, error: Exception) -> None:
        def fail(file: Path) -> None:
            fill("half")(file)
            raise error

        with pytest.raises(type(error)):
            converted(WHAT, fail)
        assert places() == set()
        assert converted(WHAT, fill()).read_text() == "net of weights"

    @pytest.mark.parametrize("text", ["std::bad_alloc", "Cannot allocate memory", "RESOURCE_EXHAUSTED: OOM"])
    def test_want_of_memory_that_libraries_tell_in_their_words_says_nothing_about_the_net(self, text: str) -> None:
        def fail(file: Path) -> None:
            raise RuntimeError(text)

        with pytest.raises(Exception, match=text):
            converted(WHAT, fail)
        assert converted(WHAT, fill()).read_text() == "net of weights"


def convert_slowly(number: int, barrier: object, results: object) -> None:
    def convert(file: Path) -> None:
        barrier.wait(60)
        fill("the same")(file)

    file = converted(WHAT, convert)
    results.put((number, file.read_text(), file.with_suffix(".bin").read_text()))


class TestTogether:
    def test_processes_that_convert_at_the_same_time_all_end_well(self) -> None:
        context = multiprocessing.get_context("spawn")
        barrier, results = context.Barrier(3), context.Queue()
        workers = [context.Process(target=convert_slowly, args=(number, barrier, results)) for number in range(3)]
        for worker in workers:
            worker.start()
        found = sorted(results.get(timeout=120) for _ in workers)
        for worker in workers:
            worker.join(10)
            assert worker.exitcode == 0
        assert found == [(number, "net of the same", "the same") for number in range(3)]
        assert len(places()) == 1
        assert converted(WHAT, never).read_text() == "net of the same"

    def test_the_slower_of_two_uses_what_the_faster_has_made(self) -> None:
        def slower(file: Path) -> None:
            converted(WHAT, fill("the faster"))
            fill("the slower")(file)

        file = converted(WHAT, slower)
        assert file.read_text() in ("net of the faster", "net of the slower")
        assert file.with_suffix(".bin").is_file()
        assert converted(WHAT, never) == file
        assert places() == {file.parent}

    def test_one_that_succeeds_is_not_undone_by_one_that_fails_meanwhile(self) -> None:
        def fail(file: Path) -> None:
            raise RuntimeError("for the moment")

        def succeed(file: Path) -> None:
            with pytest.raises(CannotConvert):
                converted(WHAT, fail)
            fill()(file)

        assert converted(WHAT, succeed).is_file()

    def test_what_another_puts_there_at_the_last_moment_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        look, put = openvino_store._is_whole, []

        def too_early(place: Path) -> bool:
            if list(place.parent.glob(".new-*")) and not put:  # about to put its own
                put.append(place)
                put.append(converted(WHAT, fill("the other")).stat().st_ino)
                return False
            return look(place)

        monkeypatch.setattr(openvino_store, "_is_whole", too_early)
        file = converted(WHAT, fill("this one"))
        assert file.read_text() == "net of the other"
        assert file.stat().st_ino == put[1]  # never moved away and back


class TestRoom:
    def test_the_least_recently_used_goes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        files = [converted({"net": number}, fill(str(number), 1000)) for number in range(4)]
        now = time.time()
        for age, number in enumerate((2, 0, 3, 1), start=1):  # 1 is the oldest
            os.utime(files[number].parent, (now - 100 * age,) * 2)
        converted({"net": 1}, never)  # used: now it is the newest of them
        monkeypatch.setattr(openvino_store, "ROOM_BYTES", 3500)
        newest = converted({"net": "newest"}, fill("newest", 1000))
        assert [file.exists() for file in files] == [False, True, True, False]
        assert newest.exists()
        converted({"net": 3}, fill("3", 1000))

    def test_the_newest_stays_though_it_alone_takes_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(openvino_store, "ROOM_BYTES", 100)
        older = converted({"net": "older"}, fill("older", 10))
        newest = converted({"net": "newest"}, fill("newest", 1000))
        assert converted({"net": "newest"}, never) == newest
        assert not older.exists()

    def test_nothing_goes_while_there_is_room(self) -> None:
        files = [converted({"net": number}, fill(str(number), 1000)) for number in range(5)]
        assert all(file.exists() for file in files)


class TestUpkeep:
    @pytest.fixture
    def two(self) -> list[Path]:
        """Two nets: the second was last used 40 days ago."""
        files = [converted({"net": name}, fill(name, 1000)) for name in ("new", "old")]
        os.utime(files[1].parent, (time.time() - 40 * 24 * 3600 - 60,) * 2)
        for file in files:
            openvino_store._leave(file.parent)  # as when this process has ended
        return files

    def test_they_are_listed_with_the_newest_first(self, two: list[Path]) -> None:
        assert [(one.net, one.folder) for one in kept()] == [("new", two[0].parent), ("old", two[1].parent)]
        assert [one.bytes for one in kept()] == [
            sum(file.stat().st_size for file in one.folder.iterdir()) for one in kept()
        ]

    def test_they_are_removed_by_age_or_size(self, two: list[Path]) -> None:
        assert candidates() == candidates(older_than=50) == candidates(max_bytes=10_000) == []
        [old] = candidates(older_than=30)
        assert (old.name, old.reason) == ("converted old", "not used for 40 days")
        assert old.bytes == kept()[1].bytes
        assert [one.name for one in candidates(max_bytes=1500)] == ["converted old"]
        assert [one.name for one in candidates(max_bytes=0)] == ["converted new", "converted old"]
        assert all(file.exists() for file in two), "they are listed only"
        remove([old])
        assert [file.exists() for file in two] == [True, False]
        assert places() == {two[0].parent}

    def test_one_that_a_process_uses_stays(self, two: list[Path]) -> None:
        program = (
            "import sys; from test_conversions import *; print(converted({'net': 'old'}, never), flush=True); input()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline().strip() == str(two[1])
        [other] = candidates(max_bytes=0)
        assert other.name == "converted new"
        remove([replace(other, files=[two[1]])])
        assert two[1].exists()
        process.communicate("\n")
        assert len(candidates(max_bytes=0)) == 2

    def test_what_killed_processes_left_goes(self) -> None:
        folder().mkdir(parents=True)
        for name, hours in (("dead", 2), ("alive", 0)):
            (folder() / f".new-{name}").mkdir()
            (folder() / f".new-{name}" / "net.xml").touch()
            os.utime(folder() / f".new-{name}", (time.time() - 3600 * hours,) * 2)
        [dead] = candidates()
        assert dead.reason == "unfinished files of dead processes"
        remove([dead])
        assert [place.name for place in places()] == [".new-alive"]


class TestNoPlace:
    @pytest.fixture
    def no_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("not a folder")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    def test_without_a_place_it_is_converted_each_time(self, no_place: None) -> None:
        assert converted(WHAT, fill("first")).read_text() == "net of first"
        assert converted(WHAT, fill("second")).with_suffix(".bin").read_text() == "second"
        assert not is_kept(WHAT)

    def test_without_a_place_a_failure_is_a_failure(self, no_place: None) -> None:
        def fail(file: Path) -> None:
            raise RuntimeError("no rule")

        for _ in range(2):
            with pytest.raises(CannotConvert, match="no rule"):
                converted(WHAT, fail)

    def test_extraction_works_without_a_place_and_leaves_nothing(
        self, needs_openvino: None, tmp_path: Path, run_python: Callable
    ) -> None:
        (tmp_path / "file").write_text("not a folder")
        (tmp_path / "tmp").mkdir()
        done = run_python(
            EXTRACT, tmp_path / "features", "openvino", XDG_CACHE_HOME=str(tmp_path / "file"), TMPDIR=tmp_path / "tmp"
        )
        assert done.stdout.splitlines()[0] == "9 openvino", done.stderr
        assert not list((tmp_path / "tmp").glob("layertap*"))


EXTRACT = """
import sys
from pathlib import Path
import numpy as np
from feature_cache.cache import FeatureCache
from transfer.data import datasets
from transfer.extraction.extract import extract
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest
digits = datasets.load("digits").select(np.arange(9))
wanted = FeatureRequest(Net("glyphnet"), ("block1_pool",))
report = extract(digits, wanted, FeatureCache(Path(sys.argv[1])), engine=sys.argv[2])
print(report.rows_computed, report.engine)
print([name for name in ("keras", "tensorflow") if name in sys.modules])
"""


@pytest.mark.usefixtures("needs_openvino")
class TestNets:
    @pytest.mark.slow
    def test_a_new_process_needs_neither_keras_nor_tensorflow(self, tmp_path: Path, run_python: Callable) -> None:
        digits = datasets.load("digits").select(np.arange(9))
        wanted = FeatureRequest(Net("glyphnet"), ("block1_pool",))
        mine = FeatureCache(tmp_path / "mine")
        assert extract(digits, wanted, mine, engine="openvino").engine == "openvino"
        for engine in ("openvino", "auto"):
            done = run_python(EXTRACT, tmp_path / engine, engine)
            assert done.stdout.splitlines() == ["9 openvino", "[]"], done.stderr
            (expected,) = stored_features(digits, wanted, mine).features.values()
            (found,) = stored_features(digits, wanted, FeatureCache(tmp_path / engine)).features.values()
            np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=1e-5 * np.abs(expected).max())

    def test_the_second_use_of_a_net_converts_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        digits = datasets.load("digits").select(np.arange(9))
        wanted = FeatureRequest(Net("glyphnet"), ("block1_pool",))
        extract(digits, wanted, FeatureCache(tmp_path / "first"), engine="openvino")
        before = {file: file.stat().st_mtime_ns for place in places() for file in place.iterdir()}
        monkeypatch.setattr("transfer.engines.factory.ConversionProcess", lambda *_: pytest.fail("converted again"))
        again = FeatureRequest(Net("glyphnet"), ("block1_pool",))
        assert extract(digits, again, FeatureCache(tmp_path / "second"), engine="openvino").rows_computed == 9
        assert {file: file.stat().st_mtime_ns for place in places() for file in place.iterdir()} == before

    @pytest.mark.parametrize("suffix", [".xml", ".bin"])
    def test_a_damaged_net_is_converted_again(self, tmp_path: Path, suffix: str) -> None:
        digits = datasets.load("digits").select(np.arange(9))
        wanted = FeatureRequest(Net("glyphnet"), ("block1_pool",))
        extract(digits, wanted, FeatureCache(tmp_path / "first"), engine="openvino")
        (file,) = [file for place in places() for file in place.glob(f"*{suffix}")]
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        again = FeatureRequest(Net("glyphnet"), ("block1_pool",))
        extract(digits, again, FeatureCache(tmp_path / "second"), engine="openvino")
        assert file.stat().st_size == len(whole)
        one, other = (stored_features(digits, wanted, FeatureCache(tmp_path / n)).features for n in ("first", "second"))
        np.testing.assert_array_equal(np.asarray(one["block1_pool"]), np.asarray(other["block1_pool"]))

    def test_everything_that_shapes_the_features_makes_another_conversion(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_net: Callable[..., Net]
    ) -> None:
        import keras

        def toy(seed: int) -> keras.Model:
            keras.utils.set_random_seed(seed)
            inputs = keras.Input((32, 32, 3))
            return keras.Model(inputs, keras.layers.Conv2D(2, 3, name="conv")(inputs))

        first = FeatureRequest(Net("glyphnet", "none"), ("block1_pool",))
        wanted = [
            first,
            replace(first, net=Net("glyphnet", "none", seed=1)),
            replace(first, net=Net("glyphnet", "none", preprocessing="unit")),
            replace(first, net=Net("glyphnet")),
            replace(first, layers=("block1_conv1",)),
            replace(first, layers=("block1_pool", "block1_conv1")),
            replace(first, layers=("block1_conv1", "block1_pool")),
            replace(first, pooling="max"),
            replace(first, size=(32, 16)),
            replace(first, size=(16, 32)),
            FeatureRequest(save_net(toy(1), "one"), ("conv",)),
            FeatureRequest(save_net(toy(2), "two"), ("conv",)),
        ]
        count = 0

        class Converting:
            def __init__(self, cut: NetPart) -> None:
                pass

            def convert(self, channels: int, file: Path) -> None:
                nonlocal count
                count += 1
                fill()(file)

        class Nothing:
            def __init__(self, file: Path, batch_size: int, precision: str, room: int | None) -> None:
                raise StopAsyncIteration  # the net has been converted, or found: that is all

        monkeypatch.setattr("transfer.engines.factory.ConversionProcess", Converting)
        monkeypatch.setattr("transfer.engines.factory.OpenVinoEngine", Nothing)
        from transfer.extraction.reading import read_batches

        def use(wanted: FeatureRequest, colour: bool = False) -> None:
            pixels = np.zeros((32, 32, 3) if colour else (32, 32), np.uint8)
            dataset = datasets.Dataset("one", ("a",), (datasets.ArraySource(pixels, "a"),), None)
            with pytest.raises(StopAsyncIteration):
                list(BatchRunner(wanted, engine="openvino").run(read_batches(dataset, [0], wanted, 4, {})))

        for number, one in enumerate(wanted, start=1):
            use(one)
            assert count == number, one
        use(first, colour=True)
        assert count == len(wanted) + 1
        use(first, colour=True)
        for one in wanted:
            use(one)
            use(replace(one, fit="pad", interpolation="nearest", dtype="float16"))  # these shape no net
        assert count == len(wanted) + 1

    @pytest.mark.slow
    def test_two_extractions_that_convert_at_the_same_time_both_end_well(self, tmp_path: Path) -> None:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", EXTRACT, str(tmp_path / str(number)), "openvino"],
                cwd=ROOT,
                env=os.environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(2)
        ]
        for process in processes:
            written, errors = process.communicate(timeout=120)
            assert written.splitlines()[0] == "9 openvino", errors
        assert len(places()) == 1
