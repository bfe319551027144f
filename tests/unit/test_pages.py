"""The pages lead where they say, and name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from node.config import make_config
from node.telemetry.catalogue import METRICS, PREFIX
from tests.installation import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"```.*?```", re.DOTALL)
pages = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)


def anchors(path: Path) -> set[str]:
    """What can be linked to in a page, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pages
def test_links(path: Path) -> None:
    for target in LINK.findall(FENCE.sub("", path.read_text())):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


@pages
def test_fences_are_closed(path: Path) -> None:
    assert path.read_text().count("```") % 2 == 0


def test_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    reached = {target.partition("#")[0] for target in LINK.findall(readme)}
    for path in ROOT.glob("docs/*.md"):
        name = f"docs/{path.name}"
        others = [page for page in PAGES if page != path and path.name in page.read_text()]
        assert name in reached or others, name


@pages
def test_directives_and_metrics_exist(path: Path) -> None:
    """What looks like a directive with a value, or like a metric, must be one."""
    config = make_config()
    text = path.read_text()
    for name in re.findall(r"`(redis_[a-z_]+)`", text):
        assert name.removeprefix(PREFIX) in METRICS, name
    if path.name in ("guarantees.md", "operations.md", "getting-started.md", "migrating.md"):
        for name in re.findall(r"`((?:[a-z]+-)+[a-z]+)(?: [^`]*)?`", text):
            if name not in NO_DIRECTIVES:
                assert config.find(name) is not None, name


NO_DIRECTIVES = {
    *("redis-cli", "redis-server", "redis-check-rdb", "redis-check-aof", "docker-compose"),
    *("sentrio-container", "add-node"),
}
