"""What `mkdocs` does to pages whose links are those of the repository.

Pages are written for GitHub: links are paths in the repository, and what the
site shows as tabs stands one below the other, each under a title in bold. On
the site

- a picture outside of `docs/` is copied there from where it lies,
- any other link out of `docs/` leads to the repository,
- what stands between `<!-- tabs -->` and `<!-- end of tabs -->` becomes tabs,
- the first page has no list of pages beside it.
"""

import pathlib
import posixpath
import re
import textwrap
from collections.abc import Callable

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
TABS = re.compile(r"<!-- tabs -->\n(.*?)<!-- end of tabs -->", re.DOTALL)
TITLE = re.compile(r"^\*\*(.+)\*\*$", re.MULTILINE)
PICTURES = (".png", ".svg")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pictures outside of `docs/` that pages show."""
    for page in files.documentation_pages():
        for link in LINK.finditer(page.content_string):
            path = outside(link[1], page.src_uri)
            if path and path.endswith(PICTURES) and path not in files.src_uris:
                picture = File.generated(
                    config, path, abs_src_path=str(ROOT / path)
                )
                files.append(picture)
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Returns a page with the site's links and tabs."""
    here = page.file.src_uri
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]

    def link(found: re.Match) -> str:
        path = outside(found[1], here)
        if path is None:
            return found[0]
        if path.endswith(PICTURES):
            return posixpath.relpath(path, posixpath.dirname(here) or ".")
        way = "tree" if (ROOT / path).is_dir() else "blob"
        home = config.extra["repository"]
        return f"{home}/{way}/main/{path}{found[2] or ''}"

    return TABS.sub(tabs, without_code(markdown, lambda s: LINK.sub(link, s)))


def outside(target: str, page: str) -> str | None:
    """Returns the path in the repository of what lies outside of `docs/`."""
    folder = posixpath.join("docs", posixpath.dirname(page))
    path = posixpath.normpath(posixpath.join(folder, target))
    return None if path.startswith("docs/") else path


def without_code(markdown: str, change: Callable[[str], str]) -> str:
    """Returns a page of which what is no block of code is changed."""
    parts = FENCED.split(markdown)
    parts[::2] = map(change, parts[::2])
    return "".join(parts)


def tabs(found: re.Match) -> str:
    """Returns a tab for each title in bold, and what follows it.

    Lines of code that the first tab does not have are marked.
    """
    titles, bodies = (TITLE.split(found[1])[k::2] for k in (1, 2))
    known = set(bodies[0].splitlines())

    def tab(title: str, body: str) -> str:
        code = body.partition("```python\n")[2].splitlines()
        new = [str(k) for k, line in enumerate(code, 1) if line not in known]
        marks = f'```python hl_lines="{" ".join(new)}"\n'
        body = body.replace("```python\n", marks, 1) if new else body
        return f'=== "{title}"\n{textwrap.indent(body, "    ")}'

    return "\n".join(map(tab, titles, bodies))
