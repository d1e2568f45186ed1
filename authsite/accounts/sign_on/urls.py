"""Where sign-on answers, below `/admin/sign-on/`."""

from django.urls import path

from authsite.accounts.sign_on import views

app_name = "sign_on"

urlpatterns = [
    path("", views.begin, name="begin"),
    path("callback/", views.callback, name="callback"),
    path("confirm/", views.confirm, name="confirm"),
    path("signed-out/", views.signed_out, name="signed_out"),
    path("back-channel-logout/", views.back_channel_logout, name="back_channel_logout"),
]
