from typing import Any

from django.core.management.base import CommandError, CommandParser

from acl.analysis import what_if
from acl.models import CommandPermission
from acl.models.command_permission import Effect
from acl.notation import read_rule
from devices.management.base import RegistryCommand, fields_of, moment, named, number


class Command(RegistryCommand):
    help = (
        "List every answer that a rule would change, and every saved assertion that it would\n"
        "break, without saving it. Tried against the requests of the saved assertions, those\n"
        "seen of late and, with --requests, of FILE (SOURCE DESTINATION COMMAND a line).\n"
        "Exit code 1: something changes."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--source", metavar="X", help="who sends")
        parser.add_argument("--destination", metavar="Y", help="who receives")
        parser.add_argument("--command", metavar="PATTERN", help="what is sent")
        parser.add_argument("--deny", action="store_true", help="deny it instead of allowing it")
        parser.add_argument(
            "--remove", type=number, metavar="RULE", help="a rule's number: drop it"
        )
        parser.add_argument("--requests", type=named, metavar="FILE", help="more requests to try")
        parser.add_argument(
            "--at", type=moment, metavar="TIME", help="compare the answers of then, not of now"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        change = self._change(options)
        lines = self.text(options["requests"]).splitlines() if options["requests"] else []
        requests = what_if.read_requests(lines) | what_if.known_requests()
        consequences = what_if.consequences_of(change, requests, now=options["at"])
        changed_decisions, broken = consequences.changed_decisions, consequences.broken
        self.answer(
            "\n".join(
                [
                    *map(str, changed_decisions),
                    *(f"breaks: {one}" for one in broken),
                    f"{len(changed_decisions)} of {len(requests)} answers change.",
                ]
            ),
            {
                "tried": len(requests),
                "flips": [
                    {
                        **changed.request._asdict(),
                        "before": changed.before.allowed,
                        "after": changed.after.allowed,
                        **fields_of(changed, "asked", "begins"),
                    }
                    for changed in changed_decisions
                ],
                "broken": [str(one) for one in broken],
            },
            yes=not changed_decisions and not broken,
        )

    @staticmethod
    def _change(options: dict[str, Any]) -> what_if.Change:
        wanted = {name: options[name] for name in ("source", "destination", "command")}
        given = [value for value in wanted.values() if value is not None]
        is_removal = options["remove"] is not None
        if len(given) != (0 if is_removal else len(wanted)) or (is_removal and options["deny"]):
            raise CommandError(
                "give --source, --destination and --command, or --remove alone", returncode=2
            )
        if is_removal:
            try:
                return what_if.removing(CommandPermission.objects.get(pk=options["remove"]))
            except CommandPermission.DoesNotExist:
                raise CommandError(f"there is no rule #{options['remove']}", returncode=1) from None
        rule = read_rule(**wanted, effect=Effect.DENY if options["deny"] else Effect.ALLOW)
        rule.full_clean()
        return what_if.saving(rule)
