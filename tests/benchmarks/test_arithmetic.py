"""The benchmark of token arithmetic: what is asked for and drawn, and shares by hand."""

import math

import pytest


def test_changes_of_a_prompt(benchmark):
    arithmetic = benchmark("arithmetic")
    for prompt_set, ways in arithmetic.WAYS.items():
        for number in range(6):
            changes = arithmetic.changes_of(prompt_set, number)
            assert list(changes) == list(arithmetic.SUMS)
            added, removed, exchanged = changes.values()
            assert all(tuple(change.drawings) == ways for change in changes.values())
            plain, marked = (added.drawings[way].prompt.text for way in ("plain", "written"))
            assert (plain, marked) == tuple(removed.drawings[way].prompt.text for way in ("written", "plain"))
            first, mark = removed.wanted[0], added.wanted[0].mark
            assert plain.startswith(f"a{'n' * (first.colour == 'orange')} {first.colour} {first.shape}")
            sum_of = added.drawings["sum"].expression
            assert sum_of == f"a {first.colour} {first.shape} + a {first.shape} with a {mark} - a {first.shape}"
            if "sum, change twice" in ways:
                twice = added.drawings["sum, change twice"].expression
                assert twice == sum_of.replace("+ a", "+ 2 * a").replace("- a", "- 2 * a")
            assert exchanged.wanted[0].colour not in {each.colour for each in removed.wanted}
            assert exchanged.wanted[1:] == removed.wanted[1:]


def test_measures_of_a_picture(benchmark):
    arithmetic = benchmark("arithmetic")
    wanted = arithmetic.changes_of("two_fav", 0)["mark added"].wanted
    (shape, colour, mark), (other, its) = [
        (each.shape, each.colour, *((each.mark,) if each.mark else ())) for each in wanted
    ]
    second = (other, its, None)
    for found, expected in (
        ([(shape, colour, mark), second], (1, 1, 1)),
        ([(shape, its, mark), (other, its, mark)], (1, 0, 0)),
        ([(shape, colour, None), second, second], (0, 0, 1)),
        ([(other, its, None)], (0, 0, 1)),
        ([], (0, 0, 0)),
    ):
        assert arithmetic.measured(wanted, found, "mark") == expected
    changed, right, none = arithmetic.measured(wanted[:1], [(shape, its, mark)], "colour")
    assert (changed, right) == (0, 0) and math.isnan(none)


def test_shares_and_differences(benchmark):
    """Of two prompts with two pictures each, those with the sum are right in three, the plain ones in one."""
    arithmetic = benchmark("arithmetic")
    found = {}
    for prompt_set in arithmetic.WAYS:
        for number, hits in enumerate(({"sum": 2, "plain": 1}, {"sum": 1, "plain": 0})):
            for change in arithmetic.changes_of(prompt_set, number).values():
                things = [(each.shape, each.colour, each.mark) for each in change.wanted]
                for way, drawing in change.drawings.items():
                    right = hits.get(way, 2)
                    found[prompt_set, number, drawing] = found.get((prompt_set, number, drawing), []) or [
                        things if picture < right else [] for picture in range(2)
                    ]
    records = {
        (each["set"], each["change"], each["by"]): each
        for each in arithmetic.records_of(found, dict.fromkeys(arithmetic.WAYS, 2))
    }
    record = records["two_fav", "colour exchanged", "sum"]
    assert record["n"] == 2 * arithmetic.GROUP
    for measure in arithmetic.MEASURES:
        assert record[measure] == pytest.approx(0.75) and record[f"{measure} error"] == pytest.approx(0.25)
    alone = records["single_counter", "colour exchanged", "sum"]
    assert alone["changed"] == pytest.approx(0.75) and math.isnan(alone["second thing right"])
    text = arithmetic.markdown(["About."], list(records.values()))
    assert len(text.splitlines()) == 6 + len(records)
    assert "| two_fav | colour exchanged | sum | 8 | 0.750 ± 0.250 |" in text
