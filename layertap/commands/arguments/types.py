"""From the text of an argument to its value; what is no such value is an error of the parser."""

from __future__ import annotations

import argparse
import re

from feature_cache.spec import PERCENTILES, two_numbers
from feature_cache.units import parsed_size


def size(text: str) -> tuple[int, int]:
    """``64`` or ``48x64`` as (height, width)."""
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; give pixels as 64, or height and width as 48x64")
    return sides[0], sides[-1]


def value_range(text: str) -> tuple[float, float]:
    """``0,4095`` as the numbers of black and white."""
    limits = two_numbers(text)
    if limits is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range; give two numbers, the lower first, as 0,4095")
    return limits


def depth(text: str) -> int:
    """A number of bits."""
    if not text.isdecimal() or not 9 <= int(text) <= 32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a depth; give a number of bits from 9 to 32")
    return int(text)


def window(text: str) -> str:
    """``0,4095`` or ``percentiles``, as specs have it."""
    if text == PERCENTILES:
        return text
    limits = two_numbers(text)
    if limits is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a window; give two numbers, the lower first, as 0,4095, or {PERCENTILES}"
        )
    # Whole numbers are written without a fraction, so that equal windows are equal texts.
    return ",".join(str(int(number)) if number == int(number) else repr(number) for number in limits)


def shard(text: str) -> tuple[int, int]:
    """``3/8`` as the number of a part and how many there are."""
    number, sign, count = text.strip().partition("/")
    if not (sign and number.isdecimal() and count.isdecimal() and len(text) <= 40):
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is not a part; give its number, counted from 0, and how many there are, as 0/8 to 7/8"
        )
    return int(number), int(count)


def ray_address(text: str) -> str:
    """``HOST:PORT``, or ``auto``."""
    if text != "auto" and not re.fullmatch(r".+:\d{1,5}", text):
        raise argparse.ArgumentTypeError(
            f"{text[:60]!r} is no address of a Ray cluster; give HOST:PORT of its head, or --ray alone, behind DATA"
        )
    return text


def seed(text: str) -> int:
    """A whole number that every random generator takes."""
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed; give a whole number from 0 to {2**31 - 1}")
    return int(text)


def parameter(text: str) -> tuple[str, str]:
    """``C=0.1`` as (name, value)."""
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise argparse.ArgumentTypeError(f"{text!r} is not a parameter; give it as NAME=VALUE")
    return name, value


def count(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def days(text: str) -> float:
    """``30`` or ``30d`` as days."""
    try:
        number = float(text.lower().removesuffix("d"))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days; give it as 30 or 30d")
    return number


def bytes_(text: str) -> float:
    """``20GB`` or ``500 MB`` as bytes, in decimal units, as disks are sold."""
    try:
        return parsed_size(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; give it as 20GB or 500MB") from None
