// The list of records and its filters.

const STATUSES = {
  ok: "Ok",
  review: "To review",
  truncated: "Truncated",
  failed: "Failed",
  unsupported: "Unsupported",
  pending: "Pending",
};
const MARKS = { open: "", accepted: "\u2713", corrected: "\u270e", rejected: "\u2715" };
const filters = { words: "", statuses: new Set(), decision: "", field: "", sure: 1, loose: false };
let visible = DATA.entries;

function makeFilters() {
  byId("filters").append(
    h("input", {
      type: "search", id: "words", placeholder: "Find a name or a value", "aria-label": "Find a name or a value",
      oninput: (event) => change({ words: event.target.value.toLowerCase() }),
    }),
    h("div", { class: "chips", role: "group", "aria-label": "Status" }, statusChips()),
    h(
      "details",
      {},
      h("summary", {}, "More filters"),
      h("label", {}, "Looked at", chooser("decision", [["", "All"], ...Object.entries(DECISIONS)])),
      h("label", {}, "Field", chooser("field", [["", "Any field"], ...fieldNames().map((name) => [name, name])])),
      h("label", {}, h("span", {}, "At most ", h("output", { id: "sure-now" }, "100 %"), " sure"), h("input", {
        type: "range", id: "sure", min: 0, max: 100, step: 5, value: 100, oninput: changeSureness,
      })),
      h("label", { class: "check" }, h("input", {
        type: "checkbox", id: "loose", onchange: (event) => change({ loose: event.target.checked }),
      }), "Has values that are not in the source"),
      button("Clear filters", clearFilters, { class: "quiet" }),
    ),
  );
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
}

function statusChips() {
  return Object.entries(STATUSES).flatMap(([status, name]) => {
    const count = DATA.entries.filter((entry) => entry.status === status).length;
    if (!count) return [];
    const toggle = (event) => {
      const on = !filters.statuses.delete(status);
      if (on) filters.statuses.add(status);
      event.currentTarget.setAttribute("aria-pressed", on);
      change({});
    };
    return [button(`${name} ${count}`, toggle, { class: `chip ${status}`, "aria-pressed": false })];
  });
}

function chooser(name, options) {
  return h(
    "select",
    { id: name, onchange: (event) => change({ [name]: event.target.value }) },
    options.map(([value, text]) => h("option", { value }, text)),
  );
}

/** `items[3].price` is the field `items[].price`. */
const plainPath = (path) => path.replace(/\[\d+\]/g, "[]");

function fieldNames() {
  const names = DATA.entries.flatMap((entry) => (entry.fields ?? []).map((field) => plainPath(field.path)));
  return [...new Set(names)].sort();
}

function changeSureness(event) {
  byId("sure-now").textContent = `${event.target.value} %`;
  change({ sure: event.target.value / 100 });
}

function clearFilters() {
  Object.assign(filters, { words: "", statuses: new Set(), decision: "", field: "", sure: 1, loose: false });
  byId("filters").reset();
  byId("sure-now").textContent = "100 %";
  byId("filters").querySelectorAll(".chip").forEach((chip) => chip.setAttribute("aria-pressed", false));
  change({});
}

function change(changed) {
  Object.assign(filters, changed);
  visible = DATA.entries.filter(fits);
  for (const entry of DATA.entries) entry.row.hidden = true;
  for (const entry of visible) entry.row.hidden = false;
  const all = visible.length === DATA.entries.length;
  byId("count").textContent = all ? `${visible.length} records` : `${visible.length} of ${DATA.entries.length} records`;
}

function fits(entry) {
  if (filters.statuses.size && !filters.statuses.has(entry.status)) return false;
  if (filters.decision && decisionOf(entry) !== filters.decision) return false;
  if (filters.field || filters.sure < 1 || filters.loose) {
    const fields = entry.fields ?? [];
    if (!fields.some(fitsField)) return false;
  }
  return !filters.words || entry.haystack.includes(filters.words);
}

/** One field that fits all of the filters about fields. */
function fitsField(field) {
  if (filters.field && plainPath(field.path) !== filters.field) return false;
  if (filters.loose && field.state !== "none" && field.state !== "unguarded") return false;
  return field.sure <= filters.sure;
}

function makeRows() {
  const rows = DATA.entries.map((entry) => {
    const values = (entry.fields ?? []).map((field) => field.value ?? "");
    entry.haystack = [entry.path, entry.text ?? "", ...values].join("\n").toLowerCase();
    entry.row = h("li", {}, rowLink(entry));
    return entry.row;
  });
  byId("rows").append(...rows);
}

function rowLink(entry) {
  const cut = entry.path.lastIndexOf("/") + 1;
  return h(
    "a",
    { href: `#${entry.id}` },
    h("span", { class: "file" }, cut ? h("span", { class: "folder" }, entry.path.slice(0, cut)) : null, h("bdi", {}, entry.path.slice(cut))),
    h("span", { class: "under" }, statusView(entry.status), entry.sure === null || entry.sure === undefined ? null : sureness(entry.sure, "least sure")),
    h("span", { class: "decision" }),
  );
}

function statusView(status) {
  return h("span", { class: `status ${status}` }, STATUSES[status] ?? status);
}

/** After a decision: the mark in the list and the progress. */
function refreshRow(entry) {
  const decision = decisionOf(entry);
  const mark = entry.row.querySelector(".decision");
  mark.className = `decision ${decision}`;
  mark.replaceChildren(
    h("span", { "aria-hidden": "true" }, MARKS[decision]),
    decision === "open" ? "" : h("span", { class: "unseen" }, DECISIONS[decision]),
  );
}

function refreshProgress() {
  const reviewable = DATA.entries.filter((entry) => entry.edit);
  const done = reviewable.filter((entry) => decisionOf(entry) !== "open").length;
  byId("progress").textContent = `${done} of ${reviewable.length} looked at`;
  byId("export").hidden = DATA.served || !DATA.entries.some((entry) => entry.corrections.size);
}
