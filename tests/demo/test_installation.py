"""The demo finds PostgreSQL's programs, and what account may run them."""

from __future__ import annotations

import os
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest

from router.demo.account import Account, ClusterError, unprivileged_account
from router.demo.installation import INSTALL_HINT, embedded_bin_dir, find_installation
from router.demo.workspace import new_directory
from tests.support.builds import TREE


def test_the_hint_names_what_a_package_index_has() -> None:
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    wanted = project["optional-dependencies"]["demo"]
    assert shlex.split(INSTALL_HINT) == ["pip", "install", *wanted]


def test_a_directory_without_postgresql_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=str(tmp_path)):
        find_installation(tmp_path, None, tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers under another account")
def test_programs_in_a_home_that_nobody_may_enter_are_copied(tmp_path: Path) -> None:
    source = embedded_bin_dir().parents[1]
    package = tmp_path / "home" / source.name
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("include"))
    shutil.copytree(source.with_name(f"{source.name}.libs"), f"{package}.libs")
    package.parent.chmod(0o700)
    account = unprivileged_account()
    root = new_directory(account)
    try:
        for _ in range(2):
            found = find_installation(root, account, package / "pginstall" / "bin")
            assert root in found.bin_dir.parents
            assert "PostgreSQL" in found.run("postgres", "--version")
    finally:
        shutil.rmtree(root)


def test_an_account_reaches_what_everyone_may_enter(tmp_path: Path) -> None:
    stranger = Account(uid=60_001, gid=60_001)
    assert stranger.can_reach(Path("/usr/bin"))
    tmp_path.chmod(0o700)
    assert not stranger.can_reach(tmp_path)
