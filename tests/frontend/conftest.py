"""A browser for the tests of the frontend."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from browser import browser_path, launch
from clone import ROOT, headless

NEWEST = ROOT / ".dev" / "newest_frontend" / "comfyui_frontend_package" / "static"


def missing(reason: str) -> None:
    pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if browser_path() is None:
        missing("There is no Chromium or Chrome on this machine. The frontend needs one: apt-get install chromium")
    with sync_playwright() as playwright:
        opened = launch(playwright)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def newest() -> Iterator[headless.Server]:
    """A server with the frontend of newest_frontend.txt."""
    if not NEWEST.is_dir():
        missing("The newest frontend is not there: dev.py test gets it.")
    with headless.Server(cpu=True, arguments=("--front-end-root", str(NEWEST))) as running:
        yield running


@pytest.fixture(scope="module", params=["pinned", "newest"])
def each_frontend(request: pytest.FixtureRequest) -> headless.Server:
    """A server with the frontend that its ComfyUI pins, and one with the newest."""
    return request.getfixturevalue("server" if request.param == "pinned" else "newest")
