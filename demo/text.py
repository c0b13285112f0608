"""The demo model's text encoder around ComfyUI's CLIP text network, with a table of the trained words only."""

from pathlib import Path

import torch
from torch import nn

from ..world.captions import OPENINGS
from ..world.names import COLOURS, MARKS, SHAPES
from .architecture import TEXT_CONFIG

WORDS = (*SHAPES, *COLOURS, *MARKS, *"a an the and that is with something ,".split(), *"".join(OPENINGS).split())
PAD_TO = TEXT_CONFIG["max_position_embeddings"]
BOS, EOT = TEXT_CONFIG["bos_token_id"], TEXT_CONFIG["eos_token_id"]


class Vocabulary:
    """The words of the captions: CLIP's token of each (every one is a single piece), and its row in the small table."""

    def __init__(self, tokenizer):
        pieces = {word: tokenizer(word)["input_ids"][1:-1] for word in WORDS}
        split = [word for word, ids in pieces.items() if len(ids) != 1]
        if split:
            raise ValueError(f"not single pieces of the tokenizer: {split}")
        self.token_ids = sorted({ids[0] for ids in pieces.values()} | {BOS, EOT})
        row = {token: index for index, token in enumerate(self.token_ids)}
        self._row_of_word = {word: row[ids[0]] for word, ids in pieces.items()}
        self.bos, self.eot = row[BOS], row[EOT]

    def rows(self, caption: str) -> list[int]:
        """Table rows of a caption with its begin and end tokens."""
        return [self.bos, *(self._row_of_word[word] for word in words_of(caption)), self.eot]

    def batch(self, captions: list[str], length: int = PAD_TO) -> tuple[torch.Tensor, torch.Tensor]:
        """Table rows (B, length) padded with the end token, and the number of tokens up to the first end token (B,)."""
        sequences = [self.rows(caption) for caption in captions]
        padded = torch.tensor([rows + [self.eot] * (length - len(rows)) for rows in sequences])
        return padded, torch.tensor([len(rows) for rows in sequences])


def words_of(caption: str) -> list[str]:
    """Words and commas of a caption, in order: the token at position p of the sequence is word p - 1."""
    return caption.replace(",", " ,").split()


def load_vocabulary() -> Vocabulary:
    """The vocabulary by ComfyUI's copy of the CLIP tokenizer."""
    import comfy.sd1_clip
    from transformers import CLIPTokenizer

    return Vocabulary(CLIPTokenizer.from_pretrained(Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"))


class TextEncoder(nn.Module):
    """Captions to context rows (B, 77, 128), as SD1 conditions on them: the last layer, after the final norm."""

    def __init__(self, vocabulary: Vocabulary):
        super().__init__()
        import comfy.ops
        from comfy.clip_model import CLIPTextModel_

        self.vocabulary = vocabulary
        self.token_rows = nn.Embedding(len(vocabulary.token_ids), TEXT_CONFIG["hidden_size"])
        self.text_model = CLIPTextModel_(TEXT_CONFIG, torch.float32, "cpu", comfy.ops.disable_weight_init)
        del self.text_model.embeddings.token_embedding
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """CLIP's initialisation; rows start large against the layers' branches, so that they keep their word."""
        for layer in self.text_model.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
                nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.LayerNorm):
                nn.init.ones_(layer.weight)
                nn.init.zeros_(layer.bias)
        for layer in self.text_model.encoder.layers:
            layer.self_attn.out_proj.weight.mul_(0.2)
            layer.mlp.fc2.weight.mul_(0.2)
        nn.init.normal_(self.token_rows.weight, std=0.5)
        nn.init.normal_(self.text_model.embeddings.position_embedding.weight, std=0.05)

    def forward(self, rows: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Table rows (B, L) and lengths (B,) to hidden states (B, L, D) and those at the first end token (B, D).

        Rows and lengths may be on the CPU, wherever the network is.
        """
        from comfy.ldm.modules.attention import attention_basic

        length = rows.shape[1]
        positions = self.text_model.embeddings.position_embedding.weight[:length]
        hidden = self.token_rows(rows.to(positions.device)) + positions
        causal = torch.full((length, length), -torch.finfo(hidden.dtype).max, device=hidden.device).triu_(1)
        for layer in self.text_model.encoder.layers:  # ComfyUI's own loop adds in place, which training cannot do
            hidden = hidden + layer.self_attn(layer.layer_norm1(hidden), causal, attention_basic)
            hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
        hidden = self.text_model.final_layer_norm(hidden)
        return hidden, hidden[torch.arange(len(hidden)), lengths - 1]

    @torch.no_grad()
    def encode(self, captions: list[str]) -> torch.Tensor:
        """Context rows (B, 77, D) of captions."""
        return self(*self.vocabulary.batch(captions))[0]
