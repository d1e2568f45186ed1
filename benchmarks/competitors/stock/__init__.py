"""A Django project: the device verifier in stock REST framework, and empty views.

The verifier is what the framework's tutorial leads to: a serializer, ORM queries, and Django's
default password hasher (PBKDF2). The empty views show what the server, Django and REST framework
cost without a line of this project.
"""
