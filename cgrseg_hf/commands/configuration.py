# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""An option for every field of a training configuration, on top of a recipe."""

import ast
import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from ..training.config import TrainingConfig, field_types, load_recipe, recipe_names, without_none

_RECIPE_HELP = "Recipe to start from: {}, or a YAML file. Without one, the defaults below hold."


def takes_configuration(command: Callable[..., Any]) -> Callable[..., Any]:
    """
    Give a command the option `--recipe` and one for each field of [`TrainingConfig`].

    Args:
        command (`Callable`): Its first parameter is the configuration; the others are its own options.
    """

    @functools.wraps(command)
    def wrapper(recipe: str | None, **options: Any) -> Any:
        fields = {field.name for field in dataclasses.fields(TrainingConfig)}
        values = {name: options.pop(name) for name in list(options) if name in fields}
        values = {name: _parse(name, value) for name, value in values.items() if value is not None}
        config = TrainingConfig() if recipe is None else load_recipe(recipe)
        return command(config.replace(**values), **options)

    own = list(inspect.signature(command).parameters.values())[1:]
    recipe = Annotated[str | None, typer.Option(help=_RECIPE_HELP.format(", ".join(recipe_names())))]
    parameters = [_keyword("recipe", recipe), *(p.replace(kind=p.KEYWORD_ONLY) for p in own)]
    parameters += [_keyword(field.name, _option(field)) for field in dataclasses.fields(TrainingConfig)]
    wrapper.__signature__ = inspect.Signature(parameters)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _option(field: dataclasses.Field) -> Any:
    """The type of an option that is None unless it is given."""
    kind = without_none(field_types()[field.name])
    origin = typing.get_origin(kind)
    if origin is Literal or origin is dict:
        kind = str
    help_text = field.metadata["help"]
    if field.name == "model_settings":
        return Annotated[list[str] | None, typer.Option(help=help_text + " As name=value; repeat it for more.")]
    default = field.default if field.default is not None else "not set"
    default = " ".join(map(str, default)) if isinstance(default, tuple) else default
    return Annotated[kind | None, typer.Option(help=help_text, show_default=str(default))]


def _parse(name: str, value: Any) -> Any:
    """What the configuration takes for what the option gave."""
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
