"""Gives the package page the README; all else stands in pyproject.toml."""

import pathlib
import re
import tomllib

import setuptools

ROOT = pathlib.Path(__file__).parent


def readme() -> str:
    """Returns the README, whose links work outside of the repository, too."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    home = settings["project"]["urls"]["Repository"]
    init = (ROOT / "keras_drmad" / "__init__.py").read_text("utf-8")
    version = re.search(r'^__version__ = "(.+)"$', init, re.MULTILINE)[1]

    def absolute(link: re.Match) -> str:
        mark, words, path = link.groups()
        way = "raw" if mark else "blob"  # pictures, and pages
        return f"{mark}[{words}]({home}/{way}/v{version}/{path})"

    text = (ROOT / "README.md").read_text("utf-8")
    relative = r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)"
    return re.sub(relative, absolute, text)


if __name__ == "__main__":
    setuptools.setup(
        long_description=readme(),
        long_description_content_type="text/markdown",
    )
