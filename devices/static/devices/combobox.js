// Text fields that suggest what to type: the editable combobox with a list of the ARIA practices.
// Without this script they are text fields.
"use strict";
for (const input of document.querySelectorAll("input[data-suggestions]")) {
    const list = document.createElement("ul");
    const status = document.createElement("span");
    const frame = document.createElement("span");
    let request = null;
    let timer = null;
    let active = -1;

    list.id = `${input.id}-suggestions`;
    list.className = "suggestions";
    list.hidden = true;
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", input.labels.length ? input.labels[0].textContent : "");
    status.className = "visually-hidden";
    status.setAttribute("role", "status");
    frame.className = "combobox";
    input.before(frame);
    frame.append(input, list, status);
    input.setAttribute("role", "combobox");
    input.setAttribute("aria-autocomplete", "list");
    input.setAttribute("aria-controls", list.id);
    input.setAttribute("aria-expanded", "false");

    const close = () => {
        list.hidden = true;
        active = -1;
        input.setAttribute("aria-expanded", "false");
        input.removeAttribute("aria-activedescendant");
    };
    const choose = (option) => {
        input.value = option.textContent;
        close();
        status.textContent = "";
    };
    const point = (position) => {
        const options = list.children;
        active = (position + options.length) % options.length;
        Array.from(options).forEach((option, nth) =>
            option.setAttribute("aria-selected", String(nth === active)));
        options[active].scrollIntoView({block: "nearest"});
        input.setAttribute("aria-activedescendant", options[active].id);
    };
    const show = (found) => {
        list.replaceChildren(...found.map((text, nth) => {
            const option = document.createElement("li");
            option.id = `${list.id}-${nth}`;
            option.textContent = text;
            option.setAttribute("role", "option");
            option.setAttribute("aria-selected", "false");
            option.addEventListener("mousedown", (event) => event.preventDefault());
            option.addEventListener("click", () => choose(option));
            return option;
        }));
        active = -1;
        list.hidden = !found.length;
        input.setAttribute("aria-expanded", String(found.length > 0));
        input.removeAttribute("aria-activedescendant");
        status.textContent = found.length
            ? input.dataset.some.replace("{n}", found.length) : input.dataset.none;
    };
    const look = async () => {
        if (request) {
            request.abort();
        }
        const sought = input.value.trim();
        if (!sought) {
            close();
            return;
        }
        request = new AbortController();
        try {
            const address = `${input.dataset.suggestions}?q=${encodeURIComponent(sought)}`;
            const answer = await fetch(address, {signal: request.signal});
            if (answer.ok) {
                const {found} = await answer.json();
                if (document.activeElement === input) {
                    show(found);
                }
            }
        } catch (error) {
            if (error.name !== "AbortError") {
                close(); // the field stays what it is without suggestions
            }
        }
    };

    input.addEventListener("input", () => {
        clearTimeout(timer);
        timer = setTimeout(look, 150);
    });
    input.addEventListener("blur", () => {
        clearTimeout(timer);
        close();
    });
    input.addEventListener("keydown", (event) => {
        if (event.key === "ArrowDown" || event.key === "ArrowUp") {
            event.preventDefault();
            if (list.hidden) {
                look();
            } else {
                const down = event.key === "ArrowDown";
                point(active < 0 && !down ? -1 : active + (down ? 1 : -1));
            }
        } else if (event.key === "Enter" && active >= 0) {
            event.preventDefault();
            choose(list.children[active]);
        } else if (event.key === "Escape" && !list.hidden) {
            event.preventDefault();
            close();
        }
    });
}
