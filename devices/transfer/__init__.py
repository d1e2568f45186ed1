"""Devices and groups in and out of files (docs/transfer.md).

`formats` and `workbooks` know the files, `columns` what their cells mean. `importing` takes in a
file, its rows by way of `rows`, `group_rows` and `credential_cells`; what is wrong with them goes
to `findings`.
"""
