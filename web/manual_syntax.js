/* Entities in the syntax of the node's input `entities`. Every phrase has its own part of it, as the server wrote it; one of
   nothing but signs that mean something in the syntax has none. */

const NO_ENTITIES = "|";

export function writeEntities(entities) {
    return entities.filter(({ noun }) => noun.said).map(entry).join(" | ") || NO_ENTITIES;
}

/* An entity as something that another one has: its noun comes last, and where that could not be seen, behind an empty part. */
export function writeSubObject({ noun, attributes }) {
    const said = attributes.map((phrase) => phrase.said).filter(Boolean);
    if (!said.length && !noun.said.includes(" ")) return `+ ${noun.said}`;
    const begins = said.length && !noun.said.includes(" ... ") ? [] : [""];
    return `+ ${[...said, ...begins, noun.said].join(" ... ").trim()}`;
}

function entry({ noun, attributes, sub_objects, count }) {
    const belongs = [...attributes, ...sub_objects.map(({ phrase }) => phrase)].map(({ said }) => said).filter(Boolean);
    const counted = count > 1 ? `${noun.said} x${count}` : noun.said;
    return belongs.length ? `${counted}: ${belongs.join(", ")}` : counted;
}
