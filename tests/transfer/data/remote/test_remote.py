"""Data sets under URLs, on fsspec's file system in memory: the same as on disk, and what is refused."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest

import layertap as lt
from feature_cache.errors import BadData, BadImage, InvalidChoice, MissingDependency, Unreachable
from feature_cache.files.urls import redacted
from feature_cache.remote import access
from tests.transfer.data.remote.packed import digests, parquet_of, tar_of, zip_of
from transfer.data import datasets
from transfer.data.containers.container import MemberSource
from transfer.data.remote.announced import MOST_IMAGES, announced
from transfer.data.remote.file import BLOCK, RemoteFile
from transfer.data.remote.path import RemotePath
from transfer.data.remote.pieces import PIECES, Pieces
from transfer.data.remote.places import at, folder_at

Put = Callable[[str, dict[str, bytes]], str]


@pytest.fixture
def put() -> Iterator[Put]:
    """Write files below a folder in memory, and return the URL of the folder."""
    memory = fsspec.filesystem("memory")

    def write(folder: str, members: dict[str, bytes]) -> str:
        memory.pipe({f"/{folder}/{name}": content for name, content in members.items()})
        return f"memory://{folder}"

    yield write
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture
def images(class_folder: Path) -> dict[str, bytes]:
    """The files of `class_folder`, by their paths in it."""
    return {
        path.relative_to(class_folder).as_posix(): path.read_bytes() for path in sorted(class_folder.rglob("*.png"))
    }


class TestTheSameAsOnDisk:
    def test_a_folder(self, put: Put, images: dict[str, bytes], class_folder: Path) -> None:
        local, remote = datasets.load(str(class_folder)), datasets.load(put("photos", {**images, "notes.txt": b"on"}))
        assert remote.ids == local.ids and remote.labels.tolist() == local.labels.tolist()
        assert digests(remote) == digests(local)
        assert remote.name == "memory://photos" and any(".txt" in note for note in remote.notes)
        assert digests(pickle.loads(pickle.dumps(remote))) == digests(local)  # as other processes are given it

    @pytest.mark.parametrize("name", ["data.zip", "data.tar", "data.tar.gz", "data.parquet"])
    def test_a_file_that_holds_images(self, put: Put, images: dict[str, bytes], class_folder: Path, name: str) -> None:
        kinds = {"zip": zip_of, "tar": tar_of, "gz": lambda members: tar_of(members, "w:gz"), "parquet": parquet_of}
        url = put("sets", {name: kinds[name.rpartition(".")[2]](images)})
        local, remote = datasets.load(str(class_folder)), datasets.load(f"{url}/{name}")
        assert remote.labels.tolist() == local.labels.tolist()
        assert digests(remote) == digests(local)
        assert digests(remote.select(np.array([6, 1]))) == [digests(local)[place] for place in (6, 1)]

    @pytest.mark.parametrize("pattern", ["s-{0..7}.tar", "s-*.tar"])
    def test_shards(self, put: Put, images: dict[str, bytes], class_folder: Path, pattern: str) -> None:
        shards = {
            f"s-{number}.tar": tar_of({f"{number}.png": content, f"{number}.cls": name[:1].encode()})
            for number, (name, content) in enumerate(images.items())
        }
        found = lt.load_dataset(f"{put('shards', shards)}/{pattern}")
        local = datasets.load(str(class_folder))
        assert found.ids[1] == "s-1.tar/1" and digests(found) == digests(local)
        assert found.labels.tolist() == local.labels.tolist()
        assert digests(lt.load_dataset(**found.options)) == digests(local)
        with pytest.raises(BadData, match=r"stands for 'memory://shards/s-8.tar', and there is no such file"):
            datasets.load("memory://shards/s-{7..8}.tar")

    def test_a_folder_in_an_archive_and_a_split(self, put: Put, images: dict[str, bytes]) -> None:
        parts = {f"{part}/{name}": data for part in ("train", "test") for name, data in images.items()}
        url = put("sets", {"all.zip": zip_of(parts), **{f"all/{name}": data for name, data in parts.items()}})
        assert datasets.load(f"{url}/all.zip/train").ids == datasets.load(f"{url}/all", split="train").ids
        with pytest.raises(BadData, match=r"give its folder, memory://sets/all/train"):
            datasets.load(f"{url}/all")

    def test_tables_and_a_kit(self, put: Put, images: dict[str, bytes], class_folder: Path, tmp_path: Path) -> None:
        table = b"id,class\n" + b"".join(f"{name},{name[0]}\n".encode() for name in images)
        local = datasets.load(str(class_folder))
        kit = {f"kit/data/{name}": data for name, data in {**images, "train.csv": table}.items()}
        beside = {f"imgs/{name}": data for name, data in images.items()}
        url = put("csv", {"train.csv": table, **beside, **kit, "kit/problem.py": b"", "images.zip": zip_of(images)})
        (tmp_path / "own.csv").write_bytes(table)
        for found in (
            datasets.load(f"{url}/train.csv"),
            datasets.load(f"{url}/kit"),
            lt.load_dataset(f"{url}/train.csv", images=f"{url}/images.zip"),
            lt.load_dataset(tmp_path / "own.csv", images=f"{url}/imgs"),
        ):
            assert digests(found) == digests(local) and found.labels.tolist() == local.labels.tolist()
        put(
            "csv",
            {"urls.csv": table.replace(b"\na/", b"\nmemory://csv/imgs/a/").replace(b"\nb/", b"\nmemory://csv/imgs/b/")},
        )
        assert digests(lt.load_dataset(f"{url}/urls.csv", images=url)) == digests(local)
        put("csv", {"out.csv": b"id,class\n../secret.png,a\n"})
        with pytest.raises(BadData, match=r"names '\.\./secret\.png', which leads out of the image folder"):
            datasets.load("memory://csv/out.csv")

    def test_single_images(self, put: Put, images: dict[str, bytes], class_folder: Path) -> None:
        url = put("photos", images)
        assert digests(datasets.load(f"{url}/a/0.png")) == digests(datasets.load(f"{class_folder}/a/0.png"))
        assert digests(lt.load_dataset([f"{url}/a/0.png", class_folder / "b/1.png"])) == [
            digests(datasets.load(str(class_folder / name)))[0] for name in ("a/0.png", "b/1.png")
        ]
        assert lt.load_dataset([f"{url}/a/0.png"]).ids == ("memory://photos/a/0.png",)

    def test_a_folder_of_parquet_files_with_splits(self, put: Put, images: dict[str, bytes]) -> None:
        about = b"---\nconfigs:\n- config_name: default\n  data_files:\n  - {split: train, path: data/a*}\n---\n"
        url = put("hub", {"data/a-0.parquet": parquet_of(images), "data/b.parquet": b"", "README.md": about})
        assert len(datasets.load(url, split="train")) == 8

    def test_a_file_url_is_a_path(self, class_folder: Path) -> None:
        assert datasets.load(f"file://{class_folder}").ids == datasets.load(str(class_folder)).ids


class TestNames:
    def test_a_local_path_may_look_like_a_url(
        self, class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class_folder.rename(tmp_path / "s3:")
        (tmp_path / "data").mkdir()
        (tmp_path / "s3:" / "c").symlink_to(tmp_path / "s3:" / "a")
        monkeypatch.chdir(tmp_path)
        assert at("s3://") == Path("s3:/") and len(datasets.load("s3://")) == 8
        assert at("data/s3://bucket") == Path("data/s3:/bucket")
        with pytest.raises(InvalidChoice, match="there is no data set, folder or file 'data/memory://x'"):
            datasets.load("data/memory://x")

    def test_names_that_lead_out_of_the_folder_are_passed_over(self, images: dict[str, bytes]) -> None:
        class Listing:
            def find(self, path: str, detail: bool) -> dict[str, dict[str, object]]:
                names = [*images, "../evil.png", "a/../../evil.png", "/etc/evil.png", "a//x.png", "a/./x.png"]
                return {f"bucket/photos/{name}": {"size": 1, "type": "file"} for name in names}

            def info(self, path: str) -> dict[str, str]:
                return {"type": "directory"}

        folder = folder_at(RemotePath(Listing(), "bucket/photos", "s3://bucket/photos"))
        assert folder.tree().images == list(images)
        assert "5 files whose names are no paths below it, such as '../evil.png'" in folder.notes[0]

    def test_secrets_are_neither_shown_nor_kept(self) -> None:
        path = at("https://me:geheim@host.example/photos/a.zip?X-Amz-Signature=geheim")
        assert path.path.count("geheim") == 2  # they are needed for reading
        shown = [str(path), repr(path), path.name, str(path.parent), *map(str, path.parents)]
        assert not any("geheim" in text for text in shown) and path.name == "a.zip"
        assert redacted("403, url='https://me:geheim@host/a?X=geheim'") == "403, url='https://host/a'"


class TestRefused:
    @pytest.mark.parametrize(
        ("url", "error", "message"),
        [
            ("memory://nothing", InvalidChoice, "there is no folder or file memory://nothing; check"),
            ("nosuch://bucket/x", InvalidChoice, r"'nosuch://bucket/x' cannot be read \(.*nosuch.*\); give a path"),
            ("gs://bucket/x", MissingDependency, r"gs:// cannot be read yet\. Please install gcsfs"),
            ("memory://a.zip::s3://b", InvalidChoice, "chains file systems by ::, which is not read"),
            ("memory://sets/a.npz", BadData, "is a file of arrays, which is read from a disk alone; fetch it"),
            ("memory://sets/a.zip", BadData, r"memory://sets/a\.zip is damaged, cut off, or no zip archive"),
            ("memory://sets/text", BadData, r"memory://sets/text is neither a data set nor an image"),
            ("memory://sets", BadData, "the folder memory://sets holds no images by their names"),
        ],
    )
    def test_in_one_line(self, put: Put, url: str, error: type[Exception], message: str) -> None:
        put("sets", {"a.npz": b"PK", "a.zip": b"no zip", "text": b"plain text"})
        with pytest.raises(error, match=message) as caught:
            datasets.load(url)
        assert "\n" not in str(caught.value)

    def test_a_package_that_is_missing_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "s3fs", None)
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)  # loaded by another test
        with pytest.raises(MissingDependency, match=r"s3:// cannot be read yet\. .*s3fs.*: pip install 'layertap\[cl"):
            datasets.load("s3://bucket/photos")


class TestServersThatFail:
    @pytest.fixture(autouse=True)
    def at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(access, "FIRST_WAIT", 0)

    def test_tries_are_repeated_and_their_end_is_told(self) -> None:
        answers: list[Exception | str] = [OSError("reset"), TimeoutError(), "content"]

        def ask() -> str:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        assert access.attempt(ask, "s3://b/x") == "content"
        answers[:] = [OSError("reset by https://host/x?token=1")] * access.TRIES
        with pytest.raises(
            Unreachable, match=r"cannot read s3://b/x: the server does not answer \(reset by https://host/x\); check"
        ):
            access.attempt(ask, "s3://b/x")
        answers[:] = [PermissionError("no"), "not asked again"]
        with pytest.raises(PermissionError, match="access is denied"):
            access.attempt(ask, "s3://b/x")

    def test_an_outage_is_no_unreadable_image(
        self, put: Put, images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        folder = datasets.load(put("photos", images))
        archive = datasets.load(put("sets", {"a.zip": zip_of(images)}) + "/a.zip")
        missing = datasets.load("memory://photos")
        fsspec.filesystem("memory").rm("/photos/a/0.png")
        with pytest.raises(BadImage, match=r"cannot read the image memory://photos/a/0\.png: there is no such file"):
            missing.sources[0].load()

        def down(*_: object, **__: object) -> bytes:
            raise ConnectionResetError("the server is down")

        PIECES.__init__()  # type: ignore[misc]  # what is kept needs no server
        monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", down)
        for dataset in (folder, archive):
            with pytest.raises(Unreachable, match="the server is down"):
                lt.extract(dataset, "glyphnet", cache=tmp_path / "features", on_error="skip")
        with pytest.raises(Unreachable, match="the server is down"):
            datasets.load("memory://sets/a.zip")

    def test_a_file_that_has_changed_meanwhile_is_told(self, put: Put, images: dict[str, bytes]) -> None:
        dataset = datasets.load(put("photos", images))
        put("photos", {"a/0.png": b"short"})
        with pytest.raises(BadImage, match="5 of [0-9]+ bytes came; if it has changed, run the command again"):
            dataset.sources[0].load()

    def test_a_server_that_gives_no_parts(
        self, images: dict[str, bytes], class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Quiet(SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Nothing is printed."""

        (tmp_path / "served").mkdir()
        (tmp_path / "served" / "small.zip").write_bytes(zip_of(images))
        (tmp_path / "served" / "large.zip").write_bytes(zip_of(images))
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "served"))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert digests(datasets.load(f"{url}/small.zip")) == digests(datasets.load(str(class_folder)))
        monkeypatch.setattr("transfer.data.remote.file.BLOCK", 500)
        with pytest.raises(BadData, match=r"large\.zip: its server gives no parts of files; fetch it, and give its"):
            datasets.load(f"{url}/large.zip")
        with pytest.raises(InvalidChoice, match=r"there is no folder or file http://127.*/none\.zip"):
            datasets.load(f"{url}/none.zip")
        server.shutdown()
        server.server_close()
        with pytest.raises(Unreachable, match=r"cannot read http://127.*/late\.zip: the server does not answer \("):
            datasets.load(f"{url}/late.zip")


class TestReading:
    def test_any_place_is_read_alone_or_in_blocks(self, put: Put, rng: np.random.Generator) -> None:
        content = rng.integers(0, 256, 3 * BLOCK + 1000, np.uint8).tobytes()
        path = at(put("large", {"file": content}) + "/file")
        file = RemoteFile(path)
        for start, count in [(5, 10), (BLOCK - 5, 10), (3 * BLOCK, 5000), (BLOCK, 2 * BLOCK), (2, 3), (4 * BLOCK, 1)]:
            assert file.read(start, count) == content[start : start + count]
        with file.open() as stream:
            stream.seek(-10, os.SEEK_END)
            assert stream.read() == content[-10:] and stream.read() == b""

    def test_pieces_are_fetched_once_and_memory_is_bounded(self) -> None:
        pieces, fetched = Pieces(threads=2, most=100), []

        def fetch(number: int) -> bytes:
            fetched.append(number)
            return bytes(30)

        for number in (1, 2, 1, 3, 1, 4, 2):
            pieces.read(number, 30, lambda number=number: fetch(number))
        assert fetched == [1, 2, 3, 4, 2]  # 2 had to go for 4
        assert sum(size for size, _ in pieces._kept.values()) <= 100

    def test_a_piece_that_failed_is_fetched_again(self) -> None:
        pieces, answers = Pieces(threads=1), [OSError("first"), b"x"]

        def fetch() -> bytes:
            answer = answers.pop(0)
            if isinstance(answer, OSError):
                raise answer
            return answer

        with pytest.raises(OSError, match="first"):
            pieces.read("key", 1, fetch)
        assert pieces.read("key", 1, fetch) == b"x"

    def test_what_waits_is_given_up_where_a_server_is_down(self) -> None:
        pieces, asked = Pieces(threads=1), []

        def fetch(number: int) -> bytes:
            asked.append(number)
            time.sleep(0.05)
            raise Unreachable("the server is down")

        for number in range(10):
            pieces.start(number, 1, lambda number=number: fetch(number))
        with pytest.raises(Unreachable, match="the server is down"):
            pieces.read(0, 1, lambda: b"")
        time.sleep(0.15)
        assert len(asked) <= 2

    def test_many_requests_are_on_their_way_at_a_time(
        self, put: Put, images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        many = {
            f"{number:03d}.png": content + bytes(number) for number, content in enumerate(list(images.values()) * 12)
        }
        dataset = datasets.load(put("slow", many))
        memory, lock = type(fsspec.filesystem("memory")), threading.Lock()
        plain, now, most = memory.cat_file, 0, 0

        def slow(self: object, path: str, **options: object) -> bytes:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.02)
            with lock:
                now -= 1
            return plain(self, path, **options)

        monkeypatch.setattr(memory, "cat_file", slow)
        read = dataset.identify(lt.FeatureCache(tmp_path / "features"))
        assert not read.unreadable and 8 < most <= access.CONNECTIONS

    def test_jobs_are_announced_ahead_and_in_bounds(self, put: Put, images: dict[str, bytes]) -> None:
        dataset = datasets.load(put("photos", {f"{n}.png": images["a/0.png"] for n in range(100)}))
        asked: list[int] = []

        class Counted(MemberSource):
            def announce(self) -> int:
                asked.append(self.position)
                return 10

        sources = [Counted(source.container, source.position) for source in dataset.sources]
        jobs = announced(sources, range(200), views=2)
        assert next(jobs) == 0 and len(asked) == MOST_IMAGES // 2 + 1
        assert list(jobs) == list(range(1, 200)) and asked == list(range(100))
