"""The files for clusters, by their own tools where these install, else by their structure."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
CLUSTERS = ROOT / "examples" / "clusters"
SCRIPTS = sorted(CLUSTERS.glob("*.sh"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.fixture(scope="module")
def job_set():
    yaml = pytest.importorskip("yaml")
    (loaded,) = yaml.safe_load_all((CLUSTERS / "jobset.yaml").read_text())
    return loaded


@pytest.fixture
def job(job_set):
    (workers,) = job_set["spec"]["replicatedJobs"]
    assert workers.get("replicas", 1) == 1
    return workers["template"]["spec"]


@pytest.fixture
def container(job):
    (container,) = job["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_shell(script):
    assert os.access(script, os.X_OK)
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    shellcheck = shutil.which("shellcheck", path=os.path.dirname(sys.executable))
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([shellcheck, script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_slurm_gives_each_task_the_cpus_of_the_allocation():
    script = (CLUSTERS / "slurm.sh").read_text()
    assert re.search(r"^#SBATCH --cpus-per-task=\d+$", script, re.MULTILINE)
    assert re.search(r'^srun .*--cpus-per-task="\$SLURM_CPUS_PER_TASK"', script, re.MULTILINE)


def test_the_job_set_starts_as_many_processes_as_it_says(job_set, job, container):
    assert (job_set["apiVersion"], job_set["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert job["completionMode"] == "Indexed"
    command = container["command"][-1]
    assert int(re.search(r"--num_processes=(\d+)", command)[1]) == job["parallelism"]
    assert job["completions"] == job["parallelism"]
    name = job_set["metadata"]["name"]
    host = f"{name}-{job_set['spec']['replicatedJobs'][0]['name']}-0-0.{name}:"
    assert f"--coordinator={host}" in command


def test_the_job_of_the_job_set_is_valid_kubernetes(job):
    """Of JobSet itself, an extension, no schema is installed with a package."""
    validator = pytest.importorskip("kubernetes_validate")
    resource = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": job}
    validator.validate(resource, validator.latest_version(), strict=True)
    broken = {**resource, "spec": {**job, "backoffLimit": "none"}}
    with pytest.raises(validator.ValidationError):
        validator.validate(broken, validator.latest_version(), strict=True)


def test_the_pods_ask_for_what_they_use(container):
    asked, limits = container["resources"]["requests"], container["resources"]["limits"]
    workers = int(re.search(r"--config.workers=(\d+)", container["command"][-1])[1])
    assert int(asked["cpu"]) > workers
    assert asked["memory"] == limits["memory"]
    assert limits["nvidia.com/gpu"] == 8


def test_the_image_has_what_a_training_needs():
    lines = (CLUSTERS / "Dockerfile").read_text().splitlines()
    sources = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    assert {"jaxpose", "configs", "launch.py", "pyproject.toml"} <= set(sources)
    assert all((ROOT / name).exists() for name in sources)
    (version,) = [re.match(r"FROM python:3\.(\d+)-", line) for line in lines if "FROM" in line]
    assert int(version[1]) >= 12  # what JAX 0.11 needs


@pytest.mark.parametrize("file", ["Dockerfile", "tpu_vm.sh"])
def test_the_extras_that_are_installed_exist(file):
    text = (CLUSTERS / file).read_text()
    (named,) = re.findall(r"pip install .*\[([\w,$]+)\]", text)
    (default,) = re.findall(r"^ARG EXTRA=(\w+)$", text, re.MULTILINE) or [""]
    assert set(named.replace("$EXTRA", default).split(",")) <= EXTRAS.keys()
