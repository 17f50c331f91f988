# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What mkdocs needs to know of this repository: where pages lie, and how its docstrings are written."""

import ast
import re
import textwrap
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
_SECTION = re.compile(r"(Args|Attributes|Example|Examples|Raises|Returns|Yields):")
_TITLES = {"Args": "Arguments", "Examples": "Example"}
# `name (`type`, *optional*): text`, several names of one text, and `ValueError: text`.
_ENTRY = re.compile(r"(?P<names>(?:\*{0,2}[\w.]+(?: \((?:`[^`]*`|[^()`])*\))?(?:, )?)+):(?:\s+(?P<text>.*))?")
_CROSS_REFERENCE = re.compile(r"\[`(~?)([\w.]+)`\](?![\[(])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make pages of the README, the first one, and of what it links to in the repository."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = readme.replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=readme))
    for target in sorted(set(re.findall(r"\]\(([^)#:]+)", readme))):
        if files.get_file_from_path(target) is None and (ROOT / target).is_file():
            text = (ROOT / target).read_text(encoding="utf-8").replace("](../docs/", "](../")
            files.append(File.generated(config, target, content=text))
    return files


def on_page_markdown(markdown: str, **_) -> str:
    """Link names such as [`Segmenter`] in guides as in docstrings."""
    return link_names(markdown)


def link_names(text: str) -> str:
    """Cross references in the way of transformers, [`Name`], as links where the name has a place in docs/api."""
    paths = documented_paths()

    def link(match: re.Match) -> str:
        short = match[2].rpartition(".")[2] if match[1] else match[2]
        name, _, member = match[2].partition(".")
        if name not in paths:
            return f"`{short}`"
        return f"[`{short}`][{paths[name]}{'.' if member else ''}{member}]"

    return _CROSS_REFERENCE.sub(link, text)


def documented_paths() -> dict[str, str]:
    """The full path of each object that the API pages show, by its name."""
    pages = (page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "api").glob("*.md")))
    paths = [path for page in pages for path in re.findall(r"^::: ([\w.]+)", page, re.MULTILINE)]
    return {path.rpartition(".")[2]: path for path in paths}


class HouseDocstrings(griffe.Extension):
    """Turns docstrings in the way of transformers into Markdown, and finds those that are written elsewhere."""

    def on_class_instance(self, *, cls: griffe.Class, **_) -> None:
        """Put the introduction that `auto_docstring` takes before the docstring."""
        for decorator in cls.decorators:
            if match := re.search(r"custom_intro=(\"[^\"]*\"|'[^']*')", str(decorator.value)):
                arguments, *example = re.split(r"^(?=Example)", cls.docstring.value, maxsplit=1, flags=re.MULTILINE)
                arguments = textwrap.indent(arguments, "    ")
                text = f"{ast.literal_eval(match[1])}\n\nArgs:\n{arguments}{''.join(example)}"
                cls.docstring = griffe.Docstring(text)

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_) -> None:
        """Take the documentation of a recipe's field from its help."""
        if isinstance(attr.value, griffe.ExprCall) and attr.value.canonical_path.endswith("._option"):
            default, text = attr.value.arguments
            attr.value = default
            attr.docstring = griffe.Docstring(ast.literal_eval(str(text)))

    def on_package(self, *, pkg: griffe.Module, **_) -> None:
        """Rewrite all docstrings, once everything is known."""
        self._rewrite(pkg)

    def _rewrite(self, node: griffe.Object) -> None:
        if node.docstring is not None:
            node.docstring.value = docstring_to_markdown(node.docstring.value)
        for member in node.members.values():
            if not member.is_alias:
                self._rewrite(member)


def docstring_to_markdown(docstring: str) -> str:
    """Sections as titles, and the entries of each as a list."""
    blocks = [(None, [])]
    for line in docstring.splitlines():
        if match := _SECTION.fullmatch(line.rstrip()):
            blocks.append((match[1], []))
        elif blocks[-1][0] and line and not line.startswith(" "):
            blocks.append((None, [line]))
        else:
            blocks[-1][1].append(line)
    parts = []
    for section, lines in blocks:
        text = textwrap.dedent("\n".join(lines)).strip("\n")
        if section is not None:
            parts.append(f"**{_TITLES.get(section, section)}**")
        parts.append(_list_entries(text) if section in ("Args", "Attributes", "Raises") else text)
    return link_names("\n\n".join(part for part in parts if part))


def _list_entries(text: str) -> str:
    """A list with an item for each argument."""
    lines = []
    for line in text.splitlines():
        match = _ENTRY.fullmatch(line)
        if match is None:
            lines.append("    " + line.strip() if line.strip() else "")
            continue
        # The names stand out, their types stay as they are.
        names = re.sub(r"(^|(?<=, ))(\*{0,2}[\w.]+)(?= \(|, |$)", r"**`\2`**", match["names"])
        lines.append(f"- {names}: {match['text'] or ''}".rstrip())
    return "\n".join(lines)
