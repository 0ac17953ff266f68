"""Tokens in, checkpoints out: runs under torchrun without Prefect."""
