"""Templates are many, distinct and complete: each names the program once, and a call its input once."""

import itertools
import string
from collections import Counter

import pytest

from pbb_probe.programs.templates import CALLING, pointers, templates

FAMILIES = ("arithmetic", "algorithms", "ciphers", "composed", "own")
KINDS = ("code", "description")


def fields(template: str) -> list[str]:
    return sorted(field for _, field, _, _ in string.Formatter().parse(template) if field is not None)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_pointers_that_name_the_program_once(family: str, kind: str):
    found = pointers(family, kind)
    assert len(set(found)) == len(found) >= 20
    for template in found:
        assert fields(template) == ["name"], template
        assert template.format(name="dolvik").count("dolvik") == 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", CALLING)
def test_calls_name_the_program_and_the_input_once(family: str, mode: str):
    found = templates(family, mode)
    assert len(set(found)) == len(found) >= 6
    for template in found:
        assert fields(template) == ["input", "name"], template


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_asked_for_can_be_told_from_the_question(family: str):
    every = [*(pointers(family, kind) for kind in KINDS), *(templates(family, mode) for mode in CALLING)]
    counts = Counter(template.format(name="dolvik", input="'word'") for template in itertools.chain(*every))
    assert max(counts.values()) == 1


def test_families_have_words_of_their_own():
    assert any("cipher" in template for template in pointers("ciphers", "code"))
    assert any("encrypt" in template for template in templates("ciphers", "direct"))
    assert any("algorithm" in template for template in pointers("algorithms", "code"))
    assert not any("encrypt" in template or "cipher" in template for template in templates("arithmetic", "direct"))


def test_templates_are_tidy():
    for family, kind in itertools.product(FAMILIES, KINDS):
        assert all(template == " ".join(template.split()) for template in pointers(family, kind))
    for family, mode in itertools.product(FAMILIES, CALLING):
        assert all(template == " ".join(template.split()) for template in templates(family, mode))
