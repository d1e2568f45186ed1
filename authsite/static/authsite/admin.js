"use strict";

// Moments: from UTC into the reader's zone; the title keeps UTC.
function localiseMoments() {
    const joined = (numbers, by) => numbers.map((one) => String(one).padStart(2, "0")).join(by);
    const dayOf = (moment) =>
        joined([moment.getFullYear(), moment.getMonth() + 1, moment.getDate()], "-");
    const timeOf = (moment) => joined([moment.getHours(), moment.getMinutes()], ":");
    const moments = document.querySelectorAll("time.moment");
    for (const element of moments) {
        const moment = new Date(element.dateTime);
        const parts = [dayOf(moment), timeOf(moment)].map((text) => {
            const part = document.createElement("span");
            part.textContent = text;
            return part;
        });
        element.replaceChildren(parts[0], " ", parts[1]);
    }
    for (const label of document.querySelectorAll("text[data-hour]")) {
        label.textContent = timeOf(new Date(label.dataset.hour));
    }
    const note = document.getElementById("time-zone");
    if (note && moments.length) {
        const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
        note.textContent = note.textContent.replace("{zone}", zone);
        note.hidden = false;
    }
}

// On narrow screens the style sheet makes each row a card, in which each value needs its label;
// the roles keep it a table for screen readers.
function labelCells() {
    const table = document.getElementById("result_list");
    if (!table) {
        return;
    }
    const labels = Array.from(table.querySelectorAll("thead th"), (header) =>
        (header.querySelector(".text") || header).textContent.trim());
    table.setAttribute("role", "table");
    for (const row of table.querySelectorAll("tr")) {
        row.setAttribute("role", "row");
        row.parentElement.setAttribute("role", "rowgroup");
        Array.from(row.cells).forEach((cell, position) => {
            if (cell.matches("thead th")) {
                cell.setAttribute("role", "columnheader");
                return;
            }
            cell.setAttribute("role", cell.matches("th") ? "rowheader" : "cell");
            cell.dataset.label = cell.matches(".action-checkbox") ? "" : labels[position] || "";
        });
    }
    table.classList.add("labelled");
}

// `/` goes to the search box from anywhere but a field; Esc leaves it for the page.
function searchByKey() {
    const box = document.getElementById("search-everything");
    if (!box) {
        return;
    }
    document.addEventListener("keydown", (event) => {
        const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
        const writing = event.target.closest("input, textarea, select, [contenteditable]");
        if (event.key === "/" && plain && !writing) {
            event.preventDefault();
            box.focus();
            box.select();
        } else if (event.key === "Escape" && event.target === box) {
            event.preventDefault();
            document.getElementById("content-start").focus();
        }
    });
}

// What the admin's own scripts draw lacks names for screen readers.
function nameDrawnFields() {
    for (const icon of document.querySelectorAll("span.help-tooltip[aria-label]")) {
        icon.setAttribute("role", "img");
    }
    for (const corner of document.querySelectorAll("thead th:empty")) {
        corner.setAttribute("role", "cell"); // it heads nothing
    }
    for (const select of document.querySelectorAll("select.select2-hidden-accessible")) {
        const label = document.querySelector(`label[for="${CSS.escape(select.id)}"]`);
        const drawn = select.nextElementSibling;
        if (!label || !drawn) {
            continue;
        }
        const name = label.textContent.trim().replace(/:$/, "");
        const box = drawn.querySelector(".select2-selection");
        const shown = drawn.querySelector(".select2-selection__rendered");
        if (select.multiple) {
            box.setAttribute("aria-label", name);
        } else {
            label.id = label.id || `${select.id}-label`;
            box.setAttribute("aria-labelledby", `${label.id} ${shown.id}`);
            shown.setAttribute("aria-labelledby", label.id);
        }
        drawn.querySelector(".select2-search__field")?.setAttribute("aria-label", name);
    }
}

// The field that select2 opens to type into appears on its own; it takes the name of its list.
function nameOpenedSearch(event) {
    if (event.target.matches(".select2-search__field:not([aria-label])")) {
        const list = event.target.getAttribute("aria-controls");
        const box = document.querySelector(`[aria-owns="${CSS.escape(list || "")}"]`);
        const [label] = (box?.getAttribute("aria-labelledby") || "").split(" ");
        const name = document.getElementById(label)?.textContent.trim().replace(/:$/, "");
        event.target.setAttribute("aria-label", name || event.target.type);
    }
}

localiseMoments();
labelCells();
searchByKey();
// After those scripts, which draw on `load` and when jQuery says that the page is ready.
window.addEventListener("load", () => {
    nameDrawnFields();
    window.django?.jQuery?.(nameDrawnFields);
});
document.addEventListener("formset:added", nameDrawnFields);
document.addEventListener("focusin", nameOpenedSearch);
