// Lists of a record, such as the lines of an invoice: a person adds and removes items.

/** The innermost item that a path lies in: `items[2].price` -> `items[2]`; null outside of lists. */
function itemOf(path) {
  const end = path.lastIndexOf("]");
  return end < 0 ? null : path.slice(0, end + 1);
}

/** `items[2]` -> ["items", 2] */
function listOf(item) {
  const start = item.lastIndexOf("[");
  return [item.slice(0, start), Number(item.slice(start + 1, -1))];
}

const isRemoved = (entry, item) => entry.corrections.get(item)?.verdict === "rejected";

/** The items that a person added behind a list's end. */
function addedItems(entry, list) {
  const places = [...entry.corrections.values()]
    .filter((made) => made.verdict === "corrected")
    .map((made) => itemOf(made.field))
    .filter((item) => item && listOf(item)[0] === list && listOf(item)[1] >= entry.lists[list].length);
  return [...new Set(places)].sort((one, two) => listOf(one)[1] - listOf(two)[1]);
}

/** The rows of a record's fields, with the items of its lists marked off. */
function rowsWithLists(entry, row, refresh) {
  const rows = [];
  const lists = Object.keys(entry.lists ?? {});
  let last = null;
  entry.fields.forEach((field, at) => {
    const item = itemOf(field.path);
    const marked = item && lists.includes(listOf(item)[0]);
    if (marked && item !== last) rows.push(itemHead(entry, item, refresh));
    last = item;
    if (!(marked && isRemoved(entry, item))) rows.push(row(field));
    const next = entry.fields[at + 1]?.path ?? "";
    for (const list of lists) {
      if (field.path.startsWith(`${list}[`) && !next.startsWith(`${list}[`)) rows.push(...listEnd(entry, list, row, refresh));
    }
  });
  for (const list of lists) {
    if (!entry.fields.some((field) => field.path.startsWith(`${list}[`))) rows.push(...listEnd(entry, list, row, refresh));
  }
  return rows;
}

function itemHead(entry, item, refresh) {
  const gone = isRemoved(entry, item);
  const set = async (verdict) => {
    if (await decide(entry, item, verdict)) refresh(item);
  };
  return h(
    "li",
    { class: gone ? "item gone" : "item", "data-path": item },
    h("span", { class: "name", dir: "auto" }, gone ? h("del", {}, item) : item, gone ? " removed" : ""),
    gone
      ? button("Undo", () => set("open"), { class: "quiet edit", "aria-label": `Take back the removal of ${item}` })
      : button("Remove", () => set("rejected"), { class: "quiet edit remove", "aria-label": `Remove ${item}` }),
  );
}

/** What a person added to a list, and the way to add more. */
function listEnd(entry, list, row, refresh) {
  const { names } = entry.lists[list];
  const added = addedItems(entry, list).flatMap((item) => {
    const paths = names.length ? names.map((name) => `${item}.${name}`) : [item];
    const takeAway = async () => {
      const standing = paths.filter((path) => correctionOf(entry, path));
      if (await decideAll(entry, standing.map((path) => [path, "open", null]))) refresh(list);
    };
    return [
      h("li", { class: "item", "data-path": item }, h("span", { class: "name", dir: "auto" }, item, " added"),
        button("Remove", takeAway, { class: "quiet edit remove", "aria-label": `Remove ${item}` })),
      ...paths.map((path) => row({ path, value: null, parsed: null, sure: null, state: "added" })),
    ];
  });
  const end = h("li", { class: "item end", "data-path": list });
  end.append(button(`Add to ${list}`, () => editNewItem(end, entry, list, refresh), { class: "quiet edit add" }));
  return [...added, end];
}

function editNewItem(end, entry, list, refresh) {
  const { names, length } = entry.lists[list];
  const place = Math.max(length, ...addedItems(entry, list).map((item) => listOf(item)[1] + 1));
  const inputs = (names.length ? names : [""]).map((name) => [name, h("input", { dir: "auto" })]);
  const save = async () => {
    const item = `${list}[${place}]`;
    const changes = inputs
      .map(([name, input]) => [name ? `${item}.${name}` : item, "corrected", input.value.trim()])
      .filter((change) => change[2]);
    if (await decideAll(entry, changes)) refresh(list);
  };
  const rows = inputs.map(([name, input]) => h("label", {}, h("span", { dir: "auto" }, name || `Value in ${list}`), input));
  end.replaceChildren(editor(rows, save, () => refresh(list)));
  inputs[0][1].focus();
}

/** By key: the list of the field in focus, or the first one. */
function addToList() {
  const main = byId("record");
  const here = document.activeElement?.closest("[data-path]")?.dataset.path;
  const item = here && (here in (current?.lists ?? {}) ? here : itemOf(here) && listOf(itemOf(here))[0]);
  const end = item ? main.querySelector(`[data-path="${CSS.escape(item)}"] .add`) : null;
  (end ?? main.querySelector(".add"))?.click();
}

function removeItem() {
  const here = document.activeElement?.closest("[data-path]")?.dataset.path;
  const item = here && itemOf(here);
  if (item) byId("record").querySelector(`[data-path="${CSS.escape(item)}"] .remove`)?.click();
}
