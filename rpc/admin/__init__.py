"""What staff see of calls; importing it registers the pages."""

from rpc.admin import call_record, rtio  # noqa: F401
