"""What mkdocs calls: it adds the pages made from the code, and the files that pages link to."""

from __future__ import annotations

from pathlib import Path

from docs.generate.links import everything_outside, placed, rewritten, titled
from docs.generate.pages import PAGES
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).parent.parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Every page there is: the written ones, the made ones, and the files that these link to."""
    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    texts = {one.src_uri: one.content_string for one in files.documentation_pages()}
    for path in sorted(everything_outside(texts, lambda path: (DOCS / path).read_text())):
        files.append(File.generated(config, placed(path), abs_src_path=str(DOCS / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001  mkdocs' signature
    """The text, with its links leading to places in the site, and by the titles of pages."""
    where = page.file.src_uri
    titles = {
        one.src_uri: one.content_string.partition("\n")[0].removeprefix("# ").replace("`", "")
        for one in files.documentation_pages()
        if one.content_string.startswith("# ")
    }
    return rewritten(where, titled(where, markdown, titles))
