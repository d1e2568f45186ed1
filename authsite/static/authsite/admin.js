"use strict";

// Times. Pages and forms come in UTC; the reader sees the time zone of the browser everywhere, and
// UTC in the title. What a form sends is UTC again, so that the server knows one zone only.
const pad = (number) => String(number).padStart(2, "0");
const dayOf = (moment) =>
    [moment.getFullYear(), pad(moment.getMonth() + 1), pad(moment.getDate())].join("-");
const timeOf = (moment) => [moment.getHours(), moment.getMinutes()].map(pad).join(":");
const MOMENT_IN_TEXT = /(\d{4}-\d\d-\d\d) (\d\d:\d\d(?::\d\d)?) UTC/;
const MOMENT_IN_FIELD = /^(\d{4})-(\d\d?)-(\d\d?)(?:[T ](\d\d?):(\d\d)(?::(\d\d))?)?$/;

// In texts that the server wrote as plain ones: sentences, histories, Django's own columns.
function markMoments() {
    const apart = "script, style, textarea, select, code, pre, time, svg";
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) {
        const text = walker.currentNode;
        if (MOMENT_IN_TEXT.test(text.data) && !text.parentElement.closest(apart)) {
            found.push(text);
        }
    }
    for (let text of found) {
        let match;
        while ((match = MOMENT_IN_TEXT.exec(text.data))) {
            const rest = text.splitText(match.index);
            text = rest.splitText(match[0].length);
            const element = document.createElement("time");
            element.className = "moment";
            element.dateTime = `${match[1]}T${match[2]}Z`;
            element.title = match[0];
            element.textContent = match[0];
            rest.replaceWith(element);
        }
    }
}

function localiseMoments() {
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
    return moments.length;
}

// The fields of a form that hold moments: pairs of date and time, or one for both.
function momentFields(root) {
    const fields = [];
    for (const input of root.querySelectorAll("input.vDateField, input[type=datetime-local]")) {
        const second = input.name.endsWith("_0") && input.form
            ? input.form.elements.namedItem(input.name.replace(/_0$/, "_1"))
            : null;
        if (input.type === "datetime-local" || second) {
            fields.push([input, second]);
        }
    }
    return fields;
}

// What a field says, or null where it says no moment: then the server says what is wrong with it.
function momentIn(day, time, utc) {
    const text = [day.value.trim(), time ? time.value.trim() : ""].filter(Boolean).join(" ");
    const match = MOMENT_IN_FIELD.exec(text);
    if (!match) {
        return null;
    }
    const [year, month, date, hour, minute, second] = match.slice(1).map((part) => Number(part || 0));
    const calendar = new Date(Date.UTC(year, month - 1, date));
    const known = calendar.getUTCMonth() === month - 1 && calendar.getUTCDate() === date;
    if (year < 100 || !known || hour > 23 || minute > 59 || second > 59) {
        return null;
    }
    return utc
        ? new Date(Date.UTC(year, month - 1, date, hour, minute, second))
        : new Date(year, month - 1, date, hour, minute, second);
}

function localiseFields() {
    const fields = momentFields(document);
    for (const [day, time] of fields) {
        const moment = momentIn(day, time, true);
        day.autocomplete = "off"; // a browser that restores a page would restore local times
        if (moment && time) {
            time.autocomplete = "off";
            day.value = dayOf(moment);
            time.value = `${timeOf(moment)}:${pad(moment.getSeconds())}`;
        } else if (moment) {
            day.value = `${dayOf(moment)}T${timeOf(moment)}`;
        }
    }
    document.addEventListener("formdata", (event) => {
        for (const [day, time] of momentFields(event.target)) {
            const moment = momentIn(day, time, false);
            if (!moment || day.disabled) {
                continue;
            }
            const [utcDay, utcTime] = moment.toISOString().slice(0, 19).split("T");
            event.formData.set(day.name, time ? utcDay : `${utcDay}T${utcTime.slice(0, 5)}`);
            if (time) {
                event.formData.set(time.name, utcTime);
            }
        }
    }, true);
    // The admin's buttons for now and today, which count from the server's zone.
    document.body.dataset.adminUtcOffset = String(-60 * new Date().getTimezoneOffset());
    for (const element of document.querySelectorAll("[data-utc]")) {
        element.remove();
    }
    return fields.length;
}

function sayTimeZone(shown) {
    const note = document.getElementById("time-zone");
    if (note && shown) {
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

// On a card a value that says nothing is left out.
function markNothing() {
    for (const cell of document.querySelectorAll("table.labelled tbody td")) {
        cell.classList.toggle("nothing", cell.textContent.trim() === "—");
    }
}

// A menu closes when something else is pointed at, and by Esc, which leads back to what opened it.
function closeMenus() {
    const opened = () => document.querySelectorAll("details.menu[open]");
    document.addEventListener("click", (event) => {
        for (const menu of opened()) {
            menu.open = menu.contains(event.target);
        }
    });
    document.addEventListener("keydown", (event) => {
        if (event.key === "Escape") {
            for (const menu of opened()) {
                menu.open = false;
                menu.querySelector("summary").focus();
            }
        }
    });
}

// What does not fit its column is read by pointing at it.
function tellWhatIsCut(event) {
    const cell = event.target.closest?.("#result_list :is(td, th > a), .clip");
    if (cell && !cell.title && cell.scrollWidth > cell.clientWidth) {
        cell.title = cell.textContent.trim();
    }
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
        const name = label.textContent.trim().replace(/[:：]$/, "");
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
        const name = document.getElementById(label)?.textContent.trim().replace(/[:：]$/, "");
        event.target.setAttribute("aria-label", name || event.target.type);
    }
}

// After an error one goes on at the first field in error, not at the first of the form, which
// another script chooses; unless one has begun elsewhere meanwhile.
let hasBegun = false;
function begin() {
    hasBegun = true;
}

function goToError() {
    if (!hasBegun) {
        document.querySelector("#content form [aria-invalid=true]:not([type=hidden])")?.focus();
    }
}

// A second press on a button, while the first is being answered, would add a second row.
// The answer takes the page away. Where none comes since loading was stopped, which a page is not
// told of but by Esc, the form can be sent again after this time: a page must not stay dead. The
// server waits for a slot and for one statement meanwhile (docs/waiting.md), and may still save it.
const SENT_FOR = 130000; // milliseconds
let sentFor;
function sendOnce(event) {
    const form = event.target;
    if (event.defaultPrevented || !form.matches("[method=post]")) {
        return;
    }
    if (form.hasAttribute("aria-busy")) {
        event.preventDefault();
        return;
    }
    form.setAttribute("aria-busy", "true");
    sentFor = setTimeout(sendAgain, SENT_FOR);
}

function sendAgain() {
    clearTimeout(sentFor);
    for (const form of document.querySelectorAll("form[aria-busy]")) {
        form.removeAttribute("aria-busy");
    }
}

markMoments();
sayTimeZone(localiseMoments() + localiseFields());
labelCells();
markNothing();
closeMenus();
searchByKey();
goToError();
// After those scripts, which draw on `load` and when jQuery says that the page is ready.
window.addEventListener("load", () => {
    goToError();
    nameDrawnFields();
    window.django?.jQuery?.(nameDrawnFields);
});
document.addEventListener("keydown", begin);
document.addEventListener("pointerdown", begin);
document.addEventListener("submit", sendOnce);
document.addEventListener("keydown", (event) => event.key === "Escape" && sendAgain());
window.addEventListener("pageshow", sendAgain); // one came back to a page that the browser kept
document.addEventListener("formset:added", nameDrawnFields);
document.addEventListener("focusin", nameOpenedSearch);
document.addEventListener("mouseover", tellWhatIsCut);
