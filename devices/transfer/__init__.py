"""Devices and groups in and out of files (docs/transfer.md).

`formats` and `workbooks` know the files, `columns` what their cells mean.
"""
