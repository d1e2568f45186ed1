"""Files in forms: how much of them is taken, and from whom."""

from typing import Any

from django.core.files.uploadhandler import FileUploadHandler, SkipFile

from devices.credentials.crl import MAX_LIST_BYTES


class UploadLimit(FileUploadHandler):
    """Drops the files of strangers, and of others what is beyond the longest that a page takes.

    Django reads a form, and with it its files, to look for the token that says that a page of ours
    sent it: before anybody asks who may send any. What is longer than 2.5 MB goes to the disk, and
    nothing bounds it. The page that imports devices has a handler of its own.
    """

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        """Leave out a file of whoever is not signed in; the form's other fields are read."""
        super().new_file(*args, **kwargs)
        user = getattr(self.request, "user", None)
        if user is None or not user.is_authenticated:
            raise SkipFile

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        """Hand on so much that the page can say that the file is too long."""
        return raw_data if start <= MAX_LIST_BYTES else None

    def file_complete(self, file_size: int) -> None:
        """Leave it to the next handler."""
