"""Sign-on of staff with accounts of their company: docs/sign-on.md.

A provider of OpenID Connect, a directory (LDAP) or a trusted proxy says who somebody is and which
groups they are in; `identities` turns that into an account with roles, the same way for all three.
"""
