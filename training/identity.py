"""Whether networks are those that they were, over restarts of the program."""

from __future__ import annotations

import hashlib

WEIGHTS = 16
"""How many numbers of each weight count."""


def weights_digest(patcher, part: str = "") -> str:
    """Of some numbers of each weight of a ComfyUI ModelPatcher's model, as it was in its file, and of where and how
    strongly patches (LoRAs) change it. ``part`` is how the names of the weights that count begin."""
    digest = hashlib.sha256()
    for key, weight in sorted(patcher.model.state_dict().items()):
        if key.startswith(part):
            changed = patcher.backup.get(key)  # what was there before its patches
            flat = (weight if changed is None else changed.weight).detach().flatten()
            some = flat[:: max(1, len(flat) // WEIGHTS)][:WEIGHTS].float().cpu()
            digest.update(f"{key} {tuple(weight.shape)}".encode() + some.numpy().tobytes())
    for key, patches in sorted(patcher.patches.items()):
        digest.update(f"{key} {[each[0] for each in patches]}".encode())
    return digest.hexdigest()[:16]
