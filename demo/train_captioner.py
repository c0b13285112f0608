"""Train the demo world's captioner: `python demo/train_captioner.py --comfyui FOLDER --out FOLDER`.

CoMat (arXiv 2404.03653) asks a captioner how likely a prompt is, given the picture that was drawn for it. This one is
BLIP in a small size. It learns from true captions of rendered scenes, of which some went through the demo model's
autoencoder. While it learns, a layer that is dropped afterwards has to tell from each patch what is there.

The stages (pictures, captioner, export, measurement) run in order. One whose result exists is skipped, and the
captioner goes on from its checkpoint. The result is the folder `captioner`, as transformers saves it.
"""

from train import Stage, main

STAGES = {
    "pictures": Stage("train_captioner_pictures", parallel=True),
    "captioner": Stage("train_captioner_network", 2000.0, parallel=True),
    "export": Stage("export_captioner"),
    "measure": Stage("measure_captioner"),
}

if __name__ == "__main__":
    main(__doc__, STAGES)
