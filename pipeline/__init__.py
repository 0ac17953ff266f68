"""Documents in, tokens out. No torch, no Prefect."""
