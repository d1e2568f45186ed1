"""The site's own rows: Django finds the models of an app in this module."""

from authsite.accounts.account import Account
from authsite.accounts.sign_on.models import ExternalIdentity
from authsite.accounts.tokens.models import ApiToken, RuleUse
from authsite.accounts.tokens.service_account import ServiceAccount

__all__ = ["Account", "ApiToken", "ExternalIdentity", "RuleUse", "ServiceAccount"]
