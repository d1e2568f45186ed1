"use strict";
// Recovery codes are copied, or saved as a file, one a line. Without this script they are written off.
for (const button of document.querySelectorAll("[data-keeps]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
        const codes = document.querySelectorAll(`#${button.dataset.of} code`);
        const text = Array.from(codes, (code) => code.textContent).join("\n") + "\n";
        let said = button.dataset.done;
        if (button.dataset.keeps === "copy") {
            try {
                await navigator.clipboard.writeText(text);
            } catch {
                said = button.dataset.failed;
            }
        } else {
            const link = document.createElement("a");
            link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
            link.download = button.dataset.keeps;
            link.click();
            URL.revokeObjectURL(link.href);
        }
        document.getElementById("codes-status").textContent = said;
    });
}
