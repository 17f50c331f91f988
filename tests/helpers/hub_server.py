# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A stand-in for the Hugging Face Hub on this computer: model repos to create, branch, commit to, list and download.

Every commit is a folder, ROOT/user/name/commits/ID; ROOT/user/name/branches/main holds the ID of the newest one, and
ROOT/user/name/visibility says who may see the repo. To write, clients need a token: any but `unknown`, and for repos
of `user` alone. Of a card's metadata the stand-in checks the licence.
"""

import base64
import hashlib
import json
import re
import shutil
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

BRANCH = "main"
USER = "user"
UNKNOWN_TOKEN = "unknown"
FIRST_COMMIT = "0" * 40
LICENSES = ("apache-2.0", "mit", "other")


class HubError(Exception):
    """An answer other than success; `code` is what huggingface_hub chooses its exception by."""

    def __init__(self, status: HTTPStatus, message: str, code: str | None = None):
        super().__init__(message)
        self.status = status
        self.code = code


class RepoStore:
    """Repos and their commits as folders below a root."""

    def __init__(self, root: Path):
        self.root = root

    def create(self, repo_id: str, visibility: str = "public") -> None:
        """Make a repo whose first commit is empty."""
        repo = self.root / repo_id
        if repo.exists():
            raise HubError(HTTPStatus.CONFLICT, f"{repo_id} exists already.")
        (repo / "commits" / FIRST_COMMIT).mkdir(parents=True)
        (repo / "branches").mkdir()
        (repo / "visibility").write_text(visibility)
        (repo / "branches" / BRANCH).write_text(FIRST_COMMIT)

    def create_branch(self, repo_id: str, branch: str) -> None:
        """Make a branch that begins with the newest commit of `main`."""
        file = self._repo(repo_id) / "branches" / branch
        if file.exists():
            raise HubError(HTTPStatus.CONFLICT, f"{repo_id} has a branch {branch} already.")
        file.write_text(self.commit_id(repo_id, BRANCH))

    def commit(self, repo_id: str, revision: str, operations: list[dict]) -> str:
        """Add and delete files on the branch; the new commit's ID."""
        commits, parent = self._repo(repo_id) / "commits", self.folder(repo_id, revision)
        commit_id = hashlib.sha1(str(len(list(commits.iterdir()))).encode()).hexdigest()
        folder = Path(shutil.copytree(parent, commits / commit_id))
        for operation in operations:
            key, value = operation["key"], operation["value"]
            if key == "file":
                (folder / value["path"]).parent.mkdir(parents=True, exist_ok=True)
                (folder / value["path"]).write_bytes(base64.b64decode(value["content"]))
            elif key == "deletedFile":
                (folder / value["path"]).unlink()
            elif key != "header":
                raise HubError(HTTPStatus.BAD_REQUEST, f"{key} is not supported: upload files as they are.")
        (self._repo(repo_id) / "branches" / revision).write_text(commit_id)
        return commit_id

    def add(self, repo_id: str, contents: dict[str, bytes]) -> None:
        """Commit files to `main`."""
        files = [{"path": name, "content": base64.b64encode(content).decode()} for name, content in contents.items()]
        self.commit(repo_id, BRANCH, [{"key": "file", "value": file} for file in files])

    def commit_id(self, repo_id: str, revision: str) -> str:
        """The commit that a branch or a commit ID names."""
        return self.folder(repo_id, revision).name

    def visibility(self, repo_id: str) -> str:
        """Who may see a repo: `public` or `private`."""
        return (self._repo(repo_id) / "visibility").read_text()

    def folder(self, repo_id: str, revision: str) -> Path:
        """All files of a revision."""
        repo = self._repo(repo_id)
        branch = repo / "branches" / revision
        folder = repo / "commits" / (branch.read_text() if branch.is_file() else revision)
        if not folder.is_dir():
            raise HubError(HTTPStatus.NOT_FOUND, f"{repo_id} has no revision {revision}.", "RevisionNotFound")
        return folder

    def file(self, repo_id: str, revision: str, name: str) -> Path:
        """One file of a revision."""
        file = self.folder(repo_id, revision) / name
        if not file.is_file():
            raise HubError(HTTPStatus.NOT_FOUND, f"{repo_id} has no file {name}.", "EntryNotFound")
        return file

    def names(self, repo_id: str, revision: str) -> list[str]:
        """The names of all files of a revision, folders with slashes."""
        folder = self.folder(repo_id, revision)
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    def _repo(self, repo_id: str) -> Path:
        if not (self.root / repo_id).is_dir():
            raise HubError(HTTPStatus.NOT_FOUND, f"There is no repo {repo_id}.", "RepoNotFound")
        return self.root / repo_id


def blob_id(file: Path) -> str:
    """The ID that git gives to a file's content."""
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class HubRequestHandler(BaseHTTPRequestHandler):
    """Answers the requests of huggingface_hub that the routes below name."""

    protocol_version = "HTTP/1.1"
    store: RepoStore

    def create(self) -> None:
        """A new repo of the token's user, or of the organization that the request names."""
        request = json.loads(self.body)
        repo_id = f"{request.get('organization') or USER}/{request['name']}"
        self._check_may_write(repo_id)
        url = f"http://{self.headers['Host']}/{repo_id}"
        try:
            self.store.create(repo_id, request.get("visibility", "public"))
        except HubError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            # A client that allows for an existing repo reads its address from the refusal.
            self._send_json({"error": str(error), "url": url}, error.status)
        else:
            self._send_json({"url": url, "name": repo_id})

    def whoami(self) -> None:
        """The user that every token stands for."""
        self._send_json({"name": USER, "type": "user", "orgs": [], "auth": {"type": "access_token"}})

    def validate_yaml(self) -> None:
        """What is wrong with a card's metadata."""
        metadata = yaml.safe_load(json.loads(self.body)["content"].split("---")[1])
        message = f'"license" must be one of {", ".join(LICENSES)}'
        errors = [] if metadata.get("license", "mit") in LICENSES else [{"message": message}]
        self._send_json({"errors": errors, "warnings": []}, HTTPStatus.BAD_REQUEST if errors else HTTPStatus.OK)

    def create_branch(self, repo: str, revision: str) -> None:
        """A new branch."""
        self._check_may_write(repo)
        self.store.create_branch(repo, revision)
        self._send_json({})

    def preupload(self, repo: str, revision: str) -> None:
        """How to send each file: within the commit. The IDs let a client leave out what has not changed."""
        names = self.store.names(repo, revision)
        answers = []
        for path in (file["path"] for file in json.loads(self.body)["files"]):
            oid = blob_id(self.store.file(repo, revision, path)) if path in names else None
            answers.append({"path": path, "uploadMode": "regular", "shouldIgnore": False, "oid": oid})
        self._send_json({"files": answers})

    def commit(self, repo: str, revision: str) -> None:
        """A new commit from lines of JSON, one an operation."""
        self._check_may_write(repo)
        commit_id = self.store.commit(repo, revision, [json.loads(line) for line in self.body.splitlines()])
        url = f"http://{self.headers['Host']}/{repo}/commit/{commit_id}"
        self._send_json({"success": True, "commitOid": commit_id, "commitUrl": url})

    def model_info(self, repo: str, revision: str = BRANCH) -> None:
        """A repo's newest commit and its files' names."""
        siblings = [{"rfilename": name} for name in self.store.names(repo, revision)]
        sha, private = self.store.commit_id(repo, revision), self.store.visibility(repo) == "private"
        self._send_json({"id": repo, "sha": sha, "private": private, "tags": [], "siblings": siblings})

    def tree(self, repo: str, revision: str, folder: str = "") -> None:
        """All files in a folder and in those within it, with sizes and IDs."""
        names = [name for name in self.store.names(repo, revision) if name.startswith(folder)]
        files = [(name, self.store.file(repo, revision, name)) for name in names]
        self._send_json(
            [{"type": "file", "path": name, "size": file.stat().st_size, "oid": blob_id(file)} for name, file in files]
        )

    def resolve(self, repo: str, revision: str, name: str) -> None:
        """A file's content."""
        file = self.store.file(repo, revision, name)
        headers = {"X-Repo-Commit": self.store.commit_id(repo, revision), "ETag": f'"{blob_id(file)}"'}
        self._send(HTTPStatus.OK, file.read_bytes(), "application/octet-stream", headers)

    def do_POST(self) -> None:
        """Find the route and take it; refusals become the answers that huggingface_hub understands."""
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        method = "GET" if self.command == "HEAD" else self.command
        try:
            for route_method, pattern, answer in ROUTES:
                match = re.fullmatch(pattern, path)
                if match and route_method == method:
                    answer(self, **{key: unquote(value) for key, value in match.groupdict().items() if value})
                    return
            raise HubError(HTTPStatus.NOT_IMPLEMENTED, f"{method} {path} is not supported.")
        except HubError as error:
            headers = {"X-Error-Message": str(error), **({"X-Error-Code": error.code} if error.code else {})}
            self._send_json({"error": str(error)}, error.status, headers)

    do_GET = do_HEAD = do_POST  # noqa: N815 (http.server's names)

    def log_message(self, *_) -> None:
        pass

    def _check_may_write(self, repo_id: str) -> None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or token in ("", UNKNOWN_TOKEN):
            raise HubError(HTTPStatus.UNAUTHORIZED, f"This needs a token: any will do but {UNKNOWN_TOKEN}.")
        if repo_id.partition("/")[0] != USER:
            raise HubError(HTTPStatus.FORBIDDEN, f"This token may write to repos of {USER} alone.")

    def _send_json(
        self, answer: dict | list, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
    ) -> None:
        self._send(status, json.dumps(answer).encode(), "application/json", headers or {})

    def _send(self, status: HTTPStatus, content: bytes, content_type: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        headers = {**headers, "Content-Type": content_type, "Content-Length": str(len(content))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


_MODEL = r"/api/models/(?P<repo>[^/]+/[^/]+)"
ROUTES = [
    ("GET", r"/api/whoami-v2", HubRequestHandler.whoami),
    ("POST", r"/api/repos/create", HubRequestHandler.create),
    ("POST", r"/api/validate-yaml", HubRequestHandler.validate_yaml),
    ("POST", rf"{_MODEL}/preupload/(?P<revision>[^/]+)", HubRequestHandler.preupload),
    ("POST", rf"{_MODEL}/commit/(?P<revision>[^/]+)", HubRequestHandler.commit),
    ("POST", rf"{_MODEL}/branch/(?P<revision>[^/]+)", HubRequestHandler.create_branch),
    ("GET", rf"{_MODEL}", HubRequestHandler.model_info),
    ("GET", rf"{_MODEL}/revision/(?P<revision>[^/]+)", HubRequestHandler.model_info),
    ("GET", rf"{_MODEL}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?", HubRequestHandler.tree),
    ("GET", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)", HubRequestHandler.resolve),
]
