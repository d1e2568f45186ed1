"""Tokens of the API: whose they are, what they may do, and how one is verified. (docs/tokens.md)"""

from authsite.accounts.tokens.authentication import TokenAuthentication

__all__ = ["TokenAuthentication"]
