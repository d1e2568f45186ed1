"""Drills of copies and logs: backup and restore, what an outage writes."""

import time
from pathlib import Path

from drills.probe import Client, register
from drills.report import Report, drill
from drills.sites import migrated

REFUSALS = 400
BYTES = 200  # of log a refusal, at most


@drill("an outage's log", seconds=90)
def outage(folder: Path, report: Report) -> None:
    """Stop the database and ask on: the log grows by little, and by something."""
    with migrated(folder, standbys=0) as (nodes, server):
        devices = register(server, 4)
        with server:
            client = Client(server)
            report.must(client.ask(devices[0]).code == "OK", "a good device was refused")
            before = server.log_path.stat().st_size
            nodes.primary.kill()
            answers = [client.ask(devices[number % 4]) for number in range(REFUSALS)]
            report.asked, report.refused = len(answers) + 1, len(answers)
            codes = {answer.code for answer in answers}
            report.must(codes == {"INTERNAL_SERVER_ERROR"}, f"it answered {codes}")
            grown = server.log_path.stat().st_size - before
            slowest = max(answer.answered - answer.asked for answer in answers)
            nodes.primary.start()
            began = time.monotonic()
            while client.ask(devices[0]).code != "OK" and time.monotonic() < began + 10:
                time.sleep(0.02)
            back = time.monotonic() - began
        report.outage = answers[-1].answered - answers[0].asked + back
        report.must(grown / REFUSALS <= BYTES, f"{grown / REFUSALS:.0f} bytes a refusal")
        report.must(grown > 0, "nothing was logged: the drill could not have failed")
        report.counter = f"{grown:,} bytes were logged"
        report.say(
            f"{grown / REFUSALS:.0f} bytes of log a refusal, slowest {slowest:.2f} s, right again "
            f"{back:.2f} s after the database"
        )
