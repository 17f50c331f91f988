# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The code in README.md and the guides runs, and the site builds.

A document's blocks run in order in a folder with what they need: small data in the layouts that the document names, and
a Hub on this computer with the files that it downloads. Trainings are cut to a few steps.
"""

import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from helpers.hub_process import Hub
from helpers.pairs import write_pair
from PIL import Image
from safetensors.torch import save_file

import cgrseg_hf
from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation
from cgrseg_hf.commands.main import app
from cgrseg_hf.conversion import to_official
from cgrseg_hf.inference import VideoWriter
from cgrseg_hf.training import TrainingConfig, load_recipe

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
DOCUMENTS = [README, *GUIDES]

LANGUAGES = ("python", "bash", "yaml", "bibtex", "text", "")
# Lines of bash that do not run here: they clone, install, run these very tests, or need GPUs or a bucket.
NOT_RUN = re.compile(
    r"git clone .*|pip install .*|bash scripts/test\.sh.*|nox .*|accelerate launch .*|cgrseg predict s3://.*"
)
# Commands go as in the document, but not as long; a prediction without an export does not make one first.
SHORTER = {
    "train": "--max-steps 2 --batch-size 2 --crop-size 64 --num-workers 0 --trackers none --evaluation-limit 1",
    "ablate": "--max-steps 2 --batch-size 2 --crop-size 64 --num-workers 0 --trackers none --evaluation-limit 1"
    " --variants baseline,all",
    "evaluate": "--limit 1 --worst 1 --size 64",
    "benchmark": "--rounds 1 --sizes 64",
    "predict": "--engine torch",
}
# Blocks of the README with one of these need earlier blocks or take a while: they run with the whole document only.
NOT_ALONE = ("runs/", '"exported', "mydata", "Segmenter.from_pretrained()")


@dataclass(frozen=True)
class Block:
    """A block of code in a document."""

    document: Path
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"

    @property
    def lines(self) -> list[str]:
        """Its commands, with what continues on the next line, without comments."""
        joined = self.code.replace("\\\n", " ")
        return [line for line in map(str.strip, joined.splitlines()) if line and not line.startswith("#")]


def find_blocks(document: Path) -> list[Block]:
    """All fenced blocks of a document, in order."""
    blocks, start, language, code = [], None, "", []
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), start=1):
        fence = re.fullmatch(r"\s*(`{3,}|~{3,})\s*(.*?)\s*", line)
        if fence is None:
            code.append(line)
        elif start is None:
            start, language, code = number, fence[2], []
            assert language in LANGUAGES, f"{document}:{number}: say how {language} is tested."
        else:
            blocks.append(Block(document, start, language, "\n".join(code) + "\n"))
            start = None
    assert start is None, f"{document}:{start}: the block does not end."
    return blocks


BLOCKS = [block for document in DOCUMENTS for block in find_blocks(document)]
COMMANDS = [(block, line) for block in BLOCKS if block.language == "bash" for line in block.lines]


@pytest.mark.parametrize(("block", "line"), COMMANDS, ids=lambda value: str(value).partition(" ")[0])
def test_commands_options_and_extras_exist(block: Block, line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "cgrseg" or "-m cgrseg_hf" in line:
        words = words[words.index("cgrseg" if words[0] == "cgrseg" else "cgrseg_hf") + 1 :]
        group = typer.main.get_command(app)
        assert words[0] in group.commands, f"cgrseg has no command {words[0]}"
        command = group.commands[words[0]]
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        known |= {"-h", "--help"}
        options = {word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
        assert options <= known, f"cgrseg {words[0]} has no {', '.join(sorted(options - known))}"
    elif words[:2] == ["pip", "install"]:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        named = {name for word in words for group in re.findall(r"\[(.*?)\]", word) for name in group.split(",")}
        unknown = named - project["optional-dependencies"].keys()
        assert not unknown, f"there are no extras {', '.join(sorted(unknown))}"
    elif words[0] in ("bash", "python"):
        assert (ROOT / words[1]).is_file()
    else:
        assert words[0] in ("git", "nox"), f"say how {words[0]} is to be tested"


@pytest.fixture(scope="module")
def imagenet_hub(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a Hub with files under the names of timm's ImageNet weights, whose values are random."""
    timm = pytest.importorskip("timm")
    file = tmp_path_factory.mktemp("weights") / "model.safetensors"
    for size in ("s1", "s2"):
        save_file(timm.create_model(f"efficientformerv2_{size}").state_dict(), file)
        repo = f"timm/efficientformerv2_{size}.snap_dist_in1k"
        hub.store.create(repo)
        hub.store.add(repo, {file.name: file.read_bytes()})
    return hub.endpoint


@dataclass(frozen=True)
class Workplace:
    """A folder for a document's blocks, and the environment in which they run."""

    folder: Path
    environment: dict[str, str]

    def run_python(self, block: Block) -> None:
        """Run a block in a process of its own."""
        script = self.folder / f"block_{block.line}.py"
        script.write_text(block.code, encoding="utf-8")
        self._run([sys.executable, script.name], block, "")

    def run_line(self, block: Block, line: str) -> None:
        """Run a line of bash, shortened where it would take long."""
        name = line.split()[1] if line.startswith("cgrseg ") else ""
        # What is resumed goes on as it was, and an export has its own engine.
        if name in SHORTER and not {"--resume", "exported"} & set(line.split()):
            line = f"{line.partition(' #')[0]} {SHORTER[name]}"
        self._run(["bash", "-euo", "pipefail", "-c", line], block, line)

    def _run(self, command: list[str], block: Block, line: str) -> None:
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{block} {line}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"


@pytest.fixture
def workplace(imagenet_hub: str, tmp_path: Path) -> Workplace:
    """A folder like a fresh clone, with the data and commands that blocks assume."""
    folder = tmp_path / "clone"
    (folder / "tests" / "fixtures").mkdir(parents=True)
    shutil.copytree(ROOT / "tests" / "fixtures" / "photos", folder / "tests" / "fixtures" / "photos")
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copy(ROOT / "pyproject.toml", folder)
    make_data(folder)
    make_photos(folder)

    # The commands are those of this checkout, and its installation counts as done.
    for binaries in (tmp_path / "bin", folder / ".venv" / "bin"):
        binaries.mkdir(parents=True)
        for name, arguments in {"python": "", "cgrseg": "-m cgrseg_hf"}.items():
            (binaries / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
            (binaries / name).chmod(0o755)
    (folder / ".venv" / "installed-train").touch()
    cache = tmp_path / "cache"
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    environment |= {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(cgrseg_hf.__file__).parents[1]),
        "HF_ENDPOINT": imagenet_hub,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(cache / "huggingface"),
        "XDG_CACHE_HOME": str(cache),
        "CUDA_VISIBLE_DEVICES": "",
    }
    return Workplace(folder, environment)


def make_data(folder: Path) -> None:
    """Own data with three classes, and a tiny set in the layout of ADE20K."""
    size = (160, 96)
    for split, count in {"train": 4, "validation": 2}.items():
        own = folder / "mydata" / split
        for number in range(count):
            write_pair(own / "images" / f"{number}.jpg", own / "annotations" / f"{number}.png", range(3), size)
    (folder / "mydata" / "id2label.json").write_text('{"0": "road", "1": "building", "2": "sky"}')
    ade20k = folder / "ADEChallengeData2016"
    for split, letters in {"training": "train", "validation": "val"}.items():
        for number in (1, 2, 3):
            name = f"{split}/ADE_{letters}_{number:08}"
            write_pair(ade20k / f"images/{name}.jpg", ade20k / f"annotations/{name}.png", range(151), size)


def make_photos(folder: Path) -> None:
    """The photos, the large image and the video that guides name."""
    photos = ROOT / "tests" / "fixtures" / "photos" / "images"
    (folder / "photos").mkdir()
    for photo in sorted(photos.glob("*.jpg"))[:3]:
        shutil.copy(photo, folder / "photos")
    photo = sorted(photos.glob("*.jpg"))[0]
    shutil.copy(photo, folder / "photo.jpg")
    pixels = np.asarray(Image.open(photo).convert("RGB"))
    Image.fromarray(np.tile(pixels, (2, 2, 1))).save(folder / "map.tif")
    if importlib.util.find_spec("av") is not None:
        with VideoWriter(folder / "street.mp4", Fraction(25)) as video:
            for shift in range(3):
                video.write(np.roll(pixels, 8 * shift, axis=1))


def make_checkpoint(file: Path) -> None:
    """A checkpoint with the names and meta of the authors' code, whose values are random."""
    torch.manual_seed(0)
    model = CGRSegForSemanticSegmentation(CGRSegConfig.from_preset("t"))
    torch.save({"meta": {"iter": 160_000}, "state_dict": to_official(model)}, file)


README_ALONE = [block for block in BLOCKS if block.document == README and block.language == "python"]
README_ALONE = [block for block in README_ALONE if not any(word in block.code for word in NOT_ALONE)]


@pytest.mark.parametrize("block", README_ALONE, ids=str)
def test_python_of_readme_runs(block: Block, workplace: Workplace) -> None:
    workplace.run_python(block)


@pytest.mark.long
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_document_runs(document: Path, workplace: Workplace) -> None:
    make_checkpoint(workplace.folder / "iter_160000.pth")
    for block in find_blocks(document):
        if block.language == "python":
            workplace.run_python(block)
        elif block.language == "yaml":
            # A recipe: the block names its file in the first line.
            name = re.match(r"# (\S+\.yaml)", block.code)[1]
            (workplace.folder / name).write_text(block.code, encoding="utf-8")
        elif block.language == "bash":
            for line in block.lines:
                if not NOT_RUN.fullmatch(line):
                    workplace.run_line(block, line)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "yaml"], ids=str)
def test_recipe_loads(block: Block, tmp_path: Path) -> None:
    assert re.match(r"# \S+\.yaml\n", block.code), "name the recipe's file in a comment in its first line"
    (tmp_path / "recipe.yaml").write_text(block.code, encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.yaml") != TrainingConfig()


def test_api_pages_show_all_public_names() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    shown = set(re.findall(r"^::: ([\w.]+)$", pages, re.MULTILINE))
    packages = "benchmark cluster conversion data evaluation export hub inference training visualization"
    public = set()
    for package in packages.split():
        module = importlib.import_module(f"cgrseg_hf.{package}")
        # Second names of a class are not shown.
        names = [name for name in module.__all__ if getattr(getattr(module, name), "__name__", name) == name]
        public |= {f"cgrseg_hf.{package}.{name}" for name in names}
    public |= {f"cgrseg_hf.{name}" for name in cgrseg_hf.__all__ if not name.endswith("PreTrainedModel")}
    assert public <= shown


def test_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed: the extra docs has it")
    pytest.importorskip("mkdocstrings_handlers.python", reason="mkdocstrings is not installed: the extra docs has it")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {page.relative_to(tmp_path / "site"): page.read_text(encoding="utf-8") for page in tmp_path.rglob("*.html")}
    assert len(pages) > len(GUIDES) + len(list((ROOT / "docs" / "api").glob("*.md")))
    for name, page in pages.items():
        loaded = re.findall(r"<(?:script|img|iframe)\b[^>]*\bsrc=\"?(https?://[^\s\">]+)", page)
        loaded += re.findall(r"<link\b[^>]*rel=\"?stylesheet\"?[^>]*href=\"?(https?://[^\s\">]+)", page)
        assert not loaded, f"{name} loads {loaded}"
        # A name in brackets that became no link.
        assert not re.search(r"\[<code>[\w.]+</code>\]", page), name
    assert 'href="#cgrseg_hf.inference.make_engine"' in pages[Path("api/inference/index.html")]
