"""Letters for training glyphnet: rendered from fonts, then distorted, and never a digit.

Only Pillow and NumPy are needed. `ALPHABETS` holds every character that is ever drawn; a test
checks that Unicode calls each of them a letter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Letters that look alike once size and position are normalised share one class: they are written
# side by side in one group. Greek letters that are drawn like Latin ones are left out.
ALPHABETS = {
    "latin": "a A b B cC d D e E f F g G h H i j J kK L lI m M n N oO pP q Q r R sS t T uU vV wW xX y Y zZ",
    "greek": "Γ Δ Θ Λ Ξ Π Σ Φ Ψ Ω α β γ δ ε ζ η θ λ μ ξ π ρ σ ς τ φ χ ψ ω",
    "armenian": "Ա Բ Գ Դ Ե Զ Է Ը Թ Ժ Ի Լ Խ Ծ Կ Հ Ձ Ղ Ճ Մ Յ Ն Շ Ո Չ Պ Ջ Ռ Վ Տ Ր Ց Փ Ք Ֆ "
    "ա բ գ դ ե զ է ը թ ժ ի լ խ ծ կ հ ձ ղ ճ մ յ ն շ ո չ պ ջ ռ վ տ ր ց փ ք ֆ",
    "georgian": "ა ბ გ დ ე ვ ზ თ ი კ ლ მ ნ ო პ ჟ რ ს ტ უ ფ ქ ღ ყ შ ჩ ც ძ წ ჭ ხ ჯ ჰ",
    "hebrew": "א ב ג ד ה ו ז ח ט י כ ך ל מ ם נ ן ס ע פ ף צ ץ ק ר ש ת",
    "arabic": "ا ب ت ث ج ح خ د ذ ر ز س ش ص ض ط ظ ع غ ف ق ك ل م ن ه و ي",
    "thaana": "ހ ށ ނ ރ ބ ޅ ކ އ ވ މ ފ ދ ތ ލ ގ ޏ ސ ޑ",
    "devanagari": "अ इ उ ए क ख ग घ च छ ज झ ट ठ ड ढ ण त थ द ध न प फ ब भ म य र ल व श ष स ह",
    "bengali": "অ ই উ এ ক খ গ ঘ চ ছ জ ঝ ট ঠ ড ঢ ণ ত থ দ ধ ন প ফ ব ভ ম য র ল শ ষ স হ",
    "tamil": "அ இ உ எ ஐ ஒ க ங ச ஞ ட ண த ந ப ம ய ர ல வ ழ ள ற ன",
    "kannada": "ಅ ಇ ಉ ಎ ಒ ಕ ಖ ಗ ಘ ಚ ಛ ಜ ಟ ಠ ಡ ಢ ಣ ತ ಥ ದ ಧ ನ ಪ ಫ ಬ ಭ ಮ ಯ ರ ಲ ವ ಶ ಷ ಸ ಹ",
    "malayalam": "അ ഇ ഉ എ ഒ ക ഖ ഗ ഘ ങ ച ഛ ജ ഞ ട ഠ ഡ ഢ ണ ത ഥ ദ ധ ന പ ഫ ബ ഭ മ യ ര ല വ ശ ഷ സ ഹ",
    "thai": "ก ข ค ฆ ง จ ฉ ช ซ ฌ ญ ฎ ฐ ฑ ฒ ณ ด ต ถ ท ธ น บ ป ผ ฝ พ ฟ ภ ม ย ร ล ว ศ ษ ส ห ฬ อ ฮ",
    "khmer": "ក ខ គ ឃ ង ច ឆ ជ ឈ ញ ដ ឋ ឌ ឍ ណ ត ថ ទ ធ ន ប ផ ព ភ ម យ រ ល វ ស ហ ឡ អ",
    "myanmar": "က ခ ဂ ဃ စ ဆ ဇ ဈ ည ဋ ဌ ဍ ဎ ဏ တ ထ ဒ ဓ န ပ ဖ ဗ ဘ မ ယ ရ လ ဝ သ ဟ ဠ အ",
    # Held out of training: settings are chosen on it. Only letters that Latin and Greek lack.
    "cyrillic": "Б Д Ж И Л Ц Ч Ш Щ Ъ Ы Э Ю Я б в д ж л ф э ю я",
}
HELD_OUT = "cyrillic"

MASTER_SIZE = 48  # pixels a side of a stored letter; its longer side spans MASTER_EXTENT of them
MASTER_EXTENT = 40
IMAGE_SIZE = 32  # pixels a side of what the net sees
RESOLUTIONS = (8, 8, 8, 10, 12, 16, 24, 32)  # a distorted letter is reduced to one of these, then enlarged again


@dataclass(frozen=True)
class Letters:
    """Rendered letters: white on black, each scaled to fill its square.

    Attributes
    ----------
    masters : ndarray of shape (n, 48, 48), uint8
    labels : ndarray of shape (n,), int64
        Index into `classes`.
    classes : tuple of str
        ``script:group`` of each class.
    fonts : tuple of str
        The font files used.
    """

    masters: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    fonts: tuple[str, ...]


def font_files(folder: Path, script: str) -> list[Path]:
    """The regular and bold faces (and regular italics) under `folder` that hold `script`, sorted."""
    found: list[Path] = []
    for style in ("400-normal", "700-normal", "400-italic"):
        found += folder.glob(f"node_modules/@fontsource/*/files/*-{script}-{style}.woff")
    return sorted(found)


def render(folder: Path, scripts: list[str]) -> Letters:
    """Draw every letter of `scripts` in every font under `folder` that has it.

    Raises
    ------
    FileNotFoundError
        When `folder` holds no fonts.
    """
    masters: list[np.ndarray] = []
    labels: list[int] = []
    classes: list[str] = []
    fonts: list[str] = []
    for script in scripts:
        groups = ALPHABETS[script].split()
        files = font_files(folder, script)
        for file in files:
            font = ImageFont.truetype(str(file), 64)
            missing = _draw(font, "\uffff")
            fonts.append(file.name)
            for index, group in enumerate(groups):
                for letter in group:
                    drawn = _draw(font, letter)
                    if drawn is not None and (missing is None or not np.array_equal(drawn, missing)):
                        masters.append(drawn)
                        labels.append(len(classes) + index)
        classes += [f"{script}:{group}" for group in groups]
    if not masters:
        raise FileNotFoundError(f"no fonts under {folder}; fetch them with: npm install --prefix {folder}")
    return Letters(np.stack(masters), np.array(labels), tuple(classes), tuple(fonts))


def distort(masters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One random handwriting-like distortion of each letter.

    Stroke width, rotation, shear, stretch, shift, an elastic displacement (Simard, Steinkraus and
    Platt 2003), sharpening, loss of resolution, contrast, polarity and noise all vary.

    Parameters
    ----------
    masters : ndarray of shape (n, 48, 48), uint8
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (n, 32, 32, 1), uint8
    """
    n = len(masters)
    ink = _thicken(masters, rng).astype(np.float32) / 255
    image = _sample(ink, _displaced_grid(n, rng))

    sharpness = rng.choice(np.array([1, 4, 20], np.float32), n)[:, None, None]
    image = np.clip((image - 0.5) * sharpness + 0.5, 0, 1)
    reduce = _REDUCTIONS[rng.integers(len(_REDUCTIONS), size=n)]  # [n, 32, 32]
    image = np.clip(reduce @ image @ reduce.transpose(0, 2, 1), 0, 1)

    gamma = np.exp(rng.normal(0, 0.35, (n, 1, 1)))
    contrast = rng.uniform(0.5, 1, (n, 1, 1))
    floor = rng.uniform(0, 1, (n, 1, 1)) * (1 - contrast)
    image = floor + contrast * image**gamma
    image = np.where(rng.random((n, 1, 1)) < 0.5, image, 1 - image)
    image = image + rng.normal(0, 1, image.shape) * rng.uniform(0, 0.06, (n, 1, 1))
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)[..., None]


def _draw(font: ImageFont.FreeTypeFont, letter: str) -> np.ndarray | None:
    canvas = Image.new("L", (192, 192))
    ImageDraw.Draw(canvas).text((48, 32), letter, fill=255, font=font)
    box = canvas.getbbox()
    if box is None:
        return None
    crop = canvas.crop(box)
    scale = MASTER_EXTENT / max(crop.size)
    size = (max(1, round(crop.width * scale)), max(1, round(crop.height * scale)))
    master = Image.new("L", (MASTER_SIZE, MASTER_SIZE))
    master.paste(
        crop.resize(size, Image.Resampling.BICUBIC), ((MASTER_SIZE - size[0]) // 2, (MASTER_SIZE - size[1]) // 2)
    )
    return np.asarray(master)


def _thicken(masters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    thick = masters.copy()
    chosen = np.arange(len(masters))
    for probability in (0.55, 0.5, 0.4):  # one more pixel on every side, with these chances in turn
        chosen = chosen[rng.random(len(masters))[chosen] < probability]
        part = thick[chosen]
        grown = part.copy()
        for axis in (1, 2):
            for shift in (-1, 1):
                np.maximum(grown, np.roll(part, shift, axis), out=grown)
        thick[chosen] = grown
    return thick


def _displaced_grid(n: int, rng: np.random.Generator) -> np.ndarray:
    """Where in the master, in units of half its side, each output pixel looks. Shape (n, 32, 32, 2), x then y."""
    axis = (np.arange(IMAGE_SIZE, dtype=np.float32) + 0.5) / IMAGE_SIZE * 2 - 1
    grid = np.stack(np.meshgrid(axis, axis, indexing="xy"), -1)  # [32, 32, 2]

    angle = np.radians(np.clip(rng.normal(0, 9, n), -25, 25))
    shear = rng.normal(0, 0.18, n)
    fill = rng.uniform(0.7, 1.02, n)  # the share of the frame that the letter spans
    stretch = np.exp(rng.normal(0, 0.18, n))
    turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], -2)
    slant = np.tile(np.eye(2), (n, 1, 1))
    slant[:, 0, 1] = shear
    size = np.zeros((n, 2, 2))
    size[:, 0, 0] = MASTER_EXTENT / MASTER_SIZE / fill * stretch
    size[:, 1, 1] = MASTER_EXTENT / MASTER_SIZE / fill
    matrix = (size @ slant @ turn).astype(np.float32)  # [n, 2, 2]
    where = np.einsum("nij,hwj->nhwi", matrix, grid)
    where += rng.normal(0, 0.06, (n, 1, 1, 2)).astype(np.float32)

    coarse = rng.normal(0, 1, (n, 5, 5, 2)) * rng.uniform(0, 0.11, (n, 1, 1, 1))
    where += np.einsum("hk,nkli,wl->nhwi", _SMOOTH, coarse.astype(np.float32), _SMOOTH, optimize=True)
    return where


def _sample(ink: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Bilinear look-up of `ink` [n, 48, 48] at `where` [n, 32, 32, 2]; black outside."""
    n = len(ink)
    padded = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    place = np.clip((where + 1) / 2 * MASTER_SIZE - 0.5, -1, MASTER_SIZE) + 1
    low = np.minimum(place.astype(np.int32), MASTER_SIZE)
    part = place - low
    flat = padded.reshape(-1)
    side = MASTER_SIZE + 2
    index = (np.arange(n, dtype=np.int32) * side * side)[:, None, None] + low[..., 1] * side + low[..., 0]
    top = flat[index] * (1 - part[..., 0]) + flat[index + 1] * part[..., 0]
    bottom = flat[index + side] * (1 - part[..., 0]) + flat[index + side + 1] * part[..., 0]
    return top * (1 - part[..., 1]) + bottom * part[..., 1]


def _resize_matrix(source: int, target: int) -> np.ndarray:
    """The linear map that Pillow's bilinear resize applies along one axis. Shape (target, source)."""
    strip = Image.fromarray(np.eye(source, dtype=np.float32))
    return np.asarray(strip.resize((source, target), Image.Resampling.BILINEAR))


def _reduction(resolution: int) -> np.ndarray:
    box = Image.fromarray(np.eye(IMAGE_SIZE, dtype=np.float32)).resize((IMAGE_SIZE, resolution), Image.Resampling.BOX)
    return _resize_matrix(resolution, IMAGE_SIZE) @ np.asarray(box)


_REDUCTIONS = np.stack([_reduction(resolution) for resolution in RESOLUTIONS]).astype(np.float32)
_SMOOTH = np.asarray(
    Image.fromarray(np.eye(5, dtype=np.float32)).resize((5, IMAGE_SIZE), Image.Resampling.BICUBIC)
)  # [32, 5]: a smooth displacement from a coarse one
