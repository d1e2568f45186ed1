// Show the OpenAPI document. A file of its own: the Content-Security-Policy allows no inline script.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const look = () => {
  const chosen = localStorage.getItem("theme"); // what the admin's own button keeps
  const isDark = chosen === "dark" || (chosen !== "light" && dark.matches);
  document.documentElement.classList.toggle("dark-mode", isDark);
};
dark.addEventListener("change", look);
look();

// Its own layout has two main landmarks and repeats the title; the rest mends what axe finds.
const plugin = ({ React }) => {
  const element = React.createElement;
  const part = (getComponent, name, isContainer) => element(getComponent(name, isContainer));
  return {
    components: {
      PageLayout: ({ getComponent, specSelectors }) => {
        if (!["success", "failed"].includes(specSelectors.loadingStatus())) {
          // Without the document Swagger UI would say that there are no operations.
          const lang = document.documentElement.lang;
          return element("p", { role: "status", lang }, page.dataset.reading);
        }
        return element(
          "div",
          { className: "swagger-ui" },
          part(getComponent, "SvgAssets"),
          part(getComponent, "AuthorizeBtnContainer", true),
          part(getComponent, "FilterContainer", true),
          part(getComponent, "errors", true),
          part(getComponent, "operations", true),
          part(getComponent, "Models", true),
        );
      },
    },
    wrapComponents: {
      // A link within the button that opens an operation: nobody could tell which was pressed.
      DeepLink: () => ({ text }) => text,
      ExamplesSelect: (Original) => (props) =>
        element(
          "label",
          null,
          element("span", { className: "only-read" }, "Example"),
          element(Original, props),
        ),
      JsonSchema_boolean: (Original) => (props) =>
        element(
          "label",
          null,
          element("span", { className: "only-read" }, "Value"),
          element(Original, props),
        ),
      // Each table of answers calls itself a region of the page, and none has a name.
      responses: (Original) => (props) =>
        element(
          "div",
          { ref: (node) => node?.querySelector("[role=region]")?.removeAttribute("role") },
          element(Original, props),
        ),
    },
  };
};

const page = document.getElementById("api");
SwaggerUIBundle({
  url: page.dataset.document,
  domNode: page,
  presets: [SwaggerUIBundle.presets.apis],
  plugins: [plugin],
  layout: "PageLayout",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  filter: true,
  syntaxHighlight: { theme: "monokai" },
  validatorUrl: null,
});
