// A seed that stays: frontends draw another one after each run unless told otherwise, and these nodes would train another
// network each time. A stored graph keeps what it says.

const NODES = ["SteadyScale_TrainESRGAN", "SteadyScale_CompressModel"];

export function fixSeed(node) {
  const control = node.widgets?.find((widget) => widget.name === "seed")?.linkedWidgets?.[0];
  if (control) control.value = "fixed";
}

async function start() {
  const { app } = await import("../../../scripts/app.js");
  app.registerExtension({
    name: "steadyscale.seed",
    nodeCreated(node) {
      if (NODES.includes(node.comfyClass ?? node.constructor?.comfyClass)) fixSeed(node);
    },
  });
}

if (typeof document !== "undefined") {
  start().catch((error) => console.debug("steadyscale.seed: not started", error));
}
