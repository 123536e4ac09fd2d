// Running text: what was changed word by word, what was refused, and the text to correct.

const REFUSALS = {
  protected: "numbers, dates and identifiers are never changed",
  unsure: "the model was not sure",
  edit_cap: "too much of the word would change",
  added: "words from nowhere",
  dropped: "words would go",
  lines: "lines would move",
};
const PIECES = {
  out: "removed: ",
  in: "added: ",
  kept: "edit refused: ",
};

/** The difference between source and output as one text. */
function differenceView(pieces) {
  const paper = h("div", { class: "paper difference", dir: "auto" });
  let last = "\n";
  for (const piece of pieces) {
    const apart = last.endsWith("\n") || piece.text.startsWith("\n");
    paper.append(apart ? "" : " ", pieceView(piece));
    last = piece.text;
  }
  return h(
    "figure",
    { class: "page" },
    h(
      "figcaption",
      { class: "legend" },
      h("del", {}, "removed"), " ", h("ins", {}, "added"), " ",
      h("span", { class: "kept" }, "refused"), " ", h("span", { class: "guarded" }, "protected"),
    ),
    paper,
  );
}

function pieceView(piece) {
  const said = PIECES[piece.kind] ? h("span", { class: "unseen" }, PIECES[piece.kind]) : null;
  switch (piece.kind) {
    case "out": return h("del", {}, said, piece.text);
    case "in": return h("ins", {}, said, piece.text);
    case "guarded": return h("span", { class: "guarded", title: "Protected: never changed" }, piece.text);
    case "kept": {
      const why = `Refused: ${piece.wanted || "removal"} - ${REFUSALS[piece.refused] ?? piece.refused}`;
      return h("span", { class: "kept", title: why, tabindex: 0 }, said, piece.text);
    }
    default: return document.createTextNode(piece.text);
  }
}

/** Every edit that the model proposed, the refused ones first. */
function editList(edits) {
  if (!edits.length) return null;
  const ordered = [...edits].sort((one, two) => Boolean(two.refused) - Boolean(one.refused));
  const refused = edits.filter((edit) => edit.refused).length;
  return h(
    "details",
    { class: "edits", open: refused > 0 },
    h("summary", {}, `${edits.length - refused} edits applied, ${refused} refused`),
    h(
      "ul",
      {},
      ordered.slice(0, 200).map((edit) =>
        h(
          "li",
          { class: edit.refused ? "refused" : null },
          h("del", { dir: "auto" }, edit.before || "(nothing)"), h("span", { "aria-label": "to" }, " \u2192 "),
          h("ins", { dir: "auto" }, edit.after || "(nothing)"),
          edit.refused ? h("span", { class: "why" }, `refused: ${REFUSALS[edit.refused] ?? edit.refused}`) : null,
        ),
      ),
    ),
  );
}

/** What the model thought before its answers: folded away, since nothing of it is reviewed. */
function thoughtList(thoughts) {
  if (!thoughts.length) return null;
  return h(
    "details",
    { class: "thoughts" },
    h("summary", {}, `Thoughts of the model, no part of the record's values: ${thoughts.length}`),
    h("p", { class: "notice" }, "Written before the answers, in their order. Nothing in them was checked or looked up in the source."),
    h("ol", {}, thoughts.map((thought) => h("li", { class: "words", dir: "auto", lang: "" }, thought))),
  );
}

/** The output's text with an editor for the whole of it. */
function textView(entry, refresh) {
  const correction = correctionOf(entry, "text");
  const text = correction ? String(correction.value ?? "") : entry.text;
  return h(
    "section",
    { class: "output", "aria-label": "Text" },
    h(
      "div",
      { class: "field-head" },
      h("h3", {}, correction ? "Your text" : "Text"),
      correction ? takeBack(entry, "text", refresh) : null,
      editButton("text", (row) => editText(row, entry, text, refresh)),
    ),
    h("div", { class: "words", dir: "auto", lang: "" }, text || "(no text)"),
    entry.sure === null ? null : h("div", { class: "facts" }, sureness(entry.sure, "least sure")),
  );
}

function editText(row, entry, text, refresh) {
  const area = h("textarea", { rows: Math.min(24, text.split("\n").length + 2), dir: "auto", "aria-label": "Text" });
  area.value = text;
  const save = async () => {
    const value = area.value;
    if (await decide(entry, "text", value === entry.text ? "open" : "corrected", value)) refresh("text");
  };
  openEditor(row.closest(".output"), area, save, () => refresh("text"));
}
