"""A bare training loop of the same model on the same tokens: the peer of `bench_training`.

Plain torch, as one would write it without Caravan: tokens from memory, no verified reads, no metrics, no hashes, no checkpoints. Only
the model is ours. It does the trainer's mathematics (document masks, loss over the step's targets, clipping, fused AdamW, the same
micro-batches), which its losses, one a line on stdout, show.

    python -m benchmarks.bare_loop config.json tokens.npy      tokens: int64 [steps, sequences, seq_len + 1]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from training.config import ModelConfig, OptimizerConfig
from training.model import Llama, init_weights

NO_TARGET = -100


def main(config_path: str, tokens_path: str) -> None:
    """Train on every step of the tokens, in order; prints each step's loss."""
    config = json.loads(Path(config_path).read_text())
    model_config, settings = ModelConfig(**config["model"]), OptimizerConfig(**config["optimizer"])
    torch.set_num_threads(1)
    model = Llama(model_config)
    init_weights([model], seed=config["seed"], n_layers=model_config.n_layers)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.lr_peak, betas=(settings.beta1, settings.beta2), eps=settings.eps, fused=True)
    positions = None
    for tokens in torch.from_numpy(np.load(tokens_path)):
        inputs, targets = tokens[:, :-1], tokens[:, 1:].clone()
        targets[targets == config["bos_id"]] = NO_TARGET
        documents = (inputs == config["bos_id"]).cumsum(1)
        positions = torch.arange(inputs.shape[1]).expand(config["micro_batch_size"], -1) if positions is None else positions
        n_targets, total = (targets != NO_TARGET).sum(), torch.zeros(())
        pieces = (part.split(config["micro_batch_size"]) for part in (inputs, targets, documents))
        for x, y, document in zip(*pieces, strict=True):
            logits = model(x, positions, document)
            loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=NO_TARGET, reduction="sum") / n_targets
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        print(float(total), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
