"""Claims of the papers: what is compared, and when the demo model agrees."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from clone import BENCHMARKS


@pytest.fixture
def claims(benchmark):
    return benchmark("claims")


@pytest.fixture
def claim(benchmark):
    return benchmark("claims_of_papers").Claim("A method", "helps", "two_swap", "things right", "other", +1)


@pytest.fixture
def rows(benchmark):
    row = benchmark("binding_table").Row

    def _rows(workflow, shares):
        return [
            row("two_swap", workflow, i, "a prompt", "a", "ok", each, each, each, 0.0) for i, each in shares.items()
        ]

    return _rows


def test_what_is_compared_is_there(benchmark, claims, part):
    of_papers = benchmark("claims_of_papers")
    sets, workflows = part("evaluation.prompts").PROMPT_SETS, benchmark("workflows").WORKFLOWS
    for each in of_papers.CLAIMS:
        assert each.prompt_set in sets and each.measure in claims.MEASURES
        assert {each.workflow, each.against} <= workflows.keys()
    assert claims.needed(of_papers.CLAIMS)["three"][0] == "plain"
    for each in of_papers.SUBJECT_CLAIMS:
        assert claims.find_in_table(each).n > 0


def test_a_finding_is_paired_and_leaves_out_what_has_no_number(claims, claim, rows):
    plain = rows("plain", {0: 0.0, 1: 0.5, 2: 1.0, 3: float("nan"), 5: 1.0, 9: 0.0})
    other = rows("other", {0: 0.5, 1: 0.5, 2: 1.0, 3: 1.0, 4: 1.0, 9: 1.0})
    found = claims.find(claim, [*plain, *other], images=range(6))
    assert (found.n, found.against, found.mean) == (3, pytest.approx(0.5), pytest.approx(2 / 3))
    assert found.difference == pytest.approx(1 / 6)
    assert found.error == pytest.approx(np.std([0.5, 0.0, 0.0], ddof=1) / 3**0.5)


def test_findings_on_different_images_join_to_that_on_all(claims, claim, rows):
    shares = np.random.default_rng(0).random((2, 30))
    kept = [*rows("plain", dict(enumerate(shares[0]))), *rows("other", dict(enumerate(shares[1])))]
    one, other, both = (claims.find(claim, kept, images) for images in (range(11), range(11, 30), range(30)))
    found = claims.joined(one, other)
    numbers = ("n", "against", "mean", "difference", "error")
    assert [getattr(found, name) for name in numbers] == pytest.approx([getattr(both, name) for name in numbers])


def test_what_a_table_has_found_is_read_back(benchmark, claims):
    claim = benchmark("claims_of_papers").CLAIMS[0]
    table = json.loads((benchmark("host").RESULTS / "claims.json").read_text())["rows"]
    found = claims.finding_of(claim, table)
    assert found.claim is claim and found.n > 0 and found.error > 0
    assert claims.row_of(table, set="three", workflow="plain", claim=None)["verdicts"]["missing"] > 0.0
    with pytest.raises(SystemExit, match="has no row of"):
        claims.finding_of(replace(claim, measure="malformed"), table)


@pytest.mark.parametrize(
    ("sign", "difference", "error", "verdict"),
    [
        (+1, 0.10, 0.04, "agrees"),
        (+1, 0.10, 0.06, "undecided"),
        (+1, -0.10, 0.04, "disagrees"),
        (-1, -0.10, 0.04, "agrees"),
        (-1, 0.10, 0.04, "disagrees"),
        (0, 0.01, 0.015, "agrees"),
        (0, 0.01, 0.03, "undecided"),
        (0, 0.09, 0.01, "disagrees"),
    ],
)
def test_verdicts(claims, claim, sign, difference, error, verdict):
    assert claims.Finding(replace(claim, sign=sign), 480, 0.5, 0.5, difference, error).verdict == verdict


def test_a_finding_in_a_table_of_subjects(benchmark, claims, claim, tmp_path, monkeypatch):
    cases = [{"case": name, "n": 20, "identity": mean} for name, mean in (("a", 0.2), ("b", 0.6))]
    paired = {"case": "b", "less": "a", "identity": 0.4, "identity_error": 0.03, "identity_n": 19}
    (tmp_path / "of_subjects.json").write_text(json.dumps({"rows": [paired, *cases]}))
    monkeypatch.setattr(benchmark("host"), "RESULTS", tmp_path)
    asked = replace(claim, prompt_set="of_subjects", measure="identity", workflow="b", against="a")
    assert claims.find_in_table(asked) == claims.Finding(asked, 19, 0.2, 0.6, 0.4, 0.03)


@pytest.mark.slow
def test_why_not(tmp_path):
    """The experiments for real: a phrase alone keeps its own thing, and the first phrase's rows know nothing else."""
    command = [sys.executable, BENCHMARKS / "why_not.py", "--prompts", "6", "--tables", tmp_path / "why"]
    subprocess.run(command, check=True)
    rows = json.loads((tmp_path / "why.json").read_text())["rows"]
    changes = {row["row"]: row["change"] for row in rows if "row" in row}
    assert changes["noun of phrase 1"] == 0.0 < 0.2 < changes["noun of phrase 2"]
    things = {row["drawn again for"]: (row["first"], row["second"]) for row in rows if "first" in row}
    assert things["the first phrase alone"] == (1.0, 0.0)
    assert things["the second phrase alone"] == (0.0, 1.0)
    assert sum(things["the phrases composed"]) < sum(things["the prompt"])
