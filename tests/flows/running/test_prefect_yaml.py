"""prefect.yaml is parsed strictly: Prefect itself passes over unknown keys and misspelt parameters."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.exceptions import ParameterTypeError, SignatureMismatchError

from flows.graph.walk import STAGES

TOP = {"name", "pull", "definitions", "deployments"}
DEPLOYMENT = {"name", "description", "entrypoint", "parameters", "work_pool"}


@pytest.fixture(scope="module")
def text(project: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((project / "prefect.yaml").read_text()))


def test_every_key_is_known(text: dict[str, Any]) -> None:
    """An unknown key would pass silently."""
    assert set(text) == TOP
    for deployment in text["deployments"]:
        assert set(deployment) == DEPLOYMENT, deployment["name"]
        assert deployment["work_pool"] == {"name": "caravan"}


def test_one_deployment_for_the_path_and_one_for_each_stage(text: dict[str, Any]) -> None:
    """With names of their own."""
    names = [deployment["name"] for deployment in text["deployments"]]
    assert names == ["whole-path", *(f"stage-{stage.replace('_', '-')}" for stage in STAGES)]
    for deployment, stage in zip(text["deployments"][1:], STAGES, strict=True):
        assert deployment["parameters"]["stage"] == stage


def test_entrypoints_import_and_take_the_parameters(text: dict[str, Any], project: Path) -> None:
    """Each parameter is one of the flow's, of its type; another is refused."""
    flows: dict[str, Any] = {}
    for deployment in text["deployments"]:
        path, _, name = deployment["entrypoint"].partition(":")
        if path not in flows:
            spec = importlib.util.spec_from_file_location("deployed", project / path)
            assert spec is not None
            assert spec.loader is not None
            flows[path] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(flows[path])
        flow = getattr(flows[path], name)
        assert set(deployment["parameters"]) <= set(flow.parameters.properties)
        flow.validate_parameters(deployment["parameters"])
        for wrong in ({"to_stage": "selekt"}, {"stage": "selekt"}, {"recipe": ""}, {"run": "no/slash"}, {"workers": 3}):
            with pytest.raises((ParameterTypeError, SignatureMismatchError)):
                flow.validate_parameters({**deployment["parameters"], **wrong})
