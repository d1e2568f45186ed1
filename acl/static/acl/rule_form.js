// Shows, of each end of a rule, only what its kind asks for. Without this script all is shown.
"use strict";
for (const end of ["source", "destination"]) {
    const show = () => {
        const chosen = document.querySelector(`input[name="${end}_kind"]:checked`);
        for (const named of ["device", "group"]) {
            const row = document.querySelector(`.form-row.field-${end}_${named}`);
            const select = row && row.querySelector("select");
            const wanted = chosen && chosen.value === named;
            // What is filled in stays in sight: hiding it would hide why the rule is refused.
            if (select) {
                row.hidden = !(wanted || select.value);
            }
        }
    };
    for (const kind of document.querySelectorAll(`input[name="${end}_kind"]`)) {
        kind.addEventListener("change", show);
    }
    show();
}
