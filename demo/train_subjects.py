"""Train the demo model's subject adapter: `python demo/train_subjects.py --comfyui FOLDER --out FOLDER`.

As FastComposer (arXiv 2305.10431): the fusion of an image encoder's embeddings with the rows of nouns, and the UNet, by
the noise loss, half of the time on subjects alone, and the localisation loss. Differences: subjects count alone only
where there is more signal than noise; there is no pretrained image encoder of this world, so ours first learns to tell
the fills in its pictures, and then stays as it is, where two layers of CLIP's are trained along; and a fifth of the
things have their colours in words, so that the model forgets none of them.

The stages (scenes, encoder, adapter, export) run in order, each for its time. One whose result exists is skipped, and
the adapter goes on from its checkpoint.
"""

from train import Stage, main

STAGES = {
    "scenes": Stage("train_subject_scenes", parallel=True),
    "encoder": Stage("train_subject_encoder", 300.0, parallel=True),
    "adapter": Stage("train_subject_adapter", 7200.0, parallel=True),
    "export": Stage("export_subjects"),
}

if __name__ == "__main__":
    main(__doc__, STAGES)
