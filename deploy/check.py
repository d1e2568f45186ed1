"""Check what `deploy/` holds with the tools that will read it: `make deploy-check`.

A tool that is not installed is named and its check left out; `--strict` makes that a failure, too.
What an image is built on comes from `mmdebstrap`, so that no registry of images is needed.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
EXPOSURE = 2.0  # of systemd-analyze security: 0 is best, 10 is worst
KUBERNETES = "1.32"


class CheckFailed(Exception):
    """Something in `deploy/` is wrong."""


class Unavailable(Exception):
    """A tool is not installed here, or the machine does not let it work."""


def run(*command: str | Path, **options: Any) -> str:
    """Run a tool and return what it printed; raises CheckFailed with it where it fails."""
    if shutil.which(str(command[0])) is None:
        raise Unavailable(f"{command[0]} is not installed")
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **options,
    )
    if done.returncode:
        raise CheckFailed(f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}")
    return done.stdout


def certificate(folder: Path) -> None:
    """Make a certificate for what only starts with one: `tls.crt`, `tls.key`, `registry.pem`."""
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", "1", "-subj", "/CN=registry.example"),
        *("-keyout", folder / "tls.key", "-out", folder / "tls.crt"),
    )
    both = (folder / "tls.crt").read_text() + (folder / "tls.key").read_text()
    (folder / "registry.pem").write_text(both)


def check_prometheus(_folder: Path) -> str:
    """Check rules and configuration, and that each alert fires on what it is for."""
    rules = DEPLOY / "prometheus"
    run("promtool", "check", "config", rules / "prometheus.yml")
    run("promtool", "test", "rules", rules / "alerts_test.yml")
    return "rules, their tests, configuration"


def expressions() -> Iterable[str]:
    """Yield what the dashboard asks of Prometheus."""
    dashboard = json.loads((DEPLOY / "grafana" / "authsite.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")


def check_dashboard(folder: Path) -> str:
    """Check that Prometheus can read each of the dashboard's expressions."""
    asked = list(expressions())
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(asked)]
    file = folder / "dashboard.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    run("promtool", "check", "rules", file)
    return f"{len(asked)} expressions"


def check_systemd(folder: Path) -> str:
    """Check the units, and how much of the machine the service could reach."""
    for unit in (DEPLOY / "systemd").iterdir():
        text = unit.read_text().replace("/opt/authsite/.venv/bin/python", f'"{sys.executable}"')
        (folder / unit.name).write_text(text)
    run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *sorted(folder.iterdir()))
    text = run(
        *("systemd-analyze", "security", "--offline=true", "--no-pager"),
        *(f"--threshold={int(EXPOSURE * 10)}", DEPLOY / "systemd" / "authsite.service"),
    )
    return text.strip().splitlines()[-1].strip(" →")


def check_haproxy(folder: Path) -> str:
    certificate(folder)
    text = (DEPLOY / "haproxy" / "haproxy.cfg").read_text()
    (folder / "haproxy.cfg").write_text(text.replace("/etc/haproxy/", f"{folder}/"))
    run("haproxy", "-c", "-f", folder / "haproxy.cfg")
    return "configuration"


def check_nginx(folder: Path) -> str:
    """Check nginx's configuration; before 1.25 it has no `http2` directive, which is left out."""
    certificate(folder)
    text = (DEPLOY / "nginx" / "authsite.conf").read_text()
    text = re.sub(r"/run/secrets/|/tmp/", f"{folder}/", text)
    text = text.replace("server authsite:", "server 127.0.0.1:")
    version = re.search(r"nginx/1\.(\d+)", run("nginx", "-v"))
    if version and int(version[1]) < 25:
        text = text.replace("http2 on;", "")
    (folder / "nginx.conf").write_text(text)
    run("nginx", "-t", "-q", "-c", folder / "nginx.conf", "-p", folder)
    return "configuration"


def check_pgbouncer(folder: Path) -> str:
    """Start PgBouncer on its configuration, with a port and files of its own, and end it."""
    text = (DEPLOY / "pgbouncer" / "pgbouncer.ini").read_text()
    (folder / "userlist.txt").write_text('"authsite" "secret"\n')
    text = text.replace("/etc/pgbouncer/", f"{folder}/").replace(
        "listen_addr = 127.0.0.1", f"unix_socket_dir = {folder}"
    )
    (folder / "pgbouncer.ini").write_text(text)
    folder.chmod(0o777)
    account = ["-u", "nobody"] if os.geteuid() == 0 else []
    if shutil.which("pgbouncer") is None:
        raise Unavailable("pgbouncer is not installed")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["pgbouncer", *account, str(folder / "pgbouncer.ini")],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
    said = (folder / "log").read_text()
    wrong = [line for line in said.splitlines() if re.search(r" (ERROR|FATAL|WARNING) ", line)]
    wrong = [line for line in wrong if "MaxFiles" not in line and "max_client_conn" not in line]
    if wrong or "process up" not in said:
        raise CheckFailed(said)
    return "starts, no setting unknown"


def check_patroni(folder: Path) -> str:
    """Check Patroni's configuration with its own validator, as far as it needs no PostgreSQL."""
    config = yaml.safe_load((DEPLOY / "patroni" / "patroni.yml").read_text())
    # What names machines, folders and devices of a real node is left out of the validation.
    config["restapi"] = {"listen": "127.0.0.1:0", "connect_address": "127.0.0.1:8008"}
    del config["watchdog"]
    (folder / "data").mkdir()
    config["postgresql"] |= {"data_dir": str(folder / "data")}
    (folder / "patroni.yml").write_text(yaml.safe_dump(config))
    try:
        beside = Path(sys.executable).with_name("patroni")  # in the virtual environment
        program = beside if beside.exists() else "patroni"
        run(program, "--validate-config", folder / "patroni.yml")
    except CheckFailed as failure:
        lines = [line for line in str(failure).splitlines()[1:] if line.strip()]
        real = [line for line in lines if not re.search(EXPECTED_OF_PATRONI, line)]
        if real:
            raise CheckFailed("\n".join(real)) from None
    return "patroni --validate-config"


# Nothing listens at the example's addresses, and PostgreSQL's programs are elsewhere here.
EXPECTED_OF_PATRONI = "is not reachable|didn't pass validation|does not exist|bin_dir|bin_name"


def check_compose(folder: Path) -> str:
    """Check the compose file with Docker's client, whichever is here."""
    text = (DEPLOY / "compose" / "compose.yaml").read_text()
    for command in (["docker", "compose"], ["docker-compose"]):
        try:
            version = run(*command, "version", "--short").strip()
        except (CheckFailed, Unavailable):
            continue  # none, or a client without the plugin
        if version.startswith("1."):  # which knows no `name`
            text = re.sub(r"^name: .*\n", "", text, flags=re.MULTILINE)
        (folder / "compose.yaml").write_text(text)
        run(*command, "--file", folder / "compose.yaml", "config")
        return f"{' '.join(command)} {version}"
    raise Unavailable("no client of compose is installed")


def check_kubernetes(_folder: Path) -> str:
    """Build the manifests and validate each against Kubernetes' schemas."""
    built = run("kubectl", "kustomize", DEPLOY / "kustomize" / "overlays" / "example")
    try:
        import kubernetes_validate
    except ImportError:
        raise Unavailable("kubernetes-validate is not installed") from None
    manifests = [manifest for manifest in yaml.safe_load_all(built) if manifest]
    for manifest in manifests:
        try:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise CheckFailed(f"{manifest['kind']}: {error}") from None
    return f"{len(manifests)} manifests, Kubernetes {KUBERNETES}"


def check_image(folder: Path) -> str:
    """Build the image on a Debian made here, and ask its program for its version and its checks."""
    if shutil.which("buildah") is None:
        raise Unavailable("buildah is not installed")
    base, wheels = folder / "base.tar", folder / "wheels"
    run(
        *("mmdebstrap", "--quiet", "--variant=minbase"),
        *("--include=python3,python3-venv", "bookworm", base),
        env={**os.environ, "TMPDIR": "/var/tmp"},
    )
    # What the base's Python needs, whichever this one is: all that the lock names.
    locked = (ROOT / "requirements.txt").read_text()
    (folder / "requirements.txt").write_text(re.sub(r" ;[^\\\n]*", " ", locked))
    platforms = [
        f"--platform=manylinux{tag}_{os.uname().machine}"
        for tag in ("2014", "_2_17", "_2_24", "_2_26", "_2_28", "_2_34")
    ]
    run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
        *("--only-binary=:all:", "--python-version=3.11", "--implementation=cp", *platforms),
        *("--requirement", folder / "requirements.txt", "--dest", wheels),
    )
    place = {**os.environ, "TMPDIR": str(folder), "BUILDAH_ISOLATION": "chroot"}
    storage = ("--storage-driver=vfs", f"--root={folder}/storage", f"--runroot={folder}/run")

    def buildah(*words: str | Path) -> str:
        return run("buildah", *storage, *words, env=place, cwd=ROOT)

    try:
        made = buildah("from", "scratch").strip()
        buildah("add", "--quiet", made, base, "/")
        buildah("commit", "--quiet", made, "localhost/debian")
        buildah("rm", made)
        buildah(
            *("bud", "--quiet", "--file", DEPLOY / "Containerfile", "--tag", "authsite"),
            *("--build-arg", "BASE=localhost/debian", "--volume", f"{wheels}:/wheels:ro"),
            *("--build-arg", "PIP_OPTIONS=--no-index --find-links=/wheels", "."),
        )
        inspected = ("inspect", "--format", "{{.OCIv1.Config.User}}", "--type", "image")
        user = buildah(*inspected, "authsite")
        if user.strip().partition(":")[0] in {"", "0", "root"}:
            raise CheckFailed("the image runs as root")
        made = buildah("from", "--pull-never", "authsite").strip()
        variables = {
            "SECRET_KEY": f"{'k' * 20}{os.urandom(20).hex()}",
            "PEPPERS": "a:bmV3ZXN0IHBlcHBlciBmb3IgdGVzdHMsIDMyIGJ5dGVz",
            "DATABASE_URL": "postgres://a@127.0.0.1:1/a",
            "ALLOWED_HOSTS": "a.example",
        }
        checked = buildah(
            *("run", "--user", "10001:10001"),
            *(f"--env={name}={value}" for name, value in variables.items()),
            *("--", made, "/opt/authsite/.venv/bin/python", "/opt/authsite/manage.py", "check"),
        )
        return f"built, not root; its own check: {checked.strip().splitlines()[-1]}"
    finally:  # by its own hand: to anybody but root, files of the layers belong to others
        buildah("rm", "--all")
        buildah("rmi", "--all", "--force")


CHECKS: dict[str, Callable[[Path], str]] = {
    "prometheus": check_prometheus,
    "dashboard": check_dashboard,
    "systemd": check_systemd,
    "haproxy": check_haproxy,
    "nginx": check_nginx,
    "pgbouncer": check_pgbouncer,
    "patroni": check_patroni,
    "compose": check_compose,
    "kubernetes": check_kubernetes,
    "image": check_image,
}


def main() -> int:
    """Run the checks that are named, all of them by default; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*CHECKS, []], help="which; all unless named")
    parser.add_argument("--strict", action="store_true", help="a tool that is missing is a failure")
    options = parser.parse_args()
    failed = 0
    for name in options.names or CHECKS:
        with tempfile.TemporaryDirectory(prefix="authsite-deploy-", dir="/var/tmp") as folder:
            try:
                said = "ok: " + CHECKS[name](Path(folder))
            except Unavailable as reason:
                failed += options.strict
                said = f"LEFT OUT: {reason}"
            except CheckFailed as failure:
                failed += 1
                said = f"FAILED: {failure}"
        print(f"{name:<11} {said}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
