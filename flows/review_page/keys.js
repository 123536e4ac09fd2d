// Keys. They can be switched off, for people whose voice or switch software types letters.

const KEYS = [
  ["j", "Next record", () => step(1)],
  ["k", "Previous record", () => step(-1)],
  ["a", "Accept, and on to the next", () => judge("accepted")],
  ["r", "Reject, and on to the next", () => judge("rejected")],
  ["u", "Take the decision back", () => judge("open")],
  ["e", "Edit the field in focus, or the least sure one", () => editLeastSure()],
  ["n", "Add to the list in focus, or to the first one", () => addToList()],
  ["x", "Remove the list's item in focus", () => removeItem()],
  ["s", "Summary of the run", () => { location.hash = "summary"; }],
  ["/", "Find", () => { openList(true); byId("words").focus(); }],
  ["?", "This help", () => byId("help").showModal()],
];
const KEYS_OFF = "scanscribe-review-keys-off";

function makeHelp() {
  const switchOff = h("input", {
    type: "checkbox", id: "keys-on", checked: !storage()?.getItem(KEYS_OFF),
    onchange: (event) => event.target.checked ? storage()?.removeItem(KEYS_OFF) : storage()?.setItem(KEYS_OFF, "1"),
  });
  byId("help").append(
    h("h2", { id: "help-title" }, "Keys"),
    h("dl", {}, KEYS.map(([key, about]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, about)))),
    h("p", {}, "In an editor Enter saves (with Ctrl in long texts), Escape leaves."),
    h("label", { class: "check" }, switchOff, "Letters work as keys"),
    button("Close", () => byId("help").close(), { class: "main" }),
  );
  byId("help-open").addEventListener("click", () => byId("help").showModal());
}

function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    if (event.target.closest?.("input, textarea, select, [contenteditable]")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const found = KEYS.find(([key]) => key === event.key);
    if (!found || storage()?.getItem(KEYS_OFF)) return;
    event.preventDefault();
    found[2]();
  });
}
