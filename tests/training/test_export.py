"""training/export.py: what `transformers` loads is the model that was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, processors
from transformers import AutoModelForCausalLM, AutoTokenizer

from storage.errors import IntegrityError
from storage.store import Store
from tests.training.artifacts import BOS, EOS, bos_id, checkpoint_artifact, tokenizer_artifact
from training.config import LLAMA3_405B, ModelConfig
from training.export import Config, beginning_with_bos, download, hugging_face_name, plan_files, run

MODEL = ModelConfig(n_layers=3, dim=64, ffn_dim=96, n_heads=4, n_kv_heads=2, vocab_size=304)


@pytest.mark.parametrize("max_file_size_bytes", [4 << 30, 1 << 20], ids=["one file", "several files"])
def test_transformers_gives_the_same_logits_and_generates(tmp_path: Path, max_file_size_bytes: int) -> None:
    """Logits within 1e-4, also when the weights are spread over files; the tokenizer puts BOS first; generate works."""
    store = Store(str(tmp_path / "store"))
    tokenizer_manifest, tokenizer = tokenizer_artifact(store)
    model_config = MODEL.model_copy(update={"ffn_dim": 2048}) if max_file_size_bytes < 1 << 30 else MODEL
    checkpoint, model = checkpoint_artifact(store, model_config, tmp_path / "scratch")
    config = Config(model=model_config, max_seq_len=128, max_file_size_bytes=max_file_size_bytes)
    export = run(store=store, config=config, inputs={"checkpoint": checkpoint, "tokenizer": tokenizer_manifest})
    folder = download(store, export, tmp_path / "export")
    assert (len(list(folder.glob("*.safetensors"))) > 1) == (max_file_size_bytes < 1 << 30)
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    fast = AutoTokenizer.from_pretrained(folder)
    ids = fast("the quick brown fox", return_tensors="pt")["input_ids"]
    assert ids[0, 0] == bos_id(tokenizer)
    positions = torch.arange(ids.shape[1])[None]
    with torch.inference_mode():
        ours, theirs = model(ids, positions, torch.zeros_like(ids)), loaded(ids).logits
    assert (ours - theirs).abs().max() < 1e-4
    generated = loaded.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False)
    assert generated.shape[1] > ids.shape[1]


def test_every_tokenizer_begins_a_text_as_training_began_documents(tmp_path: Path) -> None:
    """One that puts BOS first keeps its bytes; GPT-2's adds nothing, BERT's an end: `generate` and the harness need BOS alone."""
    _, tokenizer = tokenizer_artifact(Store(str(tmp_path)))
    kept = tokenizer.to_str().encode()
    assert beginning_with_bos(kept, BOS) == kept
    plain = tokenizer.encode("a fox", add_special_tokens=False).ids
    ends = [(token, tokenizer.token_to_id(token)) for token in (BOS, EOS)]
    twice = f"{BOS} {BOS} $A {EOS} {EOS}"
    templates = [processors.TemplateProcessing(single=single, special_tokens=ends) for single in (f"{BOS} $A {EOS}", twice)]
    for processor in (processors.ByteLevel(), *templates):
        tokenizer.post_processor = processor
        begun = Tokenizer.from_str(beginning_with_bos(tokenizer.to_str().encode(), BOS).decode())
        assert begun.encode("a fox").ids == [ends[0][1], *plain]


def test_a_checkpoint_of_another_size_is_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    tokenizer_manifest, _ = tokenizer_artifact(store)
    checkpoint, _ = checkpoint_artifact(store, MODEL, tmp_path / "scratch")
    config = Config(model=MODEL.model_copy(update={"n_layers": 2}), max_seq_len=128)
    with pytest.raises(IntegrityError, match="parameters"):
        run(store=store, config=config, inputs={"checkpoint": checkpoint, "tokenizer": tokenizer_manifest})


def test_files_stay_below_the_limit_and_hold_every_tensor_once() -> None:
    """Also at the size of 405B, whose embedding is larger than 4 GiB by itself and gets a file of its own."""
    with torch.device("meta"):
        from training.model import Llama

        shapes = {name: tuple(p.shape) for name, p in Llama(LLAMA3_405B).named_parameters()}
    files = plan_files(shapes, 2, 4 << 30)
    assert sorted(name for names in files for name in names) == sorted(shapes)
    for names in files:
        size = sum(2 * torch.Size(shapes[name]).numel() for name in names)
        assert size <= 4 << 30 or len(names) == 1


def test_every_parameter_has_a_name_in_transformers() -> None:
    assert hugging_face_name("layers.12.attention.wq.weight") == "model.layers.12.self_attn.q_proj.weight"
    with pytest.raises(KeyError):
        hugging_face_name("layers.0.attention.unknown.weight")
