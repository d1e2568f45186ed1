"""`make drill`: run the drills that are named, or all, and print what each counted."""

import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
os.environ.setdefault("DATABASE_URL", "sqlite://:memory:")

from drills import files, patroni, replication, upgrades, watching  # noqa: F401 - each registers its drills
from drills.report import DRILLS, NotHere, Report, limit


def run(name: str) -> Report | str:
    """Run one drill; return its report, or why it was left out."""
    function, seconds = DRILLS[name]
    report, began = Report(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="authsite-drill-") as folder:
        try:
            with limit(seconds):
                function(Path(folder), report)
        except NotHere as reason:
            return str(reason)
        except Exception:  # noqa: BLE001 - the other drills run all the same
            report.failures.append(traceback.format_exc())
            for log in Path(folder).glob("server-*.log"):
                report.failures.append(log.read_text()[-1500:])
    report.seconds = time.monotonic() - began
    return report


def row(name: str, report: Report) -> str:
    """Return a row of the table in docs/operations.md."""
    cells = [
        name,
        f"{report.asked:,}",
        f"{report.refused:,}",
        str(report.wrong),
        f"{report.outage:.1f} s" if report.asked else "–",
        "–" if report.lost is None else str(report.lost),
        "; ".join(report.said),
        report.counter,
    ]
    return f"| {' | '.join(cells)} |"


def main(names: list[str]) -> int:
    """Run drills, print the table, return how many failed."""
    failed, began, rows = 0, time.monotonic(), []
    for name in [name for name in DRILLS if not names or any(word in name for word in names)]:
        report = run(name)
        if isinstance(report, str):
            print(f"left out: {name}: {report}", flush=True)
            continue
        verdict = "FAILED" if report.failures else "passed"
        print(f"{verdict}: {name} ({report.seconds:.0f} s)", flush=True)
        for failure in report.failures:
            print(f"    {failure}", flush=True)
        failed += bool(report.failures)
        rows.append(row(name, report))
    print()
    print("| drill | asked | refused | wrong | longest outage | lost | counted | counter-test |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    print()
    print(f"{len(rows) - failed} passed, {failed} failed, in {time.monotonic() - began:.0f} s")
    return failed


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
