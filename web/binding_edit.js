/* Edits of what belongs together: each takes the record of a binding and returns another. */

import { writeEntities, writeSubObject } from "./manual_syntax.js";

export function keyOf(phrase) {
    return phrase.spans.flat().join("-");
}

/*
 * Everything that can be moved: nouns, attributes and sub-objects `of` an entity, named by the key of its noun, and the
 * words of none. `item` is the entity, phrase or sub-object itself. Two entities may have the same words.
 */
export function partsOf({ entities, words }) {
    const owned = entities.flatMap((entity) => {
        const of = keyOf(entity.noun);
        return [
            { kind: "noun", of, phrase: entity.noun, item: entity },
            ...entity.attributes.map((phrase) => ({ kind: "attribute", of, phrase, item: phrase })),
            ...entity.sub_objects.map((sub) => ({ kind: "sub-object", of, phrase: sub.phrase, item: sub })),
        ];
    });
    const taken = owned.flatMap(({ phrase }) => phrase.spans);
    const free = words.filter(({ spans: [word] }) => !taken.some((span) => overlaps(span, word)));
    return [...owned, ...free.map((phrase) => ({ kind: "free", of: null, phrase, item: phrase }))].map((part) => ({
        ...part,
        key: `${part.of}:${keyOf(part.phrase)}`,
    }));
}

/* The part that the character at a place belongs to. */
export function partAt(record, place) {
    return partsOf(record).find(({ phrase }) => phrase.spans.some(([start, end]) => start <= place && place < end));
}

/* The part as one of the entity whose noun has the key. */
export function give(record, part, owner) {
    return changed(record, without(record, part).map((entity) => (keyOf(entity.noun) === owner ? having(entity, part) : entity)));
}

export function makeOwn(record, part) {
    const made = part.kind === "noun" ? { ...part.item, doubt: "" } : ownEntity(part);
    const others = without(record, part);
    const place = others.findIndex((entity) => startOf(entity.noun) > startOf(made.noun));
    return changed(record, others.toSpliced(place < 0 ? others.length : place, 0, made));
}

export function letGo(record, part) {
    return changed(record, without(record, part));
}

function without({ entities }, { kind, of, item }) {
    const others = (entity) => ({
        ...entity,
        attributes: entity.attributes.filter((phrase) => phrase !== item),
        sub_objects: entity.sub_objects.filter((sub) => sub !== item),
    });
    if (kind === "noun") return entities.filter((entity) => entity !== item);
    return entities.map((entity) => (keyOf(entity.noun) === of ? others(entity) : entity));
}

function having(entity, { kind, item, phrase }) {
    const had = [...entity.attributes, ...entity.sub_objects.map((sub) => sub.phrase)];
    if (had.some((each) => keyOf(each) === keyOf(phrase))) return entity;
    const attributes = kind === "attribute" || kind === "free" ? [item] : [];
    const subs = kind === "noun" ? [subObject(item), ...item.sub_objects] : kind === "sub-object" ? [{ ...item, doubt: "" }] : [];
    return {
        ...entity,
        attributes: [...entity.attributes, ...attributes].sort((a, b) => startOf(a) - startOf(b)),
        sub_objects: [...entity.sub_objects, ...subs].sort((a, b) => startOf(a.phrase) - startOf(b.phrase)),
    };
}

function subObject(entity) {
    const phrases = [...entity.attributes, entity.noun].sort((a, b) => startOf(a) - startOf(b));
    const phrase = {
        text: phrases.map(({ text }) => text).join(" "),
        spans: phrases.flatMap(({ spans }) => spans).sort(([a], [b]) => a - b),
        said: writeSubObject(entity),
    };
    return { phrase, noun: entity.noun, attributes: entity.attributes, doubt: "" };
}

function ownEntity({ kind, item }) {
    const { noun, attributes } = kind === "sub-object" ? item : { noun: item, attributes: [] };
    return { noun, attributes, sub_objects: [], count: 1, doubt: "" };
}

/* The record with other entities, the second of a name called "dog 2", and the text of `entities` that says so. */
function changed(record, entities) {
    const seen = new Map();
    const named = entities.map((entity) => {
        const name = entity.noun.text.toLowerCase();
        const number = (seen.get(name) ?? 0) + 1;
        seen.set(name, number);
        return { ...entity, name: number > 1 ? `${name} ${number}` : name };
    });
    return { ...record, entities: named, notes: [], edited: writeEntities(named) };
}

function overlaps([start, end], [otherStart, otherEnd]) {
    return start < otherEnd && otherStart < end;
}

function startOf(phrase) {
    return phrase.spans[0][0];
}
