/* Sends the import form, shows how far the server is, and saves generated secrets as a file.
   The chosen file stays in the form between preview and import. Without this script the form
   works as forms do: the file is chosen twice. */
(function () {
    "use strict";
    const form = document.getElementById("import-form");
    const file = document.getElementById("id_file");
    const area = document.getElementById("progress");
    const text = document.getElementById("progress-text");
    const bar = document.getElementById("progress-bar");
    const outcome = document.getElementById("outcome");
    let running = false;
    let saved = true;

    function say(message) {
        const note = document.createElement("p");
        note.className = "errornote";
        note.setAttribute("role", "alert");
        note.textContent = message;
        outcome.replaceChildren(note);
    }

    function show(step) {
        const done = step.done.toLocaleString(document.documentElement.lang || undefined);
        text.textContent = `${step.stage}: ${done}`;
        if (step.total) {
            bar.max = step.total;
            bar.value = step.done;
        } else {
            bar.removeAttribute("value");
        }
    }

    function finish(html, secrets) {
        outcome.innerHTML = html;
        const link = document.getElementById("secrets");
        if (link && secrets.length) {
            link.href = URL.createObjectURL(new Blob(secrets, { type: "text/csv" }));
            link.addEventListener("click", () => { saved = true; });
            saved = false;
            link.click();
            form.hidden = true;
        }
        outcome.focus();
    }

    async function send(body) {
        const answer = await fetch(form.action, {
            method: "POST", body, headers: { Accept: "application/x-ndjson" },
        });
        const type = answer.headers.get("Content-Type") || "";
        if (!answer.ok || !type.startsWith("application/x-ndjson")) {
            throw new Error(answer.statusText);
        }
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        const secrets = [];
        let rest = "";
        let html = null;
        for (;;) {
            const { value, done } = await reader.read();
            const lines = (rest + (value || "")).split("\n");
            rest = done ? "" : lines.pop();
            for (const line of lines.filter(Boolean)) {
                const event = JSON.parse(line);
                if (event.stage) show(event);
                if (event.secrets) secrets.push(event.secrets);
                if (event.html !== undefined) html = event.html;
            }
            if (done) break;
        }
        if (html === null) throw new Error("the answer ended early");
        finish(html, secrets);
    }

    form.addEventListener("submit", async (event) => {
        event.preventDefault();
        if (running) return;
        const chosen = file.files[0];
        if (chosen && chosen.size > Number(form.dataset.mostBytes)) {
            say(form.dataset.tooLarge);
            return;
        }
        running = true;
        const body = new FormData(form, event.submitter);
        outcome.replaceChildren();
        text.textContent = form.dataset.sending;
        bar.removeAttribute("value");
        area.hidden = false;
        try {
            await send(body);
        } catch (error) {
            say(form.dataset.failed);
        } finally {
            running = false;
            area.hidden = true;
        }
    });

    // A preview is of the file and the choices that it was made for.
    form.addEventListener("change", () => {
        if (!running) outcome.replaceChildren();
    });

    window.addEventListener("beforeunload", (event) => {
        if (running || !saved) event.preventDefault();
    });
})();
