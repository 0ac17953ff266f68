"""The report page: whatever comes from data is text and nothing else, nothing is loaded, and the figures are the artifacts'."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import plotly.graph_objects as go
import pytest

from flows.graph.runs import Run
from flows.report.build import build_report
from flows.report.figures import embed
from flows.running.driver import Plan, open_plan
from storage.artifact import read_verified
from tests.finished_run import point_at
from tests.flows.in_process import run_here
from tests.flows.small_corpus import write_corpus

HOSTILE = """<script>alert("x")</script> & 'quotes' </pre><img src=x onerror=alert(1)> {{ run.name }}"""
HOSTILE_URL = """https://monde.example/"><img src=x onerror='alert(2)'>"""
HOSTILE_FILE = "essays-<img src=x onerror=alert(3)>.jsonl"
HOSTILE_TASK = "tasks/<img src=x onerror=alert(4)>.txt"
HOSTILE_ERROR = 'RuntimeError: <i>slanted</i> & "quoted"'
LOADING = {"src", "srcset", "data", "action", "poster", "background", "formaction", "href", "xlink:href"}


class Page(HTMLParser):
    """The page as a browser takes it apart: elements, text, scripts, and the cells of every table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text, self.scripts, self.styles = "", [""], ""
        self.tables: list[list[list[str]]] = []
        self.in_cell = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.in_cell = True
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        """Note where a cell ends."""
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        """Note text where it stands."""
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        elif self.cdata_elem == "style":
            self.styles += data
        else:
            self.text += data
            if self.in_cell:
                self.tables[-1][-1][-1] += data

    def table(self, *heads: str) -> list[list[str]]:
        """Rows of the first table whose heads begin like this."""
        for table in self.tables:
            if table and [cell.strip() for cell in table[0][: len(heads)]] == list(heads):
                return [[cell.strip() for cell in row] for row in table[1:]]
        raise AssertionError(f"no table with {heads}")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run as far as select on texts, URLs, file names and an error full of markup."""
    folder = tmp_path_factory.mktemp("hostile")
    raw = write_corpus(folder / "raw")
    essays = [json.loads(line) for line in (raw / "essays.jsonl").read_text().splitlines()]
    (raw / "essays.jsonl").write_text("".join(json.dumps({**row, "text": f"{HOSTILE} {row['text']}"}) + "\n" for row in essays))
    (raw / HOSTILE_FILE).write_text("this line is no record\n")
    foreign = [json.loads(line) for line in gzip.decompress((raw / "foreign.jsonl.gz").read_bytes()).splitlines()]
    lines = [json.dumps({**row, "address": f"{HOSTILE_URL}{n}"}) for n, row in enumerate(foreign)]
    (raw / "foreign.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (raw / HOSTILE_TASK).parent.mkdir(parents=True)
    (raw / HOSTILE_TASK).write_text(f"{' '.join(essays[0]['text'].split())}\n\nA question of six words?\n")
    recipe = (files("flows") / "recipes" / "test.yaml").read_text()
    (folder / "tasks.yaml").write_text(recipe.replace("\nquality:\n", "\nquality:\n  eval_tasks: [{path: tasks/*}]\n"))
    with pytest.MonkeyPatch.context() as patch:
        point_at(patch, folder)
        plan = open_plan(str(folder / "tasks.yaml"), "test", None)
        run_here(plan, "select")
    plan.run.end("failed", HOSTILE_ERROR)
    return plan.run


def test_what_comes_from_data_is_text(hostile: Run) -> None:
    """Texts, URLs, names of files and errors are shown letter by letter and make no element, no attribute and no script."""
    page = Page(build_report(hostile))
    assert page.elements.count("script") == 2
    assert not {"img", "i", "iframe", "object"} & set(page.elements)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.table("task", "items", "unreachable")[0][:5] == [HOSTILE_TASK, "2", "1", "0", "1"]
    for shown in (HOSTILE, HOSTILE_URL, HOSTILE_FILE, HOSTILE_TASK, HOSTILE_ERROR):
        assert shown in page.text


def test_no_name_in_a_figure_ends_its_script() -> None:
    """A component or a source may be called anything: in the script it has no angle bracket, and reads the same as JSON."""
    name = "</script><script>alert(1)</script>&"
    script = embed("loss", go.Figure(go.Bar(x=[name], y=[1], name=name)))
    assert "<" not in script
    assert ">" not in script
    figure = json.loads(script[script.index("{") : script.rindex("}") + 1])
    assert figure["data"][0]["name"] == name


def test_the_page_loads_nothing(finished: Plan) -> None:
    """It is one file: no element has an address other than a place in the page, and its style fetches nothing."""
    page = Page(build_report(finished.run))
    assert [value for name, value in page.attributes if name in LOADING and not value.startswith("#")] == []
    assert not {"link", "iframe", "img", "object", "embed", "base"} & set(page.elements)
    assert "@import" not in page.styles
    assert "url(" not in page.styles
    assert "Plotly.newPlot" in page.scripts[-1]


def test_the_figures_are_those_of_the_artifacts(finished: Plan) -> None:
    """The funnel closes and starts with what ingest counted; tokens, steps and artifacts are the manifests'."""
    run, built = finished.run, build_report(finished.run)
    page = Page(built)

    def number(cell: str) -> int:
        return int(cell.replace(",", ""))

    ingest = {row[0]: row[1:] for row in page.table("source", "records", "documents")}
    funnel = {row[0]: row[1:] for row in page.table("source", "in", "kept")}
    documents = run.manifests("documents")
    assert ingest.keys() == documents.keys() == funnel.keys() - {"total"}
    for source, manifest in documents.items():
        assert number(ingest[source][0]) == manifest.counts["records"]
        assert number(ingest[source][1]) == number(funnel[source][0]) == manifest.counts["documents"]
    every = json.loads(read_verified(run.store, run.need("select"), "funnel.json"))["sources"]
    for source in documents:  # of the reasons the page has the largest three
        largest = sorted((cell["documents"] for cell in every[source]["dropped"].values()), reverse=True)
        assert [number(part.split()[-1]) for part in funnel[source][-1].split(", ") if part] == largest[:3]
        assert number(funnel[source][0]) == number(funnel[source][1]) + sum(largest)
    select = run.need("select").counts
    assert [number(cell) for cell in funnel["total"][:2]] == [select["documents"], select["kept"]]
    assert [sum(number(row[n]) for source, row in funnel.items() if source != "total") for n in (0, 1)] == [
        select["documents"],
        select["kept"],
    ]
    tokens = page.table("component", "documents", "bytes", "tokens")
    held_out = page.table("domain", "documents to train on", "bytes", "documents held out")
    assert sum(number(row[1]) for row in tokens) == run.need("tokenize").counts["documents"]
    judged = page.table("domain", "documents held out", "covered by training")
    assert "whose URL or near twin is to train on are not among these" in built
    assert sum(number(row[3]) for row in held_out) == sum(number(row[1]) for row in judged)
    assert all(number(row[1]) == sum(number(cell) for cell in row[2:5]) for row in judged)
    assert sum(number(row[4]) for row in judged) == run.need("held_out_tokens").counts["documents"]
    steps = {row[0]: number(row[1]) for row in page.table("stage", "steps")}
    assert steps == {"pretrain": 16, "extend_context": 4, "anneal": 6}
    lines = page.table("stage", "fingerprint: what was asked")
    listed = {row[0]: row[2] for row in lines if not row[0].startswith("extract/")}
    assert listed == {key: pointer.digest[:16] for key, pointer in run.artifacts.items() if not key.startswith("extract/")}
    extractions = [row for row in lines if row[0].startswith("extract/")]
    assert sum(number(row[3]) for row in extractions) == sum(len(manifest.files) for manifest in run.manifests("extract").values())


def test_curves_are_those_of_the_checkpoint_whoever_trained_it(finished: Plan) -> None:
    """A run that shares another's checkpoints shows their curves; one that dropped a stage does not show it; one that failed in it does."""
    stages = [row[0] for row in Page(build_report(finished.run)).table("stage", "steps", "tokens")]
    assert stages == ["pretrain", "extend_context", "anneal"]
    shared = replace(finished.run, name="shared")
    assert [row[0] for row in Page(build_report(shared)).table("stage", "steps", "tokens")] == stages
    without = {key: pointer for key, pointer in finished.run.artifacts.items() if key != "anneal"}
    dropped = replace(finished.run, artifacts=without, training={})
    assert [row[0] for row in Page(build_report(dropped)).table("stage", "steps", "tokens")] == stages[:2]
    failed = replace(dropped, training={"anneal": finished.run.artifacts["anneal"].fingerprint})
    assert [row[0] for row in Page(build_report(failed)).table("stage", "steps", "tokens")] == stages
