"""The addresses of command permissions, beside those of `devices.api.urls`."""

from django.urls import path

from acl.api.as_code import PermissionsDocumentView
from acl.api.assertions import AssertionViewSet
from acl.api.questions import DecideView, ExplainView, LintView, WhatIfView
from acl.api.rules import CommandSetViewSet, RuleViewSet
from devices.api.base.views import router

router.register("rules", RuleViewSet)
router.register("command-sets", CommandSetViewSet)
router.register("assertions", AssertionViewSet)

urlpatterns = [
    path("decide", DecideView.as_view()),
    path("explain", ExplainView.as_view()),
    path("what-if", WhatIfView.as_view()),
    path("lint", LintView.as_view()),
    path("permissions-document", PermissionsDocumentView.as_view()),
]
