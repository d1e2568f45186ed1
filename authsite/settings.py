"""The one settings file; every deployment difference comes from the environment.

`env.read(NAME, what it must be, default)` reads a variable; `.env.example` lists and explains each.
Required ones have no default: a missing key stops the start with a message that says how to make
it.
"""

import importlib.util
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from authsite import readers
from authsite.env import Environment

# Bounds of what may be chosen: a number beyond them is a typing error.
DAY = 24 * 60 * 60
YEAR = 365 * DAY  # seconds
MAX_WAIT = 60 * 60  # seconds

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment(BASE_DIR / ".env")

SECRET_KEY = env.read(
    "SECRET_KEY",
    readers.secret._replace(
        how="It signs sessions of staff. Make one with: "
        'python3 -c "import secrets; print(secrets.token_urlsafe(50))"'
    ),
    None,
)
PEPPERS = env.read("PEPPERS", readers.peppers, None)

DEBUG = env.read("DEBUG", readers.flag, "off")
ALLOWED_HOSTS = env.read("ALLOWED_HOSTS", readers.hosts)
CSRF_TRUSTED_ORIGINS = env.read("CSRF_TRUSTED_ORIGINS", readers.origins)

# Who may ask the machine endpoints without a credential, and whose forwarding header is believed.
BACKEND_NETWORKS = tuple(env.read("BACKEND_NETWORKS", readers.networks))
TRUSTED_PROXIES = tuple(env.read("TRUSTED_PROXIES", readers.networks))
FORWARDED_FOR_HEADER = env.read("FORWARDED_FOR_HEADER", readers.header, "X-Forwarded-For")
CLIENT_CERT_HEADER = env.read("CLIENT_CERT_HEADER", readers.header)

# What `/jwtissuer` signs tokens for apps with: rpc/rtio/tokens.py. Without a key it is off.
JWT_SIGNING_KEYS = env.read("JWT_SIGNING_KEYS", readers.signing_keys)
JWT_MAX_SECONDS = env.read("JWT_MAX_SECONDS", readers.number(1, 10 * YEAR, "seconds"), 7 * DAY)

INSTALLED_APPS = [
    "authsite.apps.AuthsiteConfig",
    "rpc.apps.RpcConfig",
    "acl.apps.AclConfig",
    "devices.apps.DevicesConfig",
    "authsite.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "authsite.apps.LoginsConfig",
    "django_otp",
    "django_otp.plugins.otp_static",
    "django_otp.plugins.otp_totp",
    "django_otp_webauthn",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]

MIDDLEWARE = [
    "rpc.wsgi.MachineEndpoints",  # first: what follows is for browsers
    "authsite.middleware.ContentSecurityPolicy",
    "authsite.middleware.RejectMalformed",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "authsite.middleware.SessionLimits",
    "authsite.accounts.sign_on.proxy.ProxySignOn",
    "django_otp.middleware.OTPMiddleware",
    "authsite.middleware.RequireLogin",
    "authsite.middleware.SayConflicts",  # before the next, which is asked about an error first
    "authsite.middleware.RecordHistoryContext",
    "django.contrib.messages.middleware.MessageMiddleware",
    "authsite.middleware.SayUnconfirmed",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "authsite.urls"
WSGI_APPLICATION = "authsite.wsgi.application"
LOGIN_URL = "admin:login"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


def database(name: str) -> dict[str, Any]:
    """Return a database: SQLite beside the code unless a variable of that name says another."""
    config = env.read(name, readers.database, f"sqlite:///{BASE_DIR / 'db.sqlite3'}")
    options = config.setdefault("OPTIONS", {})
    if config["ENGINE"].endswith("sqlite3"):
        config["ENGINE"] = "devices.database.sqlite3"
        # Readers never wait for a writer (WAL); a writer takes its lock at BEGIN and waits for
        # another one, so that two processes can write without "database is locked".
        options.setdefault("transaction_mode", "IMMEDIATE")
        options.setdefault("timeout", 5)
        # Up to 256 MiB of the file are mapped into memory: no call to the system copies a page.
        options.setdefault(
            "init_command",
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA mmap_size=268435456",
        )
    else:
        config["ENGINE"] = "devices.database.postgresql"
        # RTIO waits 5 s in all: an unreachable server must be noticed well before.
        options.setdefault("connect_timeout", 2)
        options.setdefault("tcp_user_timeout", 3000)
        # Who waits for an answer sends nothing, and would not notice that the machine is gone.
        options.setdefault("keepalives_idle", 5)
        options.setdefault("keepalives_interval", 1)
        config["DISABLE_SERVER_SIDE_CURSORS"] = DATABASE_POOLER
        if PREPARED_STATEMENTS:
            options.setdefault("prepare_threshold", 5)  # Django's own default is never
    config["CONN_MAX_AGE"] = None
    config["CONN_HEALTH_CHECKS"] = True
    return config


# A pooler gives each transaction another connection: nothing may be set, or kept, for a session.
DATABASE_POOLER = env.read("DATABASE_POOLER", readers.flag, "off")
PREPARED_STATEMENTS = env.read("PREPARED_STATEMENTS", readers.flag, not DATABASE_POOLER)
DATABASES = {"default": database("DATABASE_URL")}
# What machines ask is asked of a standby while it is no further behind than so many seconds.
if env.read("ANSWERS_URL", readers.secret):
    DATABASES["answers"] = database("ANSWERS_URL")
    if any(one["ENGINE"].endswith("sqlite3") for one in DATABASES.values()):
        raise ImproperlyConfigured(
            "ANSWERS_URL must be a URL of a standby of the PostgreSQL that DATABASE_URL names."
        )
ANSWERS_LEASE = env.read("ANSWERS_LEASE", readers.number(1, MAX_WAIT, "seconds"), 2)
# Seconds that a change waits for standbys before it is shown as not confirmed; 0: without end.
CONFIRM_SECONDS = env.read("CONFIRM_SECONDS", readers.number(0, MAX_WAIT, "seconds"), 3)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Failures per entity are counted here; a cache shared by all processes makes the count exact.
CACHES = {"default": env.read("CACHE_URL", readers.cache, "locmemcache://")}
if CACHES["default"]["BACKEND"].endswith(("LocMemCache", "DatabaseCache", "FileBasedCache")):
    # Without room, a flood of unknown identifiers would push the counters of a victim out.
    CACHES["default"].setdefault("OPTIONS", {}).setdefault("MAX_ENTRIES", 100_000)
elif CACHES["default"]["BACKEND"].endswith("RedisCache"):
    # One that hangs costs a guess, or a request of the API, so many seconds: RTIO waits 5 s in all.
    for option in ("socket_connect_timeout", "socket_timeout"):
        CACHES["default"].setdefault("OPTIONS", {}).setdefault(option, 0.5)
    CACHES["default"]["OPTIONS"]["pool_class"] = "devices.database.cache.ConnectionPool"

# --- Staff's accounts: docs/accounts.md ---

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",  # first: an account that is locked out costs no hash
    "authsite.accounts.sign_on.break_glass.PasswordPolicy",  # which accounts may use a password
    "django.contrib.auth.backends.ModelBackend",
    "authsite.accounts.second_factor.CodeBackend",
    "authsite.accounts.sign_on.sessions.SignedOnBackend",
    "authsite.accounts.missing_roles.DeniedPermissions",  # last: asked for what is denied
]
SESSION_ENGINE = "authsite.accounts.sessions"
LOGIN_REDIRECT_URL = "admin:index"
PASSWORD_HASHERS = [
    "authsite.accounts.login.StaffHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",  # hashed again at the next login
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": name}
    for name in (
        "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        "authsite.accounts.events.RecordedMinimumLength",
        "django.contrib.auth.password_validation.CommonPasswordValidator",
        "django.contrib.auth.password_validation.NumericPasswordValidator",
    )
]

# On by default: cookies travel over TLS only, and browsers are sent there. The machine endpoints
# never redirect, whatever this says.
HTTPS = env.read("HTTPS", readers.flag, "on")
SECURE_SSL_REDIRECT = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
if HTTPS:  # so named, browsers take them from this very host and by TLS alone (RFC 6265bis)
    SESSION_COOKIE_NAME = "__Host-sessionid"
    CSRF_COOKIE_NAME = "__Host-csrftoken"
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SILENCED_SYSTEM_CHECKS = [
    "security.W005",  # other hosts of the domain are not ours
    "security.W021",  # likewise
    "otp_webauthn.E030",  # authsite/accounts/passkeys.py takes the origin from the request
]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None

minutes, hours = readers.number(1, YEAR // 60, "minutes"), readers.number(1, YEAR // 3600, "hours")
SESSION_COOKIE_AGE = env.read("STAFF_IDLE_MINUTES", minutes, 60) * 60
STAFF_SESSION_SECONDS = env.read("STAFF_SESSION_HOURS", hours, 12) * 3600
STAFF_CONFIRM_SECONDS = env.read("STAFF_CONFIRM_MINUTES", minutes, 15) * 60

AXES_FAILURE_LIMIT = env.read("STAFF_LOGIN_FAILURES", readers.number(1, 1_000_000), 5)
AXES_COOLOFF_TIME = timedelta(minutes=env.read("STAFF_LOCKOUT_MINUTES", minutes, 15))
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]  # a stranger locks himself out, not staff
AXES_USERNAME_CALLABLE = "authsite.accounts.views.counted_as"
AXES_CLIENT_IP_CALLABLE = "authsite.accounts.login.client_address"
AXES_LOCKOUT_CALLABLE = "authsite.accounts.login.lockout_response"
AXES_RESET_ON_SUCCESS = False  # a second factor may still be missing: accounts/login.py
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # a wait that was promised ends
AXES_VERBOSE = False

# --- Sign-on with accounts of the company: docs/sign-on.md ---

OIDC_ISSUER = env.read("OIDC_ISSUER", readers.web_address)
OIDC_CLIENT_ID = env.read(
    "OIDC_CLIENT_ID",
    readers.text._replace(
        how="OIDC_ISSUER needs the name by which the provider knows the registry."
    ),
    None if OIDC_ISSUER else "",
)
OIDC_CLIENT_SECRET = env.read("OIDC_CLIENT_SECRET", readers.secret)
OIDC_SCOPES = env.read("OIDC_SCOPES", readers.scopes, "openid profile")
OIDC_OTHER_HOSTS = env.read("OIDC_OTHER_HOSTS", readers.hosts_with_ports)
OIDC_NAME_CLAIM = env.read("OIDC_NAME_CLAIM", readers.text, "preferred_username")
OIDC_ROLES_CLAIM = env.read("OIDC_ROLES_CLAIM", readers.text, "groups")
OIDC_ROLES = env.read("OIDC_ROLES", readers.roles)
OIDC_ACR = env.read("OIDC_ACR", readers.words)
OIDC_CONFIRM_ACR = env.read("OIDC_CONFIRM_ACR", readers.words) or OIDC_ACR
OIDC_SECOND_FACTOR = env.read("OIDC_SECOND_FACTOR", readers.words) or ["mfa"]
OIDC_LABEL = env.read("OIDC_LABEL", readers.text)

LDAP_URL = env.read("LDAP_URL", readers.directory)
LDAP_START_TLS = env.read("LDAP_START_TLS", readers.flag, "on")
readers.starts_tls(LDAP_URL, wanted=LDAP_START_TLS)
LDAP_CA_FILE = env.read("LDAP_CA_FILE", readers.readable_file)
LDAP_BIND_DN = env.read("LDAP_BIND_DN", readers.text)
LDAP_BIND_PASSWORD = env.read("LDAP_BIND_PASSWORD", readers.secret)
needed_with_ldap = None if LDAP_URL else ""
LDAP_USER_BASE = env.read("LDAP_USER_BASE", readers.directory_base, needed_with_ldap)
LDAP_USER_FILTER = env.read("LDAP_USER_FILTER", readers.directory_filter, "(uid=%(user)s)")
LDAP_NAME_ATTRIBUTE = env.read("LDAP_NAME_ATTRIBUTE", readers.attribute, "uid")
LDAP_ID_ATTRIBUTE = env.read("LDAP_ID_ATTRIBUTE", readers.attribute, "entryUUID")
LDAP_GROUP_BASE = env.read("LDAP_GROUP_BASE", readers.directory_base, needed_with_ldap)
group_type = readers.choice("groupofnames", "groupofuniquenames", "posixgroup", "activedirectory")
LDAP_GROUP_TYPE = env.read("LDAP_GROUP_TYPE", group_type, "groupofnames")
LDAP_NESTED_GROUPS = env.read("LDAP_NESTED_GROUPS", readers.flag, "off")
LDAP_ROLES = env.read("LDAP_ROLES", readers.roles)
if LDAP_URL:
    if importlib.util.find_spec("django_auth_ldap") is None:
        raise ImproperlyConfigured(
            "LDAP_URL is set, and what asks a directory is not installed: docs/sign-on.md, LDAP."
        )
    # Before the passwords of this registry, which may be for emergencies only.
    AUTHENTICATION_BACKENDS.insert(1, "authsite.accounts.sign_on.directory.DirectoryBackend")

PROXY_USER_HEADER = env.read("PROXY_USER_HEADER", readers.plain_header)
PROXY_GROUPS_HEADER = env.read("PROXY_GROUPS_HEADER", readers.plain_header)
PROXY_ROLES = env.read("PROXY_ROLES", readers.roles)
if PROXY_USER_HEADER and not TRUSTED_PROXIES:
    raise ImproperlyConfigured(
        "PROXY_USER_HEADER needs TRUSTED_PROXIES, which alone may send it and names nobody."
    )

# The only accounts that log in with a password of this registry, where any are named.
BREAK_GLASS_ACCOUNTS = env.read("BREAK_GLASS_ACCOUNTS", readers.words)

second_factor = readers.choice("off", "optional", "required")
STAFF_SECOND_FACTOR = env.read("STAFF_SECOND_FACTOR", second_factor, "off")
OTP_TOTP_ISSUER = "Authsite"
OTP_ADMIN_HIDE_SENSITIVE_DATA = True
OTP_WEBAUTHN_RP_NAME = "Authsite"
OTP_WEBAUTHN_RP_ID_CALLABLE = "authsite.accounts.second_factor.relying_party"
OTP_WEBAUTHN_HELPER_CLASS = "authsite.accounts.passkeys.RequestOriginHelper"
OTP_WEBAUTHN_ALLOW_PASSWORDLESS_LOGIN = False
X_FRAME_OPTIONS = "DENY"

SIMPLE_HISTORY_DATE_INDEX = False  # devices/history/models.py has indexes of its own

REST_FRAMEWORK = {
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,  # `format` is a parameter like any other
    "DEFAULT_AUTHENTICATION_CLASSES": ["authsite.accounts.tokens.TokenAuthentication"],
    "DEFAULT_SCHEMA_CLASS": "authsite.api.schema.RegistrySchema",
}
# The OpenAPI document, which authsite/api/document.py serves.
SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "Authsite",
    "VERSION": "1.0",
    "SERVERS": [{"url": "/"}],
    "SCHEMA_PATH_PREFIX": "/api/v1/",
    "COMPONENT_SPLIT_REQUEST": True,  # what is only read stands in no request
    "ENUM_NAME_OVERRIDES": {
        "DeviceKindEnum": "devices.models.Device.Kind",
        "ChangeKindEnum": "devices.history.ChangeType",
        "OutcomeEnum": "devices.verdicts.Outcome",
    },
    "POSTPROCESSING_HOOKS": [
        "authsite.api.schema.add_common_parts",
        "rpc.api.openapi.add_machine_endpoints",
    ],
}
# Requests that a token may make in a minute; 0: any number.
API_RATE = env.read("API_RATE", readers.number(0, 1_000_000), 600)

LANGUAGE_CODE = "en"  # of commands and logs; pages are in the reader's: docs/translation.md
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LANGUAGE_COOKIE_AGE = 365 * 24 * 60 * 60
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SECURE = HTTPS
LANGUAGE_COOKIE_SAMESITE = "Lax"
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
FORMAT_MODULE_PATH = "authsite.formats"

FILE_UPLOAD_HANDLERS = [
    "authsite.uploads.UploadLimit",  # first: the others take whatever it hands on
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "django.core.files.uploadhandler.TemporaryFileUploadHandler",
]

STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = (
    True  # the admin's files are served from their packages: nothing to collect
)

HOST = env.read(
    "HOST", readers.host, "127.0.0.1"
)  # a shell may export its own: `serve` wants an address
PORT = env.read("PORT", readers.number(1, readers.MAX_PORT), 17217)
WORKERS = env.read("WORKERS", readers.number(1, 1024), 2)
DRAIN_SECONDS = env.read("DRAIN_SECONDS", readers.seconds(MAX_WAIT), 1)
# Slots of machines' requests in each server process; staff have half as many: rpc/wsgi.py.
MAX_THREADS = 1024
THREADS = env.read("THREADS", readers.number(1, MAX_THREADS), 8)

JOURNAL = env.read("JOURNAL", readers.flag, "on")  # whether calls are counted: rpc/journal.py
# Seconds between the writes of evidence and of the journal; 0: only on flush().
EVIDENCE_INTERVAL = env.read("EVIDENCE_INTERVAL", readers.number(0, MAX_WAIT, "seconds"), 10)

# Events for other systems: docs/events.md.
WEBHOOK_HOSTS = env.read("WEBHOOK_HOSTS", readers.called_hosts)
WEBHOOK_NETWORKS = tuple(env.read("WEBHOOK_NETWORKS", readers.networks))
WEBHOOK_HTTP = env.read("WEBHOOK_HTTP", readers.flag, "off")
# A delivery is tried for three.
EVENT_DAYS = env.read("EVENT_DAYS", readers.number(4, 36_500, "days"), 30)
EVENT_WAITERS = env.read("EVENT_WAITERS", readers.number(0, 512), 64)
DELIVER = env.read("DELIVER", readers.flag, "off")  # whether `serve` sends webhooks itself

DEFAULT_EXCEPTION_REPORTER = "authsite.operations.error_reports.TokenlessReporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "authsite.operations.error_reports.SecretFilter"

# Metrics are counted where one of the two is set: authsite/operations/metrics.py.
METRICS_PORT = env.read("METRICS_PORT", readers.number(0, readers.MAX_PORT), 0)
METRICS_HOST = env.read("METRICS_HOST", readers.host, HOST)
METRICS_NETWORKS = tuple(env.read("METRICS_NETWORKS", readers.networks))

LOG_LEVEL = env.read("LOG_LEVEL", readers.level, "INFO")
LOG_FORMAT = env.read("LOG_FORMAT", readers.choice("text", "json"), "text")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {
            "()": "authsite.operations.logging.LineFormatter",
            "format": "{asctime} {levelname} {name}: {message}",
            "style": "{",
        },
        "json": {"()": "authsite.operations.logging.JsonFormatter"},
    },
    "filters": {"refusals": {"()": "authsite.operations.logging.RefusalFilter"}},
    "handlers": {
        "stderr": {
            "class": "authsite.operations.logging.BoundedHandler",
            "formatter": LOG_FORMAT,
            "filters": ["refusals"],
        },
    },
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": [], "propagate": True},
        "django.db.backends": {"level": "INFO"},  # below, it logs what statements are given
        "axes": {"level": "WARNING"},
        "authlib": {"level": "INFO"},  # below, it logs what proves that a code is ours
    },
}
