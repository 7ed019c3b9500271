"""Links lead somewhere, README lists files as they import, the lessons show code and figures."""

import re
import textwrap
from pathlib import Path

import pytest

from test_layers import imported_modules, name_of

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "minigo"
README = (ROOT / "README.md").read_text(encoding="utf-8")
LESSONS = (ROOT / "docs" / "lessons.md").read_text(encoding="utf-8")
DIARY = sorted((ROOT / "selfplay" / "log").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "selfplay" / "LOG.md", ROOT / "checkpoints" / "README.md"]
PAGES += [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "race").glob("*.md")), *DIARY]
EXCERPTS = re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)```", LESSONS, re.DOTALL)


@pytest.mark.parametrize("path, excerpt", EXCERPTS, ids=[path for path, _ in EXCERPTS])
def test_excerpts_are_the_source_word_for_word(path, excerpt):
    source = (ROOT / path).read_text(encoding="utf-8")
    assert excerpt in source, f"{path} no longer has:\n{excerpt}"
    assert 3 <= excerpt.count("\n") <= 20
    assert textwrap.dedent(excerpt) != excerpt or excerpt.startswith(("def ", "class ", "cdef "))


def test_every_lesson_has_its_code():
    chapters = re.split(r"\n## ", LESSONS)
    lessons = [chapter for chapter in chapters if chapter[0] in "123"]
    assert len(lessons) == 3 and all("<!-- src/" in chapter for chapter in lessons)
    assert LESSONS.count("```") == 2 * len(EXCERPTS)  # no excerpt without its source
    for chapter in lessons:
        assert "**Measured.**" in chapter and "**Break it.**" in chapter


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def without_code(text: str) -> str:
    """Return a page's text without its blocks of code."""
    return re.sub(r"(?ms)^```.*?^```|^    .*?$", "", text)


def anchors(page: Path, level: str = "#+") -> list[str]:
    """Return a page's headings, all or those of a level, as GitHub makes them into anchors."""
    titles = re.findall(f"(?m)^{level} (.+)", without_code(read(page)))
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def links(page: Path) -> list[str]:
    """Return what a page links to in this repository, and the images that it shows."""
    targets = re.findall(r"\]\(([^()\s]+)\)", without_code(read(page)))
    return [target for target in targets if not re.match(r"https?:", target)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists() and ROOT in linked.parents, target
        assert not anchor or anchor in anchors(linked), target


def test_every_page_can_be_reached_from_the_readme():
    reached, new = set(), [ROOT / "README.md"]
    while new:
        page = new.pop()
        reached.add(page)
        linked = {(page.parent / target.partition("#")[0]).resolve() for target in links(page)}
        new += [path for path in linked - reached if path.suffix == ".md"]
    assert {*PAGES} <= reached


def test_the_index_of_the_diary_has_each_entry_once():
    parts = [[f"log/{part.name}#{anchor}" for anchor in anchors(part, "##")] for part in DIARY]
    entries = [target for target in links(ROOT / "selfplay" / "LOG.md") if "#" in target]
    assert entries == sum(reversed(parts), [])  # the newest first


def test_figures_are_those_of_the_readme_the_results_and_the_diary():
    pages = [ROOT / "README.md", ROOT / "docs" / "results.md", *DIARY]
    sources = "".join(read(page) for page in pages)
    for lesson in re.findall(r"\*\*Measured\.\*\*(.*?)\n\n", LESSONS, re.DOTALL):
        lesson = re.sub(
            r"\([^()]*Silver.*?\)|AlphaGo Zero's makers.*?\)", "", lesson, flags=re.DOTALL
        )
        for figure in re.findall(r"[+-]\d+|\d+\.\d+ %|\d[\d,]{2,}\d", lesson):
            assert figure in sources, figure


def test_the_readme_stays_short():
    assert README.count("\n") < 150


def reading_lists() -> dict[str, list[Path]]:
    """Return README's tables of files, by folder, in its order."""
    tables = re.findall(r"\*\*, `src/minigo/([a-z]*)/?`:.*\n\n((?:\|.*\n)+)", README)
    rows = {folder: re.findall(r"(?m)^\| `(\S+)`", table) for folder, table in tables}
    return {folder: [PACKAGE / folder / name for name in names] for folder, names in rows.items()}


def test_the_reading_lists_have_every_module():
    lists = reading_lists()
    assert [*lists] == ["", "play", "lab"]
    plumbing = re.search(r"plumbing: (.*?)\n\n", README, re.DOTALL).group(1)
    listed = {path for paths in lists.values() for path in paths}
    listed |= {PACKAGE / name for name in re.findall(r"`(\w+\.py)`", plumbing)}
    modules = {path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".pyx")}
    assert {path for path in modules if not path.stem.startswith("__")} <= listed


@pytest.mark.parametrize("folder", ["", "play", "lab"])
def test_in_a_reading_list_a_module_imports_only_from_above(folder):
    paths = [path for path in reading_lists()[folder] if path.exists()]
    below = {name_of(path) for path in paths}
    for path in paths:
        assert not (imported_modules(path) - {name_of(path)}) & below, path.name
        below.remove(name_of(path))


def test_what_the_readme_names_is_there():
    answers = re.findall(r"((?:`\w+`(?: and )?)+) in `([\w.]+)`", README)
    assert len(answers) >= 10
    for names, file in answers:
        (path,) = PACKAGE.rglob(file)
        for name in re.findall(r"`(\w+)`", names):
            defined = rf"(?m)^(?:.*\b(?:c?def|class)\b.* \*?|    |[A-Z_]+, |){name}\b"
            assert re.search(defined, read(path)), f"{name} is not in {file}"
