// The source beside its values: pages with boxes, or text with marks.

const STATES = {
  exact: { name: "In the source", title: "These words stand in the source, letter for letter." },
  fuzzy: { name: "Nearly in the source", title: "The source has similar words there." },
  none: { name: "Not in the source", title: "These words stand nowhere in the source." },
  unguarded: { name: "Unguarded", title: "There were no words to hold this value against." },
  absent: { name: "Absent", title: "The model found no value for this field." },
  added: { name: "Added", title: "You added this value." },
};

/** What is shown beside an entry: from the page, or from the server. */
async function mediaOf(entry) {
  if (!DATA.served) return JSON.parse(byId(`media-${entry.id}`)?.textContent ?? "{}");
  if (!entry.subtask) return {};
  const answer = await fetch(`media/${entry.id}.json`);
  return answer.ok ? answer.json() : { problem: await answer.text() };
}

/** The source of an entry as elements; `links` gets what belongs to each field. */
function evidence(entry, media, links) {
  const parts = [];
  if (media.problem) {
    parts.push(h("p", { class: "notice" }, `The source cannot be shown: ${media.problem}`));
  }
  if (media.sound) parts.push(soundView(entry, media.sound, links));
  for (const page of media.pages ?? []) parts.push(pageView(entry, page, links, media.pages.length));
  if (media.left_out > 0) {
    parts.push(
      h("p", { class: "notice" }, `${media.left_out} pages without values are left out here; `,
        "flows review --serve shows them all."),
    );
  }
  if (media.text && !media.pieces) parts.push(sourceText(entry, media.text, links));
  return parts;
}

function pageView(entry, page, links, count) {
  const name = `Page ${page.number}`;
  const image = h("img", {
    src: page.src, alt: `${name} of ${entry.path}`, width: page.width, height: page.height,
    loading: "lazy", decoding: "async",
  });
  const sheet = h("div", { class: "sheet" }, image);
  for (const field of entry.fields) {
    if (field.box && (field.page ?? 1) === page.number) sheet.append(boxView(field, links));
  }
  return h("figure", { class: "page" }, sheet, count > 1 ? h("figcaption", {}, name) : null);
}

/** Boxes are fractions of the page, so they hold at any size. */
function boxView(field, links) {
  const [x0, y0, x1, y1] = field.box;
  const box = button("", () => links.open(field.path), {
    class: `box ${field.state}`,
    "aria-label": `${field.path} stands here`,
    onpointerenter: () => links.mark(field.path, true),
    onpointerleave: () => links.mark(field.path, false),
    onfocus: () => links.mark(field.path, true),
    onblur: () => links.mark(field.path, false),
  });
  Object.assign(box.style, {
    left: `${x0 * 100}%`, top: `${y0 * 100}%`,
    width: `${(x1 - x0) * 100}%`, height: `${(y1 - y0) * 100}%`,
  });
  links.add(field.path, box);
  return box;
}

/** The words of a text file, with the evidence of each field marked where it stands first. */
function sourceText(entry, text, links) {
  const places = [];
  for (const field of entry.subtask === "extract" ? entry.fields : []) {
    const found = field.evidence ? wordsIn(text, field.evidence) : null;
    if (!found) continue;
    const [start, end] = [found.index, found.index + found[0].length];
    const free = places.every((place) => end <= place.start || place.end <= start);
    if (free) places.push({ start, end, field });
  }
  places.sort((one, two) => one.start - two.start);
  const paper = h("div", { class: "paper", dir: "auto" });
  let at = 0;
  for (const { start, end, field } of places) {
    const mark = h(
      "mark",
      {
        class: field.state, tabindex: 0, role: "button", "aria-label": `${field.path} stands here`,
        onclick: () => links.open(field.path),
        onkeydown: (event) => event.key === "Enter" && links.open(field.path),
        onpointerenter: () => links.mark(field.path, true),
        onpointerleave: () => links.mark(field.path, false),
      },
      text.slice(start, end),
    );
    links.add(field.path, mark);
    paper.append(text.slice(at, start), mark);
    at = end;
  }
  paper.append(text.slice(at));
  return h("figure", { class: "page" }, paper);
}

/** Where these words stand first, over line ends too. */
function wordsIn(text, words) {
  const escaped = words.trim().split(/\s+/).map((word) => word.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"));
  return new RegExp(escaped.join("\\s+")).exec(text);
}

/** Which elements belong to a field: marked together, found from each other. */
function makeLinks() {
  const known = new Map();
  const of = (path) => known.get(path) ?? [];
  return {
    add: (path, element) => known.set(path, [...of(path), element]),
    mark: (path, on) => of(path).forEach((element) => element.classList.toggle("marked", on)),
    open(path) {
      const row = of(path).find((element) => element.matches(".field"));
      row?.scrollIntoView({ block: "nearest" });
      row?.querySelector("button")?.focus({ preventScroll: true });
    },
    show(path) {
      const place = of(path).find((element) => element.matches(".box, mark, .cue-row"));
      place?.scrollIntoView({ block: "center", inline: "nearest" });
      place?.focus({ preventScroll: true });
      place?.querySelector(".cue")?.click(); // a place in time is heard
    },
  };
}
