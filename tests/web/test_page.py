"""The page in a real browser: what a reader does with it, by mouse, by keyboard, on a phone, in the dark.

It needs Chromium (Debian's package `chromium`); `$MMSEARCH_CHROMIUM` names another one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.media_maker import GREEN, encoded, plain
from support.serving import running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route

pytest.importorskip("playwright")
CHROMIUM = os.environ.get("MMSEARCH_CHROMIUM") or shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("Chromium isn't installed", allow_module_level=True)

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def address(library: Path) -> Iterator[str]:
    with running(library) as (host, port):
        yield f"http://{host}:{port}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def show(browser: Browser, address: str) -> Iterator[Open]:
    """Open the page at a path; afterwards, its console has to be empty and nobody else asked."""
    complaints: list[str] = []
    contexts = []

    def complain(message: ConsoleMessage) -> None:
        if not message.text.startswith("Failed to load resource"):  # Chromium's own word for every refusal
            complaints.append(message.text)

    def look(request: Request) -> None:
        if not request.url.startswith((address, "blob:")):
            complaints.append(request.url)

    def call(path: str = "/", prepare: Callable[[Page], None] = lambda _: None, **options: Any) -> Page:  # noqa: ANN401
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", complain)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.startswith((address, "blob:")) else complaints.append(request.url),
        )
        prepare(page)
        page.goto(address + path)
        return page

    yield call
    for context in contexts:
        context.close()
    assert complaints == []


def until(page: Page, holds: str) -> None:
    """Wait until an expression holds. Playwright's own way to do so would evaluate strings, which the page forbids."""
    ends = time.monotonic() + 20
    while not page.evaluate(holds):
        assert time.monotonic() < ends, holds
        page.wait_for_timeout(30)


def names(page: Page) -> list[str]:
    """The names of the tiles, in the order in which they lie."""
    page.wait_for_selector(".tile")
    labels = page.eval_on_selector_all(
        ".tile", "tiles => tiles.sort((a, b) => a.dataset.n - b.dataset.n).map(t => t.querySelector('.open').ariaLabel)"
    )
    return [label.partition(",")[0] for label in labels]


def asked(page: Page) -> str:
    """What the address says."""
    return page.evaluate("decodeURIComponent(location.search.replaceAll('+', ' '))")  # type: ignore[no-any-return]


def hit(number: int, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    plain_hit = {
        "rank": number, "score": 9 - number / 9999, "confidence": 0.95, "path": f"/far/picture {number}.jpg",
        "modality": "image", "view": "visual", "start_s": None, "end_s": None, "text": None,
        "space": "mini", "id": number,
    }  # fmt: skip
    return plain_hit | fields


def answering(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Page], None]:
    """Answer searches in the place of the server: `answer` is given the request's JSON."""

    def fulfil(route: Route) -> None:
        body = answer(route.request.post_data_json or {})
        route.fulfill(status=200, content_type="application/json", body=json.dumps(body))

    green = encoded(plain(GREEN), "PNG")

    def prepare(page: Page) -> None:
        page.route("**/search", fulfil)
        page.route("**/thumbnail*", lambda route: route.fulfill(content_type="image/png", body=green))

    return prepare


def test_what_is_typed_is_found_at_once_and_back_leads_to_what_was_asked_before(show: Open) -> None:
    page = show("/")
    page.wait_for_selector(".start")
    page.keyboard.type("green")  # the box has the focus
    until(page, "document.querySelectorAll('.tile').length > 0")
    assert {"green.png", "clip.mp4"} <= set(names(page))
    assert asked(page) == "?q=green"
    page.get_by_role("button", name=re.compile("Pictures")).click()
    until(page, "!document.querySelector('.tile.video')")
    assert asked(page) == "?q=green&in=image"
    page.go_back()
    page.wait_for_selector(".tile.video")
    page.go_back()
    page.wait_for_selector(".start")
    assert page.input_value("#q") == ""
    page.go_forward()
    page.wait_for_selector(".tile")
    assert page.input_value("#q") == "green"


def test_the_last_answer_wins_however_late_an_older_one_comes(show: Open) -> None:
    held: list[Route] = []

    def prepare(page: Page) -> None:
        def route(route: Route) -> None:
            if (route.request.post_data_json or {})["q"] == "red":
                held.append(route)
            else:
                route.continue_()

        page.route("**/search", route)

    page = show("/", prepare)
    page.wait_for_selector(".start")
    with page.expect_request(lambda request: "red" in (request.post_data or "")):
        page.fill("#q", "red")
    while not held:
        page.wait_for_timeout(50)
    page.fill("#q", "blue")
    page.wait_for_selector(".tile")
    before = names(page)
    body = json.dumps({"hits": [hit(1)], "hidden": 0, "weak": 0})
    held[0].fulfill(status=200, content_type="application/json", body=body)
    page.wait_for_timeout(200)
    assert names(page) == before
    assert "picture 1.jpg" not in before


def test_a_picture_that_is_dropped_and_a_sound_that_is_chosen_ask(show: Open, media: Path) -> None:
    page = show("/")
    page.wait_for_selector(".start")
    raw = list((media / "blue.png").read_bytes())
    page.evaluate(
        """raw => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([new Uint8Array(raw)], "dropped.png", { type: "image/png" }));
            for (const kind of ["dragenter", "drop"]) {
                document.body.dispatchEvent(new DragEvent(kind, { bubbles: true, dataTransfer }));
            }
        }""",
        raw,
    )
    assert names(page)[0] == "blue.png"
    assert page.locator("#terms img").count() == 1
    page.set_input_files("#file", media / "clip.mp4")
    until(page, "document.querySelector('.tile .open')?.ariaLabel.startsWith('clip.mp4')")
    page.locator("#terms button").click()
    page.wait_for_selector(".start")


def test_a_video_begins_at_the_moment_and_its_timeline_leads_to_the_others(show: Open) -> None:
    page = show("/?q=green&in=video&strict=0")
    page.locator(".tile", has_text="clip.mp4").locator(".open").click()
    page.wait_for_selector("aside video")
    until(page, "document.querySelector('aside video').readyState > 0")
    assert page.evaluate("document.querySelector('aside video').currentTime") == pytest.approx(2.5, abs=0.6)
    parts = page.locator(".timeline button")
    assert parts.count() == 2
    assert page.locator(".timeline .found").get_attribute("aria-label").startswith("Found: from 0:02")  # type: ignore[union-attr]
    parts.first.click()
    until(page, "document.querySelector('aside video').currentTime < 2")
    assert "item=" in asked(page)
    page.get_by_text("Why this was found").click()
    page.get_by_text("By itself").wait_for()
    page.go_back()
    page.wait_for_selector("aside", state="hidden")


def test_a_video_that_the_browser_cannot_play_is_played_as_a_clip(show: Open, ids: dict[str, int]) -> None:
    page = show(f"/?item={ids['odd.avi']}")
    until(page, "document.querySelector('aside video')?.src.includes('/clip?')")
    until(page, "document.querySelector('aside video').readyState > 0")


def test_more_like_and_not_like_a_hit_are_asked_and_lie_in_the_address(show: Open, ids: dict[str, int]) -> None:
    page = show("/?q=red&in=image&strict=0")
    page.locator(".tile .open[aria-label^='red.png']").click()
    page.get_by_role("button", name="More like this").click()
    until(page, f"location.search.includes('like={ids['red.png']}')")
    assert names(page)[0] == "red.png"
    page.locator(".tile .open[aria-label^='green.png']").click()
    page.get_by_role("button", name="Not like this").click()
    until(page, f"location.search.includes('unlike={ids['green.png']}')")
    assert page.locator("#terms .minus").count() == 1
    assert "like=" in asked(page)
    until(page, "document.querySelectorAll('.tile').length > 2")
    assert names(page)[-1] != "red.png"


def test_nothing_here_is_an_answer_with_what_came_nearest(show: Open) -> None:
    def answer(search: dict[str, Any]) -> dict[str, Any]:
        nearest = [hit(n, confidence=0.02) for n in (1, 2, 3)] if search["all"] else []
        return {"hits": nearest, "hidden": 0, "weak": 0 if search["all"] else 3}

    page = show("/?q=a+submarine", answering(answer))
    page.wait_for_selector(".nothing")
    assert "Nothing here looks, sounds or reads like “a submarine”." in page.inner_text(".nothing h2")
    assert page.inner_text("#said").startswith("Nothing here")
    assert len(names(page)) == 3
    page.get_by_role("button", name="Show everything").click()
    page.wait_for_selector(".nothing", state="detached")
    assert asked(page) == "?q=a submarine&strict=0"


def test_strictness_leaves_out_what_is_less_sure(show: Open) -> None:
    hits = [hit(n, confidence=1 - n / 10) for n in range(1, 9)]
    page = show("/?q=red", answering(lambda _: {"hits": hits, "hidden": 1, "weak": 2}))
    page.wait_for_selector(".tile")
    assert page.inner_text("#said") == "8 hits; 1 copy and 2 weak matches left out"
    page.locator("#strict").press("ArrowRight")
    until(page, "document.querySelectorAll('.tile').length === 5")
    assert page.inner_text("#said") == "5 hits; 1 copy and 5 weak matches left out"
    assert "strict=2" in asked(page)


def test_ten_thousand_hits_are_a_few_elements_wherever_the_reader_is(show: Open) -> None:
    ks: list[int] = []

    def answer(search: dict[str, Any]) -> dict[str, Any]:
        ks.append(search["k"])
        return {"hits": [hit(n) for n in range(1, search["k"] + 1)], "hidden": 0, "weak": 0}

    page = show("/?q=red", answering(answer))
    page.wait_for_selector(".tile")
    for _ in range(2):
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.wait_for_timeout(600)
    assert ks == [60, 1_000, 10_000]
    page.get_by_text("10,000 hits or more").first.wait_for()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_selector(".open[aria-label^='picture 10000.jpg']")
    assert page.locator(".tile").count() < 150
    page.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
    page.wait_for_selector(".open[aria-label^='picture 5000.jpg']")
    assert page.locator(".tile").count() < 150
    assert page.inner_text("#said") == "10,000 hits or more"


def test_a_selection_is_exported_as_files_and_as_paths(show: Open, media: Path, tmp_path: Path) -> None:
    page = show("/?q=red&in=image&strict=0")
    page.locator(".tile .open[aria-label^='red.png']").hover()
    page.get_by_role("button", name="Select red.png").click()
    page.get_by_role("button", name="Select blue.png").click(force=True)
    assert "2 files selected" in page.inner_text("#selection")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as zip").click()
    download.value.save_as(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            name: (media / name).read_bytes() for name in ("red.png", "blue.png")
        }
    with page.expect_download() as download:
        page.get_by_role("link", name="Save paths").click()
    assert Path(download.value.path()).read_text().splitlines() == [str(media / "red.png"), str(media / "blue.png")]
    page.get_by_role("button", name="Clear the selection").click()
    page.wait_for_selector("#selection", state="hidden")


def test_everything_is_reached_by_the_keyboard_alone(show: Open, ids: dict[str, int]) -> None:
    page = show("/?q=red&in=image&strict=0")
    page.wait_for_selector(".tile")
    focused = "document.activeElement.ariaLabel ?? document.activeElement.id ?? ''"
    page.keyboard.press("ArrowDown")  # the box has the focus
    first = page.evaluate(focused)
    assert first.startswith("red.png")
    page.keyboard.press("ArrowRight")
    second = page.evaluate(focused)
    assert second != first
    page.keyboard.press("x")
    assert "1 file selected" in page.inner_text("#selection")
    assert page.evaluate(focused) == second
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_selector("aside h2")
    until(page, "document.activeElement.closest('aside')")
    page.keyboard.press("Escape")
    page.wait_for_selector("aside", state="hidden")
    assert page.evaluate(focused) == first
    page.keyboard.press("Escape")
    page.wait_for_selector("#selection", state="hidden")
    page.keyboard.press("m")
    until(page, f"location.search.includes('like={ids['red.png']}')")
    page.keyboard.press("/")
    assert page.evaluate(focused) == "Search for"
    page.keyboard.press("Escape")
    page.wait_for_selector(".start")


def test_the_library_is_shown_and_updated_from_the_page(show: Open, media: Path) -> None:
    page = show("/")
    page.get_by_role("button", name="Library").click()
    page.get_by_text(str(media), exact=True).wait_for()
    page.get_by_role("button", name="Update now").click()
    page.get_by_text("done: 0 added").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="hidden")


@pytest.mark.parametrize("path", ["/", "/?q=red&strict=0", "/?q=milk&in=text&strict=0", "/login"])
def test_axe_finds_no_violation_in_the_light_nor_in_the_dark(show: Open, path: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = show(path)
    if path == "/?q=red&strict=0":
        page.locator(".tile.video .open").first.click()
        page.wait_for_selector("aside h2")
        page.locator(".tile.image .pick").first.click(force=True)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.wait_for_timeout(300)  # colours fade
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) == (scheme == "dark")


def test_a_phone_shows_all_of_it_without_scrolling_sideways(show: Open) -> None:
    phone = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    page = show("/?q=red&strict=0", **phone)
    page.wait_for_selector(".tile")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".tile .open").first.tap()
    page.wait_for_selector("aside h2")
    box = page.locator("aside").bounding_box()
    assert box is not None
    assert (box["x"], round(box["width"])) == (0, 390)
    page.get_by_role("button", name="Close the details").tap()
    page.wait_for_selector("aside", state="hidden")


def test_a_refusal_is_shown_and_the_next_question_is_answered(show: Open) -> None:
    page = show("/?like=999999")
    page.get_by_text("no item 999999").first.wait_for()
    page.fill("#q", "red")
    page.locator("#terms button").click()
    page.wait_for_selector(".tile")
