"""The journal of calls and RTIO over the API."""
