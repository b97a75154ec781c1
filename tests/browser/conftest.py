"""A browser in which pages are tried: Debian's Chromium, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "the tests of pages need Chromium: make browser"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens the file of a page; that it asks for anything else, or that its script fails, is an error."""
    contexts, problems = [], []

    def open_page(file: Path, **options: object) -> Page:
        context = browser.new_context(offline=True, accept_downloads=True, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: _note(problems, request.url, file))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        page.on("console", lambda message: message.type == "error" and problems.append(message.text))
        page.goto(file.absolute().as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems


def _note(problems: list[str], url: str, file: Path) -> None:
    if url != file.absolute().as_uri() and not url.startswith(("data:", "blob:")):
        problems.append(f"asked for {url[:200]}")
