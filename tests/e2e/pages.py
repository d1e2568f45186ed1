"""The pages that staff see, by name: what the tests look at, and the pictures in the docs.

`/admin/` paths of the furnished registry (`tests.e2e.furnish`); whoever adds a page adds a line.
"""

PAGES = {
    "home": "/admin/",
    "devices": "/admin/devices/device/",
    "device": "/admin/devices/device/1/change/",
    "add-device": "/admin/devices/device/add/",
    "delete-device": "/admin/devices/device/2/delete/",
    "device-history": "/admin/devices/device/1/history/",
    "issue-key": "/admin/devices/device/1/issue-key/",
    "rotate-keys": "/admin/devices/device/1/rotate-keys/",
    "groups": "/admin/devices/devicegroup/",
    "keys": "/admin/devices/presharedkey/",
    "key": "/admin/devices/presharedkey/1/change/",
    "revoke-key": "/admin/devices/presharedkey/1/revoke/",
    "certificates": "/admin/devices/certificate/",
    "certificate": "/admin/devices/certificate/1/change/",
    "add-certificate": "/admin/devices/certificate/add/",
    "anchors": "/admin/devices/certificateauthority/",
    "anchor": "/admin/devices/certificateauthority/1/change/",
    "add-anchor": "/admin/devices/certificateauthority/add/",
    "rules": "/admin/acl/commandpermission/",
    "rule": "/admin/acl/commandpermission/1/change/",
    "add-rule": "/admin/acl/commandpermission/add/",
    "explain": (
        "/admin/acl/commandpermission/explain/?source=//api.cesanta.com/device_123"
        "&destination=//api.cesanta.com/misslecontrol&command=/v1/Nuke.Launch"
    ),
    "report": "/admin/acl/commandpermission/report/",
    "try-credential": "/admin/devices/device/try-credential/",
    "command-sets": "/admin/acl/commandset/",
    "assertions": "/admin/acl/assertion/",
    "calls": "/admin/rpc/callrecord/",
    "call": "/admin/rpc/callrecord/1/change/",
    "history": "/admin/history/",
    "search": "/admin/search/?q=b",
    "search-nothing": "/admin/search/?q=nothing",
    "app": "/admin/devices/",
    "staff": "/admin/auth/user/",
    "staff-member": "/admin/auth/user/1/change/",
    "tokens": "/admin/authsite/apitoken/",
    "token": "/admin/authsite/apitoken/1/change/",
    "add-token": "/admin/authsite/apitoken/add/",
    "end-token": "/admin/authsite/apitoken/1/end/",
    "service-accounts": "/admin/authsite/serviceaccount/",
    "service-account": "/admin/authsite/serviceaccount/1/change/",
    "add-service-account": "/admin/authsite/serviceaccount/add/",
    "password": "/admin/password_change/",
}
