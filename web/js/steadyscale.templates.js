// The pack's templates in the order of their names, in which those for newcomers come first: the host lists files as the
// file system does. Other packs' lists are left alone.

export function sortTemplates(lists, folder) {
  return lists?.[folder] ? { ...lists, [folder]: [...lists[folder]].sort() } : lists;
}

async function start() {
  const { api } = await import("../../../scripts/api.js");
  const folder = decodeURIComponent(new URL(import.meta.url).pathname.split("/extensions/")[1].split("/")[0]);
  const list = api.getWorkflowTemplates;
  if (typeof list !== "function") return;
  api.getWorkflowTemplates = async (...args) => sortTemplates(await list.apply(api, args), folder);
}

if (typeof document !== "undefined") {
  start().catch((error) => console.debug("steadyscale.templates: not started", error));
}
