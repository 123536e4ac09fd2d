// Making elements. Text is only ever set as text: no function here takes markup.

/** h("p", {class: "note", dir: "auto", onclick: f}, "text", child, null, [more]) */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

/** A button whose text is its name. */
function button(text, onclick, attributes = {}) {
  return h("button", { type: "button", onclick, ...attributes }, text);
}

const percent = (share) => `${Math.round(share * 100)} %`;

/** How sure, as a bar and as a number. */
function sureness(share, name) {
  const level = share < 0.5 ? "low" : share < 0.8 ? "middle" : "high";
  const bar = h("span", { class: "fill" });
  bar.style.width = `${Math.max(2, share * 100)}%`;
  return h(
    "span",
    { class: `sure ${level}`, title: `${name}: ${percent(share)}` },
    h("span", { class: "unseen" }, `${name} `),
    h("span", { class: "track", "aria-hidden": "true" }, bar),
    h("span", { class: "number" }, percent(share)),
  );
}

/** 75.3 -> "1:15.3" */
function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const minutes = Math.floor(tenths / 600);
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return `${minutes}:${rest}`;
}

/** Says something to people who do not see the page change. */
function say(text) {
  byId("said").textContent = text;
}
