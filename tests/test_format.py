"""docs/format.md is enough to read and to write a cache without Layertap's own code."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash

from feature_cache import FeatureCache, FeatureSpec
from feature_cache.maintenance.verify import verify

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "format.md").read_text()
SPEC = FeatureSpec(net="vgg16", weights="imagenet", layer="block5_pool", size=(32, 48))


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (50, 16), dtype=np.uint8), rng.standard_normal((50, 3, 100), dtype=np.float32)


def test_the_program_on_the_page_reads_a_segment(tmp_path: Path, rows: tuple[np.ndarray, np.ndarray]):
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    names: dict = {}
    exec(program, names)
    with FeatureCache(tmp_path)[SPEC].writer({}) as writer:
        writer.append(*rows)
    (path,) = tmp_path.glob("*/segment-*.h5")
    digests, features = names["read_rows"](path)
    np.testing.assert_array_equal(digests, rows[0])
    np.testing.assert_array_equal(features, rows[1])

    content = bytearray(path.read_bytes())
    content[content.index(rows[1][40].tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match="block 3 is damaged"):
        names["read_rows"](path)


def test_a_segment_written_by_the_page_is_read(tmp_path: Path, rows: tuple[np.ndarray, np.ndarray]):
    digests, features = rows
    spec = SPEC.to_json()
    assert spec == json.dumps(json.loads(spec), sort_keys=True, separators=(",", ":"))
    folder = tmp_path / SPEC.folder_name
    assert folder.name.endswith(f"-{hashlib.sha256(spec.encode()).hexdigest()[:8]}")
    folder.mkdir()
    (folder / "spec.json").write_text(spec)

    k = max(1, 16384 // (3 * 100 * 4))
    check = [xxhash.xxh3_64_intdigest(features[first : first + k].tobytes()) for first in range(0, 50, k)]
    columns = {"digest": digests, "view": np.zeros(50, "<u4"), "check": np.array(check, "<u8")}
    provenance = '{"by": "another program, é"}'
    state = xxhash.xxh3_128(json.dumps([spec, provenance, [50, 3, 100], "<f4"]).encode())
    for column in columns.values():
        state.update(column.tobytes())
    with h5py.File(folder / f"segment-{'0123456789abcdef' * 2}.h5", "w") as file:
        for name, column in {"features": features, **columns}.items():
            file[name] = column
        file["check"].attrs["rows_per_block"] = k
        file.attrs.update(layertap_format=2, spec=spec, provenance=provenance, checksum=state.hexdigest())

    space = FeatureCache(tmp_path)[SPEC]
    np.testing.assert_array_equal(np.asarray(space.rows(digests)), features)
    assert verify(space).damaged == []


def test_the_page_tells_the_keys_of_images_and_arrays():
    from feature_cache.keys import digest_array, digest_bytes

    assert digest_bytes(b"an image file") == hashlib.blake2b(b"an image file", digest_size=16).digest()
    array = np.arange(6, dtype=np.float64).reshape(2, 3)
    assert digest_array(array) == hashlib.blake2b(b"<f8(2, 3)" + array.tobytes(), digest_size=16).digest()
