"""Whatever strangers write, the card that comes out is harmless and still says what they meant."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub.labhub import markup

HARMLESS_TAGS = markup._TAGS
FORBIDDEN = {"base", "embed", "form", "iframe", "input", "link", "math", "meta", "object", "script", "style", "svg"}


def rendered(text: str) -> str:
    return markup.card(text, link=lambda path: f"/blob/{path}", picture=lambda path: f"/download/{path}").html


class Reader(HTMLParser):
    """All tags and attributes of an HTML text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


PIECES = st.sampled_from(
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        '<a href="javascript:alert(1)">x</a>',
        "[x](javascript:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        "![x](https://elsewhere.example/x.png)",
        '<a href=" &#106;avascript:alert(1)">x</a>',
        "<svg onload=alert(1)>",
        "<math><mtext></table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
        "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
        '<form action="https://elsewhere.example"><input name=token></form>',
        "<style>body{display:none}</style>",
        "<base href='https://elsewhere.example/'>",
        "<meta http-equiv=refresh content='0;url=https://elsewhere.example/'>",
        "<h1 id=main class=x style='position:fixed'>x",
        "<table><tr><td>x",
        "| a | b |\n|---|--:|\n| 1 | 2 |\n",
        "```\n<script>alert(1)</script>\n```\n",
        "<details open ontoggle=alert(1)><summary>x",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "\n\n",
        "> ",
        "# ",
        "&lt;script&gt;",
        "</div></article></main>",
        "\0",
        "\u202e",
    ]
)


@given(st.lists(PIECES | st.text(max_size=12), max_size=12).map("".join))
def test_no_mixture_of_markdown_and_html_leaves_anything_that_acts(text: str) -> None:
    for tag, attributes in Reader(rendered(text)).found:
        assert tag in HARMLESS_TAGS and tag not in FORBIDDEN
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "id", "srcdoc", "name")]
        for name in ("href", "src"):
            parts = urlsplit(attributes.get(name) or "")
            assert parts.scheme in ("", "http", "https", "mailto")
            assert (
                name == "href" or (not parts.netloc and parts.path.startswith("/download/")) or name not in attributes
            )


@given(st.lists(PIECES | st.text(max_size=12), max_size=12).map("".join))
def test_tags_are_balanced_so_that_a_card_cannot_leave_its_place(text: str) -> None:
    html = rendered(text)
    for tag in ("div", "table", "details", "p", "a"):
        assert html.count(f"<{tag}>") + html.count(f"<{tag} ") == html.count(f"</{tag}>")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# One\n\n## Two", "<h2>One</h2>\n<h3>Two</h3>\n"),
        ("###### Six", "<h6>Six</h6>\n"),
        ("[a](data/x.csv)", '<p><a href="/blob/data/x.csv" rel="noopener noreferrer nofollow">a</a></p>\n'),
        ("![plot](./figures/a%20b.png)", '<p><img src="/download/figures/a%20b.png" alt="plot"></p>\n'),
        ("![x](https://elsewhere.example/x.png)", '<p><img alt="x"></p>\n'),
        ("[up](../../secret)", '<p><a rel="noopener noreferrer nofollow">up</a></p>\n'),
        ("[in](#part)", '<p><a href="#part" rel="noopener noreferrer nofollow">in</a></p>\n'),
        ("[abs](/datasets/lab/x)", '<p><a href="/datasets/lab/x" rel="noopener noreferrer nofollow">abs</a></p>\n'),
        ("![abs](/lab/x.png)", '<p><img alt="abs"></p>\n'),
        ("[bad](http://[)", '<p><a rel="noopener noreferrer nofollow">bad</a></p>\n'),
        ("~~old~~ `<b>`", "<p><s>old</s> <code>&lt;b&gt;</code></p>\n"),
        ("<center>Hi</center>", "<center>Hi</center>"),
    ],
)
def test_markdown_says_what_it_meant(text: str, expected: str) -> None:
    assert rendered(text) == expected


def test_tables_keep_their_alignment_and_scroll_by_themselves() -> None:
    html = rendered("| a | b |\n|---|--:|\n| 1 | 2 |\n")
    assert html.startswith('<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>')
    assert html.rstrip().endswith("</table></div>")
    assert '<th align="right">b</th>' in html and '<td align="right">2</td>' in html


def test_links_are_seen_from_the_folder_of_the_file() -> None:
    shown = markup.card("[a](b.md) [c](../d.md)", link=lambda path: f"/{path}", picture=str, folder="docs")
    assert 'href="/docs/b.md"' in shown.html and 'href="/d.md"' in shown.html


def test_the_front_matter_is_a_table_and_no_text() -> None:
    shown = markup.card(
        "---\nlicense: mit\ntags: [a, b]\nn: 3\nempty:\nconfigs:\n- config_name: x\n---\nText", link=str, picture=str
    )
    assert dict(shown.metadata) == {
        "license": "mit",
        "tags": "a, b",
        "n": "3",
        "empty": "",
        "configs": "- config_name: x",
    }
    assert (shown.problem, shown.html) == ("", "<p>Text</p>\n")


@pytest.mark.parametrize(
    "front",
    [
        "tags: [unclosed",
        "- a\n- b",
        "a: &x [1]\nb: *x",
        "a: &a [*a]",
        "[" * 20_000,
        "when: 2026-13-45",
        "a: .nan",
        "!!python/object/apply:os.system [ls]",
        "a: 1\n\tb: 2",
    ],
)
def test_broken_or_hostile_front_matter_is_told_and_the_text_is_shown(front: str) -> None:
    shown = markup.card(f"---\n{front}\n---\nThe text.", link=str, picture=str)
    assert shown.metadata == ()
    assert shown.problem.startswith("The metadata of this card cannot be read: ")
    assert shown.html == "<p>The text.</p>\n"


def test_text_without_front_matter_and_an_empty_one_have_no_metadata() -> None:
    for text in ("Text", "---\n---\nText", "---\n\n---\nText"):
        shown = markup.card(text, link=str, picture=str)
        assert (shown.metadata, shown.problem, shown.html) == ((), "", "<p>Text</p>\n")


def test_a_card_too_long_to_lay_out_says_so() -> None:
    assert rendered("x" * (markup.LONGEST_CARD + 1)) == (
        "<p>This card is longer than 131,072 characters; open the file to read it.</p>"
    )


def test_json_that_would_grow_too_long_stays_as_it_is() -> None:
    text = "[" * 900 + "1," * 2000 + "1" + "]" * 900
    assert markup.pretty_json(text) == text
    assert len(markup.pretty_json("[" * 100 + "1," * 2000 + "1" + "]" * 100)) > 200 * 2000


def test_json_is_spread_out_and_what_is_none_stays() -> None:
    assert markup.pretty_json('{"b":[1,"ü"]}') == '{\n  "b": [\n    1,\n    "ü"\n  ]\n}'
    for text in ('{"b":', "[" * 100_000):
        assert markup.pretty_json(text) == text


def test_tables_of_text_are_cut_and_say_so() -> None:
    rows = "".join(f"{number},x\n" for number in range(300))
    header, body, cut = markup.table(f"n,t\n{rows}")
    assert (header, body[-1], len(body), cut) == (["n", "t"], ["199", "x"], 200, True)
    wide = markup.table(",".join(["c"] * 50))
    assert (len(wide[0]), wide[1], wide[2]) == (40, [], True)
    assert markup.table('a\tb\n"1\t1"\t2\n', delimiter="\t") == (["a", "b"], [["1\t1", "2"]], False)
    assert markup.table("") == ([], [], False)
    assert markup.table("x" * 200_000) == ([], [], False)
