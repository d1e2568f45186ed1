import signal
import threading
from typing import Any

from django.core.management.base import CommandParser

from devices.events.delivering import deliverer
from devices.management.base import RegistryCommand, seconds


class Command(RegistryCommand):
    help = (
        "Call webhooks with the events of the registry, and announce credentials that expire.\n"
        "Runs in the foreground; SIGTERM and SIGINT end it once running attempts are over.\n"
        "Several may run, on one machine or on many."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seconds", type=seconds, help="end by itself after so long")

    def handle(self, *args: Any, **options: Any) -> None:
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, lambda *_signal: ended.set())
        timer = None
        if options["seconds"] is not None:
            timer = threading.Timer(options["seconds"], ended.set)
            timer.start()
        deliverer.run_for_ever(ended.is_set)
        if timer is not None:
            timer.cancel()
        deliverer.close()
