// What is wrong with a page at the width that its window has; each function returns texts.
(() => {
    const shown = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
    const say = (element, what) => {
        const name = element.id ? `#${element.id}` : element.className?.toString().trim().replace(/\s+/g, ".");
        const said = (element.value || element.textContent || "").trim().replace(/\s+/g, " ");
        const text = Array.from(said).slice(0, 60).join("");
        return `${what}: ${element.localName}${name ? (element.id ? name : `.${name}`) : ""} “${text}”`;
    };
    const texts = function* () {
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
            const within = walker.currentNode.parentElement;
            if (walker.currentNode.data.trim() && !within.closest("script, style, template") && shown(within)) {
                yield [walker.currentNode, within];
            }
        }
    };
    const aside = (element) => element.closest(".visually-hidden, .select2-hidden-accessible, .skip-to-content-link");

    // The page scrolls sideways: say what sticks out furthest.
    const sideways = () => {
        const root = document.documentElement;
        if (root.scrollWidth <= root.clientWidth) {
            return [];
        }
        let [furthest, most] = [document.body, 0];
        for (const element of document.body.querySelectorAll("*")) {
            const right = element.getBoundingClientRect().right;
            if (right > most && shown(element)) {
                [furthest, most] = [element, right];
            }
        }
        return [say(furthest, `scrolls sideways, ${root.scrollWidth} of ${root.clientWidth}`)];
    };

    // Text that is cut off, without an ellipsis and a way to read the rest.
    const cut = () => {
        const found = new Set();
        for (const [node, within] of texts()) {
            if (aside(within)) {
                continue;
            }
            const range = document.createRange();
            range.selectNodeContents(node);
            const box = range.getBoundingClientRect();
            for (let holder = within; holder && holder !== document.body; holder = holder.parentElement) {
                const style = getComputedStyle(holder);
                if (Math.abs(parseFloat(style.textIndent)) > 1000 || holder.localName === "select") {
                    break; // a picture in place of a text; a list that the browser draws
                }
                const hides = [style.overflowX, style.overflowY].some((one) => ["hidden", "clip"].includes(one));
                if (style.textOverflow === "ellipsis" && hides) {
                    break; // told by pointing at it: tellWhatIsCut
                }
                if (style.overflowX === "auto" || style.overflowX === "scroll") {
                    break; // it can be scrolled to
                }
                const edge = holder.getBoundingClientRect();
                if (hides && (box.right > edge.right + 1 || box.left < edge.left - 1)) {
                    found.add(say(holder, "cut off"));
                    break;
                }
            }
        }
        const boxes = "button, input[type=submit], input[type=button], .button, .badge, summary, .chip, .object-tools a";
        for (const element of document.querySelectorAll(boxes)) {
            if (shown(element) && !aside(element) && element.clientWidth && element.scrollWidth > element.clientWidth + 1
                && getComputedStyle(element).textOverflow !== "ellipsis"
                && Math.abs(parseFloat(getComputedStyle(element).textIndent)) < 1000) {
                found.add(say(element, "text runs out of its box"));
            }
        }
        return [...found];
    };

    // A text begins left of the window, where nothing scrolls to, or lies under another.
    const lost = () => {
        const found = new Set();
        for (const [node, within] of texts()) {
            if (aside(within)) {
                continue;
            }
            const range = document.createRange();
            range.selectNodeContents(node);
            const left = range.getBoundingClientRect().left;
            if (left < -1 && !within.closest(".clip, .results, .scrolls, .module, pre")) {
                found.add(say(within, "begins left of the window"));
            }
        }
        return [...found];
    };

    // A name from right to left that stands beside other text, and is not isolated from it.
    const TURNING = /[\u0590-\u08ff]/;
    const turned = () => {
        const found = new Set();
        for (const [node, within] of texts()) {
            if (!TURNING.test(node.data) || within.closest(".select2-selection__choice")) {
                continue; // a chosen name has a box of its own
            }
            const bare = node.data.replace(/\u2068[^\u2069]*\u2069/g, "");
            if (!TURNING.test(bare)) {
                continue;
            }
            let isolated = false;
            let block = within;
            for (; block; block = block.parentElement) {
                const style = getComputedStyle(block);
                if (["isolate", "plaintext", "isolate-override"].includes(style.unicodeBidi) && style.display.startsWith("inline")) {
                    isolated = true;
                    break;
                }
                if (!style.display.startsWith("inline")) {
                    break;
                }
            }
            const alone = !isolated && block && block.textContent.trim() === node.data.trim();
            // Alone in its block, or in a bdi: whatever else is in the same text was put there beside the name.
            if (!isolated && !alone) {
                found.add(say(within, "not isolated"));
            }
        }
        const bare = document.title.replace(/\u2068[^\u2069]*\u2069/g, "");
        if (TURNING.test(bare)) {
            found.add("not isolated in the title of the page");
        }
        for (const name of ["title", "placeholder"]) { // what is read out has no direction
            for (const element of document.querySelectorAll(`[${name}]`)) {
                const text = element.getAttribute(name);
                const bare = text.replace(/\u2068[^\u2069]*\u2069/g, "");
                if (TURNING.test(bare) && /[A-Za-z]{4}/.test(bare.replace(/\S*[\u0590-\u08ff]\S*/g, ""))) {
                    found.add(say(element, `not isolated in ${name}`));
                }
            }
        }
        return [...found];
    };

    // What can be used by pointing is reached by keys, and shows its focus.
    const unreachable = () => {
        const found = new Set();
        const controls = "a[href], button, input:not([type=hidden]), select, textarea, summary";
        for (const element of document.querySelectorAll(controls)) {
            if (!shown(element) || element.disabled || aside(element)) {
                continue;
            }
            if (element.tabIndex < 0 && !element.closest(".select2-container")) {
                found.add(say(element, "no key reaches"));
                continue;
            }
            element.focus({ preventScroll: true });
            if (document.activeElement !== element) {
                continue; // a control that moves the focus on
            }
            const style = getComputedStyle(element);
            if (style.outlineStyle === "none" && style.boxShadow === "none") {
                found.add(say(element, "its focus is not seen"));
            }
        }
        document.activeElement?.blur();
        return [...found];
    };

    // Where the reader's system draws its own colours, a button has a line around it.
    const flat = () => {
        const found = new Set();
        for (const element of document.querySelectorAll(".button, .addlink, #content input[type=submit]")) {
            if (shown(element) && !aside(element) && getComputedStyle(element).borderTopStyle === "none") {
                found.add(say(element, "without a line around it"));
            }
        }
        return [...found];
    };

    window.bounds = { sideways, cut, lost, turned, unreachable, flat };
})();
