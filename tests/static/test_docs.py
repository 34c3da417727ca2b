"""The links of the docs lead to files that exist, and to headings in them."""

import re

import pytest

from local_aws.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob(".github/*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page):
    """Returns the anchors that GitHub makes of the page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#{1,6} (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page):
    for target in LINK.findall(page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        to = (page.parent / name).resolve() if name else page
        assert to.exists(), f"{target}: no such file"
        assert not anchor or anchor in anchors(to), f"{target}: no such heading"


def test_the_readme_fits_a_few_screens_and_every_page_can_be_reached_from_it():
    readme = (ROOT / "README.md").read_text()
    assert readme.count("\n") <= 150
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in LINK.findall(readme) if "://" not in target}
    # A folder stands for what lies in it.
    reached = {page for page in PAGES if page in linked or page.parent in linked or page == ROOT / "README.md"}
    assert {page for page in PAGES if ".github" not in page.parts} == reached
