"""The obvious script for R_d: batches of responses in file order, full logits, log-softmax, Q_diff (transformers)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deft.tokens import TokenizedExample


@torch.inference_mode()
def obvious_scores(
    model: nn.Module, pairs: list[TokenizedExample], q_diff: NDArray[np.float64], batch: int
) -> NDArray[np.float64]:
    """Return R_d of every response of *pairs* as a first script would compute it."""
    rows = [(pair.prompt_ids, ids) for pair in pairs for ids in pair.response_ids]
    device = next(model.parameters()).device
    q = torch.from_numpy(q_diff).float().to(device)
    found = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        longest = max(len(prompt) + len(response) for prompt, response in part)
        ids = torch.zeros(len(part), longest, dtype=torch.int64)
        mask = torch.zeros(len(part), longest, dtype=torch.int64)
        for row, (prompt, response) in enumerate(part):
            ids[row, : len(prompt) + len(response)] = torch.tensor(prompt + response)
            mask[row, : len(prompt) + len(response)] = 1
        logits = model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits
        logps = torch.log_softmax(logits.float(), dim=-1)
        for row, (prompt, response) in enumerate(part):
            first = len(prompt) - 1
            found.append(float(logps[row, first : first + len(response)].mean(0) @ q))
    return np.array(found)
