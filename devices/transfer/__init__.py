"""Devices and groups in and out of files (docs/transfer.md).

`tables` knows the formats, `imports` and `exports` what the columns mean.
"""
