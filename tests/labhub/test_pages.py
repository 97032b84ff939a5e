"""The web page shows each viewer what is theirs to see, in a real browser, and nothing in it can be made to act."""

from __future__ import annotations

import http.client
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from anthology_hub.errors import DataError
from anthology_hub.labhub.discussions import Discussions
from anthology_hub.labhub.pages import HEADERS, TEMPLATES, Leaderboard, routes
from anthology_hub.labhub.server import running
from anthology_hub.labhub.store import Repo, Store
from anthology_hub.leaderboard import publish, read_board
from anthology_hub.ranking import board_lines, rank
from anthology_hub.schema import Metric, Result

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
PHONE, DESK = (360, 740), (1200, 860)
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db0"
    "0000000049454e44ae426082"
)
CARD = """---
license: cc-by-4.0
pretty_name: People
tags: [personas, survey]
---
# People of the lab

Some words with a [link](data/shares.csv) and ![a picture](figures/one.png).

| trait | share |
|---|--:|
| age | 0.21 |
"""
HOSTILE = {
    "script": "<script>document.documentElement.dataset.acted='1'</script>",
    "handler": "<img src=x onerror=\"document.documentElement.dataset.acted='1'\">",
    "javascript": "[click](javascript:document.documentElement.dataset.acted='1') "
    "<a href=\"java&#10;script:document.documentElement.dataset.acted='1'\">click</a>",
    "data": "[click](data:text/html,<script>document.documentElement.dataset.acted='1'</script>)",
    "svg": "<svg onload=\"document.documentElement.dataset.acted='1'\"><script>1</script></svg>",
    "frame": "<iframe srcdoc=\"<script>parent.document.documentElement.dataset.acted='1'</script>\"></iframe>",
    "refresh": '<meta http-equiv="refresh" content="0;url=https://elsewhere.example/">',
    "form": '<form action="https://elsewhere.example"><input name="token"><button>Sign in</button></form>',
    "style": "<style>main{display:none}</style><div style='position:fixed;inset:0'>over all</div>",
    "elsewhere": "![seen](https://elsewhere.example/pixel.png) <img src='//elsewhere.example/pixel.png'>",
    "escape": "</article></main></body><h1>Another page</h1><div id=main>",
    "wide": "| "
    + " | ".join(["column"] * 60)
    + " |\n"
    + "|---" * 60
    + "|\n"
    + "| "
    + "x" * 300
    + " |\n\n"
    + "y" * 5000,
    "front": "---\ntags: [unclosed\n---\n# Broken front matter",
}


@dataclass(frozen=True, kw_only=True)
class Site:
    """A hub with something of everything."""

    url: str
    store: Store
    people: Repo
    lab: str
    guest: str

    def get(
        self, path: str, *, token: str = "", method: str = "GET", form: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, str]:
        """Status, headers and text of an answer, as a browser with this token's cookie gets it; no redirect."""
        if token:
            headers["Cookie"] = f"labhub_token={token}"
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            connection.request(method, path, body=urlencode(form) if form else None, headers=headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode("utf-8", "replace")
        finally:
            connection.close()


def write(store: Store, repo: Repo, files: dict[str, bytes | str], *, title: str = "Add files") -> None:
    changes = [store.file(path, text.encode() if isinstance(text, str) else text) for path, text in files.items()]
    store.commit(repo, "main", changes, title=title, author="lab")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("pages")) as hub:
        store = hub.store
        lab, guest = (store.accounts.add_token(name, "write") for name in ("lab", "guest"))
        people = store.create_repo("dataset", "lab", "people", author="lab")
        files = {"README.md": CARD, "data/shares.csv": "trait,share\nage,0.21\n", "figures/one.png": PIXEL}
        files |= {
            "codebook.json": '{"traits":["age"]}',
            "manifest.json": "{}",
            "junk.bin": b"\xff\xfe\0",
            "big.txt": "x" * 600_000,
        }
        write(store, people, files, title="First release")
        store.create_ref(people, "refs/tags/v1.0.0", "main")
        store.create_ref(people, "refs/tags/v1.10.0", "main")
        store.create_ref(people, "refs/heads/exp/longer", "main")
        write(store, people, {"notes.md": "# Notes\n\n[up](README.md)"}, title="Add notes")
        talks = Discussions(store)
        talks.propose(
            people, [store.file("added.txt", b"new\n")], title="Add a file", message="Here it is.", author="guest"
        )
        talks.comment(people, 1, "Thank <b>you</b>", author="lab")
        secret = store.create_repo("dataset", "lab", "secret", author="lab", private=True)
        write(store, secret, {"README.md": "# Nobody else reads this", "a.txt": "hidden"})
        gated = store.create_repo("dataset", "lab", "gated", author="lab")
        write(store, gated, {"README.md": "# Ask first", "a.txt": "behind a gate"})
        store.set_gated(gated, "manual")
        store.create_repo("model", "lab", "encoder", author="lab")
        store.create_repo("space", "lab", "board", author="lab")
        for name, text in HOSTILE.items():
            write(store, store.create_repo("dataset", "strange", name, author="strange"), {"README.md": text})
        yield Site(url=hub.url, store=store, people=people, lab=lab, guest=guest)


PEOPLE = "/datasets/lab/people"
PAGES = {
    "list": "/",
    "card": PEOPLE,
    "files": f"{PEOPLE}/tree/main",
    "folder": f"{PEOPLE}/tree/exp%2Flonger/data",
    "json": f"{PEOPLE}/blob/main/codebook.json",
    "csv": f"{PEOPLE}/blob/v1.0.0/data/shares.csv",
    "markdown": f"{PEOPLE}/blob/main/notes.md",
    "binary": f"{PEOPLE}/blob/main/junk.bin",
    "history": f"{PEOPLE}/commits/main",
    "commit": f"{PEOPLE}/commit/v1.0.0",
    "pull requests": f"{PEOPLE}/discussions",
    "pull request": f"{PEOPLE}/discussions/1",
    "no pull request": "/lab/encoder/discussions",
    "model": "/lab/encoder",
    "space": "/spaces/lab/board",
    "sign in": "/-/sign-in",
    "missing": "/datasets/lab/none",
    **{f"hostile {name}": f"/datasets/strange/{name}" for name in HOSTILE},
}


# What is answered


@pytest.mark.parametrize("page", PAGES)
def test_every_page_forbids_scripts_and_whatever_is_elsewhere(page: str, site: Site) -> None:
    status, headers, text = site.get(PAGES[page])
    assert status == (404 if page == "missing" else 200)
    assert {name: headers[name] for name in HEADERS} == HEADERS
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "script-src" not in headers["Content-Security-Policy"] and "unsafe" not in headers["Content-Security-Policy"]
    assert "<script" not in text and not re.search(r"<[^>]*\son\w+\s*=", text)


def test_private_repositories_look_to_others_as_if_they_were_not_there(site: Site) -> None:
    for path in ("", "/tree/main", "/blob/main/a.txt", "/download/main/a.txt", "/commits/main", "/discussions"):
        hidden = site.get(f"/datasets/lab/secret{path}", token=site.guest)
        absent = site.get(f"/datasets/lab/absent{path}", token=site.guest)
        assert (hidden[0], hidden[2].replace("secret", "absent")) == (404, absent[2])
        assert site.get(f"/datasets/lab/secret{path}", token=site.lab)[0] == 200
    assert (
        "secret" not in site.get("/")[2]
        and "secret" not in site.get("/?search=secret", token=site.guest)[2].split("</form>")[2]
    )
    assert 'href="/datasets/lab/secret"' in site.get("/?search=secret", token=site.lab)[2]


def test_files_of_a_gated_repository_open_once_access_is_granted(site: Site) -> None:
    gated = site.store.find("dataset", "lab", "gated")
    assert gated is not None
    for path in ("blob", "download"):
        status, _, text = site.get(f"/datasets/lab/gated/{path}/main/a.txt", token=site.guest)
        assert status == 403 and "behind a gate" not in text
    assert "open to those whom lab lets in" in site.get("/datasets/lab/gated", token=site.guest)[2]
    site.store.set_access(gated, "guest", "accepted")
    assert site.get("/datasets/lab/gated/download/main/a.txt", token=site.guest)[2] == "behind a gate"


def test_signing_in_sets_a_cookie_that_no_script_and_no_other_site_can_use(site: Site) -> None:
    status, headers, _ = site.get("/-/sign-in", method="POST", form={"token": site.lab, "then": "/datasets/lab/secret"})
    assert (status, headers["Location"]) == (303, "/datasets/lab/secret")
    flags = {part.strip().lower() for part in headers["Set-Cookie"].split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= flags
    status, headers, _ = site.get("/-/sign-out", method="POST", token=site.lab)
    assert (status, headers["Location"]) == (303, "/")
    assert 'labhub_token=""' in headers["Set-Cookie"] and "Max-Age=0" in headers["Set-Cookie"]


def test_a_wrong_token_is_refused_with_the_way_to_a_right_one_and_not_repeated(site: Site) -> None:
    status, headers, text = site.get("/-/sign-in", method="POST", form={"token": "hf_wrong", "then": "/"})
    assert (status, headers["Set-Cookie"]) == (401, None)
    assert "This token is not known here, or was revoked" in text and "anthology-hub hub token add" in text
    assert "hf_wrong" not in text


def test_a_revoked_token_shows_what_everyone_sees(site: Site) -> None:
    token = site.store.accounts.add_token("lab", "read", label="for a week")
    assert site.get("/datasets/lab/secret", token=token)[0] == 200
    site.store.accounts.revoke(max(known.id for known in site.store.accounts.tokens()))
    assert site.get("/datasets/lab/secret", token=token)[0] == 404
    assert site.get("/", token=token)[0] == 200


@pytest.mark.parametrize(
    "then", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example", "", "/a b", "/\r\nX: 1", "x"]
)
def test_signing_in_leads_nowhere_but_to_this_hub(then: str, site: Site) -> None:
    _, headers, _ = site.get("/-/sign-in", method="POST", form={"token": site.lab, "then": then})
    assert headers["Location"] == "/"
    assert 'value="/"' in site.get(f"/-/sign-in?{urlencode({'then': then})}")[2]


def test_forms_of_other_sites_and_oversized_ones_are_refused(site: Site) -> None:
    form = {"token": site.lab}
    status, headers, text = site.get("/-/sign-in", method="POST", form=form, **{"Sec-Fetch-Site": "cross-site"})
    assert (status, headers["Set-Cookie"]) == (403, None) and "sent by another site" in text
    status, _, text = site.get("/-/sign-in", method="POST", form={"token": "x" * 5000})
    assert status == 413 and "4096 bytes" in text
    assert site.get("/-/sign-in", method="POST", form={f"f{n}": "1" for n in range(50)})[0] == 400


@pytest.mark.parametrize(
    ("path", "kind", "content"),
    [
        ("data/shares.csv", "application/octet-stream", b"trait,share\nage,0.21\n"),
        ("figures/one.png", "image/png", PIXEL),
    ],
)
def test_downloads_are_the_stored_bytes_and_open_as_nothing_else(
    path: str, kind: str, content: bytes, site: Site
) -> None:
    status, headers, text = site.get(f"{PEOPLE}/download/main/{path}")
    assert (status, headers["Content-Type"], int(headers["Content-Length"])) == (200, kind, len(content))
    assert text == content.decode("utf-8", "replace")
    assert headers["Content-Disposition"].startswith("attachment")
    assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        f"{PEOPLE}/tree/v9",
        f"{PEOPLE}/tree/main/none",
        f"{PEOPLE}/blob/main/none.txt",
        f"{PEOPLE}/blob/main/data",
        f"{PEOPLE}/download/main/data",
        f"{PEOPLE}/commit/0000000",
        f"{PEOPLE}/discussions/99",
        f"{PEOPLE}/discussions/x",
        f"{PEOPLE}/leaderboard",
        "/lab/encoder/leaderboard",
        "/-/static/base.html.j2",
        "/-/static/..%2Fpages.py",
        f"{PEOPLE}/blob/main/..%2F..%2Fhub.db",
        "/models/lab/people",
        "/lab/people",
    ],
)
def test_what_is_not_there_is_not_found(path: str, site: Site) -> None:
    assert site.get(path)[0] == 404


def test_the_pages_leave_the_addresses_of_the_api_alone(site: Site) -> None:
    status, headers, text = site.get("/api/datasets/lab/people")
    assert (status, headers["Content-Type"], json.loads(text)["id"]) == (200, "application/json", "lab/people")
    assert site.get(f"{PEOPLE}/resolve/main/data/shares.csv")[2] == "trait,share\nage,0.21\n"
    assert site.get("/api/whoami-v2")[0] == 401


def test_the_next_page_is_on_this_hub_even_if_a_namespace_looks_like_a_host(tmp_path: Path) -> None:
    with running(tmp_path / "hub") as hub:
        repo = hub.store.create_repo("model", "evil.example", "x", author="a")
        for number in range(60):
            hub.store.commit(repo, "main", [hub.store.file("a", bytes([number]))], title="t", author="a")
        site = Site(url=hub.url, store=hub.store, people=repo, lab="", guest="")
        _, _, text = site.get("//evil.example/x/commits/main")
    assert 'href="/evil.example/x/commits/main?from=50"' in text
    assert 'href="//' not in text


def test_pages_are_for_reading_and_a_wrong_bearer_token_is_nobody(site: Site) -> None:
    assert site.get(PEOPLE, method="POST", form={"a": "1"})[0] == 404
    assert site.get("/", Authorization="Bearer hf_wrong")[0] == 401
    assert 'href="/datasets/lab/secret"' in site.get("/", Authorization=f"Bearer {site.lab}")[2]


def test_the_list_is_searched_by_name_and_type(site: Site) -> None:
    def found(query: str) -> list[str]:
        return re.findall(r'<li>\s*<a href="([^"]+)"', site.get(f"/?{query}")[2])

    assert found("search=PEOP") == [PEOPLE]
    assert found("type=model") == ["/lab/encoder"]
    assert found("search=lab&type=space") == ["/spaces/lab/board"]
    assert found("search=nothing-like-this") == []
    assert len(found("")) == len(HOSTILE) + 4


def test_long_lists_go_on_on_the_next_page(site: Site) -> None:
    many = site.store.create_repo("dataset", "lab", "many", author="lab")
    write(site.store, many, {f"f{number:03}.txt": "same" for number in range(502)})
    for number in range(50):
        write(site.store, many, {"f000.txt": str(number)}, title=f"Change {number}")
    first, rest = (site.get(f"/datasets/lab/many/tree/main{query}")[2] for query in ("", "?from=500"))
    assert 'href="/datasets/lab/many/tree/main?from=500"' in first and "f498.txt" in first and "f499.txt" not in first
    assert re.findall(r">(f\d+\.txt)<", rest) == ["f499.txt", "f500.txt", "f501.txt"] and 'rel="next"' not in rest
    newest, oldest = (site.get(f"/datasets/lab/many/commits/main{query}")[2] for query in ("", "?from=50"))
    assert "Change 49" in newest and "initial commit" not in newest and 'rel="next"' in newest
    assert "Add files" in oldest and "initial commit" in oldest and 'rel="next"' not in oldest
    assert site.get("/datasets/lab/many/tree/main?from=x")[2] == first


def test_the_card_page_says_how_to_load_the_newest_release(site: Site) -> None:
    text = site.get(PEOPLE)[2]
    assert f"export HF_ENDPOINT={site.url}" in text
    assert "load_dataset(\n    &#34;lab/people&#34;,\n    revision=&#34;v1.10.0&#34;,\n)" in text
    assert "Anthology.load(\n    &#34;hf://lab/people&#34;," in text
    assert "HF_TOKEN" not in text and "export HF_TOKEN=" in site.get("/datasets/lab/secret", token=site.lab)[2]
    encoder = site.store.find("model", "lab", "encoder")
    pin = f"&#34;lab/encoder&#34;,\n    revision=&#34;{site.store.resolve(encoder).sha}&#34;"
    assert f"snapshot_download(\n    {pin}" in site.get("/lab/encoder")[2]
    sentences = site.store.create_repo("model", "lab", "sentences", author="lab")
    write(site.store, sentences, {"modules.json": "[]"})
    assert "SentenceTransformer(\n    &#34;lab/sentences&#34;," in site.get("/lab/sentences")[2]
    assert "hf download lab/board --repo-type space" in site.get("/spaces/lab/board")[2]


def test_files_are_shown_by_what_they_are(site: Site) -> None:
    assert "{\n  &#34;traits&#34;: [\n    &#34;age&#34;\n  ]\n}" in site.get(f"{PEOPLE}/blob/main/codebook.json")[2]
    assert '<th scope="col">trait</th><th scope="col">share</th>' in site.get(f"{PEOPLE}/blob/main/data/shares.csv")[2]
    assert f'href="{PEOPLE}/blob/exp%2Flonger/data/shares.csv"' in site.get(f"{PEOPLE}/blob/exp%2Flonger/README.md")[2]
    for path in ("junk.bin", "big.txt"):
        assert "This file is large or no text" in site.get(f"{PEOPLE}/blob/main/{path}")[2]


def test_a_page_that_fails_says_so_and_tells_nothing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    lost = site.store.create_repo("dataset", "lab", "lost", author="lab")
    write(site.store, lost, {"a.txt": "soon gone for good"})
    leaf = site.store.entry(site.store.resolve(lost), "a.txt")
    site.store.blobs.path(leaf.sha256).unlink()  # type: ignore[union-attr]
    status, _, text = site.get("/datasets/lab/lost/blob/main/a.txt")
    assert (status, "Something went wrong in the hub" in text, str(site.store.root) in text) == (500, True, False)
    assert "a page failed: /datasets/lab/lost/blob/main/a.txt" in caplog.text


# The leaderboard


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with three runs that cannot be told apart by their order of arrival."""
    folder = tmp_path_factory.mktemp("results")
    for number, (method, wd) in enumerate(
        (("bio/none", 0.25), ("anthology/optimal", 0.12), ("anthology/greedy", 0.19))
    ):
        publish(run(method, wd, run_id=f"{number:016x}"), folder)
    return folder


def run(method: str, wd: float, *, run_id: str) -> Result:
    def metric(name: str, value: float) -> Metric:
        return Metric(name=name, value=value, unit="", low=value - 0.01, high=value + 0.01, floor=0.02,
                      floor_equal_n=0.05, uniform=0.3, majority=0.4, human=0.7)  # fmt: skip

    values = {"wd_normalised": wd, "wd": 2 * wd, "fro": 1.0, "alpha": 0.6}
    return Result(
        run_id=run_id,
        created="2026-11-23T00:00:00+00:00",
        survey="gss",
        developer="lab",
        model="tiny",
        method=method,
        n=40,
        n_humans=2000,
        questions=("natenvir",),
        weighting="weighted",
        metrics=tuple(metric(name, value) for name, value in values.items()),
        coverage={"answered": 1.0},
        option_mass=1.0,
        items=(),
    )


def test_results_are_ranked_as_the_command_line_ranks_them(site: Site, results: Path) -> None:
    repo = site.store.create_repo("dataset", "lab", "results", author="lab")
    files = {str(file.relative_to(results)): file.read_bytes() for file in results.rglob("*.json")}
    write(site.store, repo, {**files, "runs/x/broken.json": "{}"})
    text = site.get("/datasets/lab/results/leaderboard")[2]
    ((title, lines),) = board_lines(rank(read_board(results).entries)).items()
    assert title in text
    shown = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr[^>]*>\n(<td.*?)</tr>", text, re.S)]
    assert [row[:1] + row[2:3] for row in shown] == [[str(line["#"]), str(line["method"])] for line in lines]
    at = list(lines[0]).index("WD normalised")
    assert [row[at] for row in shown] == [f"{line['WD normalised']:.3f}" for line in lines]
    assert {"humans (floor at equal n)", "uniform", "majority"} < {row[2] for row in shown}
    assert "runs/x/broken.json</code> is no result" in text
    assert 'href="/datasets/lab/results/leaderboard"' in site.get("/datasets/lab/results")[2]
    assert "anthology-hub leaderboard hf://lab/results" in site.get("/datasets/lab/results")[2]


def test_results_that_cannot_be_read_are_told_of_in_words(tmp_path: Path) -> None:
    def refuse(folder: Path) -> Leaderboard:
        raise DataError(f"{sorted(file.name for file in (folder / 'runs').iterdir())} cannot be ranked")

    store = Store(tmp_path)
    write(store, store.create_repo("dataset", "lab", "results", author="lab"), {"runs/a.json": "{}"})
    with TestClient(Starlette(routes=routes(store, board=refuse))) as client:
        answer = client.get("/datasets/lab/results/leaderboard", headers={"Authorization": "Bearer hf_wrong"})
    store.close()
    assert answer.status_code == 200 and "[&#39;a.json&#39;] cannot be ranked" in answer.text


def test_a_benchmark_shows_what_models_declare_in_their_own_repositories(site: Site) -> None:
    benchmark = site.store.create_repo("dataset", "lab", "benchmark", author="lab")
    write(site.store, benchmark, {"eval.yaml": "name: Survey\ntasks: [{id: wd}]"})
    for name, value in (("low", 0.25), ("high", 0.75)):
        model = site.store.create_repo("model", "lab", name, author="lab")
        entry = f"- dataset: {{id: lab/benchmark, task_id: wd}}\n  value: {value}\n  notes: by test\n"
        write(site.store, model, {".eval_results/survey.yaml": entry})
    text = site.get("/datasets/lab/benchmark/leaderboard")[2]
    assert "Task wd" in text and "nobody has checked them here" in text
    assert re.findall(
        r'<td class="number">(\d)</td><td>(.*?)</td><td class="number">(.*?)</td>', text.replace("\n", "")
    ) == [
        ("1", "lab/high", "0.750"),
        ("2", "lab/low", "0.250"),
    ]


# In the browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A headless Chromium with a profile of its own."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("no browser here: install the packages chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    # What is looked for may be on the page that is just being loaded.
    driver.implicitly_wait(10)
    yield driver
    driver.quit()


@pytest.fixture
def visit(browser: object, site: Site) -> Iterator[Callable[..., object]]:
    """Open a page of the hub as a newcomer, in a window of a size and a colour scheme."""

    def opened(path: str, *, size: tuple[int, int] = DESK, scheme: str = "light") -> object:
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        browser.get(f"{site.url}{path}")
        return browser

    yield opened
    browser.delete_all_cookies()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_pages_are_whole_for_those_who_do_not_see_them_and_fit_a_phone(page: str, visit: Callable) -> None:
    browser = visit(PAGES[page], size=PHONE)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    told = browser.execute_script("""
        const all = (selector) => [...document.querySelectorAll(selector)];
        const levels = all("h1, h2, h3, h4").map((one) => +one.tagName[1]);
        const named = (one) => one.ariaLabel || one.getAttribute("aria-labelledby");
        return {
            headings: all("h1").length,
            landmarks: ["header.site", "main", "footer.site"].map((name) => all(name).length),
            language: document.documentElement.lang,
            unlabelled: all("input:not([type=hidden]), select").filter((field) => !field.labels.length).length,
            unnamed: all("a[href], button").filter((one) => !(one.ariaLabel || one.textContent).trim()).length,
            headless: all("table").filter((table) => !table.querySelector("th")).length,
            unnamed_regions: all("[role=region], nav").filter((one) => !named(one)).length,
            leaps: levels.some((level, at) => at && level > levels[at - 1] + 1),
        };
    """)
    assert told == {
        "headings": 1,
        "landmarks": [1, 1, 1],
        "language": "en",
        "unlabelled": 0,
        "unnamed": 0,
        "headless": 0,
        "unnamed_regions": 0,
        "leaps": False,
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_cards_stay_inert(name: str, visit: Callable, site: Site) -> None:
    browser = visit(f"/datasets/strange/{name}")
    browser.execute_script("document.querySelectorAll('article.card a').forEach((link) => link.click())")
    assert browser.current_url.startswith(f"{site.url}/datasets/strange/{name}")
    told = browser.execute_script("""
        const card = document.querySelector("article.card");
        const active = "script, style, iframe, object, embed, form, input, button, svg, meta, base";
        const loaded = performance.getEntriesByType("resource").map((one) => one.name);
        return {
            acted: document.documentElement.dataset.acted ?? null,
            active: card.querySelectorAll(active).length,
            marked: card.querySelectorAll("[style], [id], [class]:not(.scroll)").length,
            elsewhere: loaded.filter((name) => !name.startsWith(location.origin)).length,
            inside: document.querySelector("main").contains(card) && document.querySelector("footer.site") !== null,
            seen: document.querySelector("h1").getBoundingClientRect().height > 0,
        };
    """)
    assert told == {"acted": None, "active": 0, "marked": 0, "elsewhere": 0, "inside": True, "seen": True}


@pytest.mark.slow
def test_a_script_that_got_into_a_page_would_not_run(visit: Callable) -> None:
    browser = visit(PEOPLE)
    browser.execute_script("""
        const act = "document.documentElement.dataset.acted = '1'";
        const script = document.createElement("script");
        script.textContent = act;
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", `<img src=x onerror="${act}">`);
    """)
    browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert browser.execute_script("return document.documentElement.dataset.acted ?? null") is None


@pytest.mark.slow
def test_a_reader_signs_in_sees_what_is_theirs_and_signs_out(visit: Callable, site: Site) -> None:
    browser = visit("/datasets/lab/secret")
    assert browser.find_element("tag name", "h1").text == "Not found"
    browser.find_element("css selector", "main a[href^='/-/sign-in']").click()
    browser.find_element("id", "token").send_keys("hf_wrong\n")
    assert "not known here" in browser.find_element("css selector", "[role=alert]").text
    browser.find_element("id", "token").send_keys(f"{site.lab}\n")
    assert "Nobody else reads this" in browser.find_element("tag name", "article").text
    assert browser.current_url == f"{site.url}/datasets/lab/secret"
    cookie = browser.get_cookie("labhub_token")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    browser.find_element("css selector", "header.site button").click()
    assert "secret" not in browser.find_element("css selector", "ul.repos").text
    assert browser.get_cookie("labhub_token") is None


@pytest.mark.slow
def test_a_reader_finds_the_way_from_the_list_to_an_old_file_without_a_mouse_or_a_script(
    visit: Callable, site: Site
) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    browser = visit("/")
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.find_element("id", "search").send_keys("people\n")
        WebDriverWait(browser, 10).until(lambda one: "search=people" in one.current_url)
        for link, address in (
            ("lab/people", PEOPLE),
            ("Files", f"{PEOPLE}/tree/main"),
            ("exp/longer", f"{PEOPLE}/tree/exp%2Flonger"),
            ("data/", f"{PEOPLE}/tree/exp%2Flonger/data"),
            ("shares.csv", f"{PEOPLE}/blob/exp%2Flonger/data/shares.csv"),
        ):
            if link == "exp/longer":
                browser.find_element("css selector", "details.picker summary").send_keys("\n")
            browser.find_element("link text", link).send_keys("\n")
            WebDriverWait(browser, 10).until(lambda one, address=address: one.current_url == f"{site.url}{address}")
        assert [cell.text for cell in browser.find_elements("css selector", "td")] == ["age", "0.21"]
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.slow
def test_the_first_tab_stop_skips_to_the_content(visit: Callable) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser = visit(PEOPLE)
    ActionChains(browser).send_keys(Keys.TAB).perform()
    assert browser.switch_to.active_element.text == "Skip to content"
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    assert browser.switch_to.active_element.get_attribute("id") == "main"


@pytest.mark.slow
def test_cards_show_their_pictures_tables_and_links(visit: Callable) -> None:
    browser = visit(PEOPLE)
    picture = browser.find_element("css selector", "article.card img")
    assert browser.execute_script("return [arguments[0].complete, arguments[0].naturalWidth]", picture) == [True, 1]
    assert [cell.text for cell in browser.find_elements("css selector", "article.card td")] == ["age", "0.21"]
    assert browser.find_element("css selector", "article.card h2").text == "People of the lab"
    assert "cc-by-4.0" in browser.find_element("css selector", "table.metadata").text
    browser.find_element("link text", "link").click()
    assert browser.current_url.endswith(f"{PEOPLE}/blob/main/data/shares.csv")


@pytest.mark.slow
def test_the_colours_follow_the_reader(visit: Callable) -> None:
    paper = {}
    for scheme in ("light", "dark"):
        browser = visit(PEOPLE, scheme=scheme)
        paper[scheme] = browser.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
    assert paper == {"light": "rgb(252, 251, 248)", "dark": "rgb(21, 24, 27)"}


# Colours


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        *[(text, ground) for text in ("ink", "quiet", "accent") for ground in ("paper", "raised")],
        *[("ink", ground) for ground in ("code", "add", "gone")],
        ("quiet", "code"),
        ("warn", "warn-paper"),
        ("paper", "accent"),
    ],
)
def test_text_stands_out_from_its_ground(text: str, ground: str, scheme: str) -> None:
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--([\w-]+): #([0-9a-f]{6})", block)) for block in style.split("@media", 1))
    colours = light if scheme == "light" else light | dict(list(dark.items())[: len(light)])
    one, other = sorted((luminance(colours[name]) for name in (text, ground)), reverse=True)
    # WCAG 2.2, level AA.
    assert (one + 0.05) / (other + 0.05) >= 4.5


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
