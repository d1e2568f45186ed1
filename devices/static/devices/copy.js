"use strict";

// Copies what a button stands beside and says so, to screen readers too. Without this script the
// buttons stay hidden: what they would copy can be selected.
for (const button of document.querySelectorAll("button[data-copies]")) {
    const source = document.getElementById(button.dataset.copies);
    const status = document.getElementById(button.dataset.status);
    const select = () => window.getSelection().selectAllChildren(source);
    button.hidden = false;
    button.addEventListener("click", async () => {
        let copied = false;
        try {
            await navigator.clipboard.writeText(source.textContent);
            copied = true;
        } catch {
            select();
            copied = document.execCommand("copy");
        }
        if (!copied) {
            select();
        }
        status.textContent = copied ? button.dataset.copied : button.dataset.failed;
    });
}
