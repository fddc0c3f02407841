"""What is typed and can't be done as it was meant: refused with exit code 2, and in the JSON document."""

from __future__ import annotations

import pytest

from tests.support.fab import ERROR_KEYS, Done
from tests.support.project import Project, untouched

pytestmark = pytest.mark.timeout(90)

CHANGING = [("deploy",), ("rollback",), ("cache-sync",), ("diagnose",), ("unlock", "--force")]
ALL = [*CHANGING, ("releases",)]


@pytest.fixture
def project(project: Project) -> Project:
    project.deployed()
    return project


def refused(done: Done) -> None:
    """Nothing was done, a person is told, and the JSON document says so."""
    assert done.code == 2 and done.json["exit_code"] == 2 and done.json["ok"] is False
    assert set(done.json["error"]) == ERROR_KEYS and done.json["error"]["try"]


def test_fabrics_dry_run_is_no_dry_run(project: Project) -> None:
    """-R prints the commands of Fabric's own connections; ours would run."""
    project.write({"index.html": "two\n"})
    with untouched(project):
        for args in CHANGING:
            done = project.fab("-R", *args, "--json", code=2)
            refused(done)
            assert "-R" in done.json["error"]["what"]
    assert len(project.released) == 1


@pytest.mark.parametrize("args", ALL, ids=" ".join)
def test_several_hosts_under_fabrics_own_executor(project: Project, args: tuple[str, ...]) -> None:
    """They would be as many deployments, one after the other."""
    (project.folder / "fabric.yaml").write_text("tasks: {executor_class: fabric.executor.Executor}\n")
    both = f"{project.address()},{project.server.user}@localhost:{project.server.port}"
    with untouched(project):
        done = project.fab("-f", "fabric.yaml", *args, "--json", hosts=both, code=2)
    refused(done)
    assert "executor_class: fabfile.cli.executor.Executor" in done.json["error"]["try"]


def test_one_host_under_fabrics_own_executor(project: Project) -> None:
    (project.folder / "fabric.yaml").write_text("tasks: {executor_class: fabric.executor.Executor}\n")
    before = project.live
    assert project.fab("-f", "fabric.yaml", "deploy", "--json").json["ok"] is True
    assert project.live != before


@pytest.mark.parametrize("place", ["no/such/folder/page.html", "build", "/dev/full/page.html"])
def test_a_page_that_can_not_be_written(project: Project, place: str) -> None:
    """Said before minutes are spent on it."""
    done = project.fab("diagnose", "--html", place, "--json", code=2)
    refused(done)
    assert place in done.json["error"]["what"] + done.json["error"]["why"]


def test_a_revision_of_a_folder(project: Project) -> None:
    with untouched(project):
        for args in (("deploy",), ("deploy", "--plan")):
            done = project.fab(*args, "--ref", "v1", "--json", code=2)
            refused(done)
            assert "--ref v1 is a revision" in done.json["error"]["what"]
            done = project.fab(*args, "--source", "build", "--ref", "v1", "--json", code=2)
            refused(done)
            assert "ref" in done.json["error"]["what"] + done.json["error"]["why"]


@pytest.mark.promise("anonymous")
@pytest.mark.parametrize("user", ["somebody-else", None], ids=["login refused", "login taken"])
def test_an_anonymous_diagnosis_names_nobody(project: Project, user: str | None) -> None:
    """Neither the page nor the JSON document, although errors quote the login."""
    name = user or project.server.user
    alias = f"shop-{project.server.port}"
    project.ssh_config.write_text(f"Host {alias}\n  HostName 127.0.0.1\n  Port {project.server.port}\n")
    done = project.fab(
        "diagnose", "--anonymous", "--html", "page.html", "--json", hosts=f"{name}@{alias}",
        code=1 if user else None,
    )  # fmt: skip
    for text in (done.stdout, (project.folder / "page.html").read_text()):
        assert name not in text and alias not in text
        assert "host" in text
    assert name in project.fab("diagnose", "--json", hosts=f"{name}@{alias}", code=None).stdout
