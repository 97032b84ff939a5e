"""Strangers' text as harmless HTML: cards, JSON, tables. Pure.

What comes out holds no script, no style, no form and no address outside http, https and mail; pictures are those of the
repository itself, so that reading a card calls nobody.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

import nh3
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from anthology_hub.errors import DataError
from anthology_hub.labhub.metadata import front_matter

LONGEST_JSON = 1 << 21
"""Characters: deep nesting makes hundreds of blanks of every comma."""
LONGEST_CARD, LONGEST_FRONT = 1 << 17, 1 << 16
"""Characters beyond which text is not laid out: the worst of it costs its square in time, here seconds."""
MOST_ROWS, MOST_COLUMNS, LONGEST_VALUE = 200, 40, 4000
_FRONT = re.compile(r"\s*---[ \t]*\r?\n.*?(?:\r?\n)?---[ \t]*(?:\r?\n|$)", re.S)
_TAGS = nh3.ALLOWED_TAGS - {"h1", "area", "map", "article", "aside", "footer", "header", "hgroup", "nav"}
_ATTRIBUTES = {tag: names - {"char", "charoff", "cite"} for tag, names in nh3.ALLOWED_ATTRIBUTES.items()} | {
    "p": {"align"},
    "div": {"align"},
}
_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


@dataclass(frozen=True, kw_only=True)
class Card:
    """A README in its parts."""

    metadata: tuple[tuple[str, str], ...]
    """Key and value as text, in the order of the file."""
    problem: str
    """Why the metadata cannot be read; empty if it can."""
    html: str


def card(text: str, *, link: Callable[[str], str], picture: Callable[[str], str], folder: str = "") -> Card:
    r"""Lay out a README.

    Args:
        text: Markdown with YAML before it, from anyone.
        link: Address of the page of a file of the repository.
        picture: Address of the content of a picture of the repository.
        folder: Where the file is, for relative addresses.

    Example:
        >>> shown = card("---\nlicense: mit\n---\n# Hi <script>x</script>", link=str, picture=str)
        >>> shown.metadata, shown.html
        ((('license', 'mit'),), '<h2>Hi </h2>\n')
    """
    front = _FRONT.match(text[:LONGEST_FRONT])
    metadata, problem = _metadata(front[0]) if front else ((), "")
    body = text[front.end() :] if front else text
    return Card(metadata=metadata, problem=problem, html=_html(body, _addresses(link, picture, folder)))


def pretty_json(text: str) -> str:
    """JSON with an entry per line; as it is, if it is none or grows too long by it.

    Example:
        >>> print(pretty_json('{"a": 1}'))
        {
          "a": 1
        }
    """
    out, size = [], 0
    try:
        for piece in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(json.loads(text)):
            out.append(piece)
            size += len(piece)
            if size > LONGEST_JSON:
                return text
    except (ValueError, RecursionError):
        return text
    return "".join(out)


def table(text: str, *, delimiter: str = ",") -> tuple[list[str], list[list[str]], bool]:
    r"""Header, first rows, and whether there is more, of comma-separated text.

    Example:
        >>> table("a,b\n1,2\n")
        (['a', 'b'], [['1', '2']], False)
    """
    try:
        rows = list(itertools.islice(csv.reader(io.StringIO(text), delimiter=delimiter), MOST_ROWS + 2))
    except csv.Error:
        return [], [], False
    widest = max(map(len, rows), default=0)
    cut = [row[:MOST_COLUMNS] for row in rows[: MOST_ROWS + 1]]
    header, body = (cut[0], cut[1:]) if cut else ([], [])
    return header, body, len(rows) > MOST_ROWS + 1 or widest > MOST_COLUMNS


def _metadata(text: str) -> tuple[tuple[tuple[str, str], ...], str]:
    try:
        found = front_matter(text) or {}
    except DataError as error:
        return (), f"The metadata of this card cannot be read: {error}"
    return tuple((key, _value(value)) for key, value in found.items()), ""


def _value(value: object) -> str:
    if isinstance(value, list) and all(isinstance(entry, str | int | float) for entry in value):
        return ", ".join(map(str, value))
    if isinstance(value, dict | list):
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100).strip()[:LONGEST_VALUE]
    return "" if value is None else str(value)[:LONGEST_VALUE]


def _html(text: str, addresses: Callable[[str, str, str], str | None]) -> str:
    if len(text) > LONGEST_CARD:
        return f"<p>This card is longer than {LONGEST_CARD:,} characters; open the file to read it.</p>"
    tokens = _MARKDOWN.parse(text)
    for token in tokens:
        _tame(token)
    raw = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    clean = nh3.clean(
        raw,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=addresses,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    # Wide tables scroll by themselves; text cannot hold a bare `<` any more, so these are the tags.
    opened = '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>'
    return re.sub("<table[^>]*>", opened, clean).replace("</table>", "</table></div>")


def _tame(token: Token) -> None:
    """Leave the first heading level to the page, and alignment to an attribute: there are no inline styles."""
    if token.type in ("heading_open", "heading_close"):
        token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
    if style := token.attrs.pop("style", None):
        token.attrs["align"] = str(style).partition(":")[2]


def _addresses(
    link: Callable[[str], str], picture: Callable[[str], str], folder: str
) -> Callable[[str, str, str], str | None]:
    """Lead relative addresses into the repository, and drop pictures from elsewhere."""

    def address(tag: str, name: str, value: str) -> str | None:
        if name not in ("href", "src"):
            return value
        try:
            parts = urlsplit(value)
        except ValueError:
            return None
        outside = bool(parts.scheme or parts.netloc)
        if outside or value.startswith("#") or not parts.path:
            return value if tag == "a" else None
        if parts.path.startswith("/"):
            return value if tag == "a" else None
        path = posixpath.normpath(posixpath.join(folder, unquote(parts.path)))
        if path.startswith(".."):
            return None
        return quote((link if tag == "a" else picture)(path), safe="/%?=&:")

    return address
