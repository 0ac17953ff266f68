"""Recipes, execution files and places that are wrong, refused before any work; and what only the data can tell."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.acceptance.bad_input_cases import SECRET, Bench, Case, Change, Outcome
from tests.acceptance.bad_input_files import bad_sources


def recipe_case(name: str, change: Change, *wanted: str) -> Case:
    """The recipe with a change."""
    return Case(name, lambda b: Outcome(b.run(recipe=b.changed(b.here.recipe, change)), "ConfigError", wanted), True)


def text_case(name: str, data: bytes, *wanted: str) -> Case:
    """Bytes in place of the recipe."""
    return Case(name, lambda b: Outcome(b.run(recipe=b.file("text.yaml", data)), "ConfigError", ("text.yaml", *wanted)), True)


def execution_case(name: str, change: Change, *wanted: str) -> Case:
    """The execution file with a change; the secret in it must not be repeated."""

    def act(bench: Bench) -> Outcome:
        return Outcome(bench.run(execution=bench.changed(bench.here.execution, change)), "ConfigError", wanted, (SECRET,))

    return Case(name, act, True)


def _set(path: str, value: Any) -> Change:
    """A change of one field; `path` is dotted, numbers are places in lists."""

    def change(raw: dict[str, Any]) -> None:
        *outer, last = path.split(".")
        place: Any = raw
        for part in outer:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        place[last] = value

    return change


def _larger_vocabulary(raw: dict[str, Any]) -> None:
    raw["tokenizer"] = {"vocab_size": raw["model"]["vocab_size"] + 1, "shares": {"general": 1.0}, "sample_bytes": 100_000}


def _uneven_phases(raw: dict[str, Any]) -> None:
    phases = [{"seq_len": 32, "global_batch_size": 4}, {"seq_len": 48, "global_batch_size": 4, "from_step": 1}]
    raw["pretrain"]["schedule"]["phases"] = phases


def _no_divisor(n: int) -> int:
    return next(prime for prime in (3, 5, 7, 11, 13, 17, 19, 23) if n % prime)


def _uneven_heads(raw: dict[str, Any]) -> None:
    raw["model"]["n_kv_heads"] = _no_divisor(raw["model"]["n_heads"])


def _alias_bomb() -> bytes:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(rows).encode()


def recipe_cases() -> list[Case]:
    """Recipes that are wrong."""
    return [
        recipe_case("a field that does not exist", _set("select.thresholds.web.min_word_count", 5),
                    "select.thresholds.web.min_word_count: unknown field (value 5)", "did you mean", "allowed:"),
        recipe_case("a value out of bounds", _set("partitions", 3), "partitions: 3", "power of two"),
        recipe_case("a name with slashes", _set("name", "a/b"), "name: 'a/b'"),
        recipe_case("shares that do not sum to 1", _set("pretrain.shares", {"general": 0.7, "math": 0.2}), "pretrain", "sum to 0.9"),
        recipe_case("a share of no component", _set("pretrain.shares", {"generl": 1.0}), "no component is named 'generl'"),
        recipe_case("KV heads that do not divide the heads", _uneven_heads, "n_kv_heads"),
        recipe_case("a vocabulary larger than the model's", _larger_vocabulary, "model.vocab_size", "is less than tokenizer.vocab_size"),
        recipe_case("a seq_len that does not divide", _uneven_phases, "pretrain", "32", "48"),
        text_case("a recipe that is no YAML", b"name: [a\nseed: 1\n", "line 2, column 5"),
        text_case("a recipe with a key given twice", b"name: a\nname: b\n", "line 2, column 1", "the key 'name' is given twice"),
        text_case("a recipe that is no UTF-8", b"name: caf\xe9\n", "not a YAML file"),
        text_case("a recipe that is empty", b"", "expected fields, found None"),
        text_case("a recipe that is too large", b"#" * (2 << 20), "2,097,152 bytes", "at most 1,048,576"),
        text_case("a recipe of aliases of aliases", _alias_bomb(), "with every alias written out"),
        text_case("a recipe nested without end", b"a: " + b"[" * 20_000, "nested too deeply"),
        text_case("a recipe with a number of 9,000 digits", b"seed: " + b"9" * 9000, "not a YAML file"),
        text_case("a recipe with a list as a key", b"? [a]\n: 1\n", "a key that is no name"),
        Case("a recipe that is not there", lambda b: Outcome(b.run(recipe="nowhere"), "ConfigError", ("nowhere: no such file",)), True),
        Case("a run name that leaves its folder", lambda b: Outcome(b.run("--run", "../x"), "ConfigError", ("run name '../x'",)), True),
        Case("a missing source", _missing_source, True),
        Case("a given tokenizer larger than the model", _large_tokenizer, True),
    ]  # fmt: skip


def _missing_source(bench: Bench) -> Outcome:
    name = bench.recipe["sources"][0]["name"]
    seen = bench.run(recipe=bench.changed(bench.here.recipe, _set("sources.0.path", "nowhere/*.gz")))
    return Outcome(seen, "ConfigError", (f"source {name}: 'nowhere/*.gz' matches no file under {bench.raw_root}",))


def _large_tokenizer(bench: Bench) -> Outcome:
    """The run's own tokenizer, given to a model that has fewer rows than it needs."""
    made = bench.here.state().need("train_tokenizer")
    data = bench.store.read(f"{made.root}/{made.file('tokenizer.json').path}")
    (bench.raw_root / "given.json").write_bytes(data)
    needed = made.counts["vocab_size"]
    rows = (needed - 1) // 64 * 64  # what a mesh may ask of a vocabulary it still divides
    given = {"path": "given.json", "sha256": hashlib.sha256(data).hexdigest(), "format": "tokenizer.json"}

    def change(raw: dict[str, Any]) -> None:
        raw["tokenizer"], raw["model"]["vocab_size"] = {"given": given}, rows

    seen = bench.run(recipe=bench.changed(bench.here.recipe, change))
    return Outcome(seen, "ConfigError", (f"model.vocab_size: {rows:,} is less than the {needed:,} of the given tokenizer given.json",))


def execution_cases() -> list[Case]:
    """Execution files that are wrong, and places that cannot be used."""
    return [
        Case("a mesh that does not divide the heads", _uneven_mesh, True),
        execution_case("a micro-batch that does not divide the batch", _set("training.pretrain.micro_batch_size", 1_000_003),
                       "execution.training.pretrain", "micro_batch_size 1000003"),
        execution_case("a store of another scheme", _set("store", "gs://bucket"), "the scheme is 'gs', allowed are file and s3"),
        execution_case("a credential in the store's URI", _set("store", f"s3://key:{SECRET}/x@host/bucket"),
                       "store", "holds no credentials"),
        execution_case("a credential as a field", _set("aws_secret_access_key", SECRET), "aws_secret_access_key: unknown field"),
        Case("a store that is a file", _store_is_a_file, True),
        Case("a wrong credential (MinIO)", _wrong_credential, True),
        Case("a bucket that is not there (MinIO)", _no_bucket, True),
    ]  # fmt: skip


def _uneven_mesh(bench: Bench) -> Outcome:
    heads = bench.recipe["model"]["n_heads"]
    tp = _no_divisor(heads)
    seen = bench.run(execution=bench.changed(bench.here.execution, _set("training.pretrain.parallel", {"tp": tp})))
    return Outcome(seen, "ConfigError", ("execution.training.pretrain", f"TP {tp}"))


def _store_is_a_file(bench: Bench) -> Outcome:
    path = bench.file("file", b"x")
    return Outcome(bench.run(execution=bench.changed(bench.here.execution, _set("store", str(path)))), "ConfigError", (str(path), "folder"))


def _wrong_credential(bench: Bench) -> Outcome:
    bucket = "bad-input"
    bench.minio.create_bucket(bucket)
    env = {**bench.minio.environment(), "AWS_SECRET_ACCESS_KEY": SECRET}
    execution = bench.changed(bench.here.execution, _set("store", f"s3://{bucket}/x"))
    wanted = (f"store s3://{bucket}/x", "check the bucket and the AWS_* variables")
    return Outcome(bench.run(execution=execution, **env), "ConfigError", wanted, (SECRET, bench.minio.secret_key, bench.minio.access_key))


def _no_bucket(bench: Bench) -> Outcome:
    execution = bench.changed(bench.here.execution, _set("store", "s3://nobody-made-this/x"))
    wanted = ("store s3://nobody-made-this/x", "check the bucket")
    seen = bench.run(execution=execution, **bench.minio.environment())
    return Outcome(seen, "ConfigError", wanted, (bench.minio.secret_key, bench.minio.access_key))


# --- met --------------------------------------------------------------------------------------------------------------------


def late_cases() -> list[Case]:
    """What only the data can tell."""
    return [Case("a mixture that cannot be met", _unmet_mixture), Case("more bad records than the recipe allows", _too_many_bad)]


def _unmet_mixture(bench: Bench) -> Outcome:
    def change(raw: dict[str, Any]) -> None:
        schedule = raw["pretrain"]["schedule"]
        budget = "n_steps" if "n_steps" in schedule else "n_tokens"
        schedule[budget] *= 10_000

    seen = bench.run("--only", "mix", recipe=bench.changed(bench.here.recipe, change))
    wanted = ("budget of pretrain", "tokens", "epochs", "available are", "The largest feasible budget is")
    return Outcome(seen, "ConfigError", (*wanted, *bench.recipe["pretrain"]["shares"]))


def _too_many_bad(bench: Bench) -> Outcome:
    bad = next(source for source in bad_sources() if source.name == "jsonl-utf8")
    bad.write(bench.raw_root)

    def change(raw: dict[str, Any]) -> None:
        raw["sources"].append({**bad.in_recipe, "max_bad_fraction": 0.05})

    seen = bench.run("--to", "ingest", "--run", "too-many", recipe=bench.changed(bench.here.recipe, change))
    offset, reason = bad.quarantined[0]
    return Outcome(seen, "InputError", (bad.path, "1 of 2 records", "5.00%", f"at {offset}: {reason}"))
