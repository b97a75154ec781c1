"""Data sets in S3 and on a web server: a real server on this machine, which may be slow, fail, or refuse."""

from __future__ import annotations

import io
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cli
import layertap as lt
from feature_cache.cache import FeatureCache
from feature_cache.errors import BadData, InvalidChoice, Unreachable
from feature_cache.remote import access
from tests.transfer.data.remote.packed import digests, parquet_of, tar_of, zip_of
from tests.transfer.data.remote.s3_server import Faults, Server
from transfer.data import datasets
from transfer.data.remote.pieces import PIECES
from transfer.extraction.extract import extract
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

Put = Callable[[dict[str, bytes]], None]
REQUEST = FeatureRequest(Net("glyphnet"), ("block4_pool",))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def faults(server: Server, monkeypatch: pytest.MonkeyPatch) -> Faults:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    server.faults.__init__()  # type: ignore[misc]
    return server.faults


@pytest.fixture
def put(server: Server) -> Iterator[Put]:
    """Write objects, which everybody may read, into the bucket ``bucket``."""
    import s3fs

    store = s3fs.S3FileSystem(use_listings_cache=False)
    store.mkdir("bucket")
    yield lambda members: store.pipe({f"bucket/{name}": data for name, data in members.items()}, ACL="public-read")
    server.faults.__init__()  # type: ignore[misc]
    store.rm("bucket", recursive=True)


@pytest.fixture
def images(class_folder: Path) -> dict[str, bytes]:
    """The files of `class_folder`, by their paths in it."""
    return {
        path.relative_to(class_folder).as_posix(): path.read_bytes() for path in sorted(class_folder.rglob("*.png"))
    }


def test_what_was_computed_from_a_folder_is_not_computed_again(
    put: Put, images: dict[str, bytes], class_folder: Path, tmp_path: Path
) -> None:
    samples = {f"{number}.png": data for number, data in enumerate(images.values())}
    samples |= {f"{number}.cls": name[:1].encode() for number, name in enumerate(images)}
    put({f"photos/{name}": data for name, data in images.items()})
    put({"photos.zip": zip_of(images), "photos.tar": tar_of(images), "photos.tar.gz": tar_of(images, "w:gz")})
    put({"photos.parquet": parquet_of(images), "shards/s-0.tar": tar_of(samples)})
    put({f"images/{number}.png": data for number, data in enumerate(images.values())})
    put({"train.csv": b"id,class\n" + b"".join(b"%d.png,x\n" % number for number in range(8))})
    cache = FeatureCache(tmp_path / "features")
    names = ["photos", "photos.zip", "photos.tar", "photos.tar.gz", "photos.parquet", "shards/s-*.tar"]
    local, remote = datasets.load(str(class_folder)), [datasets.load(f"s3://bucket/{name}") for name in names]
    remote.append(lt.load_dataset("s3://bucket/train.csv", images="s3://bucket/images"))
    assert all(digests(one) == digests(local) for one in remote)
    first = extract(remote[0], REQUEST, cache)
    assert [first.rows_computed, extract(local, REQUEST, cache).rows_computed] == [8, 0]
    assert [extract(one, REQUEST, cache).rows_computed for one in remote] == [0] * len(remote)
    assert remote[0].ids == local.ids


def test_a_second_look_reads_no_image(put: Put, images: dict[str, bytes], tmp_path: Path, faults: Faults) -> None:
    put({f"photos/{name}": data for name, data in images.items()})
    put({"photos.zip": zip_of(images)})
    cache = FeatureCache(tmp_path / "features")
    for name in ("photos", "photos.zip"):
        first = datasets.load(f"s3://bucket/{name}").identify(cache)
        PIECES.__init__()  # type: ignore[misc]  # as a new process has none
        dataset = datasets.load(f"s3://bucket/{name}")
        faults.requests.clear()
        np.testing.assert_array_equal(dataset.identify(cache).digests, first.digests)
        assert not faults.requests
    put({"photos/a/0.png": images["b/1.png"]})  # of the same size
    changed = datasets.load("s3://bucket/photos").identify(cache).digests
    assert changed[0].tobytes() == changed[4].tobytes()


@pytest.mark.slow
def test_the_command_line(
    put: Put,
    images: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    put({f"photos/{name}": data for name, data in images.items()})
    assert cli.main(["extract", "s3://bucket/photos", "--layer", "block4_pool"]) == 0
    assert "layertap train-head s3://bucket/photos" in capsys.readouterr().out
    assert cli.main(["train-head", "s3://bucket/photos", "--head", "ridge", "--cv", "2", "--out", "run"]) == 0
    assert cli.main(["predict", "run", "s3://bucket/photos/a/0.png", "s3://bucket/photos/b/1.png"]) == 0
    assert "s3://bucket/photos/b/1.png" in capsys.readouterr().out
    assert cli.main(["predict", "run", "s3://bucket/photos"]) == 0
    assert cli.main(["explore", "s3://bucket/photos", "--out", "s3://bucket/report"]) == 2
    assert "--out is written to disk, and not to s3://bucket/report" in capsys.readouterr().err


def test_a_web_server(
    put: Put,
    images: dict[str, bytes],
    server: Server,
    class_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put({"photos.zip": zip_of(images), "s-0.tar": tar_of(images)})
    local = digests(datasets.load(str(class_folder)))
    url = f"{server.url}/bucket/photos.zip"
    secret = url.replace("://", "://me:geheim@") + "?X-Amz-Signature=geheim"
    found = lt.load_dataset(secret)
    assert digests(found) == local and digests(datasets.load(f"{server.url}/bucket/s-{{0..0}}.tar")) == local
    assert found.name == url and found.options == {"source": url}
    assert "geheim" not in repr([found, found.options, found.sources[0], found.notes, *found.ids])
    command = ["train-head", secret, "--head", "ridge", "--cv", "2", "--layer", "block4_pool"]
    assert cli.main([*command, "--out", str(tmp_path / "run"), "--cache", str(tmp_path / "features")]) == 0
    assert cli.main(["extract", secret.replace("photos.zip", "no.zip"), "--cache", str(tmp_path / "features")]) == 2
    with pytest.raises(BadData, match="access is denied") as caught:
        lt.load_dataset(secret.replace("bucket/photos.zip", "forbidden/photos.zip"))
    assert "geheim" not in "".join(traceback.format_exception(caught.value, limit=0))
    said = capsys.readouterr()
    assert "there is no folder or file" in said.err and "geheim" not in said.out + said.err
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept and not any(b"geheim" in path.read_bytes() or "geheim" in path.name for path in kept)
    with pytest.raises(BadData, match="is neither a data set nor an image|does not list folders"):
        datasets.load(f"{server.url}/bucket")
    with pytest.raises(BadData, match="is on a web server, which does not list files; name them"):
        datasets.load(f"{server.url}/bucket/s-*.tar")


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "error", "message"),
        [
            ("s3://nowhere/photos", InvalidChoice, "there is no folder or file s3://nowhere/photos; check the bucket"),
            ("s3://bucket/nowhere", InvalidChoice, "there is no folder or file s3://bucket/nowhere"),
            ("s3://nowhere/s-*.tar", BadData, "stands for 's3://nowhere/s-.*, and there is no such file"),
            ("s3://me:geheim@bucket/photos", InvalidChoice, "s3:// takes no user and password in the URL"),
            ("s3://Not_A_Bucket!/photos", BadData, "cannot read s3://Not_A_Bucket!/photos: .*[Ii]nvalid"),
            ("s3://forbidden/photos", BadData, "cannot read s3://forbidden/photos: access is denied; check the cred"),
            ("s3://forbidden/a.zip", BadData, "cannot read s3://forbidden/a.zip: access is denied"),
        ],
    )
    def test_what_is_not_there_or_not_allowed(self, put: Put, name: str, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message) as caught:
            datasets.load(name)
        told = "".join(traceback.format_exception(caught.value, limit=0))
        assert "\n" not in str(caught.value) and "geheim" not in told.replace(f"[{name}", "")

    def test_no_credentials(self, put: Put, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        import s3fs

        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(BadData, match=r"there are no credentials; set AWS_ACCESS_KEY_ID .* or FSSPEC_S3_ANON=true"):
            datasets.load("s3://bucket/photos")
        s3fs.S3FileSystem.clear_instance_cache()

    def test_a_server_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import s3fs

        monkeypatch.setattr(access, "FIRST_WAIT", 0)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(Unreachable, match="cannot read s3://bucket/photos: .*127.0.0.1:9"):
            datasets.load("s3://bucket/photos")
        s3fs.S3FileSystem.clear_instance_cache()

    def test_a_shard_that_is_cut_off(self, put: Put, images: dict[str, bytes]) -> None:
        put({"s.tar": tar_of(images)[:2600]})
        found = datasets.load("s3://bucket/s.tar")
        assert 0 < len(found) < 8 and digests(found)
        assert any("s3://bucket/s.tar is read in part: it is cut off inside" in note for note in found.notes)

    def test_keys_that_lead_out_of_the_folder(self, put: Put, images: dict[str, bytes]) -> None:
        put({**{f"photos/{name}": data for name, data in images.items()}, "photos/../evil.png": b"x"})
        found = datasets.load("s3://bucket/photos")
        assert len(found) == 8 and not any(".." in name for name in found.ids)


class TestFaults:
    @pytest.fixture
    def photos(self) -> dict[str, bytes]:
        made = {}
        for number in range(40):
            pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(stream := io.BytesIO(), "JPEG")
            made[f"{'ab'[number % 2]}/{number:02d}.jpg"] = stream.getvalue()
        return made

    @pytest.mark.parametrize("kind", [pytest.param("photos", marks=pytest.mark.slow), "photos.tar", "photos.zip"])
    def test_each_third_request_fails_and_nothing_is_lost(
        self, put: Put, photos: dict[str, bytes], tmp_path: Path, faults: Faults, kind: str
    ) -> None:
        if kind == "photos":
            put({f"photos/{name}": data for name, data in photos.items()})
        else:
            put({kind: (zip_of if kind.endswith("zip") else tar_of)(photos)})
        faults.every = 3
        report = extract(datasets.load(f"s3://bucket/{kind}"), REQUEST, FeatureCache(tmp_path / "features"))
        assert report.rows_computed == 40 and not report.skipped
        assert faults.failed

    def test_each_image_is_fetched_once_though_few_are_kept(
        self, put: Put, photos: dict[str, bytes], tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put({f"photos/{name}": data for name, data in {**photos, "b/damaged.jpg": photos["a/00.jpg"][:300]}.items()})
        monkeypatch.setattr("transfer.data.remote.parts.FIRST_IMAGES", 5)
        monkeypatch.setattr("transfer.data.remote.parts.MOST_IMAGES", 7)
        monkeypatch.setattr("transfer.data.remote.announced.MOST_IMAGES", 5)
        PIECES.__init__(most=sum(map(len, photos.values())) * 3 // 4)  # type: ignore[misc]
        faults.requests.clear()
        seen: list[tuple[int, int]] = []
        cache, dataset = FeatureCache(tmp_path / "features"), datasets.load("s3://bucket/photos")
        report = extract(dataset, REQUEST, cache, on_error="skip", progress=lambda *done: seen.append(done))
        fetched = Counter(name for name in faults.requests if name.startswith("GET /bucket/photos/"))
        assert len(fetched) == 41 and {n for name, n in fetched.items() if "damaged" not in name} == {1}
        assert (report.rows_total, report.rows_computed, report.rows_skipped, report.rows_reused) == (41, 40, 1, 0)
        assert [problem.id for problem in report.skipped] == ["b/damaged.jpg"] and seen[-1] == (41, 41)
        features = lt.extract(dataset, "glyphnet", layers="block4_pool", cache=cache, on_error="skip")
        assert features.report.rows_computed == 0 and features["block4_pool"][:].shape[0] == 40
        PIECES.__init__()  # type: ignore[misc]

    def test_latency_is_hidden(self, put: Put, photos: dict[str, bytes], tmp_path: Path, faults: Faults) -> None:
        put({f"photos/{name}": data for name, data in photos.items()})
        dataset = datasets.load("s3://bucket/photos")
        faults.latency = 0.1
        start = time.perf_counter()
        assert not dataset.identify(FeatureCache(tmp_path / "features")).unreadable
        assert time.perf_counter() - start < 40 * 0.1 / 2  # one after another they would take 4 s
