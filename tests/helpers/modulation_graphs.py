"""API graphs with the nodes of attention modulation, on the demo model."""

PROMPT, ENTITIES = "a red circle and a blue square", "circle: red | square: blue"
MODEL, CLIP, BOUND, BINDING = ["model", 0], ["model", 1], ["bind", 0], ["bind", 1]
LINEAR = {
    **{"shape": "linear", "shape.global_start": 1.5, "shape.global_end": 0.5},
    **{"shape.entity_start": 0.5, "shape.entity_end": 1.5, "end_and_padding": "weight 1"},
}
FOCUS = {
    **{"patches_from": "previous step", "min_share": 0.0, "background": "sees everything", "mode": "hard"},
    **{"end_and_padding": "open", "start": 0.1, "end": 1.0, "score": "sum"},
}
TEMPERATURE = {"temperature": 0.7, "start": 0.0, "end": 0.5, "layers": "all", "apply_to": "positive and negative"}
PARTS = {"self_attention_temperature": True, "object_focused_attention": True, "stage_weights": True}


def graph(*, conditioning=BOUND, **nodes):
    """The demo model, a bound prompt, the nodes of the pack one after the other, and a sampler of two steps.

    A node is given as its id without "SB" and its inputs; "model" and "binding" are filled in.
    """
    sampling = {"seed": 1, "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    made = {
        "model": {"class_type": "SBLoadDemoModel", "inputs": {}},
        "bind": {"class_type": "SBBindPrompt", "inputs": {"clip": CLIP, "text": PROMPT, "entities": ENTITIES}},
        "negative": {"class_type": "CLIPTextEncode", "inputs": {"clip": CLIP, "text": ""}},
        "empty": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 1}},
    }
    last = MODEL
    for name, inputs in nodes.items():
        linked = {"model": last} if name == "SelfAttentionTemperature" else {"model": last, "binding": BINDING}
        made[name] = {"class_type": f"SB{name}", "inputs": {**linked, **inputs}}
        last = [name, 0]
    links = {"model": last, "positive": conditioning, "negative": ["negative", 0], "latent_image": ["empty", 0]}
    made["sampler"] = {"class_type": "KSampler", "inputs": {**links, **sampling}}
    made["save"] = {"class_type": "SaveLatent", "inputs": {"samples": ["sampler", 0], "filename_prefix": "modulated"}}
    return made


def painted(made, number, value, entity, *, whole=64):
    """Adds a mask for an entity of the focus node's binding: the first on the left half, the second on the right."""
    name, before = f"assign {number}", BINDING if number == 1 else [f"assign {number - 1}", 0]
    sizes = {"width": whole, "height": whole}
    made["black"] = {"class_type": "SolidMask", "inputs": {**sizes, "value": 0.0}}
    made[f"white {number}"] = {
        "class_type": "SolidMask",
        "inputs": {**sizes, "width": whole // 2, "value": value},
    }
    where = {"destination": ["black", 0], "source": [f"white {number}", 0], "y": 0, "operation": "add"}
    made[f"mask {number}"] = {
        "class_type": "MaskComposite",
        "inputs": {**where, "x": 0 if number == 1 else whole // 2},
    }
    made[name] = {
        "class_type": "SBAssignMask",
        "inputs": {"binding": before, "mask": [f"mask {number}", 0], "entity": entity},
    }
    for node in made.values():
        if node["class_type"] == "SBObjectFocusedAttention":
            node["inputs"]["binding"] = [name, 0]
    return made
