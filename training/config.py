"""Configuration of training, frozen and checked before any work. No torch.

`ModelConfig` and `TrainingConfig` bear on results and belong to a recipe; `TrainExecution` says where and how it runs and belongs to an
execution file; a `TrainSpec` joins them with the artifacts of one attempt, and is the file that `python -m training.run --spec FILE` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from storage.strict import Strict
from training.order import Phase
from training.parallel.dims import ParallelDims, check_model, check_seq_len, micro_batches


class ModelConfig(Strict):
    """A Llama 3 model (arXiv:2407.21783, 3.2 and table 3): RMSNorm, grouped-query attention, SwiGLU, rotary positions."""

    n_layers: int = Field(ge=1, description="transformer blocks")
    dim: int = Field(ge=1, description="width of the residual stream")
    ffn_dim: int = Field(ge=1, description="width of the SwiGLU's inner layer")
    n_heads: int = Field(ge=1, description="query heads")
    n_kv_heads: int = Field(ge=1, description="key and value heads; 8 in every published size")
    vocab_size: int = Field(ge=2, description="rows of the embedding; at least the tokenizer's size")
    rope_theta: float = Field(500_000.0, gt=0, description="base of the rotary frequencies; 500,000 in the paper")
    norm_eps: float = Field(1e-5, gt=0, description="epsilon of RMSNorm")

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.n_heads

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.dim % self.n_heads or self.head_dim % 2:
            raise ValueError(f"dim {self.dim} over n_heads {self.n_heads} must give an even head width")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}")
        return self


LLAMA3_8B = ModelConfig(n_layers=32, dim=4096, ffn_dim=14336, n_heads=32, n_kv_heads=8, vocab_size=128_000)
LLAMA3_70B = ModelConfig(n_layers=80, dim=8192, ffn_dim=28672, n_heads=64, n_kv_heads=8, vocab_size=128_000)
LLAMA3_405B = ModelConfig(n_layers=126, dim=16384, ffn_dim=53248, n_heads=128, n_kv_heads=8, vocab_size=128_000)


def parameter_count(model: ModelConfig) -> int:
    """Parameters of the model, embedding and head included, by arithmetic."""
    attention = 2 * model.dim * model.head_dim * (model.n_heads + model.n_kv_heads)
    block = attention + 3 * model.dim * model.ffn_dim + 2 * model.dim
    return model.n_layers * block + 2 * model.vocab_size * model.dim + model.dim


class OptimizerConfig(Strict):
    """AdamW and gradient clipping."""

    lr_peak: float = Field(gt=0, description="learning rate after warmup; 3e-4, 1.5e-4 and 8e-5 for 8B, 70B and 405B")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of the first moment")
    beta2: float = Field(0.95, ge=0, lt=1, description="decay of the second moment")
    eps: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    weight_decay: float = Field(0.1, ge=0, description="decoupled weight decay; none on norm weights")
    clip_norm: float = Field(1.0, gt=0, description="largest 2-norm of the whole gradient")


class PhaseConfig(Strict):
    """Steps with one sequence length and one batch size.

    It begins at `from_step`, or at the first step before which at least `from_tokens` were consumed.
    """

    seq_len: int = Field(ge=2, description="tokens of a sample")
    global_batch_size: int = Field(ge=1, description="sequences of an optimizer step")
    from_tokens: int | None = Field(None, ge=0, description="tokens of this training stage")
    from_step: int | None = Field(None, ge=0, description="optimizer step of this training stage, from 0")

    @property
    def global_batch_size_in_tokens(self) -> int:
        """Tokens of an optimizer step."""
        return self.seq_len * self.global_batch_size


class ScheduleConfig(Strict):
    """Learning rate, sequence length and batch size by step, and where a training stage ends."""

    warmup_steps: int = Field(ge=0, description="steps of linear warmup; step s (from 0) gets (s + 1) / warmup_steps of the peak")
    decay: Literal["cosine", "linear", "constant"] = Field(
        description="shape from the peak to lr_final; cosine in pre-training, linear in annealing"
    )
    lr_final: float = Field(0.0, ge=0, description="rate at lr_decay_end_step and after")
    lr_decay_end_step: int | None = Field(None, ge=1, description="step at which lr_final is reached; None: the stage's end")
    phases: tuple[PhaseConfig, ...] = Field(min_length=1, description="in order; the first begins at step 0")
    n_tokens: int | None = Field(None, ge=1, description="budget in tokens; the stage ends with the step that reaches it")
    n_steps: int | None = Field(None, ge=1, description="or the stage's length in steps")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.n_tokens is None) == (self.n_steps is None):
            raise ValueError("exactly one of n_tokens and n_steps is needed")
        for number, phase in enumerate(self.phases):
            given = [value for value in (phase.from_tokens, phase.from_step) if value is not None]
            if number == 0 and any(given):
                raise ValueError(f"phases[0] begins at step 0, not at {given[0]}")
            if number > 0 and len(given) != 1:
                raise ValueError(f"phases[{number}] needs exactly one of from_tokens and from_step")
        if self.lr_decay_end_step is not None and self.lr_decay_end_step <= self.warmup_steps:
            raise ValueError(f"lr_decay_end_step {self.lr_decay_end_step} must come after warmup_steps {self.warmup_steps}")
        expand_phases(self)
        return self


def expand_phases(schedule: ScheduleConfig) -> tuple[Phase, ...]:
    """The phases as numbers of steps. Raises ValueError when one is empty.

    A phase given by tokens begins at the first step before which at least that many were consumed; the stage ends with the step that
    reaches its budget.
    """
    expanded: list[Phase] = []
    step = consumed = 0
    for number, phase in enumerate(schedule.phases):
        following = schedule.phases[number + 1] if number + 1 < len(schedule.phases) else None
        until_tokens = following.from_tokens if following else schedule.n_tokens
        until_step = following.from_step if following else schedule.n_steps
        if until_step is not None:
            n_steps = until_step - step
        else:
            assert until_tokens is not None
            n_steps = -(-(until_tokens - consumed) // phase.global_batch_size_in_tokens)
        if n_steps < 1:
            raise ValueError(f"phases[{number}] begins at step {step} after {consumed:,} tokens and would end before it has a step")
        expanded.append(Phase(phase.seq_len, phase.global_batch_size, n_steps))
        step, consumed = step + n_steps, consumed + n_steps * phase.global_batch_size_in_tokens
    return tuple(expanded)


class TrainingConfig(Strict):
    """What bears on the result of one training stage, beside its model and its data."""

    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    dtype: Literal["float32", "bfloat16"] = Field(
        "bfloat16", description="of computation; weights, gradients' reduction and moments are float32"
    )
    seed: int = Field(0, ge=0, description="of the initial weights")
    average_checkpoints: int = Field(1, ge=1, description="checkpoints averaged into the final one; 1: none (Llama 3 paper, 3.1.3)")
    average_interval_steps: int = Field(1, ge=1, description="steps between the averaged checkpoints; the last is the stage's end")

    @model_validator(mode="after")
    def _check_average(self) -> Self:
        n_steps = sum(phase.n_steps for phase in expand_phases(self.schedule))
        if (self.average_checkpoints - 1) * self.average_interval_steps >= n_steps:
            raise ValueError(
                f"average_checkpoints {self.average_checkpoints} at average_interval_steps {self.average_interval_steps}"
                f" reach back beyond {n_steps} steps"
            )
        return self

    @property
    def averaged_steps(self) -> tuple[int, ...]:
        """Steps after which the checkpoints to average are taken, ascending; the last is the stage's length."""
        n_steps = sum(phase.n_steps for phase in expand_phases(self.schedule))
        return tuple(n_steps - n * self.average_interval_steps for n in reversed(range(self.average_checkpoints)))


class GenerationConfig(Strict):
    """Defaults of `generate` for whoever loads the export."""

    temperature: float = Field(0.8, gt=0, description="softmax temperature")
    top_p: float = Field(0.95, gt=0, le=1, description="mass of the nucleus that is sampled from")
    max_new_tokens: int = Field(128, ge=1, description="tokens to generate")


class ExportConfig(Strict):
    """Configuration of the stage `export`."""

    model: ModelConfig
    max_seq_len: int = Field(ge=1, description="longest sequence it was trained on, in tokens; max_position_embeddings")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="of the exported weights")
    max_file_size_bytes: int = Field(4 << 30, ge=1 << 20, description="largest safetensors file")
    generation: GenerationConfig = Field(default_factory=GenerationConfig)


class LocalTasks(Strict):
    """lm-evaluation-harness tasks of the user's own: YAML files and the data they name, under raw_root."""

    path: str = Field(
        description="glob relative to raw_root; files keep their places below it, and {folder} in a task file is that file's own folder"
    )
    names: tuple[str, ...] = Field(min_length=1, description="names of the tasks to run")
    sha256: dict[str, str] = Field({}, description="sha256 (hex) of each file by path; filled in from raw_root, not written in a recipe")


class EvaluateConfig(Strict):
    """Configuration of the stage `evaluate`."""

    model: ModelConfig
    seq_len: int = Field(ge=2, description="window in tokens")
    batch_size: int = Field(8, ge=1, description="windows of one forward pass; also lm-evaluation-harness's batch size")
    max_held_out_tokens: int | None = Field(
        1_000_000, ge=1, description="tokens a domain is judged on at most, in whole documents, the first by id; None: all"
    )
    max_unigram_tokens: int = Field(10_000_000, ge=1, description="training tokens of a component that the unigram model counts")
    task_items: int | None = Field(None, ge=1, description="items of a task at most; None: all")
    local_tasks: tuple[LocalTasks, ...] = Field((), description="tasks beside those built from held-out documents")


class TrainExecution(Strict):
    """Where and how a training stage runs; it never enters a fingerprint."""

    parallel: ParallelDims = Field(ParallelDims(), description="the mesh")
    micro_batch_size: int = Field(ge=1, description="sequences of one forward pass on a data-parallel rank")
    device: Literal["cpu", "cuda"] = "cpu"
    threads_per_rank: int = Field(1, ge=1, description="OMP threads of each rank")
    checkpoint_interval_steps: int = Field(ge=1, description="optimizer steps between checkpoints")
    collective_timeout_s: int = Field(300, ge=1, description="seconds after which a collective that some rank never joined fails")
    lease_timeout_s: float = Field(30.0, gt=0, description="seconds without a heartbeat after which another trainer takes over")
    log_fed_samples: bool = Field(True, description="log, per step and rank, the indices of the samples fed and a hash of each")


class ArtifactRef(Strict):
    """A finished artifact of the store."""

    stage: str
    fingerprint: str


ROOM_FOR_RESULT = "room-for-result"  # a file in an attempt's folder: it goes when the result is written, for which a full disk has no room
ROOM_BYTES = 64 << 10


class TrainSpec(Strict):
    """One attempt at one training stage."""

    stage: str = Field(description="name of the training stage: pretrain, extend_context, anneal")
    store_uri: str = Field(description="the store; credentials come from the environment")
    durable: bool = Field(True, description="whether what is written to a folder is flushed before it is published")
    fingerprint: str = Field(description="of the artifact to make")
    payload: dict[str, Any] = Field(description="what that fingerprint hashes; goes into the manifest")
    model: ModelConfig
    training: TrainingConfig
    execution: TrainExecution
    tokens: ArtifactRef
    plan: ArtifactRef
    parent: ArtifactRef | None = Field(None, description="the checkpoint to start from; None: fresh weights")
    first_step: int = Field(0, ge=0, description="first step that this mesh serves; phases that end before it are not checked against it")
    info: dict[str, Any] = Field({}, description="recorded in the manifest beside the result: run, environment; enters no digest")
    run_dir: str = Field(description="local folder that all attempts append to: metrics.jsonl, and fed/ with a file for each rank")
    attempt_dir: str = Field(description="local folder of this attempt: result.json, rank-<n>.json of ranks that failed, scratch/")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_execution(self.model, served_phases(expand_phases(self.training.schedule), self.first_step), self.execution)
        return self


def served_phases(phases: Sequence[Phase], first_step: int) -> list[Phase]:
    """The phases that have a step at or after `first_step`."""
    ends = accumulate(phase.n_steps for phase in phases)
    return [phase for phase, end in zip(phases, ends, strict=True) if end > first_step]


def check_execution(model: ModelConfig, phases: Sequence[Phase], execution: TrainExecution) -> None:
    """Whether the mesh divides the model and every phase. Raises ConfigError naming field, value and degree."""
    dims = execution.parallel
    check_model(
        dims,
        n_layers=model.n_layers,
        n_heads=model.n_heads,
        n_kv_heads=model.n_kv_heads,
        ffn_dim=model.ffn_dim,
        vocab_size=model.vocab_size,
    )
    batches = [phase.global_batch_size for phase in phases]
    for phase in phases:
        check_seq_len(dims, phase.seq_len)
        micro_batches(dims, global_batch_size=phase.global_batch_size, micro_batch_size=execution.micro_batch_size, beside=batches)
