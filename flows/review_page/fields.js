// The values of a record: where each stands, how sure the model was, and what a person says.

function fieldList(entry, links, refresh) {
  const rows = rowsWithLists(entry, (field) => fieldRow(entry, field, links, refresh), refresh);
  return h("ul", { class: "fields", "aria-label": "Fields" }, rows);
}

function fieldRow(entry, field, links, refresh) {
  const correction = correctionOf(entry, field.path);
  const editable = entry.edit === "fields" || (entry.edit === "label" && field.path === "label");
  const row = h(
    "li",
    {
      class: `field ${field.state}`, "data-path": field.path,
      onpointerenter: () => links.mark(field.path, true),
      onpointerleave: () => links.mark(field.path, false),
      onfocusin: () => links.mark(field.path, true),
      onfocusout: () => links.mark(field.path, false),
    },
    h(
      "div",
      { class: "field-head" },
      h("span", { class: "name", dir: "auto" }, field.path),
      correction ? takeBack(entry, field.path, refresh) : null,
      editable ? editButton(field.path, () => editField(row, entry, field, refresh)) : null,
    ),
    valueView(field, correction),
    h(
      "div",
      { class: "facts" },
      field.sure === null ? null : sureness(field.sure, "sure"),
      stateView(field, links),
    ),
  );
  links.add(field.path, row);
  return row;
}

function valueView(field, correction) {
  const model = field.value === null ? h("span", { class: "nothing" }, "absent") : String(field.value);
  if (correction) {
    const value = correction.value === null ? h("span", { class: "nothing" }, "absent") : String(correction.value);
    return h(
      "div",
      { class: "value corrected" },
      h("ins", { dir: "auto" }, value),
      field.state === "added" ? null : h("span", { class: "was" }, "model: ", h("del", { dir: "auto" }, model)),
    );
  }
  const parsed = field.parsed !== null && field.parsed !== String(field.value);
  return h(
    "div",
    { class: "value" },
    h("span", { dir: "auto" }, model),
    parsed ? h("span", { class: "parsed", title: "As code understood it" }, `= ${field.parsed}`) : null,
  );
}

/** Said in words; where there is a place it is a button that shows it. */
function stateView(field, links) {
  const state = STATES[field.state];
  const place = field.span ? clock(field.span[0]) : field.page ? `page ${field.page}` : "";
  if (field.box || field.span) {
    return button([state.name, place].join(", "), () => links.show(field.path), {
      class: `state ${field.state}`, title: `${state.title} Show the place.`,
    });
  }
  return h("span", { class: `state ${field.state}`, title: state.title }, [state.name, place].filter(Boolean).join(", "));
}

function editButton(path, onclick) {
  return button("Edit", (event) => onclick(event.currentTarget), {
    class: "quiet edit", "aria-label": `Edit ${path}`,
  });
}

function takeBack(entry, path, refresh) {
  const undo = async () => {
    if (await decide(entry, path, "open")) refresh(path);
  };
  return button("Undo", undo, { class: "quiet", "aria-label": `Take back the correction of ${path}` });
}

function editField(row, entry, field, refresh) {
  const now = correctionOf(entry, field.path)?.value ?? field.value;
  const input = entry.edit === "label" ? labelChoice(entry, now) : valueInput(field, now);
  const save = async (value) => {
    const same = value === (field.value === null ? null : String(field.value));
    if (await decide(entry, field.path, same ? "open" : "corrected", same ? null : value)) refresh(field.path);
  };
  const absent = entry.edit === "label" ? [] : [button("Absent", () => save(null), { class: "quiet", title: "The document has no such value" })];
  openEditor(row, input, () => save(input.value.trim() || null), () => refresh(field.path), absent);
}

function valueInput(field, now) {
  const long = String(now ?? "").length > 60;
  const input = h(long ? "textarea" : "input", { dir: "auto", "aria-label": `Value of ${field.path}`, rows: long ? 3 : null });
  input.value = now ?? "";
  return input;
}

function labelChoice(entry, now) {
  const options = Object.keys(entry.probabilities).map((label) => h("option", { value: label, selected: label === now }, label));
  return h("select", { "aria-label": "Label" }, options);
}

/** Puts an editor in the place of a value. */
function openEditor(row, input, save, leave, more = []) {
  row.querySelector(".value, .words")?.replaceChildren(editor([input], save, leave, more));
  input.focus();
  input.select?.();
}

/** Enter saves, Escape leaves. */
function editor(parts, save, leave, more = []) {
  return h(
    "form",
    {
      class: "editor",
      onsubmit: (event) => { event.preventDefault(); save(); },
      onkeydown: (event) => {
        if (event.key === "Escape") leave();
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
      },
    },
    parts,
    h("div", { class: "choices" }, h("button", { type: "submit", class: "main" }, "Save"), button("Cancel", leave, { class: "quiet" }), more),
  );
}

const CALL_STATES = { ran: "ran", proposed: "proposed: nothing was done", failed: "failed" };

/** Which tools the model called and what came of it; the arguments are fields. */
function callList({ calls, answer }) {
  return h(
    "section",
    { class: "calls", "aria-label": "Calls" },
    h("h3", {}, calls.length ? "Calls" : "No calls"),
    h("ul", {}, calls.map((call, at) => h(
      "li",
      { class: call.state },
      h("span", { class: "name" }, `calls[${at}] `), h("strong", {}, call.tool), ` ${CALL_STATES[call.state]}`,
      call.outcome ? h("span", { class: "why", dir: "auto" }, call.outcome) : null,
    ))),
    answer ? h("p", { class: "words", dir: "auto", lang: "" }, answer) : null,
  );
}

/** The probabilities of a tag's labels. */
function labelList(entry) {
  const ranked = Object.entries(entry.probabilities).sort((one, two) => two[1] - one[1]);
  return h(
    "ul",
    { class: "labels", "aria-label": "Labels" },
    ranked.map(([label, share]) => h("li", {}, h("span", { dir: "auto" }, label), sureness(share, "probability"))),
  );
}

function checkList(entry) {
  if (!entry.checks.length) return null;
  const ordered = [...entry.checks].sort((one, two) => one.passed - two.passed);
  const failed = ordered.filter((check) => !check.passed).length;
  return h(
    "details",
    { class: "checks", open: failed > 0 },
    h("summary", {}, failed ? `${failed} of ${ordered.length} checks failed` : `Checks passed: ${ordered.length}`),
    h(
      "ul",
      {},
      ordered.map((check) =>
        h(
          "li",
          { class: check.passed ? "passed" : "failed" },
          h("span", { class: "mark", "aria-hidden": "true" }, check.passed ? "\u2713" : "\u2715"),
          h("span", {}, h("span", { class: "unseen" }, check.passed ? "passed: " : "failed: "), check.title,
            check.reason ? h("span", { class: "why", dir: "auto" }, check.reason) : null),
        ),
      ),
    ),
  );
}
