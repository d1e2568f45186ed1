"""Options of commands, for those too that run before Django is set up."""

# What every command of Django takes. It works, and stands in the way in the help of ours.
DJANGO_OPTIONS = {
    "--force-color",
    "--no-color",
    "--pythonpath",
    "--settings",
    "--skip-checks",
    "--traceback",
    "--verbosity",
    "--version",
}
