"""The whole path on ../shared/corpus: every counter closes, and each stage's figures on the corpus's labels."""

from __future__ import annotations

import json
import math
import random
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import yaml

from benchmarks import measure_domains, measure_extraction, measure_filters, measure_language, measure_minhash
from benchmarks.shared_corpus import EXTRACTION, check_layout, files, rows
from flows.graph.runs import Run
from flows.graph.walk import STAGES
from flows.recipe.loading import load_recipe
from flows.report.words import mixture_table, selection_lines
from flows.running.terminal import console
from pipeline.dedup.minhash import MinHashConfig
from pipeline.ingest import extract
from pipeline.ingest.config import Extractor, LanguageConfig, RawFile, SourceConfig
from pipeline.snapshot import sha256_of
from storage.artifact import read_verified
from storage.store import Store
from tests.acceptance.common import PROJECT, SHARED, Checks, Place, arguments, caravan, place, work_folder
from tests.acceptance.corpus_counters import balances, losing_a_row
from tests.acceptance.corpus_fitting import fit
from training.mix import MixtureRow, mixture, read_plan

RECIPE = PROJECT / "flows" / "recipes" / "corpus.yaml"
FILTER_TEXTS = 300  # texts of each folder on which both sides judge
SHUFFLED_TEXTS = 5000
PROMPT = "The history of the"


def run_path(checks: Checks, here: Place) -> Run:
    """The whole path by the command line, its output printed as it comes: the funnel and the mixtures are in it."""
    done = here.run(echo=True)
    run = here.state()
    if done.output.startswith("fresh"):  # it stood already, in a folder that was kept
        for table in [*selection_lines(run, run.need("select")), *(mixture_table(rows) for rows in mixtures(run).values())]:
            console.print(table)
    checks.note("the whole path", f"{done.wall_s:.0f} s")
    made = {key.partition("/")[0] for key in run.artifacts}
    wanted = {*STAGES, "documents", "origins", "extract"} - {"ingest", "report"}
    absent = wanted - made - {name for name in ("extend_context", "anneal") if not run.recipe.get(name)}
    checks.check("stages that made their artifacts", len(wanted & made), "all of the recipe", run.state == "finished" and not absent)
    size_bytes = run.store.size(run.report_path) if run.report_is_fresh else 0
    checks.check("the report", f"{size_bytes:,} bytes", "written, and of these artifacts", size_bytes > 0)
    return run


def mixtures(run: Run) -> dict[str, list[MixtureRow]]:
    """Each training stage's mixture: target, available, realised, epochs."""
    return {stage: mixture(read_plan(run.store, manifest)) for stage, manifest in run.manifests("mix").items()}


def counter_checks(checks: Checks, run: Run) -> None:
    """Every stage's counters close; with one record of the crawl lost they do not."""
    found = list(balances(run))
    for balance in found:
        checks.note(balance.stage, balance)
    closed = sum(balance.closes for balance in found)
    checks.check("stages whose counters close, counted from the tables", f"{closed} of {len(found)}", "all", closed == len(found))
    web = next((source["name"] for source in run.recipe["sources"] if source["format"] == "warc"), run.recipe["sources"][0]["name"])
    open_ones = [balance for balance in balances(run, losing_a_row(run.need(f"documents/{web}"))) if not balance.closes]
    names = ", ".join(balance.stage for balance in open_ones) or "nothing"
    checks.sabotage(
        f"one record of {web} lost from a table", any(b.stage == f"ingest {web}" for b in open_ones), f"does not close: {names}"
    )


def mixture_checks(checks: Checks, run: Run) -> None:
    """The samples of each training stage are its shares, to within one sample a component (RULE 26)."""
    for stage, manifest in run.manifests("mix").items():
        plan = read_plan(run.store, manifest)
        total = sum(row["samples"] for row in plan["components"])
        worst = max(abs(row["samples"] - row["share"] * total / 10_000) for row in plan["components"])
        epochs = max(row["blocks_used"] / row["blocks"] for row in plan["components"])
        figure = " ".join(f"{row['name']} {100 * row['samples'] / total:.1f}" for row in plan["components"])
        checks.note(f"{stage}: realised, % of {total:,} samples; most epochs", f"{figure}; {epochs:.2f}")
        checks.check(f"{stage}: largest distance from its share", f"{worst:.2f} samples", "under 1 sample", worst < 1)


def checkpoint_checks(checks: Checks, run: Run, here: Place) -> None:
    """Scores are finite, the model has learned something, and the export generates."""
    scores = json.loads(read_verified(run.store, run.need("evaluate"), "scores.json"))
    for domain, bits in scores["bits_per_byte"].items():
        unigram = scores["unigram_bits_per_byte"][domain]
        name = f"held-out bits per byte, {domain}"
        checks.check(name, f"{bits:.3f}", f"finite, under the unigram's {unigram:.3f}", math.isfinite(bits) and bits < unigram)
    for task, metrics in scores["tasks"].items():
        figure = " ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        checks.check(f"task {task}", figure, "finite", all(math.isfinite(value) for value in metrics.values()))
    arguments_ = ["generate", PROMPT, "--execution", str(here.execution), "--run", run.name, "--max-new-tokens", "30"]
    text = caravan(arguments_, env=here.env).output.strip()
    checks.check("the export generates", repr(text[:60]), "longer than its prompt", PROMPT in text and len(text) > len(PROMPT) + 10)


def recorded_checks(checks: Checks, run: Run) -> None:
    """What the run's own classifiers recorded on whole sources kept out, and its quarantine."""
    for stage in ("domains", "quality"):
        manifest = run.need(stage)
        if "validation.json" in manifest.names():
            checks.note(f"{stage}: as the run recorded it", json.dumps(json.loads(read_verified(run.store, manifest, "validation.json"))))
    domains = json.loads(read_verified(run.store, run.need("domains"), "validation.json"))
    known = [value for value in domains["accuracy_by_domain"].values() if value is not None]
    if known:
        mean, chance = sum(known) / len(known), 1 / max(len(known), 2)
        checks.check("domain accuracy recorded by the run, mean of domains", f"{mean:.4f}", f"above chance, {chance:.2f}", mean > chance)
        checks.note("  over documents", f"{domains['accuracy']} of {domains['documents']:,}")


def extraction_checks(checks: Checks, corpus: Path) -> None:
    """Word F1 on the ground truth, by each extractor; most of these pages trained the extractor `blocks` (see `make accept-judgement`)."""
    print("  extraction: every page with ground truth, by each extractor", flush=True)
    pages = measure_extraction.pages(corpus)
    labelled = sum(1 for path in files(corpus, EXTRACTION) for _ in rows(path))
    checks.check("pages with ground truth found in the WARCs", f"{len(pages):,} of {labelled:,}", "all", len(pages) == labelled)
    for extractor in get_args(Extractor):
        for score in measure_extraction.measure(pages, extractor):
            row = {name: value for name, value in asdict(score).items() if value and name not in ("extractor", "kind")}
            checks.note(f"{extractor}, {score.kind}", " ".join(f"{name} {value}" for name, value in row.items()))
            if score.kind == "full_text":
                f1 = score.word_f1 or 0.0
                checks.check(f"word F1 of {extractor}, full_text", f"{f1:.4f}", "above 0.5", 0.5 < f1 <= 1)


def minhash_checks(checks: Checks, corpus: Path) -> None:
    """Recall and precision on the labelled pairs."""
    print("  near duplicates: every labelled pair", flush=True)
    *deciles, total = measure_minhash.measure(*measure_minhash.load(corpus), MinHashConfig())
    for row in deciles:
        checks.note(f"Jaccard {row['jaccard']}", " ".join(f"{name} {value}" for name, value in row.items() if name != "jaccard"))
    checks.note("all pairs", " ".join(f"{name} {value}" for name, value in total.items()))
    for figure in ("recall_verified", "precision_verified"):
        value = total[figure] or 0.0
        checks.check(f"MinHash, {figure.replace('_', ' of ')} pairs", value, "above 0.5", 0.5 < value <= 1)


def language_checks(checks: Checks, corpus: Path, rng: random.Random) -> None:
    """Accuracy on the labelled texts; with shuffled labels, chance."""
    print("  languages: every labelled text", flush=True)
    labelled = measure_language.rows_of(corpus)
    config = LanguageConfig()
    covered = measure_language.covered_languages(config)
    identify = measure_language.identifiers(config)["caravan"]
    found = {row.unit: row for row in measure_language.measure(labelled, identify, covered)}
    for unit, row in found.items():
        checks.note(f"language, {unit}", " ".join(f"{name} {value}" for name, value in asdict(row).items() if name != "unit"))
    chance = 1 / len({row["lang"] for row in labelled})
    accuracy = found["all"].accuracy
    checks.check("language accuracy, all texts", accuracy, f"above chance, {chance:.3f}", accuracy > chance)
    some = rng.sample(labelled, min(SHUFFLED_TEXTS, len(labelled)))
    labels = rng.sample([row["lang"] for row in some], len(some))
    shuffled = [{**row, "lang": label} for row, label in zip(some, labels, strict=True)]
    wrong = measure_language.measure(shuffled, identify, covered)[0].accuracy
    checks.sabotage("labels of languages shuffled", wrong < (chance + accuracy) / 2, f"accuracy {wrong}")


def domain_checks(checks: Checks, corpus: Path, rng: random.Random) -> None:
    """Accuracy on whole sources kept out; of a classifier taught by shuffled labels, chance."""
    print("  domains: a classifier trained anew, judged on whole sources kept out and on labelled pages", flush=True)
    training, judged = measure_domains.file_texts(corpus)
    found = measure_domains.measure(training, judged + measure_domains.web_texts(corpus))
    for (source, domain), chosen in sorted(found.items()):
        checks.note(f"{source}, {domain}", f"{chosen[domain] / chosen.total():.4f} of {chosen.total():,}, chosen {dict(chosen)}")
    for kept in (measure_domains.FILES, measure_domains.PAGES):
        figure = measure_domains.accuracy(found, kept)
        chance = 1 / max(len(figure.by_domain), 2)
        checks.note(f"domain accuracy, {kept}", " ".join(f"{name} {value}" for name, value in asdict(figure).items() if name != "kept_out"))
        name = f"domain accuracy, {kept}, mean of domains"
        checks.check(name, figure.mean_accuracy, f"above chance, {chance:.2f}", figure.mean_accuracy > chance)
    labels = rng.sample([domain for domain, _, _ in training], len(training))
    taught = [(label, source, text) for label, (_, source, text) in zip(labels, training, strict=True)]
    true = measure_domains.accuracy(found, measure_domains.FILES)
    wrong = measure_domains.accuracy(measure_domains.measure(taught, judged), measure_domains.FILES).mean_accuracy
    limit = (1 / max(len(true.by_domain), 2) + true.mean_accuracy) / 2
    checks.sabotage("a classifier taught by shuffled labels", wrong < limit, f"accuracy {wrong}")


def filter_checks(checks: Checks, corpus: Path) -> None:
    """Agreement with datatrove's filters, on Caravan's tokens."""
    print(f"  filters: {FILTER_TEXTS} texts of each folder, by Caravan and by datatrove", flush=True)
    agreed = []
    for folder in measure_filters.FOLDERS:
        for row in measure_filters.figures(corpus, folder, limit=FILTER_TEXTS):
            if "agree_percent" in row:
                figure = f"{row['agree_percent']} % of {row['documents']}, kept {row['caravan_keeps']} and {row['datatrove_keeps']}"
                checks.note(f"{row['filter']}, {folder}", figure)
                agreed.append(row["agree_percent"])
    checks.check("agreement with datatrove's filters, the least", f"{min(agreed)} %", "above 50 %", min(agreed) > 50)


def edge_case(root: Path, path: str, store: Path) -> dict[str, int]:
    """Counts of ingesting one WARC or ARC file, `path` under `root`."""
    raw = Store(str(root))
    (info,) = raw.glob(path)
    file = RawFile(path, info.size_bytes, sha256_of(raw, info))
    source = SourceConfig(name="edge", format="arc" if ".arc" in Path(path).suffixes else "warc", path=path)
    language = LanguageConfig()
    return dict(extract.run(store=Store(str(store)), raw=raw, config=extract.config_of(source, file, language)).counts)


def edge_checks(checks: Checks, corpus: Path, folder: Path) -> None:
    """Archives that tools break on, where the corpus has them: each is read to its end, and each record is accounted for."""
    root = corpus / "warc-edge-cases"
    paths = [str(path.relative_to(root)) for path in sorted(root.rglob("*")) if {".warc", ".arc"} & set(path.suffixes)]
    closed = 0
    for path in paths:
        counts = edge_case(root, path, folder / "edge")
        closed += counts["records"] == sum(counts.get(name, 0) for name in ("documents", "skipped", "quarantined")) > 0
        checks.note(path, " ".join(f"{name} {count}" for name, count in counts.items() if name not in ("skipped", "quarantined")))
    if paths:
        figure = f"{closed} of {len(paths)}"
        checks.check("odd and damaged archives read, every record accounted for", figure, "all", closed == len(paths))


def fitted_place(checks: Checks, given: Namespace, folder: Path, corpus: Path) -> Place:
    """Where the recipe runs on the corpus; the recipe corpus.yaml is fitted to the files of another folder, a given one stays as it is."""
    here = place(folder, given.recipe, raw_root=corpus)
    if given.recipe.resolve() == RECIPE:
        raw = yaml.safe_load(here.recipe.read_text())
        if changes := fit(raw, corpus):
            here.recipe.write_text(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))
            checks.note("the recipe was fitted to this corpus", "; ".join(changes))
    load_recipe(str(here.recipe))
    return here


def main() -> None:
    """Run the checks."""
    given = arguments(__doc__ or "", ("recipe", "corpus", "seed"), recipe=RECIPE)
    corpus = (given.corpus or SHARED / "corpus").resolve()
    checks = Checks("corpus", __doc__ or "")
    check_layout(corpus)
    rng = random.Random(given.seed)
    with work_folder("corpus") as folder:
        here = fitted_place(checks, given, folder, corpus)
        run = run_path(checks, here)
        counter_checks(checks, run)
        mixture_checks(checks, run)
        checkpoint_checks(checks, run, here)
        recorded_checks(checks, run)
        edge_checks(checks, corpus, folder)
    extraction_checks(checks, corpus)
    minhash_checks(checks, corpus)
    language_checks(checks, corpus, rng)
    domain_checks(checks, corpus, rng)
    filter_checks(checks, corpus)
    checks.finish()


if __name__ == "__main__":
    main()
