"""How likely a language model finds yes rather than no as the first token of its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

YES, NO = ("yes", "Yes", " yes", " Yes"), ("no", "No", " no", " No")


def answer_tokens(encode: Callable[[str], Sequence[int]], unknown: int | None) -> tuple[list[int], list[int]]:
    """The tokens that say yes, and those that say no, in the ways of writing that are one token.

    Args:
        encode: the tokens of a text, without any that start or end it.
        unknown: the token of what the tokenizer does not know, if there is one.

    Raises:
        ValueError: there is none.
    """
    found = []
    for forms in (YES, NO):
        ids = [list(encode(form)) for form in forms]
        found.append(sorted({each[0] for each in ids if len(each) == 1 and each[0] != unknown}))
        if not found[-1]:
            raise ValueError(
                f'The judge\'s tokenizer has no single token for "{forms[0]}", so that how likely it is cannot be '
                "read. Take another judge."
            )
    return tuple(found)


def share_of_yes(logits: torch.Tensor, yes: Sequence[int], no: Sequence[int]) -> torch.Tensor:
    """P(yes) / (P(yes) + P(no)) ``(...)`` of logits ``(..., V)``; other tokens do not matter."""
    logits = logits.float()
    return torch.sigmoid(logits[..., list(yes)].logsumexp(-1) - logits[..., list(no)].logsumexp(-1))
