# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What the Hub wants of a model card's metadata, as far as its documentation says it.

Checked: that there is a YAML mapping between the two lines of dashes; the types of the fields that cards of this
package have; the licence's identifier, of which only some are known here, and the name and link of another licence;
and in `model-index` the names of the fields, those that are required, and that no result claims to be verified.

The Hub may check more. In particular it knows more licences, and may look up data sets and metrics by name.
"""

import re
from typing import Any

import yaml

_BLOCK = re.compile(r"\A\s*---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_LICENSES = {
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "agpl-3.0", "lgpl-3.0", "openrail", "unknown"),
    *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "other"),
}
_TEXTS = ("library_name", "pipeline_tag", "license_name", "license_link", "model_name", "thumbnail")
_LISTS = ("datasets", "metrics", "tags")
# Fields of a result and of their parts, and whether each is required.
_RESULT = {"task": True, "dataset": True, "metrics": True, "source": False}
_PARTS = {
    "task": {"type": True, "name": False},
    "dataset": {"type": True, "name": True, "config": False, "split": False, "revision": False, "args": False},
    "source": {"url": True, "name": False},
}
_METRIC = {"type": True, "value": True, "name": False, "config": False, "args": False}


def find_errors(content: str) -> list[str]:
    """What is wrong with a card's metadata, each with the field's name; empty if nothing is."""
    block = _BLOCK.match(content)
    if block is None:
        return ["the card has no metadata between two lines of dashes at its top"]
    try:
        metadata = yaml.safe_load(block[1])
    except yaml.YAMLError as error:
        return [f"the metadata are no YAML: {error}"]
    if not isinstance(metadata, dict):
        return ["the metadata are no mapping"]
    errors = [f'"{name}" must be a string' for name in _TEXTS if not isinstance(metadata.get(name, ""), str)]
    errors += [f'"{name}" must be a list of strings' for name in _LISTS if not _is_text_list(metadata.get(name, []))]
    return errors + _license_errors(metadata) + _index_errors(metadata.get("model-index", []))


def _license_errors(metadata: dict[str, Any]) -> list[str]:
    if "license" not in metadata:
        return []
    licenses = metadata["license"] if isinstance(metadata["license"], list) else [metadata["license"]]
    errors = [f'"license" must be one of {sorted(_LICENSES)}' for one in licenses if one not in _LICENSES]
    name, link = metadata.get("license_name"), metadata.get("license_link")
    if isinstance(name, str) and not re.fullmatch(r"[a-z0-9-.]+", name):
        errors.append('"license_name" must be of small letters, digits, "-" and "."')
    if isinstance(link, str) and not re.fullmatch(r"LICENSE|LICENSE\.md|https?://\S+", link):
        errors.append('"license_link" must be LICENSE, LICENSE.md or an address')
    return errors


def _index_errors(index: Any) -> list[str]:
    if not isinstance(index, list) or not all(isinstance(model, dict) for model in index):
        return ['"model-index" must be a list of models']
    errors = []
    for number, model in enumerate(index):
        place = f"model-index[{number}]"
        errors += _field_errors(model, {"name": True, "results": True}, place)
        for position, result in enumerate(model.get("results") or []):
            errors += _result_errors(result, f"{place}.results[{position}]")
    return errors


def _result_errors(result: Any, place: str) -> list[str]:
    errors = _field_errors(result, _RESULT, place)
    if errors:
        return errors
    for name, fields in _PARTS.items():
        if name in result:
            errors += _field_errors(result[name], fields, f"{place}.{name}")
    if not isinstance(result["metrics"], list) or not result["metrics"]:
        return [*errors, f'"{place}.metrics" must be a list with a metric at least']
    for number, metric in enumerate(result["metrics"]):
        errors += _field_errors(metric, _METRIC, f"{place}.metrics[{number}]")
    return errors


def _field_errors(value: Any, fields: dict[str, bool], place: str) -> list[str]:
    if not isinstance(value, dict):
        return [f'"{place}" must be a mapping']
    errors = [f'"{place}.{name}" is required' for name, required in fields.items() if required and name not in value]
    return errors + [f'"{place}.{name}" is not allowed' for name in sorted(value.keys() - fields.keys())]


def _is_text_list(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(isinstance(one, str) for one in values)
