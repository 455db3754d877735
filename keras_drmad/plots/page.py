"""One page of HTML: text and pictures, without anything from elsewhere."""

import base64
import html
from collections.abc import Mapping, Sequence

STYLE = """
:root { color-scheme: light dark; --text: #1d2129; --soft: #5b6472;
  --line: #d9dde3; --page: #ffffff; --box: #f6f7f9; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e7ec;
  --soft: #9aa4b2; --line: #343a43; --page: #16181d; --box: #1f232a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; color: var(--text);
  background: var(--page); font: 1rem/1.5 system-ui, sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid var(--line); }
p, li { max-width: 46rem; }
.soft { color: var(--soft); }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .92rem;
  overflow-wrap: normal; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left;
  border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right;
  font-variant-numeric: tabular-nums; }
table.data td, table.data th { white-space: nowrap; }
figure { margin: .8rem 0; overflow-x: auto; }
img { max-width: 100%; height: auto; display: block; }
@media (max-width: 40rem) { img { max-width: none; width: 30rem; } }
pre { overflow-x: auto; padding: .7rem; background: var(--box);
  border-radius: 6px; font-size: .85rem; }
nav { margin: .6rem 0; }
nav a { margin-right: 1rem; color: inherit; }
"""


class Page:
    """A page of HTML. Whatever comes in as text is escaped."""

    def __init__(self, title: str):
        """Begins a page.

        Args:
            title: str.
        """
        self._title = html.escape(title)
        self._links: list[str] = []
        self._body: list[str] = []

    def heading(self, text: str) -> None:
        """Adds a heading, and a link to it at the top of the page."""
        mark = f"part-{len(self._links) + 1}"
        text = html.escape(text)
        self._links.append(f'<a href="#{mark}">{text}</a>')
        self._body.append(f'<h2 id="{mark}">{text}</h2>')

    def paragraph(self, text: str, *, is_soft: bool = False) -> None:
        """Adds a paragraph."""
        kind = ' class="soft"' if is_soft else ""
        self._body.append(f"<p{kind}>{html.escape(text)}</p>")

    def sentences(self, sentences: Sequence[str]) -> None:
        """Adds a list of sentences."""
        items = "".join(f"<li>{html.escape(x)}</li>" for x in sentences)
        self._body.append(f"<ul>{items}</ul>")

    def verbatim(self, text: str) -> None:
        """Adds lines as they are."""
        self._body.append(f"<pre>{html.escape(text)}</pre>")

    def table(
        self,
        head: Sequence[str],
        rows: Sequence[Sequence[str]],
        numbers: Sequence[int] = (),
    ) -> None:
        """Adds a table.

        Args:
            head: list of str, the columns; empty for no head.
            rows: list of lists of str.
            numbers: the columns that hold numbers, counted from 0.
        """

        def line(cells, tag):
            each = []
            for k, cell in enumerate(cells):
                kind = ' class="number"' if k in numbers else ""
                each.append(f"<{tag}{kind}>{html.escape(cell)}</{tag}>")
            return f"<tr>{''.join(each)}</tr>"

        text = "".join(line(row, "td") for row in rows)
        kind = ""
        if head:
            text, kind = line(head, "th") + text, ' class="data"'
        self._body.append(
            f'<div class="wide"><table{kind}>{text}</table></div>'
        )

    def picture(self, pngs: Mapping[str, bytes], text: str) -> None:
        """Adds a picture.

        Args:
            pngs: dict with the bytes of a picture for "light" and "dark".
            text: str, what the picture shows, for those who do not see it.
        """
        light, dark = (
            "data:image/png;base64," + base64.b64encode(pngs[one]).decode()
            for one in ("light", "dark")
        )
        self._body.append(
            "<figure><picture>"
            f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
            f'<img src="{light}" alt="{html.escape(text)}">'
            "</picture></figure>"
        )

    def text(self) -> str:
        """Returns the whole page."""
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, '
            'initial-scale=1">\n'
            f"<title>{self._title}</title>\n<style>{STYLE}</style></head>\n"
            f"<body>\n<h1>{self._title}</h1>\n"
            f"<nav>{' '.join(self._links)}</nav>\n"
            + "\n".join(self._body)
            + "\n</body></html>\n"
        )
