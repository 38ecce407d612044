"""Large files that a commit only points to: fetched into the mirror, put in while the commit is unpacked."""

from __future__ import annotations

from fraisier.application.ports import Job
from fraisier.domain.errors import Cause, StepFailed
from fraisier.git.address import parse_address
from fraisier.git.command import text
from fraisier.git.mirror import Mirror

# `git archive` runs the filter that .gitattributes name, as a checkout does.
SMUDGE = (
    "filter.lfs.process=git-lfs filter-process",
    "filter.lfs.smudge=git-lfs smudge -- %f",
    "filter.lfs.required=true",
)
_POINTER = "version https://git-lfs.github.com/spec/v1"


def uses_lfs(mirror: Mirror, commit: str, root: str) -> bool:
    """Whether attributes of the commit hand files to LFS and files at or below `root` are pointers.

    Raises:
        Damaged: the mirror cannot be read.
    """
    # Most repositories never name the filter; only then are all files looked at.
    attributes = _grep(mirror, "filter=lfs", commit, ":(top,glob)**/.gitattributes")
    return attributes and _grep(mirror, _POINTER, commit, f":(top,literal){root}" if root else ":(top)")


def fetch_objects(mirror: Mirror, commit: str, job: Job, lock: int) -> None:
    """Bring the objects of one commit into the mirror. Only with the mirror's lock held.

    Raises:
        StepFailed: preflight, where git-lfs is missing; else as `Git.fetch`.
    """
    if mirror.read("lfs", "version").code:
        hint = "Install it, e.g. `apt install git-lfs`"
        raise StepFailed(Cause.preflight, "cannot fetch LFS objects: git-lfs is not installed", hint)
    settings = [f"remote.origin.url={mirror.source.clone_url}", *_server(mirror, commit)]
    options = [word for setting in settings for word in ("-c", setting)]
    args = [*options, f"--git-dir={mirror.path}", "lfs", "fetch", "origin", commit]
    mirror.git.fetch(mirror.source, args, job, timeout=mirror.patience.transfer, lock=lock)


def _server(mirror: Mirror, commit: str) -> list[str]:
    """The LFS server that .lfsconfig names, if any: git-lfs looks for that file in a checkout only.

    The token is bound to the repository's own host, so a foreign server never gets it.
    """
    blob = f"--blob={commit}:.lfsconfig"
    url = text(mirror.read("config", "-z", blob, "--get", "lfs.url").stdout).rstrip("\0")
    if not url:
        return []
    address = parse_address(url)
    if address.is_local and not parse_address(mirror.source.clone_url).is_local:
        hint = "Use https in lfs.url"
        raise StepFailed(Cause.repository, "cannot fetch LFS objects: .lfsconfig names a local folder", hint)
    return [f"lfs.url={url}"]


def _grep(mirror: Mirror, words: str, commit: str, where: str) -> bool:
    args = ("grep", "--quiet", "--fixed-strings", "--no-recurse-submodules", "-e", words, commit, "--", where)
    return mirror.read(*args).code == 0
