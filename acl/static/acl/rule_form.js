// Shows, of each end of a rule, only what its kind asks for. Without this script all is shown.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
    for (const end of ["source", "destination"]) {
        const kinds = document.querySelectorAll(`input[name="${end}_kind"]`);
        const show = () => {
            const chosen = document.querySelector(`input[name="${end}_kind"]:checked`);
            for (const named of ["device", "group"]) {
                const row = document.querySelector(`.form-row.field-${end}_${named}`);
                const filled = row && row.querySelector("select") && row.querySelector("select").value;
                const wanted = chosen && chosen.value === named;
                // What is filled in stays in sight: hiding it would hide why the rule is refused.
                if (row) row.hidden = !(wanted || filled);
            }
        };
        kinds.forEach((kind) => kind.addEventListener("change", show));
        show();
    }
});
