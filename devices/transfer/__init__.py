"""Devices and groups in and out of files (docs/transfer.md).

`tables` reads and writes files, by `texts` and `workbooks`; `columns` knows what their cells mean.
`importing` takes in a file, its rows by way of `rows`, `group_rows` and `credential_cells`.
"""
