# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Whether a program of torch.export holds arithmetic on tensors and nothing else, before PyTorch reads it.

PyTorch takes such files for trusted: it unpickles parts of them, loads compiled libraries that lie in them, evaluates
their formulas of sizes as Python, and writes their names into Python code that it runs.
"""

import ast
import json
import operator
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

# What `cgrseg export` writes. Others are compiled libraries, further programs, and forms of older releases.
_RECORDS = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)|"
    r"models/model\.json|data/sample_inputs/model\.pt|archive_format|archive_version|byteorder|"
    r"\.data/(version|serialization_id)"
)
_CONFIGS = {
    "data/weights/model_weights_config.json": "weight_",
    "data/constants/model_constants_config.json": "tensor_",
}
_PROGRAM = "models/model.json"

_PLAIN = re.compile(r"[\w.:-]*")
_ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
# It reads, and makes, whichever file it is told.
_FILE_OPERATORS = ("from_file",)
_NUMBERS = re.compile(r"_operator\.([a-z]+_?)|math\.([a-z]+)|torch\.sym_[a-z]+")
_NUMBER_OPERATORS = {
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg", "pos", "abs", "getitem"),
    *("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_"),
}
_TREES = (None, "builtins.tuple", "builtins.list", "builtins.dict")

# In formulas of sizes: SymPy's classes, numbers, and the names of symbols.
_FORMULA_NODES = (
    *(ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Call, ast.keyword, ast.Attribute, ast.Subscript),
    *(ast.UnaryOp, ast.BinOp, ast.Compare, ast.BoolOp, ast.unaryop, ast.operator, ast.cmpop, ast.boolop),
)
_FORMULA_CALLS = re.compile(r"[A-Z]\w*|floor|ceiling|max|min")
_GUARD_METHODS = ("size", "stride", "storage_offset")


def check_program(path: Path) -> None:
    """
    Refuse a `.pt2` file that could do more than compute.

    Raises:
        ValueError: If it holds anything but weights and operators on them, or cannot be read.
    """
    try:
        reader = torch._C.PyTorchFileReader(str(path))
        records = reader.get_all_records()
        problem = next(_find_problems(reader, records), None)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"it is no program of torch.export, or damaged ({str(error).partition(chr(10))[0]})"
    if problem is not None:
        raise ValueError(
            f"{path} is not loaded: {problem}. What is more than arithmetic on tensors could run code here. Export the "
            "model again with `cgrseg export --format torch`, from its safetensors weights."
        )


def _find_problems(reader: Any, records: list[str]) -> Iterator[str]:
    """What is wrong with the file's records, and then with the program."""
    for name in records:
        if not _RECORDS.fullmatch(name):
            yield f"it holds {name!r}, which no export writes"
    for name, prefix in _CONFIGS.items():
        for payload in json.loads(reader.get_record(name))["config"].values():
            if payload.get("use_pickle") or not str(payload["path_name"]).startswith(prefix):
                yield f"{name} has a pickled value"
    program = json.loads(reader.get_record(_PROGRAM))
    for guard in program.get("guards_code", ()):
        if not _is_formula(guard):
            yield f"its condition {guard[:80]!r} is no comparison of sizes"
    module = program["graph_module"]
    if module.get("treespec_namedtuple_fields") or module.get("metadata"):
        yield "it has types of its own"
    for call in module["module_call_graph"]:
        yield from _find_in_signature(call.get("signature") or {})
    for part in (module["graph"], module["signature"], program["range_constraints"]):
        yield from _find_in_graph(part)


def _find_in_signature(signature: dict[str, Any]) -> Iterator[str]:
    """How inputs and outputs are nested; to name a type is to have PyTorch import it."""
    for name in ("in_spec", "out_spec"):
        trees = [json.loads(signature[name])[1]] if signature.get(name) else []
        while trees:
            tree = trees.pop()
            trees += tree["children_spec"]
            if tree["type"] not in _TREES:
                yield f"its inputs or outputs have the type {tree['type']!r}"
    for name in signature.get("forward_arg_names") or ():
        if not str(name).isidentifier():
            yield f"{name!r} is no name of an input"


def _find_in_graph(value: Any) -> Iterator[str]:
    """Operators, formulas and names, however deep; words are passed over."""
    if isinstance(value, dict):
        is_node = "target" in value and "inputs" in value
        if is_node and not _is_arithmetic(value["target"]):
            yield f"it calls {str(value['target'])[:80]!r}"
        for name, content in value.items():
            if not _PLAIN.fullmatch(name):
                yield f"{name[:80]!r} is no name"
            if name == "expr_str":
                if not _is_formula(content):
                    yield f"{str(content)[:80]!r} is no formula of sizes"
            # A node's notes are for people. Texts are handed to operators as they are, such as an assertion's words.
            elif not (is_node and name == "metadata") and not (name == "as_string" and isinstance(content, str)):
                yield from _find_in_graph(content)
    elif isinstance(value, list):
        for content in value:
            yield from _find_in_graph(content)
    elif isinstance(value, str) and not _PLAIN.fullmatch(value):
        yield f"{value[:80]!r} is no name"


def _is_arithmetic(target: str) -> bool:
    """Whether an operator is one of PyTorch's on tensors, or of Python's on numbers."""
    if found := _ATEN.fullmatch(target):
        packet = getattr(torch.ops.aten, found[1], None)
        known = isinstance(packet, torch._ops.OpOverloadPacket) and found[2] in packet.overloads()
        return known and found[1] not in _FILE_OPERATORS
    if found := _NUMBERS.fullmatch(target):
        return found[1] is None or (found[1] in _NUMBER_OPERATORS and hasattr(operator, found[1]))
    return False


def _is_formula(text: str) -> bool:
    """Whether evaluating a text can do no more than compute numbers."""
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return all(_is_harmless(node) for node in ast.walk(tree))


def _is_harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        function = node.func
        return isinstance(function, ast.Attribute) or (
            isinstance(function, ast.Name) and _FORMULA_CALLS.fullmatch(function.id) is not None
        )
    if isinstance(node, ast.Attribute):
        if isinstance(node.value, ast.Name) and node.value.id in ("torch", "math"):
            return re.fullmatch(r"sym_[a-z]+" if node.value.id == "torch" else r"[a-z0-9]+", node.attr) is not None
        return node.attr in _GUARD_METHODS
    if isinstance(node, ast.Constant):
        is_word = isinstance(node.value, str) and re.fullmatch(r"\w+", node.value) is not None
        return is_word or isinstance(node.value, int | float)
    if isinstance(node, ast.Name):
        return "__" not in node.id
    return isinstance(node, _FORMULA_NODES)
