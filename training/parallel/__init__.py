"""One file per technique (tensor, context, pipeline, fsdp), one that names the meshes, and `apply.py`, which shows their order.

`dims.py` is arithmetic and imports no torch, so configurations may use it.
"""
