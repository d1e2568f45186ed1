"use strict";
// A passkey was registered: show it.
document.addEventListener("otp_webauthn.register_complete", () => location.reload());
