"""`layertap.load_dataset`: the same data sets as on the command line, and what they say of themselves."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import layertap as lt
from feature_cache.errors import BadData, BadImage, InvalidChoice
from transfer.data.images import ArraySource, FileSource, read_pixels

VOID = {"img", "br"}


class Page(HTMLParser):
    """The texts and the images of a piece of HTML whose elements are all closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.images: list[str] = []
        self.tags: set[str] = set()
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for label, level in (("cat", 50), ("dog", 200)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (300, 200), (level, number, 0)).save(tmp_path / "photos" / label / f"{number}.png")
    return tmp_path / "photos"


class TestSources:
    def test_a_folder_by_its_path_or_as_text(self, photos: Path) -> None:
        assert lt.load_dataset(photos).ids == lt.load_dataset(str(photos)).ids
        assert lt.load_dataset(photos).labels.tolist() == ["cat"] * 3 + ["dog"] * 3

    def test_a_list_of_files_has_no_labels(self, photos: Path) -> None:
        data = lt.load_dataset([photos / "cat" / "0.png", str(photos / "dog" / "1.png")])
        assert len(data) == 2
        assert data.labels is None

    def test_arrays_in_memory_are_what_they_are_in_a_file(self, tmp_path: Path) -> None:
        X = np.random.default_rng(0).random((3, 8, 6, 3))
        np.savez(tmp_path / "a.npz", X=X, y=[2, 0, 2])
        expected = lt.load_dataset(tmp_path / "a.npz")
        for source in ((X, [2, 0, 2]), (X, np.array([2.0, 0.0, 2.0])), (list(X), ["2", "0", "2"])):
            data = lt.load_dataset(source)
            assert data.labels.tolist() == expected.labels.tolist() == ["2", "0", "2"]
            for one, other in zip(data.sources, expected.sources, strict=True):
                np.testing.assert_array_equal(read_pixels(one)[1], read_pixels(other)[1])
        assert lt.load_dataset(X).labels is None
        deep = lt.load_dataset((4095 * X).astype(np.uint16), value_range=(0, 4095))
        assert read_pixels(deep[0])[1].max() > 200

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            (5, "^5 is neither a data set nor the path of an image; give a name or a path, a list of image files"),
            (
                (np.zeros((2, 8, 8)), [0]),
                r"^y has the shape \(1,\), and there are 2 images; give one label for each\.$",
            ),
            ((np.zeros((2, 8, 8)), [0.5, 1]), "^y holds float64 that are no whole numbers"),
            (np.zeros((8, 8, 3)), r"^X of shape \(8, 8, 3\) looks like a single image; put it in a list\.$"),
            (np.zeros((0, 8, 8)), "^X holds 0 images"),
            (np.full((2, 8, 8), 7.0), "^X holds "),
            (np.array([[{}, 1]] * 2)[:, None], "^X holds Python objects"),
            (["a.png", np.zeros(3)], "is neither a data set nor the path of an image"),
        ],
    )
    def test_what_is_no_data_set_is_refused_in_a_sentence(self, source: object, message: str) -> None:
        with pytest.raises(BadData, match=message):
            lt.load_dataset(source)

    def test_options_of_files_do_not_go_with_arrays(self) -> None:
        with pytest.raises(InvalidChoice, match="arrays in memory have no `split`; leave it out"):
            lt.load_dataset(np.zeros((2, 8, 8)), split="train")
        with pytest.raises(InvalidChoice, match="leave out `value_range`"):
            lt.load_dataset(np.zeros((2, 8, 8), np.uint8), value_range=(0, 1))

    def test_a_data_set_is_taken_as_it_is(self, photos: Path) -> None:
        data = lt.load_dataset(photos)
        assert lt.load_dataset(data) is data

    def test_options_that_do_not_suit_are_refused_by_the_names_of_parameters(self, photos: Path) -> None:
        with pytest.raises(InvalidChoice, match=r"^`images` goes with a CSV file; .*photos' is none\.$"):
            lt.load_dataset(photos, images=photos)
        with pytest.raises(InvalidChoice, match="there is no way to read `pages` 'channels'; allowed: first, all"):
            lt.load_dataset(photos, pages="channels")
        with pytest.raises(InvalidChoice, match="leave out `split`"):
            lt.load_dataset(photos, split="train")

    def test_pages_and_the_limit_on_pixels(self, photos: Path) -> None:
        pages = [Image.new("L", (5, 5), level) for level in (10, 20)]
        pages[0].save(photos / "cat" / "stack.tif", save_all=True, append_images=pages[1:])
        data = lt.load_dataset(photos, pages="all", max_pixels=30_000)
        assert "cat/stack.tif#1" in data.ids
        with pytest.raises(BadImage, match="raise `max_pixels`"):
            read_pixels(data[0])
        assert read_pixels(data[data.ids.index("cat/stack.tif#1")])[1].max() == 20


class TestRepr:
    def test_one_line_says_what_it_holds(self, photos: Path) -> None:
        assert repr(lt.load_dataset(photos)) == f"Dataset({str(photos)!r}, 6 images, 2 classes)"
        assert repr(lt.load_dataset([photos / "cat" / "0.png"])) == "Dataset('files', 1 image, no labels)"
        (photos / "a.csv").write_text("id,class,age\ncat/0.png,cat,3\n")
        assert repr(lt.load_dataset(photos / "a.csv")).endswith("1 image, 1 class, 3 columns)")

    def test_it_does_not_grow_with_the_number_of_images(self) -> None:
        count = 100_000
        pixels = np.zeros((4, 4), np.uint8)
        ids = tuple(f"a rather long name of an image {number}.png" for number in range(count))
        labels = np.array([f"class {number}" for number in range(count)])
        data = lt.Dataset("large", ids, (ArraySource(pixels, "pixels"),) * count, labels)
        assert repr(data) == "Dataset('large', 100,000 images, 100,000 classes)"
        assert len(data._repr_html_()) < 20_000

    def test_html_shows_classes_counts_and_pictures(self, photos: Path) -> None:
        (photos / "fox").mkdir()
        page = Page(lt.load_dataset(photos)._repr_html_())
        assert all(source.startswith("data:image/png;base64,") for source in page.images)
        assert len(page.images) == 6
        words = " ".join(page.texts)
        assert "6 images" in words
        assert " cat 3 dog 3 fox 0 " in words
        assert len(lt.load_dataset(photos)._repr_html_()) < 20_000

    def test_names_are_escaped_and_the_unreadable_are_told(self, tmp_path: Path) -> None:
        for label in ("<b>&amp", 'a "quoted" one'):
            (tmp_path / "d" / label).mkdir(parents=True)
            (tmp_path / "d" / label / "<script>alert(1)<.png").write_bytes(b"no image")
            Image.new("L", (3, 3)).save(tmp_path / "d" / label / "b & c.png")
        page = Page(lt.load_dataset(tmp_path / "d")._repr_html_())
        assert not page.tags & {"script", "b>"}
        assert {"<b>&amp", 'a "quoted" one'} <= set(page.texts)
        assert "<b>&amp/<script>alert(1)<.png" in page.texts
        assert len(page.images) == 2
        assert page.texts.count("cannot be read: not an image that can be read (not a known image format)") == 2

    def test_a_missing_file_does_not_break_it(self, tmp_path: Path) -> None:
        data = lt.Dataset("gone", ("a",), (FileSource(tmp_path / "a.png"),), None)
        assert "cannot be read" in " ".join(Page(data._repr_html_()).texts)
        assert len(Page(lt.Dataset("none", (), (), None)._repr_html_()).images) == 0
