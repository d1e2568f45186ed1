// Renews the list of suggestions of a text field as somebody types.
// Without this script the list is the one that came with the page.
"use strict";
for (const input of document.querySelectorAll("input[data-suggestions]")) {
    let timer = null;
    const look = async () => {
        const sought = input.value.trim();
        const address = `${input.dataset.suggestions}?q=${encodeURIComponent(sought)}`;
        const answer = sought ? await fetch(address) : null;
        if (answer?.ok && sought === input.value.trim()) {
            const {found} = await answer.json();
            input.list.replaceChildren(...found.map((text) => new Option("", text)));
        }
    };
    input.addEventListener("input", () => {
        clearTimeout(timer);
        timer = setTimeout(() => look().catch(() => {}), 150); // no suggestions, then
    });
}
