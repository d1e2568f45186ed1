"use strict";
// A passkey was registered: show it.
document.addEventListener("otp_webauthn.registration_complete", () => location.reload());
