"""Build self-contained HTML pages.

A page loads nothing (its content security policy forbids it), runs no script, follows the reader's light or dark color
scheme, and fits on a phone and on paper. It is built as an element tree, so the serializer escapes every text and
closes every tag.
"""

import base64
import os
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from keras_vit.utils.files import replacing


def new_page(
    title: str, summary: str, highlights: Sequence[tuple[str, str]] = (), style: str = ""
) -> tuple[Element, Element]:
    """Return a new page with a heading.

    Args:
        title: The heading.
        summary: What the page is about, in one or two sentences.
        highlights: The main figures, as pairs of a value with its unit and its meaning, such as ("3 dB", "...").
        style: CSS for this page, in addition to the CSS of all pages.

    Returns:
        The page, and the element that sections are added to.
    """
    page = Element("html", lang="en")
    head = add(page, "head")
    add(head, "meta", charset="utf-8")
    add(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    add(head, "meta", http_equiv="Content-Security-Policy", content=policy)
    add(head, "link", rel="icon", href="data:,")  # Without it, a browser requests one from the server.
    add(head, "title", title)
    add(head, "style", _STYLE + style)
    main = add(add(page, "body"), "main")
    add(main, "h1", title)
    add(main, "p", summary)
    cards = add(main, "div", class_="highlights")
    for figure, meaning in highlights:
        card = add(cards, "p")
        add(card, "strong", figure)
        add(card, "span", meaning)
    return page, main


def add(parent: Element, tag: str, text: object = None, **attributes: object) -> Element:
    """Append an element and return it. `class_` and `text_anchor` become `class` and `text-anchor`."""
    child = SubElement(parent, tag)
    child.text = None if text is None else str(text)
    for name, value in attributes.items():
        written = f"{value:.6g}" if isinstance(value, float) else str(value)
        child.set(name.rstrip("_").replace("_", "-"), written)
    return child


def add_section(main: Element, heading: str) -> Element:
    """Append a section with a heading and return it."""
    section = add(main, "section")
    add(section, "h2", heading)
    return section


def add_facts(section: Element, facts: Mapping[str, object]) -> None:
    """Append a list of facts with their names."""
    element = add(section, "dl")
    for name, value in facts.items():
        add(element, "dt", name)
        add(element, "dd", value)


def png_address(png: bytes) -> str:
    """Return a data URL with the bytes of a PNG file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def write_page(path: str | os.PathLike, page: Element) -> None:
    """Write a page. If this fails, an existing file stays as it was."""
    with replacing(path) as partial:
        partial.write_bytes(b"<!doctype html>\n" + tostring(page, encoding="utf-8", method="html"))


_STYLE = """
:root { color-scheme: light; --ground: #fff; --card: #f5f6f8; --ink: #1c2430; --soft: #5b6675;
  --line: #d5dae1; --first: #1f6feb; --second: #c2570c; }
@media screen and (prefers-color-scheme: dark) {
  :root { color-scheme: dark; --ground: #12161c; --card: #1b212a; --ink: #e4e9f0; --soft: #9aa6b5;
    --line: #333d4a; --first: #6cabff; --second: #f39a4d; } }
* { box-sizing: border-box; margin: 0; }
body { background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1040px; margin: auto; padding: 24px 16px 48px; overflow-wrap: anywhere; }
h1 { margin-bottom: 8px; font-size: 1.75em; line-height: 1.2; }
h2 { margin: 36px 0 8px; font-size: 1.25em; }
section > p, small { color: var(--soft); font-size: 0.875em; }
h2, section > p { break-after: avoid; }
.highlights, dl { display: grid; gap: 16px; }
.highlights { grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); margin-top: 20px; }
.highlights p { padding: 12px 16px; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
.highlights strong { display: block; font-size: 1.6em; line-height: 1.3; }
figure, tr, .highlights p { break-inside: avoid; }
dl { grid-template-columns: max-content 1fr; gap: 2px 12px; }
dt { font-weight: 600; }
@media print { body { font-size: 12px; } }
"""
