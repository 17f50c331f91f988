# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Options for a recipe and for every field of a training configuration."""

import ast
import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..pretrained.locating import PRESET_NAMES, locate_model
from ..training.config import TrainingConfig, field_types, load_recipe, recipe_names, without_none
from .data_options import announce, check_source, parse_pair

# After \b, the help keeps the text's lines, so that no name is broken at a hyphen.
_RECIPE_HELP = "Recipe to start from, or a YAML file. Without one, the defaults below hold. The recipes are:\n\n\b\n{}"


def takes_configuration(command: Callable[..., Any]) -> Callable[..., Any]:
    """
    Give a command the option `--recipe` and one for each field of [`TrainingConfig`].

    With the command's own option `--resume` and without a recipe, other values are those that the run started with.

    Args:
        command (`Callable`): Its first parameter is the configuration; the others are its own options.
    """

    @functools.wraps(command)
    def wrapper(recipe: str | None, **options: Any) -> Any:
        fields = {field.name for field in dataclasses.fields(TrainingConfig)}
        values = {name: options.pop(name) for name in list(options) if name in fields}
        values = {name: _parse(name, value) for name, value in values.items() if value is not None}
        if recipe is None and options.get("resume"):
            config = _load_stored(values.get("output", TrainingConfig.output))
        else:
            config = TrainingConfig() if recipe is None else load_recipe(recipe)
        config = config.replace(**values)
        if not options.get("resume"):  # a resumed run first says if there is nothing to resume
            _check(config)
        announce("Loading what training needs")
        return command(config, **options)

    own = list(inspect.signature(command).parameters.values())[1:]
    recipe = Annotated[str | None, typer.Option(help=_RECIPE_HELP.format("\n".join(recipe_names())))]
    parameters = [_keyword("recipe", recipe), *(p.replace(kind=p.KEYWORD_ONLY) for p in own)]
    parameters += [_keyword(field.name, _option(field)) for field in dataclasses.fields(TrainingConfig)]
    wrapper.__signature__ = inspect.Signature(parameters)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _check(config: TrainingConfig) -> None:
    """Refuse data and a model that are not there, before anything is loaded."""
    check_source(config.data, config.dataset, config.label_ids, config.reduce_labels, config.class_names)
    locate_model(config.model, PRESET_NAMES)


def _load_stored(output: str) -> TrainingConfig:
    """Load the configuration of the run in a folder; the defaults if there is none."""
    stored = Path(output) / "training_config.json"
    config = load_recipe(stored) if stored.is_file() else TrainingConfig()
    return dataclasses.replace(config, output=output)  # the folder may have been moved


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _option(field: dataclasses.Field) -> Any:
    """Make the type of an option that is None by default."""
    kind = without_none(field_types()[field.name])
    origin = typing.get_origin(kind)
    help_text = field.metadata["help"]
    if origin is tuple:
        help_text += " One number counts twice; two have a comma or x between them."
    if origin in (Literal, dict, tuple):
        kind = str
    if field.name == "model_settings":
        return Annotated[list[str] | None, typer.Option(help=help_text + " As name=value; repeat it for more.")]
    default = field.default if field.default is not None else "not set"
    default = ",".join(map(str, default)) if isinstance(default, tuple) else default
    return Annotated[kind | None, typer.Option(help=help_text, show_default=str(default))]


def _parse(name: str, value: Any) -> Any:
    """Convert the value of an option to that of the configuration."""
    kind = without_none(field_types()[name])
    if typing.get_origin(kind) is tuple:
        return parse_pair(value, typing.get_args(kind)[0], f"--{name.replace('_', '-')}")
    if name != "model_settings":
        return value
    settings = {}
    for entry in value:
        key, equals, text = entry.partition("=")
        if not equals:
            raise typer.BadParameter(f"{entry!r} is not name=value.", param_hint="--model-settings")
        try:
            settings[key] = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
        except (SyntaxError, ValueError):
            settings[key] = text
    return settings
