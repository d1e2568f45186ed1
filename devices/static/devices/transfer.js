/* Sends the import form and shows the answer in its place, so that the chosen file stays chosen
   between preview and import; saves generated secrets as a file. Without this script the form
   works as forms do: the file is chosen twice. */
"use strict";
const form = document.getElementById("import-form");
const outcome = document.getElementById("outcome");
const waiting = document.getElementById("progress");
let isOutdated = false; // whether somebody chose otherwise while the server read the file

function say(message) {
    const note = document.createElement("p");
    note.className = "errornote";
    note.setAttribute("role", "alert");
    note.textContent = message;
    outcome.replaceChildren(note);
}

async function show(answer) {
    if (answer.type === "opaqueredirect") {
        window.location.assign(form.dataset.list);
    } else if (answer.headers.has("Content-Disposition")) {
        outcome.replaceChildren(document.getElementById("secrets-saved").content);
        const link = document.getElementById("secrets");
        link.href = URL.createObjectURL(await answer.blob());
        link.download = answer.headers.get("Content-Disposition").match(/filename="(.*)"/)[1];
        link.click();
        form.hidden = true;
    } else if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        page.querySelectorAll("[data-without-script]").forEach((note) => note.remove());
        outcome.replaceChildren(...page.getElementById("outcome").childNodes);
    } else {
        throw new Error(answer.statusText);
    }
    outcome.focus();
}

form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const chosen = document.getElementById("id_file").files[0];
    if (chosen && chosen.size > Number(form.dataset.mostBytes)) {
        say(form.dataset.tooLarge);
    } else if (waiting.hidden) {
        const body = new FormData(form, event.submitter);
        outcome.replaceChildren();
        waiting.hidden = false;
        try {
            await show(await fetch(form.action, {method: "POST", body, redirect: "manual"}));
        } catch {
            say(form.dataset.failed);
        }
        waiting.hidden = true;
        if (isOutdated && !form.hidden) {
            preview();
        }
    }
});

// A preview is of the file and the choices that it was made for: another choice makes another one.
function preview() {
    outcome.replaceChildren();
    isOutdated = !waiting.hidden;
    if (!isOutdated && document.getElementById("id_file").files.length) {
        form.requestSubmit(form.querySelector("input[type=submit]"));
    }
}

form.addEventListener("change", (event) => {
    if (event.target.name !== "reason") {
        preview();
    }
});
