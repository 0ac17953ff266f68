"""Each wrong recipe, place, file and byte ends in its clear error or in the quarantine, as a user sees it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scripts.minio import Minio, running_minio
from storage.checkpoints import published_steps
from tests.acceptance.bad_input_bytes import flip_cases, resumed_past_damage
from tests.acceptance.bad_input_cases import Bench, Case, Outcome, linked_copy
from tests.acceptance.bad_input_files import BadSource, Dirty, ingest_dirty
from tests.acceptance.bad_input_recipes import execution_cases, late_cases, recipe_cases
from tests.acceptance.common import PROJECT, TEST_RECIPE, Checks, arguments, caravan, place, work_folder
from tests.flows.small_corpus import write_corpus

SHOWN_CHARS = 110


def show(checks: Checks, name: str, seen: str, failures: list[str]) -> None:
    """One line of a case: its name, what the user sees, whether it is as asked."""
    print(f"  {'ok  ' if not failures else 'FAIL'}  {name:<52} {seen[:SHOWN_CHARS]}", flush=True)
    checks.n_checks += 1
    if failures:
        checks.failures.append(name)
        print(f"        {'; '.join(failures)}", flush=True)


def prepared(checks: Checks, folder: Path, recipe: Path, corpus: Path | None, minio: Minio) -> Bench:
    """A finished run of the recipe on a copy of its raw files, to which bad ones can be added."""
    if corpus is None and recipe.resolve() == TEST_RECIPE:
        corpus = write_corpus(folder / "corpus")
    raw_root = linked_copy(corpus or PROJECT / "examples" / "corpus", folder / "raw")
    here = place(folder, recipe, raw_root=raw_root)
    print("the recipe as it is, run to its end", flush=True)
    checks.note("the run", f"{here.run(echo=True).wall_s:.1f} s")
    return Bench(here, raw_root, folder, lambda words, env: caravan(words, env=env, check=False), minio)


def errors(checks: Checks, bench: Bench, title: str, cases: list[Case]) -> None:
    """Cases that end in an error."""
    print(f"{title}: case, and the first line that the user sees", flush=True)
    for case in cases:
        outcome = case.outcome(bench)
        show(checks, case.name, outcome.first_line.replace(f"{bench.folder}/", ""), outcome.failures())


def quarantine(checks: Checks, dirty: Dirty) -> None:
    """Cases that end in the quarantine, or are counted."""
    print("records: case, and its reason and byte or row in the quarantine", flush=True)
    for source in dirty.sources:
        show(checks, source.what, dirty.seen(source), dirty.failures(source))


def sabotages(checks: Checks, bench: Bench, dirty: Dirty) -> None:
    """What is not wrong must not pass for wrong, and an error that tells too much not for a clear one."""
    right = Outcome(bench.run("--dry-run"), "ConfigError", ("partitions: 3",))
    checks.sabotage("a right recipe in place of a wrong one", bool(right.failures()), "; ".join(right.failures())[:40])
    true = Outcome(bench.run("--only", "select", "--force"), "IntegrityError", ("expected sha256",))
    checks.sabotage("a byte that was mended before it was read", bool(true.failures()), "; ".join(true.failures())[:40])
    first = next(source for source in dirty.sources if source.quarantined)
    clean: BadSource = replace(first, quarantined=())
    checks.sabotage("a bad record that nobody looks for", bool(dirty.failures(clean)), "; ".join(dirty.failures(clean))[:40])
    leak = Case("leak", lambda b: Outcome(replace(right.seen, code=1, output=f"ConfigError key {b.minio.secret_key}"), "ConfigError", (),
                                          (b.minio.secret_key,)))  # fmt: skip
    checks.sabotage("a message that repeats a credential", bool(leak.outcome(bench).failures()), "it is seen")


def main() -> None:
    """Run the checks."""
    given = arguments(__doc__ or "", ("recipe", "corpus"), recipe=TEST_RECIPE)
    checks = Checks("bad-input", __doc__ or "")
    with work_folder("bad-input") as folder, running_minio(folder / "minio") as minio:
        bench = prepared(checks, folder, given.recipe, given.corpus, minio)
        errors(checks, bench, "wrong recipes", recipe_cases())
        errors(checks, bench, "wrong execution files and places", execution_cases())
        dirty = ingest_dirty(bench)
        quarantine(checks, dirty)
        errors(checks, bench, "what only the data shows", late_cases())
        errors(checks, bench, "damaged files of a finished run", flip_cases())
        if published_steps(bench.store, "pretrain", bench.here.state().need("pretrain").fingerprint)[2:]:
            show(
                checks,
                "a byte of the newest step checkpoint (resume)",
                "named in the log; the one before it is taken",
                resumed_past_damage(bench),
            )
        else:
            checks.note("a byte of the newest step checkpoint", "not tried: pretrain saved fewer than three checkpoints")
        sabotages(checks, bench, dirty)
    checks.finish()


if __name__ == "__main__":
    main()
