"""docs/lessons.md shows code of this project, and figures of its README and its diary."""

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LESSONS = (ROOT / "docs" / "lessons.md").read_text(encoding="utf-8")
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


def test_figures_are_those_of_the_readme_and_the_diary():
    sources = "".join(
        (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "selfplay/LOG.md")
    )
    for lesson in re.findall(r"\*\*Measured\.\*\*(.*?)\n\n", LESSONS, re.DOTALL):
        lesson = re.sub(
            r"\([^()]*Silver.*?\)|AlphaGo Zero's makers.*?\)", "", lesson, flags=re.DOTALL
        )
        for figure in re.findall(r"[+-]\d+|\d+\.\d+ %|\d[\d,]{2,}\d", lesson):
            assert figure in sources, figure
