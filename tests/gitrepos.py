"""Real git repositories for tests: a bare one to push to, with a fixed identity and no user's settings."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_AUTHOR_DATE": "2026-01-02T03:04:05Z",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
    "GIT_COMMITTER_DATE": "2026-01-02T03:04:05Z",
    "GIT_LFS_SKIP_SMUDGE": "1",
}


def git(folder: Path, *args: str, stdin: bytes | None = None) -> str:
    """Run git in `folder`; returns what it printed. Raises CalledProcessError."""
    argv = ["git", "-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main", *args]
    env = {**_ENVIRONMENT, "HOME": str(folder)}
    done = subprocess.run(
        argv, cwd=folder, env=env, input=stdin, capture_output=True, check=False, timeout=60
    )
    if done.returncode:
        raise AssertionError(f"git {args}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode().strip()


@dataclass(frozen=True)
class GitRepository:
    """A bare repository `bare` and a working copy `work` that pushes to it."""

    bare: Path
    work: Path

    @classmethod
    def create(cls, folder: Path, name: str = "orders") -> GitRepository:
        """A new one below `folder`, without commits; its first branch is main."""
        bare, work = folder / f"{name}.git", folder / f"{name}-work"
        bare.mkdir(parents=True)
        git(bare, "init", "-q", "--bare", ".")
        work.mkdir()
        git(work, "init", "-q", ".")
        git(work, "remote", "add", "origin", str(bare))
        return cls(bare, work)

    @property
    def url(self) -> str:
        """The path, as a clone URL."""
        return str(self.bare)

    def commit(
        self,
        files: Mapping[str, str | bytes] | None = None,
        *,
        message: str = "a change",
        branch: str = "main",
    ) -> str:
        """Commit files on a branch (begun at HEAD if it is new) and push it; returns the commit."""
        self.checkout(branch)
        self.write(files or {})
        git(self.work, "add", "-A")
        git(self.work, "commit", "-q", "--allow-empty", "-m", message)
        self.push(f"HEAD:refs/heads/{branch}")
        return self.head()

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Write files of the working copy; parents are made."""
        for name, content in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def checkout(self, branch: str) -> None:
        """Go to a branch, or begin it here."""
        if git(self.work, "symbolic-ref", "HEAD") == f"refs/heads/{branch}":
            return
        exists = git(self.work, "branch", "--list", branch)
        git(self.work, "checkout", "-q", *([] if exists else ["-b"]), branch)

    def head(self) -> str:
        """The working copy's commit."""
        return git(self.work, "rev-parse", "HEAD")

    def push(self, *refspecs: str) -> None:
        """Push, forced, whatever the refspecs say (`:refs/heads/x` deletes)."""
        git(self.work, "push", "-q", "--force", "origin", *refspecs)

    def tag(self, name: str, commit: str = "HEAD", *, annotated: bool = False) -> str:
        """Tag and push; returns the name of the object that the tag points to (the tag's own if annotated)."""
        git(self.work, "tag", "-f", *(["-a", "-m", name] if annotated else []), name, commit)
        self.push(f"refs/tags/{name}")
        return git(self.work, "rev-parse", f"refs/tags/{name}")

    def force_push(self, files: Mapping[str, str | bytes], *, onto: str, branch: str = "main") -> str:
        """Throw away what came after `onto`, commit anew on it and push by force; returns the commit."""
        self.checkout(branch)
        git(self.work, "reset", "-q", "--hard", onto)
        return self.commit(files, message="another history", branch=branch)

    def delete_branch(self, branch: str) -> None:
        """Remove a branch from the bare repository."""
        self.push(f":refs/heads/{branch}")
