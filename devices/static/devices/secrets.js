"use strict";

// Takes a secret off the page when it is left.
function forgetSecrets() {
    window.addEventListener("pagehide", () => {
        for (const secret of document.querySelectorAll(".secret")) {
            secret.textContent = "";
        }
    });
}

// Says of a chosen secret how far it is from guessable, by the server's own rules.
function weigh(secret, rules) {
    const length = Array.from(secret).length;
    const distinct = new Set(secret).size;
    if (length < rules.shortest || length > rules.longest) {
        return [0, rules.texts.unusable];
    }
    if (length < rules.advisable) {
        return [1, rules.texts.short];
    }
    if (rules.identifier.includes(secret) || secret.includes(rules.identifier)) {
        return [1, rules.texts.identifier];
    }
    if (distinct < rules.distinct || /^\d+$/.test(secret)) {
        return [1, rules.texts.repeats];
    }
    return length < 2 * rules.advisable ? [2, rules.texts.fair] : [3, rules.texts.good];
}

function offerStrength() {
    const source = document.getElementById("secret-rules");
    const field = document.getElementById("id_secret");
    if (!source || !field) {
        return;
    }
    const rules = JSON.parse(source.textContent);
    const meter = document.createElement("meter");
    const text = document.createElement("span");
    const line = document.createElement("p");
    Object.assign(meter, { min: 0, max: 3, low: 2, high: 3, optimum: 3 });
    meter.setAttribute("aria-hidden", "true");
    line.id = "secret-strength";
    line.className = "help";
    line.hidden = true;
    line.setAttribute("aria-live", "polite");
    line.append(meter, " ", text);
    field.closest(".form-row").append(line);
    field.addEventListener("input", () => {
        line.hidden = !field.value;
        [meter.value, text.textContent] = weigh(field.value, rules);
    });
}

document.addEventListener("DOMContentLoaded", () => {
    forgetSecrets();
    offerStrength();
});
