"""H7: a real browser opens everything that somebody may have uploaded. No script runs and nothing is asked for.

The page of an application that its users trust stands on the same origin, so whatever ran would run as the user. Needs
Debian's chromium and playwright; skipped without them.
"""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.responses import HTMLResponse, Response

from support.shelf import Shelf, shelf_of

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

RUN = "document.title='ran';fetch('/stolen?'+document.cookie);new Image().src='/stolen'"
PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction"
    b"<</S/JavaScript/JS(app.alert(1);this.submitForm('/stolen'))>>>>endobj\n"
    b"2 0 obj<</Type/Pages/Count 1/Kids[3 0 R]>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"
)
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000" + "1f15c489"
    "0000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)
SVG = 'xmlns="http://www.w3.org/2000/svg"'
HTML = f'<!doctype html><script>{RUN}</script><img src=x onerror="{RUN}"><link rel=icon href=/stolen>'
MHTML = f"From: x\r\nContent-Type: multipart/related; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n{HTML}"
ENTITY = '<!DOCTYPE a [<!ENTITY b SYSTEM "/stolen">]><a>&b;</a>'
FILES: dict[str, bytes] = {
    "page.html": HTML.encode(),
    "page.png": f'<html><body onload="{RUN}"><iframe src=/stolen></iframe>'.encode(),
    "late.txt": b"a" * 3000 + HTML.encode(),
    "drawing.svg": f'<svg {SVG} onload="{RUN}"><image href="/stolen"/></svg>'.encode(),
    "drawing.png": f'<?xml version="1.0"?><svg {SVG}><script>{RUN}</script></svg>'.encode(),
    "feed.xml": f'<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="/stolen"?>{ENTITY}'.encode(),
    "page.xhtml": f'<html xmlns="http://www.w3.org/1999/xhtml"><script>{RUN}</script></html>'.encode(),
    "code.js": RUN.encode(),
    "style.css": b"body{background:url(/stolen)}",
    "image.gif": b"GIF89a=1;" + RUN.encode(),
    "image.jpg": b"\xff\xd8\xff\xe0=1;" + RUN.encode(),
    "paper.pdf": PDF,
    "page.mhtml": MHTML.encode(),
    f"<img src=x onerror={RUN}>.html": b"<b>name</b>",
    "real.png": PNG,
    "plain.txt": b"<not really markup",
}
EMBED = """async url => {
    const tried = []
    for (const [tag, where] of [['script', 'src'], ['link', 'href'], ['iframe', 'src'], ['object', 'data']]) {
        const element = document.createElement(tag)
        if (tag === 'link') element.rel = 'stylesheet'
        element[where] = url
        tried.push(new Promise(done => { element.onload = element.onerror = done; setTimeout(done, 300) }))
        document.body.append(element)
    }
    try { new Worker(url) } catch {}
    await Promise.all(tried)
}"""
SHOW = """url => new Promise(done => {
    const image = new Image()
    image.onload = () => done(true)
    image.onerror = () => done(false)
    image.src = url
})"""


@pytest.fixture
def shelf(new_site: Any) -> Iterator[Shelf]:
    """The shelf, with a page that users trust and a note of every request that should never come."""
    site = new_site("a")
    site.stolen = []

    @site.app.get("/stolen")
    def stolen() -> Response:
        site.stolen.append(1)
        return Response("alert(1)", media_type="text/javascript")

    @site.app.get("/page")
    def page() -> HTMLResponse:
        return HTMLResponse("<title>quiet</title><body></body>", headers={"set-cookie": "session=secret"})

    yield from shelf_of(site, "sendfile")


@pytest.fixture
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        arguments = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


def opened(page: Any, url: str) -> str:
    """Open an address as one who clicks on it; tell whether it was shown or saved."""
    try:
        page.goto(url, wait_until="networkidle")  # so that what a script asks for is seen
    except sync_api.Error as error:
        if "Download is starting" not in str(error) and "ERR_ABORTED" not in str(error):
            raise
        return "saved"
    return "shown"


def test_nothing_that_was_uploaded_runs_in_a_browser(shelf: Shelf, browser: Any):
    """Opened, shown where that is asked for, linked to with a signature, and used by the page that users trust."""
    site: Any = shelf.site
    base = f"http://127.0.0.1:{shelf.port}"
    asked: list[str] = []
    shown: list[str] = []
    context = browser.new_context(accept_downloads=True)
    context.on("request", lambda request: asked.append(request.url))
    context.on("dialog", lambda dialog: asked.append(f"dialog {dialog.message}"))
    ids = {name: shelf.put(content, name) for name, content in FILES.items()}
    page = context.new_page()
    page.goto(f"{base}/page")
    trusted = len(asked)
    window = context.new_page()

    for name, id in ids.items():
        link = site.afterwards.link(id, expires_in=600, inline=True)
        for address in (f"/afterwards/files/{id}", link):
            if opened(window, base + address) == "shown":
                shown.append(name)
                assert window.title() != "ran"

    expected = {f"{base}/afterwards/files/{id}" for id in ids.values()}
    assert {url.partition("?")[0] for url in asked[trusted:]} == expected
    # As pictures, one of them broken, and as text.
    assert set(shown) == {"real.png", "image.jpg", "plain.txt", "late.txt", "image.gif", "page.mhtml"}
    assert site.stolen == []
    context.close()


def test_a_page_that_takes_a_file_for_its_own_gets_no_script(shelf: Shelf, browser: Any):
    """As a script, a style, a frame, an object or a worker: the answer's type and its sandbox forbid each."""
    site: Any = shelf.site
    base = f"http://127.0.0.1:{shelf.port}"
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{base}/page")
    for name, content in FILES.items():
        url = f"/afterwards/files/{shelf.put(content, name)}"
        page.evaluate(EMBED, f"{url}?inline=1")

    assert page.title() == "quiet"
    assert site.stolen == []
    assert page.evaluate(SHOW, f"/afterwards/files/{shelf.put(PNG, 'real.png')}")  # a picture is still a picture
    context.close()


def test_the_same_page_without_our_headers_runs(shelf: Shelf, browser: Any):
    """The control: what the tests above look for is seen where it happens."""
    site: Any = shelf.site

    @site.app.get("/careless")
    def careless() -> HTMLResponse:
        return HTMLResponse(HTML)

    context = browser.new_context()
    page = context.new_page()

    assert opened(page, f"http://127.0.0.1:{shelf.port}/careless") == "shown"
    assert page.title() == "ran"
    assert site.stolen
    context.close()
