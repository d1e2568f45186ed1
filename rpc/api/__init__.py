"""The journal of calls and RTIO over the API, and how its document describes what machines call."""
