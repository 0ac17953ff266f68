"""A checkpoint as a Hugging Face directory that `transformers` loads as it is: safetensors, config.json, tokenizer, generation config.

Memory is bounded by one safetensors file: tensors are read from the checkpoint a file's worth at a time. Rotary pairs are laid
out in halves in the model, as in `transformers`, so no weight is permuted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, processors

from storage.artifact import Attempt, FileEntry, Manifest, find, identity, read_verified
from storage.checkpoints import load_into, tensor_names, verify_checkpoint
from storage.disk import temporary_folder
from storage.errors import IntegrityError
from storage.store import Store
from training.config import ExportConfig, parameter_count

NAME = "export"
VERSION = 2
COPY_CHUNK_BYTES = 8 << 20
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

TOP_LEVEL = {
    "tok_embeddings.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
PER_LAYER = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention.wq.weight": "self_attn.q_proj.weight",
    "attention.wk.weight": "self_attn.k_proj.weight",
    "attention.wv.weight": "self_attn.v_proj.weight",
    "attention.wo.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "feed_forward.w1.weight": "mlp.gate_proj.weight",
    "feed_forward.w3.weight": "mlp.up_proj.weight",
    "feed_forward.w2.weight": "mlp.down_proj.weight",
}


Config = ExportConfig


def hugging_face_name(name: str) -> str:
    """The name in `transformers` of a parameter of the model. Raises KeyError."""
    if name in TOP_LEVEL:
        return TOP_LEVEL[name]
    _, layer, rest = name.split(".", 2)
    return f"model.layers.{layer}.{PER_LAYER[rest]}"


def plan_files(shapes: Mapping[str, tuple[int, ...]], bytes_per_element: int, max_file_size_bytes: int) -> list[list[str]]:
    """Names in files of at most `max_file_size_bytes`, in checkpoint order; a tensor larger than that has a file of its own."""
    files: list[list[str]] = [[]]
    used = 0
    for name in sorted(shapes, key=_layer_order):
        size = bytes_per_element
        for extent in shapes[name]:
            size *= extent
        if files[-1] and used + size > max_file_size_bytes:
            files.append([])
            used = 0
        files[-1].append(name)
        used += size
    return files


def _layer_order(name: str) -> tuple[int, str]:
    layer = name.split(".")[1] if name.startswith("layers.") else "-1" if name.startswith("tok_") else "1000000"
    return int(layer), name


def config_json(config: Config, special_tokens: Mapping[str, int]) -> dict[str, Any]:
    """config.json of a Llama in `transformers`; rope_theta also in the place where versions before 5 look for it."""
    model = config.model
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": model.dim,
        "intermediate_size": model.ffn_dim,
        "num_hidden_layers": model.n_layers,
        "num_attention_heads": model.n_heads,
        "num_key_value_heads": model.n_kv_heads,
        "head_dim": model.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_seq_len,
        "rms_norm_eps": model.norm_eps,
        "rope_theta": model.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_theta},
        "vocab_size": model.vocab_size,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": special_tokens["bos"],
        "eos_token_id": special_tokens["eos"],
        "dtype": config.dtype,
        "torch_dtype": config.dtype,
    }


def run(*, store: Store, config: Config, inputs: Mapping[str, Manifest], info: Mapping[str, Any] | None = None) -> Manifest:
    """Write the export. `inputs`: `checkpoint`, `tokenizer`.

    Raises IntegrityError when the checkpoint is damaged or is not of the configured model.
    """
    fingerprint, payload = identity(NAME, VERSION, config, {name: manifest.digest for name, manifest in inputs.items()})
    if standing := find(store, NAME, fingerprint):
        return standing
    attempt, entries = Attempt(store, NAME, fingerprint), list[FileEntry]()
    n_parameters = _write_weights(store, config, inputs["checkpoint"], attempt, entries)
    if n_parameters != parameter_count(config.model):
        expected = f"a model of {parameter_count(config.model):,} parameters"
        raise IntegrityError(inputs["checkpoint"].root, expected=expected, actual=f"{n_parameters:,}")
    special = json.loads(read_verified(store, inputs["tokenizer"], "special_tokens.json"))
    tokenizer = beginning_with_bos(read_verified(store, inputs["tokenizer"], "tokenizer.json"), special["bos_token"])
    ids = {"bos": int(special["bos_id"]), "eos": int(special["eos_id"])}
    generation = {
        "do_sample": True,
        **config.generation.model_dump(),
        "bos_token_id": ids["bos"],
        "eos_token_id": ids["eos"],
        "pad_token_id": ids["eos"],
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": special["bos_token"],
        "eos_token": special["eos_token"],
        "pad_token": special["eos_token"],
        "model_max_length": config.max_seq_len,
        "clean_up_tokenization_spaces": False,
    }
    special_map = {"bos_token": special["bos_token"], "eos_token": special["eos_token"], "pad_token": special["eos_token"]}
    _write(attempt, entries, "tokenizer.json", tokenizer)
    for name, content in (
        ("config.json", config_json(config, ids)),
        ("generation_config.json", generation),
        ("tokenizer_config.json", tokenizer_config),
        ("special_tokens_map.json", special_map),
    ):
        _write(attempt, entries, name, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False).encode())
    return attempt.publish(payload, entries, counts={"parameters": n_parameters}, info=dict(info or {}))


def beginning_with_bos(data: bytes, bos_token: str) -> bytes:
    """The tokenizer.json whose encoding is BOS and the text's tokens, as documents began in training.

    Those bytes, where it does so already; a given one may add nothing (GPT-2's), or an end that would stop a prompt.
    """
    tokenizer = Tokenizer.from_str(data.decode())
    bos_id, text = tokenizer.token_to_id(bos_token), "The river 42"
    if tokenizer.encode(text).ids == [bos_id, *tokenizer.encode(text, add_special_tokens=False).ids]:
        return data
    single, pair = f"{bos_token} $A", f"{bos_token} $A {bos_token}:1 $B:1"
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=[(bos_token, bos_id)])
    return tokenizer.to_str().encode()


def _write(attempt: Attempt, entries: list[FileEntry], name: str, data: bytes) -> None:
    with attempt.create(name, entries) as file:
        file.write(data)


def _write_weights(store: Store, config: Config, checkpoint: Manifest, attempt: Attempt, entries: list[FileEntry]) -> int:
    """Write the safetensors files and, where there are several, their index. Returns the number of parameters."""
    prefix, dtype = "model.", DTYPES[config.dtype]
    shapes = {fqn.removeprefix(prefix): shape for fqn, shape in tensor_names(store, checkpoint).items() if fqn.startswith(prefix)}
    if not shapes:
        raise IntegrityError(checkpoint.root, expected="a checkpoint with model weights", actual="none")
    verify_checkpoint(store, checkpoint.root, checkpoint)
    files = plan_files(shapes, dtype.itemsize, config.max_file_size_bytes)
    n_parameters, index = 0, dict[str, str]()
    for number, names in enumerate(files, 1):
        file_name = "model.safetensors" if len(files) == 1 else f"model-{number:05d}-of-{len(files):05d}.safetensors"
        state = {prefix + name: torch.empty(shapes[name], dtype=torch.float32) for name in names}
        load_into(state, store, checkpoint.root, checkpoint, verify=False)
        tensors = {hugging_face_name(name): state[prefix + name].to(dtype) for name in names}
        n_parameters += sum(tensor.numel() for tensor in tensors.values())
        index |= dict.fromkeys(tensors, file_name)
        with temporary_folder() as folder:
            path = folder / file_name
            save_file(tensors, path, metadata={"format": "pt"})
            with attempt.create(file_name, entries) as out, path.open("rb") as source:
                while chunk := source.read(COPY_CHUNK_BYTES):
                    out.write(chunk)
    if len(files) > 1:
        total = n_parameters * dtype.itemsize
        content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))}
        _write(attempt, entries, "model.safetensors.index.json", json.dumps(content, indent=2, sort_keys=True).encode())
    return n_parameters


def download(store: Store, export: Manifest, folder: Path) -> Path:
    """Copy an export to the local `folder`, its bytes checked, for `transformers` to load. Raises IntegrityError."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in export.files:
        (folder / entry.name).write_bytes(read_verified(store, export, entry.name))
    return folder
